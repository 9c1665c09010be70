"""How long a batch takes, for PyTorch and for ONNX Runtime, on the same rows and threads; and the table of it."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hftl.evaluation.scale import score_name
from hftl.export.graph import session
from hftl.export.rows import Feed
from hftl.terminal import progress


BATCHES = (1, 8, 32)
MAP_BATCHES = (1, 8)  # of models that answer every pixel: 32 images at 512 pixels take a minute
_CALLS = 64  # per batch size, fewer when they take longer than this many seconds:
_SECONDS = 8.0
_LEAST = 10
_WARM_UP = 3

_TIMES = ("p50 ms, 1", "p95 ms, 1", "p50 ms, 32", "p95 ms, 32", "rows/s, 8", "rows/s, 32")


def latency(model: Any, files: dict[str, Path], batches: dict[int, list[Feed]]) -> dict[str, Any]:
    """Time the fp32 model and the ONNX files, by name, on the CPU, without tokenizing or decoding.

    Returns {"threads", "batches": {name: {"1": {"p50_ms", "p95_ms", "rows_per_second"}, ...}}}. The threads are those
    that PyTorch takes: one for each physical core, unless OMP_NUM_THREADS says otherwise.
    """
    threads = torch.get_num_threads()
    runs: dict[str, Callable[[Feed], Any]] = {"torch fp32": lambda feed: model(**to_tensors(feed))}
    runs |= {name: partial(session(file, threads).run, ["logits"]) for name, file in files.items()}
    with torch.inference_mode():
        return {"threads": threads, "batches": {name: time_batches(run, batches, name) for name, run in runs.items()}}


def to_tensors(feed: Feed) -> dict[str, torch.Tensor]:
    """Return a batch of the graph as one of the model."""
    return {name: torch.from_numpy(array) for name, array in feed.items()}


def time_batches(
    run: Callable[[Any], Any], batches: dict[int, list[Any]], title: str, seconds_each: float = _SECONDS
) -> dict[str, dict[str, float]]:
    """Return p50_ms, p95_ms and rows_per_second of calls with the batches, by size, after about `seconds_each` of calls."""
    timings = {}
    for size in progress(list(batches), f"timing {title}", "batch size"):
        for i in range(_WARM_UP):
            run(batches[size][i % len(batches[size])])
        seconds: list[float] = []
        start = time.perf_counter()
        while len(seconds) < _CALLS and (len(seconds) < _LEAST or time.perf_counter() - start < seconds_each):
            before = time.perf_counter()
            run(batches[size][len(seconds) % len(batches[size])])
            seconds.append(time.perf_counter() - before)
        p50, p95 = np.percentile(seconds, [50, 95]) * 1000
        rate = size * len(seconds) / sum(seconds)
        timings[str(size)] = {"p50_ms": float(p50), "p95_ms": float(p95), "rows_per_second": float(rate)}
    return timings


def table(values: dict[str, Any]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return heads and a row per contender of export.json: size, score on validation where int8 was judged, and time by
    batch size.
    """
    judged = values["int8"] or {}
    known = {
        "torch fp32": (values["model"]["parameters"] * 4, None),
        "onnx fp32": (values["files"]["model.onnx"], judged.get("accuracy_before")),
        "onnx int8": (values["files"].get("model_int8.onnx", 0), judged.get("accuracy_after")),
    }
    rows = []
    for name, by_batch in values["latency"]["batches"].items():
        size, score = known[name]
        scores = ["-" if score is None else f"{score:.4f}"] * bool(judged)
        wanted = [(batch, key) for batch in ("1", "32") for key in ("p50_ms", "p95_ms")]
        times = [f"{by_batch[batch][key]:.1f}" if batch in by_batch else "-" for batch, key in wanted]
        rates = [f"{by_batch[b]['rows_per_second']:.0f}" if b in by_batch else "-" for b in ("8", "32")]
        rows.append([name, f"{size / 1e6:.1f}", *scores, *times, *rates])
    return ("model", "MB", *([score_name(judged["score"])] if judged else []), *_TIMES), rows
