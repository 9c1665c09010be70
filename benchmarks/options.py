"""`python -m benchmarks.options DATA [--table]`: when the best checkpoint, a soup, an average or another loss pays.

DATA is a folder of labelled sets. Each cell trains on at most 500 rows, looks at the model five times, and scores on
at most 600 test rows: the last weights, their greedy soup with those of the three looks before by 100 validation rows,
and the exponential averages of all steps. The losses are compared by `head`, which is cheap. "long tail" is banking77 with 60 rows of its first class and 2 of its 30th. Cells are appended to the file as
they end, so that the benchmark goes on where it stopped.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from benchmarks.fewshot import IMAGES, LITE0, MINILM
from hftl.adapt import complete
from hftl.config import build_config
from hftl.methods import get_method
from hftl.prepare import prepare
from hftl.probing import first_probe, frozen_features
from hftl.tasks.scores import measure
from hftl.training import stages
from hftl.training.averaging import State, greedy_soup
from hftl.training.features import Passer
from hftl.training.order import SeededEpochs
from hftl.training.replay import OnFeatures


DECAYS = (0.95, 0.99)
TAIL = "long tail"
ROWS, VALIDATION, TEST, LOOKS = 500, 100, 600, 5


@dataclass(frozen=True)
class Cell:
    """One training."""

    data: str
    method: str
    loss: str = ""
    class_weights: str = "none"


LOSSES = (("", "none"), ("logit_adjusted", "none"), ("", "balanced"))
CELLS = (
    *(Cell(TAIL, "head", *loss) for loss in LOSSES),
    *(Cell(data, "full") for data in ("banking77", "mr_polarity", "trashnet")),
    *(Cell(data, "head", *loss) for data in ("trashnet", "banking77") for loss in LOSSES),
)


class Watched(SeededEpochs):
    """Keeps the weights of the looks, and exponential averages of every step."""

    def __init__(self, rows: Any):
        super().__init__(rows)
        self.looks: list[State] = []
        self.averages: dict[float, State] = {}
        LAST.append(self)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Move each average towards the weights; copy them at a look."""
        now = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
        for decay in DECAYS:
            before = self.averages.get(decay, now)
            self.averages[decay] = {name: before[name].lerp(value, 1 - decay) for name, value in now.items()}
        if state.global_step % (args.max_steps // LOOKS) == 0:
            self.looks.append(now)


LAST: list[Watched] = []


def some(test: pd.DataFrame) -> pd.DataFrame:
    """Return at most `TEST` rows."""
    return test.sample(min(TEST, len(test)), random_state=0)


def tables(folder: Path, tail: bool) -> dict[str, pd.DataFrame]:
    """Train, validation and test rows of a set."""
    if (folder / "train.parquet").is_file():
        train, test = (pd.read_parquet(folder / f"{split}.parquet") for split in ("train", "test"))
    else:
        rows = [(path.parts[-3], str(path), path.parent.name) for path in sorted(folder.glob("*/*/*.jpg"))]
        table = pd.DataFrame(rows, columns=["split", "image", "label"])
        train, test = (table[table["split"] == split].drop(columns="split") for split in ("train", "test"))
    if tail:
        names = sorted(train["label"].unique())[:30]
        sizes = dict(zip(names, np.geomspace(60, 2, 30).round().astype(int), strict=True))
        train = train[train["label"].isin(sizes)].sample(frac=1, random_state=0)
        place, most = train.groupby("label").cumcount(), train["label"].map(sizes)
        held = (place >= most) & (place < most + 5)
        return {"train": train[place < most], "validation": train[held], "test": some(test[test["label"].isin(sizes)])}
    train, validation = train_test_split(train, test_size=VALIDATION, random_state=0, stratify=train["label"])
    few, _ = train_test_split(train, train_size=ROWS, random_state=1, stratify=train["label"])
    return {"train": few, "validation": validation, "test": some(test)}


def train(cell: Cell, folder: Path) -> dict[str, Any]:
    """Train the cell and score its candidates on the test rows."""
    image = cell.data in IMAGES
    place = folder / ("banking77" if cell.data == TAIL else cell.data)
    values = {
        "data": tables(place, cell.data == TAIL), "model": LITE0 if image else MINILM, "method": cell.method,
        "eval_strategy": "no", "max_steps": 300 if cell.method == "head" else 150, "output_dir": "unused",
        "loss": cell.loss or None, "class_weights": cell.class_weights, "pooling": "native",
        **({"image_size": 96} if image else {"max_seq_length": 64}),
    }  # fmt: skip
    config = complete(build_config("image-classification" if image else "text-classification", values))
    ready = prepare(config)
    features, _ = frozen_features(ready, {"train": ready.train, "validation": ready.validation})
    plan = get_method(cell.method)(ready.loaded, config.method, len(ready.train))
    test = ready.task.encode(ready.splits.test, ready.loaded.processor)
    passer = Passer(ready.collate, ready.use_cpu, ready.bf16)
    output, labels = ready.task.output, ready.splits.labels
    rows = {f"{part}_features": features[part]["native"] for part in ("train", "validation")}
    stages.SeededEpochs = Watched  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as work:
        data = replace(ready.stage_data, **rows)
        stages.fit_plan(plan, first_probe(ready, features), data, config, Path(work))
    linear = OnFeatures(plan.model.get_submodule(plan.output)) if cell.method == "head" else plan.model

    def scores(state: State, part: Any) -> dict[str, float]:
        linear.load_state_dict(state, strict=False)
        return measure(output, output.decode(passer.logits(plan.model, part, "rows")), part.targets, labels)

    watched = LAST.pop()
    last, *others = reversed(watched.looks)
    soup, members = greedy_soup([last, *others[:3]], lambda state: scores(state, ready.validation)[output.best])
    candidates = {"last": last, "soup": soup, **{f"ema {decay}": mean for decay, mean in watched.averages.items()}}
    figures = {name: scores(state, test) for name, state in candidates.items()}
    return {**asdict(cell), "members": members, "test": figures}


def show(path: Path) -> None:
    """Print accuracy and macro F1 of every candidate."""
    for line in path.read_text().splitlines():
        one = json.loads(line)
        scores = "; ".join(f"{n} {s['accuracy']:.3f} {s['macro_f1']:.3f}" for n, s in one["test"].items())
        steps = f"{len(one['members'])} looks in the soup"
        print(
            one["data"],
            one["method"],
            one["loss"] or one["class_weights"],
            scores,
            steps,
            f"{one['cpu']:.0f} s",
            sep="; ",
        )


def main() -> None:
    """Train every cell that the file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("options.jsonl"))
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    lines = args.out.read_text().splitlines() if args.out.is_file() else []
    done = {tuple(json.loads(line)[name] for name in Cell.__annotations__) for line in lines}
    for cell in () if args.table else CELLS:
        if tuple(asdict(cell).values()) in done:
            continue
        clock = time.process_time()
        result = {**train(cell, args.data), "cpu": round(time.process_time() - clock, 1)}
        with args.out.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(cell, result["cpu"], file=sys.stderr)
    show(args.out)


if __name__ == "__main__":
    main()
