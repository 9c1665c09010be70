"""Whether the written files answer as the model does: predict.py runs in a process of its own."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hftl.errors import ModelError
from hftl.publishing.parity import TOLERANCE, as_json, fresh


_FOREIGN = ("hftl", "torch", "transformers", "datasets")
# The child gets the folder and the inputs on stdin, and answers with every probability and what it imported.
_CHILD = """
import json, sys
given = json.load(sys.stdin)
sys.path.insert(0, given["folder"])
import predict
rows = predict.probabilities(given["inputs"], given["model"])
json.dump({"rows": rows.tolist(), "foreign": [m for m in given["foreign"] if m in sys.modules]}, sys.stdout)
"""


def check_parity(folder: Path, inputs: list[Any], wanted: np.ndarray) -> float:
    """Return the largest difference of a probability between predict.py and `wanted` [n, labels].

    Raises `ModelError` when a label differs, or a probability by more than 1e-4.
    """
    got = run_predict(folder, inputs, "model.onnx")
    gap = float(np.abs(got - wanted).max())
    other = int((got.argmax(-1) != wanted.argmax(-1)).sum())
    if other or not gap <= TOLERANCE:
        raise ModelError(
            f"The export does not answer as the model does, so it was not kept: of {len(wanted)} rows {other} got another "
            f"label, and probabilities differ by up to {gap:.2g} (allowed: {TOLERANCE:g})."
        )
    return gap


def run_predict(folder: Path, inputs: list[Any], model: str) -> np.ndarray:
    """Return what `predict.probabilities` of the folder's predict.py answers in a fresh process, [n, labels].

    Inputs are texts or PIL images; images go through lossless files in a temporary folder. Raises `ModelError` when
    it fails, or imports a package that it must do without.
    """
    with TemporaryDirectory() as temporary:
        given = {"folder": str(folder.resolve()), "model": model, "foreign": _FOREIGN}
        given["inputs"] = [as_json(value, Path(temporary) / f"{i}.png") for i, value in enumerate(inputs)]
        process = fresh(["-c", _CHILD], given)
    if process.returncode:
        last = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"The written predict.py fails, so the export was not kept: {last[:300]}")
    answer = json.loads(process.stdout)
    if answer["foreign"]:
        raise ModelError(f"The written predict.py imports {', '.join(answer['foreign'])}, so the export was not kept.")
    return np.array(answer["rows"], dtype=np.float64)
