"""Proof that the artifact is the model: it is loaded in a fresh process without hftl, and must answer alike."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.special import softmax

from hftl.errors import HftlError
from hftl.models.pooled import OWN_CLASSES
from hftl.predict import Predictor, load
from hftl.publishing import fresh_process
from hftl.report.report import write_report
from hftl.run_data import OWN_ROWS, Artifact, RealRows, some_rows, spread
from hftl.tasks.task import Task


ROWS = 64
TOLERANCE = 1e-4  # of a probability, in fp32: sums in another order differ by less than 1e-5
# What a launcher sets for its own processes; the fresh one is alone.
_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


class ParityError(HftlError):
    """The artifact cannot be loaded by itself, or answers differently from the model that it was made of."""

    exit_code = 1


class DownloadError(HftlError):
    """What was pushed could not be fetched again, which says nothing of the artifact."""


@dataclass(frozen=True)
class Place:
    """Where the artifact to check is."""

    model: str  # a folder, or a repository on the Hub
    task: str
    revision: str | None = None  # commit of a repository, which is downloaded again; None for a folder
    own_code: bool = False  # a class of hftl's own, whose modelling file hftl itself wrote
    base: tuple[str, str | None] | None = None  # name and revision, of an adapter alone
    auto_model: str | None = None
    labels: tuple[str, ...] = ()


def check_saved(
    folder: Path, task: Task, test: Dataset, logits: np.ndarray, labels: tuple[str, ...]
) -> dict[str, Any]:
    """Check a folder just saved against the logits [test rows, labels] of the model in memory; see `compare`."""
    numbers, inputs = spread(test, task.inputs, ROWS)
    expected = softmax(logits[numbers].astype(np.float64), axis=-1)
    place = Place(str(folder), task.name, own_code=is_pooled(folder))
    return compare(place, RealRows(inputs, OWN_ROWS, own=True), expected, labels)


def check_folder(artifact: Artifact, data: str | None = None) -> dict[str, Any]:
    """Check the model folder of an artifact against what hftl answers; see `compare`."""
    predictor = load(artifact.folder)
    rows = some_rows(artifact, predictor.task.inputs, ROWS, data)
    place = Place(str(artifact.folder), predictor.task.name, own_code=is_pooled(artifact.folder))
    return compare(place, rows, _probabilities(predictor, rows), predictor.labels)


def check_pushed(
    artifact: Artifact,
    repo_id: str,
    commit: str,
    *,
    adapter_of: tuple[str, str | None] | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """Download a repository again and check it against the artifact that was pushed; see `compare`.

    `adapter_of` is (name, revision) of the base model when the repository holds an adapter alone. A `token` downloads
    in place of the user's own.
    """
    predictor = load(artifact.folder)
    rows = some_rows(artifact, predictor.task.inputs, ROWS)
    place = Place(
        repo_id,
        predictor.task.name,
        commit,
        own_code=is_pooled(artifact.folder),
        base=adapter_of,
        auto_model=predictor.task.auto_model,
        labels=predictor.labels,
    )
    return compare(place, rows, _probabilities(predictor, rows), predictor.labels, token)


def keep_parity(artifact: Artifact, where: str, result: dict[str, Any]) -> str | None:
    """Write a result into the report.json of a run, under parity, `where`; the file is whole at every moment.

    Without a run, or a report, there is nothing to write. Returns why it could not be written (a read-only run), else
    None.
    """
    path = artifact.run / "report.json" if artifact.run else None
    if path is None or not path.is_file():
        return None
    new = path.with_name("report.json.new")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        report["parity"] = {**(report.get("parity") or {}), where: result}
        write_report(new, report)
        new.replace(path)
    except OSError as error:
        if os.access(path.parent, os.W_OK):
            new.unlink(missing_ok=True)
        return f"{path} could not be written ({error.strerror}): the result of the check is not kept there."
    return None


def _probabilities(predictor: Predictor, rows: RealRows) -> np.ndarray:
    """Return [rows, labels] by hftl's own way of serving."""
    return np.array([[p.probabilities[name] for name in predictor.labels] for p in predictor.predict(rows.inputs)])


def is_pooled(folder: Path) -> bool:
    """Is it a model of a class of hftl's own, which brings its modelling file along?"""
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return fields.get("model_type") in OWN_CLASSES


def compare(
    place: Place, rows: RealRows, expected: np.ndarray, labels: tuple[str, ...], token: str | None = None
) -> dict[str, Any]:
    """Answer `rows` in a fresh process by plain transformers and hold that against `expected` [rows, labels].

    Returns rows, origin, labels_equal, max_difference, tolerance, seconds and note. Raises `ParityError` when the
    artifact cannot be loaded there, names other labels, or a probability is off by more than `TOLERANCE`; labels may
    differ only where two of them are nearer to each other than that. A process that the system killed, as it does when
    a second copy of the model does not fit into memory, says nothing about the artifact: the note tells, and
    labels_equal and max_difference are None.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="hftl-parity-") as work:
        answers = _ask(place, rows, Path(work), token)
    if isinstance(answers, int):
        note = f"not checked: the fresh process was ended by signal {answers} (too little memory for a second copy?)"
        return _result(len(rows.inputs), rows.origin, None, None, start, note)
    if answers["labels"] != list(labels):
        raise ParityError(f"{place.model} names the labels {_few(answers['labels'])}, the model {_few(labels)}.")
    return judge(np.asarray(answers["probabilities"]), expected, rows.origin, place.model, start)


def judge(answers: np.ndarray, expected: np.ndarray, origin: str, what: str, start: float) -> dict[str, Any]:
    """Return the result for probabilities [rows, labels] of `what`; raise `ParityError` for a difference."""
    difference = float(np.abs(answers - expected).max())
    same = bool(_same_labels(answers, expected).all())
    if not same or not difference <= TOLERANCE:  # not a number is a difference too
        wrong = int((~_same_labels(answers, expected)).sum())
        raise ParityError(
            f"{what} is not the model that was trained: on {len(expected)} rows ({origin}) probabilities differ by up "
            f"to {difference:.2g} (allowed {TOLERANCE:g}) and {wrong} labels. Do not publish it."
        )
    return _result(len(expected), origin, same, difference, start)


def _result(
    rows: int, origin: str, same: bool | None, difference: float | None, start: float, note: str = ""
) -> dict[str, Any]:
    return {
        "rows": rows,
        "origin": origin,
        "labels_equal": same,
        "max_difference": difference,
        "tolerance": TOLERANCE,
        "seconds": round(time.perf_counter() - start, 3),
        "note": note,
    }


def _same_labels(answers: np.ndarray, expected: np.ndarray) -> np.ndarray:
    theirs = np.take_along_axis(expected, answers.argmax(-1)[:, None], axis=-1)[:, 0]
    return (answers.argmax(-1) == expected.argmax(-1)) | (expected.max(-1) - theirs < TOLERANCE)


def _ask(place: Place, rows: RealRows, work: Path, token: str | None) -> dict[str, Any] | int:
    """The answers, or the number of the signal that ended the process."""
    question = {
        **asdict(place),
        "download_to": str(work / "hub"),
        "rows": [as_json(row, work / f"{i}.png") for i, row in enumerate(rows.inputs)],
    }
    done = fresh([str(fresh_process.__file__)], question, _environment(place, work, token))
    if done.returncode < 0:
        return -done.returncode
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == fresh_process.NOT_DOWNLOADED:
        raise DownloadError(f"{place.model} could not be downloaded again: {lines[-1].strip()[:200]}")
    if done.returncode:
        why = lines[-1].strip()[:300] if lines else f"exit code {done.returncode}"
        raise ParityError(f"{place.model} cannot be loaded in a fresh process without hftl: {why}")
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def fresh(
    script: list[str], question: dict[str, Any], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script (a file, or "-c" and code) in a process of its own, with the question as JSON on its stdin."""
    # -P: neither the current folder nor the script's own hides other modules; -B: no __pycache__ beside an artifact
    command = [sys.executable, "-P", "-B", *script]
    return subprocess.run(
        command, input=json.dumps(question), env=environment, capture_output=True, text=True, check=False
    )


def as_json(row: Any, file: Path) -> str:
    """Return a text as it is; write an image to `file`, without loss, and return its path."""
    if isinstance(row, str):
        return row
    row.save(file)
    return str(file)


def _environment(place: Place, work: Path, token: str | None) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in _LAUNCHER and not name.startswith(("ACCELERATE_", "TORCHELAS"))
    }
    return {
        **inherited,
        **({} if place.revision else {"HF_HUB_OFFLINE": "1"}),
        **({} if token is None else {"HF_TOKEN": token}),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "HF_MODULES_CACHE": str(work / "modules"),
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def _few(names: Any) -> str:
    return ", ".join(map(repr, list(names)[:3])) + (", ..." if len(names) > 3 else "")
