"""What shipping costs: ONNX beside torch on the same rows, and a push of a whole run to a Hub on this machine.

`python -m benchmarks.ship --text runs/text-full --images runs/digits-full` (runs that `make run` made) writes
benchmarks/SHIPPING.md. Alone on the machine; batches take turns, so that a busy moment meets every contender.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from hftl.export import export
from hftl.predict import load
from hftl.run_data import open_artifact, run_splits
from hftl.surroundings import quiet_libraries
from tests.hub.server import HubServer


Feed = dict[str, np.ndarray]
TOKEN = "hf_" + "loopback" * 4


def batches_of_text(run: Path, rows: int, size: int) -> list[Feed]:
    """Encode test texts as a serving process would: batches as they come, padded to their longest."""
    predictor = load(run)
    texts = run_splits(run).test["text"][:][:rows]
    found = []
    for start in range(0, len(texts), size):
        batch = predictor.processor(texts[start : start + size], padding=True, truncation=True, return_tensors="np")
        found.append({name: np.asarray(values, dtype=np.int64) for name, values in batch.items()})
    return found


def batches_of_images(side: int, rows: int, size: int) -> list[Feed]:
    """Random pixels: a convolution takes as long for any."""
    random = np.random.default_rng(0)
    return [
        {"pixel_values": random.normal(size=(size, 3, side, side)).astype(np.float32)} for _ in range(rows // size)
    ]


def by_torch(folder: Path) -> Callable[[Feed], np.ndarray]:
    """The run's model in fp32."""
    model = load(folder).model

    def answer(feed: Feed) -> np.ndarray:
        with torch.inference_mode():
            return model(**{k: torch.from_numpy(v) for k, v in feed.items()}).logits.numpy()

    return answer


def by_onnx(path: Path) -> Callable[[Feed], np.ndarray]:
    """An exported model, with as many threads as torch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}

    def answer(feed: Feed) -> np.ndarray:
        return session.run(None, {k: v for k, v in feed.items() if k in names})[0]

    return answer


def rates(contenders: dict[str, Callable[[Feed], np.ndarray]], feeds: list[Feed], turns: int = 3) -> dict[str, float]:
    """Rows per second of each contender: the median over turns."""
    rows = sum(len(next(iter(feed.values()))) for feed in feeds)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for answer in contenders.values():
        answer(feeds[0])
    for _ in range(turns):
        for name, answer in contenders.items():
            start = time.perf_counter()
            for feed in feeds:
                answer(feed)
            seconds[name].append(time.perf_counter() - start)
    return {name: rows / statistics.median(taken) for name, taken in seconds.items()}


def onnx_lines(text: Path, images: Path, folder: Path) -> list[tuple[Any, ...]]:
    """Rows of the table: texts at several batch sizes, images at several sizes."""
    lines = []
    export(text, int8=True, output_dir=folder / "text")
    torch_text, fp32, int8 = (
        by_torch(text),
        by_onnx(folder / "text/model.onnx"),
        by_onnx(folder / "text/model_int8.onnx"),
    )
    for size in (1, 8, 32):
        found = rates({"torch": torch_text, "fp32": fp32, "int8": int8}, batches_of_text(text, 320, size))
        lines.append((f"texts, batch {size}", found, ">= 1.7 (int8)" if size == 8 else ""))
    export(images, output_dir=folder / "images")
    torch_images, fp32 = by_torch(images), by_onnx(folder / "images/model.onnx")
    for side in (64, 128, 224):
        found = rates({"torch": torch_images, "fp32": fp32}, batches_of_images(side, 64, 8))
        lines.append((f"images of {side} px, batch 8", found, ">= 2 (fp32)" if side == 224 else ""))
    return lines


def push_seconds(run: Path, folder: Path) -> tuple[float, float, float]:
    """MiB of the run, seconds of `hftl push` to a Hub on the loopback address, and of its parity check."""
    size = sum(p.stat().st_size for p in open_artifact(run).folder.iterdir()) / 2**20
    with HubServer(folder / "hub", token=TOKEN) as hub:
        words = ["-m", "hftl", "push", str(run), "tester/run", "--license", "cc-by-sa-4.0", "--json"]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *words],
            env={**os.environ, **hub.env(), "HF_TOKEN": TOKEN},
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    return size, seconds, float(json.loads(done.stdout)["parity"]["seconds"])


def main() -> None:
    """Measure, print and write benchmarks/SHIPPING.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", default="runs/text-full", type=Path)
    parser.add_argument("--images", default="runs/digits-full", type=Path)
    parser.add_argument("--output", default="benchmarks/SHIPPING.md", type=Path)
    arguments = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as work:
        lines = onnx_lines(arguments.text, arguments.images, Path(work))
        size, seconds, parity = push_seconds(arguments.text, Path(work))
    head = [
        "# Shipping, measured", "",
        f"`python -m benchmarks.ship --text {arguments.text} --images {arguments.images}` on CPU,",
        f"{torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}, onnxruntime",
        f"{onnxruntime.__version__}. Rows per second of the forward pass, median of three turns.", "",
        "| | torch fp32 | ONNX fp32 | ONNX int8 | fp32 / torch | int8 / torch | wanted |", "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    body = []
    for what, found, wanted in lines:
        shares = [f"{found[k] / found['torch']:.2f}" if k in found else "" for k in ("fp32", "int8")]
        cells = [f"{found[k]:.1f}" if k in found else "" for k in ("torch", "fp32", "int8")]
        body.append(f"| {what} | {' | '.join([*cells, *shares])} | {wanted} |")
    tail = [
        "",
        f"`hftl push` of a run of {size:.0f} MiB to a Hub on this machine: {seconds:.1f} s in all, {parity:.1f} s of them "
        f"for the download and the parity check in a fresh process; {seconds - parity:.1f} s without (wanted: under 10 s).",
    ]
    text = "\n".join([*head, *body, *tail]) + "\n"
    sys.stdout.write(text)
    arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
