"""CPU seconds of `hftl runs` on a folder of many runs, beside those of one run and of python's own start.

python -m benchmarks.runs runs/text-full --runs 1 100
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


FILES = ("report.json", "config.yaml", "final/config.json")  # what makes a folder a run


def copies(run: Path, count: int, folder: Path) -> Path:
    """Write `count` copies of a finished run, without its weights, under `folder`."""
    for i in range(count):
        for name in FILES:
            path = folder / f"run-{i}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / name, path)
    return folder


def cpu_seconds(words: list[str], times: int) -> float:
    """Return the median of the CPU seconds that `python WORDS` takes."""
    taken = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(taken)


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    start = cpu_seconds(["-c", "pass"], given.times)
    print(
        f"report.json of {(given.run / 'report.json').stat().st_size / 1e3:,.0f} kB\n\n| command | CPU s | over python |\n|---|---|---|"
    )
    print(f"| python -c pass | {start:.2f} | 1.0 |")
    with tempfile.TemporaryDirectory() as place:
        for count in given.runs:
            folder = copies(given.run, count, Path(place) / str(count))
            for more in ([], ["--json"]):
                taken = cpu_seconds(["-m", "hftl", "runs", str(folder), *more], given.times)
                print(f"| hftl runs, {count} runs {' '.join(more)} | {taken:.2f} | {taken / start:.1f} |")


if __name__ == "__main__":
    main()
