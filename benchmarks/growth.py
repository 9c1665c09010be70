"""Cost as the data grows: seconds per row and memory of the main process for the probe on 1k to 64k rows."""

import json
import subprocess
import sys


SIZES = (1000, 4000, 16000, 64000)
_CHILD = """
import json, resource, sys
from benchmarks.ours import hftl
from benchmarks.rows import wikipedia
from hftl.surroundings import quiet_libraries
quiet_libraries()
n, length = int(sys.argv[1]), int(sys.argv[2])
text = wikipedia(1000, 100, length, repeat=n // 1000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run = hftl(text, "probe", length)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": n, "features": run["features_seconds"], "peak_mib": after // 1024, "grown_mib": (after - before) // 1024}))
"""


def growth(max_length: int) -> str:
    """Run each size in a process of its own and return a table. Texts are cut at 32 tokens, to keep it short."""
    found = []
    for size in SIZES:
        words = [sys.executable, "-c", _CHILD, str(size), str(min(32, max_length))]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(found[-1], flush=True)
    lines = [
        "## As the data grows", "",
        "The probe on real rows, repeated, cut at 32 tokens; each size in a process of its own.", "",
        "| rows | features and regression, s | per 1,000 rows, s | memory that the run adds at its peak, MiB |",
        "|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {x['rows']:,} | {x['features']:.1f} | {x['features'] / x['rows'] * 1000:.2f} | {x['grown_mib']:,} |"
        for x in found
    ]
    return "\n".join(lines)
