"""`make bench`: hftl beside what people run today, on the same rows, weights, machine and threads.

Writes benchmarks/RESULTS.md. Only ratios inside one run mean anything: on shared cores identical settings vary.
"""

import argparse
import json
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict

from benchmarks import contenders
from benchmarks.flops import matmul_flops, utilisation
from benchmarks.growth import growth
from benchmarks.ours import hftl, hftl_images
from benchmarks.rows import Text, twelve_blocks, wikipedia
from hftl.surroundings import quiet_libraries
from hftl.training.precision import choose_bf16


@dataclass(frozen=True)
class Line:
    """One ratio of the table."""

    what: str
    ours: str
    other: str
    ratio: float
    wanted: str
    held: bool


def _seconds(value: dict[str, Any]) -> str:
    accuracy = f", {value['accuracy']:.3f}" if value.get("accuracy") is not None else ""
    return f"{value['seconds']:.1f} s{accuracy}"


def probe_lines(text: Text, bf16: bool, n: int, folder: str) -> list[Line]:
    """The probe and `head` beside the bare limit, embeddings with scikit-learn, and a Trainer script's frozen body."""
    ours = hftl(text, "probe", n)
    c = ours["report"]["probe"]["C"]
    limit = contenders.bare_probe(text, bf16, c)
    encoded = contenders.sentence_transformers(text, c)
    frozen = contenders.trainer_script(text, folder, frozen=True, epochs=10, rate=1e-3, bf16=bf16)
    head = hftl(text, "head", n, num_train_epochs=10)
    ratios = [
        ours["seconds"] / limit["seconds"],
        frozen["seconds"] / ours["seconds"],
        frozen["seconds"] / head["seconds"],
    ]
    return [
        Line("probe / one sorted forward pass + regression", _seconds(ours), _seconds(limit), ratios[0], "<= 1.1", ratios[0] <= 1.1),
        Line("sentence-transformers + scikit-learn / probe", _seconds(ours), _seconds(encoded), encoded["seconds"] / ours["seconds"], "", True),
        Line("Trainer, frozen body, 10 epochs / probe", _seconds(ours), _seconds(frozen), ratios[1], ">= 10", ratios[1] >= 10 and ours["accuracy"] >= frozen["accuracy"]),
        Line("Trainer, frozen body, 10 epochs / head, 10 epochs", _seconds(head), _seconds(frozen), ratios[2], ">= 6", ratios[2] >= 6),
    ]  # fmt: skip


def cache_lines(text: Text, n: int) -> list[Line]:
    """Partly frozen training with its cache, building included, beside the same without."""
    lines = []
    for what, method, wanted, flags in (
        ("--train_top 2 of 6, 6 epochs: without / with cache", "full", 1.4, {"train_top": 2, "num_train_epochs": 6}),
        (
            "gradual to the top 2, 2 epochs a stage: without / with cache",
            "gradual",
            1.8,
            {"thaw_to": 2, "thaw_every": 2},
        ),
    ):
        cached = hftl(text, method, n, cache="on", **flags)
        plain = hftl(text, method, n, cache="off", **flags)
        ratio = plain["seconds"] / cached["seconds"]
        lines.append(Line(what, _seconds(cached), _seconds(plain), ratio, f">= {wanted}", ratio >= wanted))
    return lines


def _training(run: dict[str, Any]) -> dict[str, Any]:
    """Without the features, which both need for their probe."""
    return {**run, "seconds": run["seconds"] - run["features_seconds"]}


def full_lines(text: Text, bf16: bool, n: int, folder: str) -> list[Line]:
    """Time of `full` to the accuracy that the usual script has after two epochs."""
    usual = contenders.trainer_script(text, folder, frozen=False, epochs=2, rate=1e-4, bf16=bf16)
    lines, best = [], None
    for epochs in (0.5, 1.0):
        ours = hftl(text, "full", n, num_train_epochs=epochs, learning_rate=2e-4)
        if ours["accuracy"] >= usual["accuracy"]:
            best = ours
            break
    shown = best or ours
    ratio = shown["seconds"] / usual["seconds"]
    what = f"full, {epochs:g} epochs / Trainer, 2 epochs: time to its accuracy"
    lines.append(Line(what, _seconds(shown), _seconds(usual), ratio, "<= 0.6", best is not None and ratio <= 0.6))
    return lines


def step_lines(text: Text, bf16: bool, n: int, folder: str, steps: int) -> list[Line]:
    """Rows per second of whole-model training, in turns so that a busy moment meets both."""
    lines = []
    length_of_one = n // 2
    equal = _of_one_length(text, length_of_one)
    for what, rows, wanted, length in (
        ("full / Trainer: rows per second, texts of mixed length", text, 1.3, n),
        ("full / Trainer: rows per second, texts of one length", equal, 0.98, length_of_one),
    ):
        ours, theirs = [], []
        for _ in range(2):
            run = hftl(rows, "full", length, max_steps=steps, eval_strategy="no")
            ours.append(run["rows_per_second"])
            usual = contenders.trainer_script(
                rows, folder, frozen=False, epochs=1, rate=1e-4, bf16=bf16, max_steps=steps
            )
            theirs.append(steps * 16 / usual["seconds"])
        bare = contenders.bare_steps(rows, steps, bf16)["rows_per_second"]
        ratio = max(ours) / max(theirs)
        other = f"{max(theirs):.1f} rows/s (bare loop {bare:.1f}{_busy(rows, bare)})"
        mine = f"{max(ours):.1f} rows/s{_busy(rows, max(ours))}"
        lines.append(Line(what, mine, other, ratio, f">= {wanted}", ratio >= wanted))
    return lines


def _busy(text: Text, rows_per_second: float) -> str:
    """On a GPU: the share of its bf16 matrix arithmetic that this is."""
    if not torch.cuda.is_available():
        return ""
    lengths = [len(ids) for ids in text.tokens["train"]]
    return f", {utilisation(text.model(), lengths, rows_per_second, matmul_flops()):.0%} of the matrix units"


def _of_one_length(text: Text, n: int) -> Text:
    """The rows that have at least `n` tokens, cut there."""
    kept = {p: [i for i, ids in enumerate(text.tokens[p]) if len(ids) >= n] for p in text.tokens}
    tokens = {p: [[*text.tokens[p][i][: n - 1], text.tokens[p][i][-1]] for i in kept[p]] for p in kept}
    data = DatasetDict({p: text.data[p].select(kept[p]) for p in kept})
    targets = {p: text.targets[p][kept[p]] for p in kept}
    return Text(data, text.labels, tokens, targets, text.tokenizer, text.checkpoint, n)


def few_shot_lines(n: int, folder: str) -> list[Line]:
    """Eight rows per class: SetFit's own package beside the probe and `full`."""
    text = wikipedia(7000, 600, n, shots=8)
    theirs = contenders.setfit(text, 5, folder)
    lines = []
    for method, flags in (("probe", {}), ("full", {"num_train_epochs": 10, "learning_rate": 2e-4})):
        ours = hftl(text, method, n, **flags)
        what = f"8 rows a class: SetFit, 5 iterations / {method}"
        lines.append(Line(what, _seconds(ours), _seconds(theirs), theirs["seconds"] / ours["seconds"], "", True))
    return lines


def deep_lines(text: Text, bf16: bool, n: int, folder: str) -> list[Line]:
    """Twelve blocks (random weights: time alone counts): the whole model by Trainer beside the top third, cached."""
    with tempfile.TemporaryDirectory() as deep:
        text = replace(text, checkpoint=twelve_blocks(text, deep))
        usual = contenders.trainer_script(text, folder, frozen=False, epochs=1, rate=1e-4, bf16=bf16)
        ours = hftl(text, "full", n, train_top=4, num_train_epochs=6, cache="on", learning_rate=1e-4)
    usual = {"seconds": 6 * usual["seconds"]}
    mine = {"seconds": _training(ours)["seconds"]}
    ratio = usual["seconds"] / mine["seconds"]
    what = "12 blocks, 6 epochs: Trainer, all / --train_top 4 with its cache (AutoFreeze: 2.55)"
    return [Line(what, _seconds(mine), _seconds(usual), ratio, "> 2.55", ratio > 2.55)]


def image_lines(steps: int, side: int, bf16: bool) -> list[Line]:
    """Whole-model training from hftl's rows beside the same Trainer on tensors that lie ready in memory."""
    from benchmarks.images import digits, trainer_on_tensors

    data, checkpoint = digits()
    ours, theirs = [], []
    for _ in range(2):
        flags = {"image_size": side, "max_steps": steps, "eval_strategy": "no", "no_flip": True, "augment": "none"}
        ours.append(hftl_images(data, checkpoint, per_device_train_batch_size=32, **flags)["rows_per_second"])
        theirs.append(trainer_on_tensors(data, checkpoint, side, steps, bf16))
    ratio = max(ours) / max(theirs)
    return [
        Line("full on images / Trainer on ready tensors: images per second", f"{max(ours):.0f}/s", f"{max(theirs):.0f}/s", ratio, ">= 0.95", ratio >= 0.95)
    ]  # fmt: skip


def write(path: Path, command: str, lines: list[Line], extra: str) -> None:
    """Write the table."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    head = [
        "# Speed, measured side by side", "",
        f"`{command}` on {device}, Python {platform.python_version()}, torch {torch.__version__}. Seconds are those of",
        "features and training, caches included; loading the model and the test are left out on both sides. The third",
        "number is test accuracy. Times of other runs and machines cannot be compared with these: ratios can.", "",
        "| ratio | hftl | other | measured | wanted | held |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    body = [
        f"| {x.what} | {x.ours} | {x.other} | {x.ratio:.2f} | {x.wanted} | {'yes' if x.held else '**no**'} |"
        for x in lines
    ]
    path.write_text("\n".join([*head, *body, "", extra]).rstrip() + "\n", encoding="utf-8")


PARTS = ("probe", "cache", "full", "steps", "deep", "few", "images", "growth")


def main(argv: list[str] | None = None) -> None:
    """Run the parts asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--rows", type=int, default=800, help="training rows")
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/RESULTS.md"))
    args = parser.parse_args(argv)
    quiet_libraries()
    bf16 = choose_bf16({})
    text = wikipedia(args.rows, 600, args.max_length)
    lines: list[Line] = []
    extra = ""
    with tempfile.TemporaryDirectory() as folder:
        work: dict[str, Callable[[], list[Line]]] = {
            "probe": lambda: probe_lines(text, bf16, args.max_length, folder),
            "cache": lambda: cache_lines(text, args.max_length),
            "full": lambda: full_lines(text, bf16, args.max_length, folder),
            "steps": lambda: step_lines(text, bf16, args.max_length, folder, args.rows // 16),
            "deep": lambda: deep_lines(text, bf16, args.max_length, folder),
            "few": lambda: few_shot_lines(args.max_length, folder),
            "images": lambda: image_lines(20, 64, bf16),
        }
        for part in [p for p in args.parts if p in work]:
            lines += work[part]()
            print(json.dumps([x.__dict__ for x in lines[-4:]], default=str), flush=True)
            write(args.output, "make bench", lines, extra)
    if "growth" in args.parts:
        extra = growth(args.max_length)
    write(args.output, "make bench", lines, extra)
    print(args.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
