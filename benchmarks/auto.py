"""`python -m benchmarks.auto DATA [--out auto.jsonl]`: does `--method auto` find what an expert's grid finds, for less?

DATA is a folder of labelled sets. On 500 training rows of each, a grid of eight trainings (probe, LoRA and full at three
rates each, contrastive), its winner chosen by the validation rows, stands against `auto` with two seeds; on words and on
several labels the grid has four. Beside them, for texts, the usual Trainer script with its defaults. Cells are appended to the file as they end, so that the benchmark goes on where it
stopped. `--table` prints the result, which docs/auto.md holds. CPU seconds are those of all processes of a training,
evidence left out on both sides.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any


MINILM, LITE0 = "sentence-transformers/all-MiniLM-L6-v2", "efficientnet-lite0"
ROWS, TEST, SEEDS = 500, 1000, (42, 43)
TEXT: dict[str, Any] = {"model": MINILM, "max_seq_length": 128}
IMAGE: dict[str, Any] = {"model": LITE0, "image_size": 96}
SETS: dict[str, tuple[str, dict[str, Any], str]] = {  # → task, flags, score
    "banking77": ("text-classification", TEXT, "accuracy"),
    "mr_polarity": ("text-classification", TEXT, "accuracy"),
    "clinc150": ("text-classification", TEXT, "accuracy"),
    "trashnet": ("image-classification", IMAGE, "accuracy"),
    "medical_abstracts": ("text-classification", TEXT, "accuracy"),
    "sign_digits": ("image-classification", {**IMAGE, "no_flip": True}, "accuracy"),
    "wnut17": ("token-classification", TEXT, "f1"),
    "nlupp_multilabel": ("text-classification", TEXT, "micro_f1"),
}
RATES = {  # around what is usual: (text, images)
    "full": ((1e-4, 2e-4, 5e-4), (5e-4, 1e-3, 2e-3)),
    "lora": ((5e-4, 1e-3, 2e-3), (1e-3, 3e-3, 1e-2)),
}
SCRIPT = "script"
BEST = {"accuracy": "macro_f1"}  # by which a grid over classes is ranked on validation


@dataclass(frozen=True)
class Cell:
    """One training."""

    data: str
    method: str
    rate: float | None
    seed: int


def cells() -> Iterator[Cell]:
    """Set by set `auto`, its grid and the script; then `auto` with the other seeds."""
    for data, (task, _, score) in SETS.items():
        kind, whole = int(task == "image-classification"), score == "accuracy"
        yield Cell(data, "auto", None, SEEDS[0])
        yield Cell(data, "probe", None, SEEDS[0])
        for method, rates in RATES.items():
            some = rates[kind] if whole else rates[kind][1:2] if method == "lora" else rates[kind][1:]
            yield from (Cell(data, method, rate, SEEDS[0]) for rate in some)
        if whole:
            yield Cell(data, "contrastive", None, SEEDS[0])
        if not kind:
            yield Cell(data, SCRIPT, None, SEEDS[0])
    yield from (Cell(data, "auto", None, seed) for data in SETS for seed in SEEDS[1:])


def train(cell: Cell, folder: Path) -> dict[str, Any]:
    """Train the cell in this process, on the rows of the first seed; return its scores, choices and CPU seconds."""
    from hftl.adapt import config_of, run
    from hftl.surroundings import quiet_libraries

    quiet_libraries()
    task, flags, score = SETS[cell.data]
    if cell.method == SCRIPT:
        return {**asdict(cell), "test": by_script(task, folder / cell.data), "cpu_seconds": cpu_seconds()}
    flags = {**flags, **({} if cell.rate is None else {"learning_rate": cell.rate})}
    with tempfile.TemporaryDirectory() as place:
        values = {
            "data": str(folder / cell.data),
            "method": cell.method,
            "output_dir": Path(place) / "run",
            "max_train_samples": ROWS,
            "max_eval_samples": TEST,
            "evidence": False,
            **flags,
        }
        config = config_of(task, values)
        result = run(replace(config, training={**config.training, "seed": cell.seed}))
    figures = result.report["metrics"]
    validation = figures["validation"][BEST.get(score, score)]
    return {
        **asdict(cell),
        "test": result.metrics[score]["value"],
        "validation": validation["value"] if isinstance(validation, dict) else validation,
        "loss": figures["validation"].get("log_loss"),
        "cpu_seconds": cpu_seconds(),
        "seconds": result.report["timing"]["total_seconds"],
        "selection": result.report["selection"],
    }


def by_script(task: str, data: Path) -> float:
    """Train as a copied script does, with Trainer's defaults, on the same rows; return the score of the test rows."""
    from benchmarks.answers import script
    from hftl.config import DataConfig
    from hftl.data.load import load_task

    with tempfile.TemporaryDirectory() as place:
        loaded, splits = load_task(task, DataConfig(data=str(data), max_train_samples=ROWS, max_eval_samples=TEST), 42)
        trainer, score = script(loaded, splits, 5e-5, place)
        trainer.train()
        return score()


def cpu_seconds() -> float:
    """Return what this process and those that it started have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def table(done: list[dict[str, Any]]) -> str:
    """Return per set: the grid's winner by validation, `auto`, how far it falls short, and its share of the CPU time."""
    lines = [
        "| set | Trainer script | grid: winner by validation | its test score | best of the grid on test | auto, by seed | shortfall, points | CPU share |",
        "|---|---|---|---|---|---|---|---|",
    ]
    by_set: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in done:
        by_set[one["data"]].append(one)
    shortfalls, shares = [], []
    for data, rows in by_set.items():
        by_hand = [f"{r['test']:.3f}" for r in rows if r["method"] == SCRIPT]
        grid, auto = (
            [r for r in rows if r["method"] != SCRIPT and (r["method"] == "auto") is own] for own in (False, True)
        )
        if not grid or not auto:
            continue
        winner, best = (max(grid, key=lambda r, key=key: r[key]) for key in ("validation", "test"))
        gap = 100 * (winner["test"] - fmean(r["test"] for r in auto))
        share = fmean(r["cpu_seconds"] for r in auto) / sum(r["cpu_seconds"] for r in grid)
        shortfalls.append(gap)
        shares.append(share)
        found = ", ".join(f"{r['test']:.3f} ({r['selection']['winner']})" for r in auto)
        name = winner["method"] + (f" at {winner['rate']:g}" if winner["rate"] else "")
        lines.append(
            f"| {data} | {' '.join(by_hand) or '-'} | {name} of {len(grid)} | {winner['test']:.3f} | {best['test']:.3f} | {found} | {gap:+.1f} | {share:.2f} |"
        )
    if shortfalls:
        lines.append(f"| mean | | | | | | {fmean(shortfalls):+.2f} | {fmean(shares):.2f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Run what is left of the cells, each in a process of its own, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("auto.jsonl"))
    parser.add_argument("--only", nargs="*", help="sets")
    parser.add_argument("--methods", nargs="*", help="methods, such as auto or script")
    parser.add_argument("--cell", help="one cell as JSON, whose result is printed")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args(argv)
    if args.cell:
        print(json.dumps(train(Cell(**json.loads(args.cell)), args.data)))
        return
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.is_file() else []
    if args.table:
        print(table(done))
        return
    known = [{name: one[name] for name in Cell.__dataclass_fields__} for one in done]
    for cell in cells():
        if asdict(cell) in known or (args.only and cell.data not in args.only):
            continue
        if args.methods and cell.method not in args.methods:
            continue
        words = [sys.executable, "-m", "benchmarks.auto", str(args.data), "--cell", json.dumps(asdict(cell))]
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        if ran.returncode:
            print(f"{cell} failed: {ran.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        line = ran.stdout.strip().splitlines()[-1]
        result = json.loads(line)
        print(f"{cell} {result['test']:.3f} {result['cpu_seconds']:.0f} CPU s", flush=True)
        with args.out.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
