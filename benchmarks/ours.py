"""hftl on the same rows, through `adapt`, with a cache that is empty at the start."""

import os
import shutil
import tempfile
from typing import Any

from benchmarks.rows import Text
from hftl import adapt


def hftl(text: Text, method: str, max_length: int, **flags: Any) -> dict[str, Any]:
    """One run; `seconds` are those of features, probe and training (caches included), not of loading and saving."""
    return _run("text-classification", text.data, text.checkpoint, method, max_seq_length=max_length, **flags)


def _run(task: str, data: Any, model: str, method: str, **flags: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HFTL_CACHE"] = f"{folder}/cache"
        result = adapt(
            task, data=data, model=model, method=method, output_dir=f"{folder}/run", evidence=False, **flags
        )
        shutil.rmtree(f"{folder}/cache", ignore_errors=True)
    report = result.report
    stage = report["stages"][-1]
    speed = [entry["train_samples_per_second"] for entry in stage["history"] if "train_samples_per_second" in entry]
    return {
        "seconds": report["timing"]["features_seconds"] + report["timing"]["train_seconds"],
        "features_seconds": report["timing"]["features_seconds"],
        "accuracy": result.metrics["accuracy"]["value"],
        "reads": [s["reads"] for s in report["stages"]],
        "rows_per_second": speed[-1] if speed else None,
        "report": report,
    }


def hftl_images(data: Any, model: str, **flags: Any) -> dict[str, Any]:
    """The same for images."""
    return _run("image-classification", data, model, "full", **flags)
