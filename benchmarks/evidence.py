"""What part of a run is evidence? Runs of a few seconds to minutes, one after the other, their features not yet known.

python -m benchmarks.evidence

The limits: a quarter of a run that takes more than a minute, 10 seconds of a shorter one.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hftl.adapt import adapt
from recipes.tour import JOBS


MINUTE, SECONDS, SHARE = 60.0, 10.0, 0.25
_FEW = {"data": "sample:wikipedia-topics", "model": "all-MiniLM-L6-v2", "max_train_samples": 300}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (task, flags) for name, (_, task, flags) in JOBS.items()},
    "few-texts-probe": ("text-classification", {**_FEW, "max_eval_samples": 300, "method": "probe"}),
    "few-texts-lora": ("text-classification", {**_FEW, "max_eval_samples": 300, "method": "lora"}),
    "few-digits-auto": (
        "image-classification",
        {"data": "sample:digits", "model": "efficientnet-lite0", "image_size": 64, "no_flip": True},
    ),
}


def main() -> None:
    """Do the runs and print a row of Markdown for each."""
    print("| run | seconds | evidence | share | limit |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for name in sys.argv[1:] or RUNS:
            task, flags = RUNS[name]
            os.environ["HFTL_CACHE"] = str(Path(place) / "cache" / name)
            report = adapt(task, output_dir=Path(place) / name, report_to="none", **flags).report
            whole, part = report["timing"]["total_seconds"], report["evidence"]["seconds"]
            most = whole * SHARE if whole > MINUTE else SECONDS
            met = "kept" if part <= most else "**missed**"
            print(f"| {name} | {whole:.0f} | {part:.1f} | {part / whole:.0%} | {met}: {most:.1f} |", flush=True)


if __name__ == "__main__":
    main()
