"""Vega-Lite charts as SVG text, drawn by vl-convert in a process of its own.

vl-convert brings a JavaScript engine that reserves 64 GB of address space when it starts, and aborts the whole
process where that is refused (`ulimit -v`). A finished run must not end like that, nor keep the engine's threads and
its 100 MB.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


_TIMEOUT = 120  # seconds; twenty charts take about one
_VEGA_LITE = "5.21"


def draw(specs: Sequence[dict[str, Any]]) -> list[str] | str:
    """Return an SVG for each Vega-Lite spec, or one line that says why they could not be drawn.

    Strings among the specs' data are escaped by Vega. Nothing is fetched: a spec with a URL fails.
    """
    if not specs:
        return []
    try:
        # -P: this folder must not stand on the module path, where its html.py would hide the standard one.
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            input=json.dumps(list(specs), allow_nan=False),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the process that draws them failed: {error}"
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        reason = next((line for line in lines if "rror" in line), lines[-1])
        return f"the process that draws them ended with code {done.returncode}: {reason[:200]}"
    return json.loads(done.stdout)


def _main() -> None:
    import vl_convert

    specs = json.loads(sys.stdin.buffer.read())
    svgs = [vl_convert.vegalite_to_svg(spec, vl_version=_VEGA_LITE, allowed_base_urls=[]) for spec in specs]
    sys.stdout.buffer.write(json.dumps(svgs).encode())


if __name__ == "__main__":
    _main()
