"""The figures of an export as a table."""

from typing import Any


HEADER = ("model", "MB", "accuracy", "p50 ms, 1", "p95 ms, 1", "p50 ms, 32", "p95 ms, 32", "rows/s, 8", "rows/s, 32")


def table_rows(values: dict[str, Any]) -> list[list[str]]:
    """Return one row per contender of export.json: size, validation accuracy, and time by batch size."""
    judged = values["int8"] or {}
    known = {
        "torch fp32": (values["model"]["parameters"] * 4, None),
        "onnx fp32": (values["files"]["model.onnx"], judged.get("accuracy_before")),
        "onnx int8": (values["files"].get("model_int8.onnx", 0), judged.get("accuracy_after")),
    }
    rows = []
    for name, by_batch in values["latency"]["batches"].items():
        size, accuracy = known[name]
        times = [f"{by_batch[batch][key]:.1f}" for batch in ("1", "32") for key in ("p50_ms", "p95_ms")]
        rates = [f"{by_batch[batch]['rows_per_second']:.0f}" for batch in ("8", "32")]
        rows.append([name, f"{size / 1e6:.1f}", "-" if accuracy is None else f"{accuracy:.4f}", *times, *rates])
    return rows
