"""`python -m benchmarks.fewshot DATA [--setfit PYTHON] [--only SET...] [--table]`: few rows a class, by four contenders.

8 and 16 rows of each class (`--shots`), by probe, contrastive, auto and SetFit. DATA is a folder of labelled sets. All
learn from the same rows of the same encoder and answer the same test rows.
SetFit is the package of its authors with its defaults and 20 pairs each way for a row (Tunstall et al. 2022), but at
most `--most_steps` steps, run by the Python of an environment that has it. Cells are appended to the file as they end,
so that the benchmark goes on where it stopped. Seconds are the process's CPU time of all training, features included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score


CONTENDERS = ("probe", "contrastive", "auto", "setfit")
SETS = ("mr_polarity", "medical_abstracts", "trashnet", "banking77", "clinc150")
MINILM, LITE0 = "sentence-transformers/all-MiniLM-L6-v2", "efficientnet-lite0"
IMAGES = ("trashnet",)
TEST = 1000


@dataclass(frozen=True)
class Cell:
    """One training."""

    data: str
    shots: int
    seed: int
    contender: str


def cells(seeds: int, shots: Sequence[int], sets: Sequence[str], contenders: Sequence[str]) -> list[Cell]:
    """All of them, the quick ones first."""
    return [
        Cell(data, rows, seed, contender)
        for seed in range(seeds)
        for rows in shots
        for data in sets
        for contender in contenders
        if contender != "setfit" or data not in IMAGES
    ]


def tables(folder: Path, shots: int, seed: int) -> dict[str, pd.DataFrame]:
    """`shots` rows of each class to learn from, some others to validate on, and `TEST` rows."""
    if (folder / "train.parquet").is_file():
        train, test = (pd.read_parquet(folder / f"{split}.parquet") for split in ("train", "test"))
    else:
        paths = [path for path in sorted(folder.glob("*/*/*")) if path.is_file()]
        rows = [(path.parts[-3], str(path), path.parent.name) for path in paths]
        table = pd.DataFrame(rows, columns=["split", "image", "label"])
        train, test = (table[table["split"] == split].drop(columns="split") for split in ("train", "test"))
    train = train.sample(frac=1, random_state=seed)
    place = train.groupby("label").cumcount()
    asked = test[test["label"].isin(set(train["label"]))]
    return {
        "train": train[place < shots],
        "validation": train[(place >= shots) & (place < shots + 2)],
        "test": asked.sample(min(TEST, len(asked)), random_state=0),
    }


def ours(cell: Cell, parts: dict[str, pd.DataFrame], folder: Path) -> dict[str, Any]:
    """Train with hftl."""
    from hftl.adapt import adapt  # late: the process of the other contender has no use for it

    task, model = ("image-classification", LITE0) if cell.data in IMAGES else ("text-classification", MINILM)
    more = {"image_size": 96} if cell.data in IMAGES else {"max_seq_length": 64}
    flags = {"method": cell.contender, "seed": cell.seed, "evidence": False, **more}
    run = adapt(task, parts, model, output_dir=folder / "run", **flags)
    scores = {name: run.metrics[name]["value"] for name in ("accuracy", "macro_f1")}
    return {**scores, "steps": sum(stage["steps"] for stage in run.report["stages"])}


def setfit(folder: Path, seed: int, most_steps: int) -> dict[str, Any]:
    """Train with the package, on the rows in `folder`; this runs in its environment."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    train, test = (pd.read_parquet(folder / f"{part}.parquet") for part in ("train", "test"))
    names = sorted(train["label"].unique())
    rows = Dataset.from_dict({"text": list(train["text"]), "label": [names.index(x) for x in train["label"]]})
    model = SetFitModel.from_pretrained((folder / "checkpoint.txt").read_text())
    model.model_body.max_seq_length = 64
    whole = 20 * 2 * len(train) // 16
    steps = min(most_steps, whole)
    args = TrainingArguments(
        str(folder / "setfit"), num_iterations=20, num_epochs=1, max_steps=steps, seed=seed, report_to="none",
        save_strategy="no", show_progress_bar=False,
    )  # fmt: skip
    Trainer(model=model, args=args, train_dataset=rows).train()
    answers = np.asarray(model.predict(list(test["text"]), show_progress_bar=False))
    true = np.array([names.index(x) for x in test["label"]])
    scores = {"accuracy": float((answers == true).mean()), "macro_f1": float(f1_score(true, answers, average="macro"))}
    return {**scores, "steps": steps, "whole": whole}


def theirs(cell: Cell, parts: dict[str, pd.DataFrame], folder: Path, python: str, most_steps: int) -> dict[str, Any]:
    """Hand the rows to the other environment and read what it answers."""
    from hftl.models.packaged import find_packaged

    for part, table in parts.items():
        table.to_parquet(folder / f"{part}.parquet")
    (folder / "checkpoint.txt").write_text(str(find_packaged(MINILM)))
    words = [python, "-m", "benchmarks.fewshot", str(folder), "--run_setfit", str(cell.seed)]
    done = subprocess.run([*words, "--most_steps", str(most_steps)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def show(path: Path, only: Sequence[str]) -> None:
    """Print one line for each set and number of rows: mean accuracy of each contender, the seeds that it has."""
    table = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    for by, group in table[table["data"].isin(only)].groupby(["data", "shots"], sort=False):
        parts = []
        for contender, rows in group.groupby("contender", sort=False):
            mean = f"{rows['accuracy'].mean():.3f}"
            parts.append(
                f"{contender} {mean} (n={len(rows)}, {rows['steps'].iloc[0]} steps, {rows['cpu'].mean():.0f} s)"
            )
        print(*by, "; ".join(parts))


def main() -> None:
    """Read the flags and train every cell that the file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("fewshot.jsonl"))
    parser.add_argument("--setfit", help="the Python of an environment with setfit")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=SETS, choices=SETS, help="sets")
    parser.add_argument("--shots", nargs="+", type=int, default=(8, 16), help="training rows of a class")
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--most_steps", type=int, default=1600)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--run_setfit", type=int)
    args = parser.parse_args()
    if args.run_setfit is not None:
        clock = time.process_time()
        result = setfit(args.data, args.run_setfit, args.most_steps)
        print(json.dumps({**result, "cpu": round(time.process_time() - clock, 1)}))
        return
    done = {tuple(json.loads(line)[k] for k in Cell.__annotations__) for line in _lines(args.out)}
    contenders = [one for one in args.contenders if one != "setfit" or args.setfit]
    for cell in () if args.table else cells(args.seeds, args.shots, args.only, contenders):
        if tuple(asdict(cell).values()) in done:
            continue
        parts, clock = tables(args.data / cell.data, cell.shots, cell.seed), time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            if cell.contender == "setfit":
                result = theirs(cell, parts, Path(folder), args.setfit, args.most_steps)
            else:
                result = ours(cell, parts, Path(folder))
                result["cpu"] = round(time.process_time() - clock, 1)
        with args.out.open("a") as file:
            file.write(json.dumps({**asdict(cell), **result}) + "\n")
        print(cell, result, file=sys.stderr)
    show(args.out, args.only)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


if __name__ == "__main__":
    main()
