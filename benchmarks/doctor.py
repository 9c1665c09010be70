"""How long `hftl doctor` takes on 100,000 short texts, and how much memory: python -m benchmarks.doctor [ROWS]."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd


_CHILD = """
import json, resource, sys, time
start = time.perf_counter()
from hftl.doctor import doctor
findings = doctor(sys.argv[1])
print(json.dumps({
    "seconds": round(time.perf_counter() - start, 1),
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "counts": {f.check: f.count for f in findings if f.level != "PASS"},
}))
"""


def short_texts(rows: int, seed: int = 0) -> pd.DataFrame:
    """Made-up sentences of 3 to 20 words in 150 classes: 2% copies, 5% nearly copies, and 5% of one template."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(20_000)])
    # Words are as unequally frequent as in a language (Zipf 1949).
    frequency = 1 / np.arange(1, len(words) + 1)
    lengths = rng.integers(3, 21, rows)
    stream = rng.choice(words, lengths.sum(), p=frequency / frequency.sum())
    texts = [" ".join(part) for part in np.split(stream, np.cumsum(lengths)[:-1])]
    for row in rng.choice(rows, rows // 50, replace=False):
        texts[row] = texts[rng.integers(rows)]
    for row in rng.choice(rows, rows // 20, replace=False):
        texts[row] = texts[rng.integers(rows)] + " " + str(rng.choice(words))
    for row in rng.choice(rows, rows // 20, replace=False):
        texts[row] = f"your order {rng.integers(10**6)} has been shipped and will arrive within three working days"
    return pd.DataFrame({"text": texts, "label": [f"class {i}" for i in rng.integers(0, 150, rows)]})


def main(rows: int = 100_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.csv"
        short_texts(rows).to_csv(path, index=False)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", _CHILD, str(path)], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        print(f"{rows:,} short texts, {path.stat().st_size / 2**20:.1f} MiB as CSV")
        print(f"{found['seconds']} s ({time.perf_counter() - start:.1f} s with the start of Python)")
        print(f"{found['peak_mib']:,} MiB at the most")
        print(found["counts"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
