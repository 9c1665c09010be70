"""`python -m benchmarks.rates DATA [--out rates.jsonl]`: which learning rate, how many steps, and which checkpoint to keep.

DATA is a folder of labelled sets. Every cell trains one method at one rate with hftl's own stages, and looks at the
model a few times on the way: score on test, and logits on 400 validation rows, of which 50, 100 or all choose a
checkpoint. Cells are appended to the file as they end, so that the benchmark goes on where it stopped. `--table` prints
what docs/log.md holds.
"""

import argparse
import copy
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split

from hftl.adapt import complete
from hftl.config import build_config
from hftl.prepare import prepare
from hftl.probing import first_probe, frozen_features, plan_on
from hftl.surroundings import quiet_libraries
from hftl.tasks.scores import mean_loss, measure
from hftl.training import stages
from hftl.training.features import Passer
from hftl.training.order import SeededEpochs


MINILM, LITE0 = "sentence-transformers/all-MiniLM-L6-v2", "efficientnet-lite0"
IMAGES = ("trashnet", "sign_digits")
VALIDATION, TEST, LOOKS = 400, 600, 4


@dataclass(frozen=True)
class Cell:
    """One training."""

    data: str
    model: str
    rows: int
    method: str
    rate: float
    steps: int


def cells(wide: str | None, vit: str | None) -> Iterator[Cell]:
    """All of them, the most telling first. `wide` and `vit` are folders of an encoder 768 wide and of a ViT."""
    few = ("banking77", "mr_polarity", "medical_abstracts")
    for rate in (2e-4, 5e-4, 1e-4):
        yield from (Cell(data, MINILM, 500, "full", rate, 250) for data in few)
    for rate in (1e-3, 2e-3):
        yield from (Cell(data, MINILM, 500, "lora", rate, 250) for data in few)
    yield from (Cell(data, MINILM, 500, "full", 2e-4, 90) for data in few)  # three epochs
    for data in IMAGES:
        yield from (Cell(data, LITE0, 500, "full", rate, 150) for rate in (1e-3, 5e-4, 2e-3))
    yield from (Cell(few[0], MINILM, 2000, "full", rate, 400) for rate in (2e-4, 5e-4))
    yield Cell(few[0], MINILM, 2000, "lora", 2e-3, 400)
    if wide:
        yield from (Cell(few[0], wide, 500, "full", rate, 250) for rate in (5e-5, 1e-4, 2e-4))
        yield from (Cell(few[0], wide, 500, "lora", rate, 250) for rate in (5e-4, 1e-3))
    if vit:
        yield from (Cell(data, vit, 500, "full", rate, 150) for data in IMAGES for rate in (5e-5, 1e-4, 2e-4))


def tables(folder: Path, rows: int) -> dict[str, pd.DataFrame]:
    """Train, validation and test rows of a set, drawn once for all cells."""
    if (folder / "train.parquet").is_file():
        train, test = (pd.read_parquet(folder / f"{split}.parquet") for split in ("train", "test"))
    else:
        found = [
            (p.parts[-3], str(p), p.parent.name) for p in sorted(folder.glob("*/*/*")) if p.suffix in (".jpg", ".png")
        ]
        table = pd.DataFrame(found, columns=["split", "image", "label"])
        train, test = (table[table["split"] == split].drop(columns="split") for split in ("train", "test"))
    test = test[test["label"].isin(set(train["label"]))]
    draw = lambda table, n, seed: table if n >= len(table) else _stratified(table, n, seed)  # noqa: E731
    rest, validation = train_test_split(
        train, test_size=min(VALIDATION, len(train) // 3), random_state=0, stratify=train["label"]
    )
    return {"train": draw(rest, rows, 1), "validation": validation, "test": draw(test, TEST, 2)}


def _stratified(table: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    counts = table["label"].value_counts()
    rare = table["label"].isin(counts[counts < 2].index)
    few = table[rare]
    return pd.concat(
        [
            few,
            train_test_split(table[~rare], train_size=n - len(few), random_state=seed, stratify=table[~rare]["label"])[
                0
            ],
        ]
    )


class Looks(SeededEpochs):
    """Takes a look at the model every so many steps, and keeps its weights."""

    def __init__(self, rows: Any):
        super().__init__(rows)
        self.taken: list[tuple[int, dict[str, torch.Tensor]]] = []
        LAST.append(self)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Copy the weights at each look."""
        if state.global_step % max(1, args.max_steps // LOOKS) == 0 or state.global_step == args.max_steps:
            self.taken.append((state.global_step, {k: v.detach().clone() for k, v in model.state_dict().items()}))


LAST: list[Looks] = []


def train(cell: Cell, folder: Path) -> dict[str, Any]:
    """Train the cell; return what each look, and the averages of the last ones, score."""
    image = cell.data in IMAGES
    values = {
        "data": tables(folder / cell.data, cell.rows), "model": cell.model, "method": cell.method,
        "learning_rate": cell.rate, "max_steps": cell.steps, "eval_strategy": "no", "output_dir": "unused",
        **({"image_size": 96} if image else {"max_seq_length": 64}),
    }  # fmt: skip
    config = complete(build_config("image-classification" if image else "text-classification", values))
    ready = prepare(config)
    features, _ = frozen_features(ready, {"train": ready.train, "validation": ready.validation})
    probe = first_probe(ready, features)
    seen = plan_on(replace(ready, loaded=copy.deepcopy(ready.loaded)), features, "", probe=probe)
    plan = seen.plan
    stages.SeededEpochs = Looks  # type: ignore[misc]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        stages.fit_plan(plan, probe, seen.data(ready), config, Path(work))
    seconds = time.perf_counter() - start
    test = ready.task.encode(ready.splits.test, ready.loaded.processor)
    passer = Passer(ready.collate, ready.use_cpu, ready.bf16)
    output, labels = ready.task.output, ready.splits.labels

    def look(state: dict[str, torch.Tensor]) -> dict[str, Any]:
        plan.model.load_state_dict(state)
        known, asked = (
            passer.logits(plan.model, ready.validation, "validation"),
            passer.logits(plan.model, test, "test"),
        )
        figures: dict[str, Any] = {"test": measure(output, output.decode(asked), test.targets, labels)["accuracy"]}
        for n in (50, 100, len(known)):
            rows = np.random.default_rng(0).permutation(len(known))[:n]
            targets = ready.validation.targets[rows]
            figures[f"f1_{min(n, 400)}"] = measure(output, output.decode(known[rows]), targets, labels)["macro_f1"]
            figures[f"loss_{min(n, 400)}"] = mean_loss(output, known[rows], targets)
        return figures

    taken = LAST.pop().taken
    looks = [{"step": step, **look(state)} for step, state in taken]
    averages = {f"mean_{k}": look(mean([state for _, state in taken[-k:]])) for k in (2, 3) if len(taken) >= k}
    return {**asdict(cell), "seconds": seconds, "looks": looks, **averages}


def mean(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Average the weights."""
    return {
        name: torch.stack([s[name] for s in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[-1].items()
    }


def main(argv: list[str] | None = None) -> None:
    """Run what is left of the cells, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("rates.jsonl"))
    parser.add_argument("--wide")
    parser.add_argument("--vit")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args(argv)
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.is_file() else []
    if args.table:
        print(rate_table(done), "\n\n", keep_table(done))
        return
    quiet_libraries()
    known = {tuple(one[name] for name in Cell.__dataclass_fields__) for one in done}
    for cell in cells(args.wide, args.vit):
        if tuple(asdict(cell).values()) not in known:
            result = train(cell, args.data)
            print(f"{cell} {result['looks'][-1]['test']:.3f} {result['seconds']:.0f} s", flush=True)
            with args.out.open("a") as file:
                file.write(json.dumps(result) + "\n")


def rate_table(done: list[dict[str, Any]]) -> str:
    """Accuracy of the last weights by model, rows, steps, method and rate: the mean over sets, and each set."""
    groups: dict[tuple[Any, ...], dict[str, float]] = defaultdict(dict)
    for one in done:
        key = (Path(one["model"]).name, one["rows"], one["steps"], one["method"], one["rate"])
        groups[key][one["data"]] = one["looks"][-1]["test"]
    lines = ["| model | rows | steps | method | rate | mean | by set |", "|---|---|---|---|---|---|---|"]
    for key, by_set in groups.items():
        each = ", ".join(f"{name} {value:.3f}" for name, value in by_set.items())
        lines.append(f"| {' | '.join(map(str, key))} | {fmean(by_set.values()):.3f} | {each} |")
    return "\n".join(lines)


def keep_table(done: list[dict[str, Any]]) -> str:
    """Mean test score of what each rule keeps, minus that of the last weights, in points."""
    lines = [
        "| validation rows | best macro F1 | best log-loss | mean of the last 2 | of the last 3 |",
        "|---|---|---|---|---|",
    ]
    for n in (50, 100, 400):
        gaps = defaultdict(list)
        for one in done:
            looks = one["looks"]
            last = looks[-1]["test"]
            if f"f1_{n}" not in looks[0]:
                continue
            gaps["f1"].append(max(looks, key=lambda x: (x[f"f1_{n}"], x["step"]))["test"] - last)
            gaps["loss"].append(min(looks, key=lambda x: (x[f"loss_{n}"], -x["step"]))["test"] - last)
            for k in ("mean_2", "mean_3"):
                gaps[k].append(one[k]["test"] - last)
        lines.append(
            f"| {n} | " + " | ".join(f"{100 * fmean(gaps[k]):+.2f}" for k in ("f1", "loss", "mean_2", "mean_3")) + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
