"""Proof that the artifact is the model: it is loaded in a fresh process without hftl, and must answer alike."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hftl.atomic import new_file
from hftl.data.splits import Splits
from hftl.errors import HftlError
from hftl.models.pooled import OWN_CLASSES
from hftl.predict import load
from hftl.publishing import fresh_process
from hftl.report.report import write_report
from hftl.run_data import OWN_ROWS, Artifact, RealRows, some_rows, spread
from hftl.tasks.task import Answer, Task


ROWS = 64
MAPS = 16  # rows of which every pixel is answered: some 10,000 answers each
TOLERANCE = 1e-4  # of a probability, in fp32: sums in another order differ by less than 1e-5
SHARE = 1e-3  # of the answers that are ids alone: such sums turn those whose two likeliest classes are as likely
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
    task: Task
    labels: tuple[str, ...]
    own_code: bool  # a class of hftl's own, whose modelling file hftl itself wrote
    revision: str | None = None  # commit of a repository, which is downloaded again; None for a folder
    base: tuple[str, str | None] | None = None  # name and revision, of an adapter alone
    token: str | None = None  # to download with, in place of the user's own


def start_check(
    folder: Path, task: Task, splits: Splits, answered: Callable[[Any], list[Answer]], processor: Any
) -> Future[dict[str, Any]]:
    """Begin to check a folder just saved against what the model in memory `answered` to test rows, or to parts of them.

    The fresh process works beside this one; `result()` waits for it and is that of `compare`.
    """
    numbers, rows = spread(splits.test, task.inputs, rows_of(task))
    inputs = rows if task.inputs.alike is None else task.inputs.alike(rows, processor)
    answers = answered(numbers if inputs is rows else inputs)
    place = Place(str(folder), task, splits.labels, is_pooled(folder))
    with_one = ThreadPoolExecutor(1)
    check = with_one.submit(compare, place, RealRows(inputs, OWN_ROWS, own=True), answers)
    with_one.shutdown(wait=False)
    return check


def rows_of(task: Task) -> int:
    """Return how many rows are compared."""
    return ROWS if task.output.keep is None else MAPS


def check_pushed(
    artifact: Artifact,
    repo_id: str,
    commit: str | None,
    *,
    adapter_of: tuple[str, str | None] | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """Download a repository again and check it against the artifact that was pushed; see `compare`.

    Without a `commit` it is a folder of this machine that is checked.
    `adapter_of` is (name, revision) of the base model when the repository holds an adapter alone.
    """
    predictor = load(artifact.folder)
    rows = some_rows(artifact, predictor.task.inputs, rows_of(predictor.task))
    alike = predictor.task.inputs.alike
    rows = rows if alike is None else replace(rows, inputs=alike(rows.inputs, predictor.processor))
    place = Place(repo_id, predictor.task, predictor.labels, is_pooled(artifact.folder), commit, adapter_of, token)
    return compare(place, rows, predictor.predict(rows.inputs))


def keep_parity(artifact: Artifact, where: str, result: dict[str, Any]) -> str | None:
    """Write a result into the report.json of a run, under parity, `where`; the file is complete at every moment.

    Without a run, or a report, there is nothing to write. Returns why it could not be written (a read-only run), else
    None.
    """
    path = artifact.run / "report.json" if artifact.run else None
    if path is None or not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        report["parity"] = {**(report.get("parity") or {}), where: result}
        with new_file(path) as partial:
            write_report(partial, report)
    except OSError as error:
        return f"{path} could not be written ({error.strerror}): the result of the check is not kept there."
    return None


def is_pooled(folder: Path) -> bool:
    """Is it a model of a class of hftl's own, which brings its modelling file along?"""
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return fields.get("model_type") in OWN_CLASSES


def compare(place: Place, rows: RealRows, answers: Sequence[Answer]) -> dict[str, Any]:
    """Answer `rows` in a fresh process by plain transformers and hold that against hftl's own `answers` to them.

    Returns rows, origin, labels_equal, max_difference, tolerance, seconds and note. Raises `ParityError` when the
    artifact cannot be loaded there, names other labels, or a probability is off by more than `TOLERANCE`; labels may
    differ only where two of them are nearer to each other than that. A process that the system killed, as it does when
    a second copy of the model does not fit into memory, says nothing about the artifact: the note tells, and
    labels_equal and max_difference are None.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="hftl-parity-") as work:
        reply = _ask(place, rows, Path(work))
    if isinstance(reply, int):
        why = f"the fresh process was ended by signal {reply} (too little memory for a second copy?)"
        return unchecked(len(rows.inputs), rows.origin, why)
    names = reply["labels"]
    if names != list(place.labels):
        raise ParityError(f"{place.model} names the labels {_few(names)}, the model {_few(place.labels)}.")
    output = place.task.output
    told = [output.flatten(answer, names, row) for answer, row in zip(reply["answers"], rows.inputs, strict=True)]
    whole = [
        i for i, answer in enumerate(told) if answer is not None
    ]  # `pipeline` cuts what is too long for one window
    if not whole:
        return unchecked(0, rows.origin, "plain pipeline reads none of these rows as hftl does")
    theirs = np.concatenate([np.atleast_2d(told[i]) for i in whole])
    ours = np.concatenate([np.atleast_2d(output.flat(answers[i], names)) for i in whole])
    return {**judge(theirs, ours, rows.origin, place.model, start, output.link), "rows": len(whole)}


def _same_class(answers: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Is the likeliest label the same, or is the other one as likely?"""
    theirs = np.take_along_axis(expected, answers.argmax(-1)[..., None], axis=-1)[..., 0]
    same: np.ndarray = (answers.argmax(-1) == expected.argmax(-1)) | (expected.max(-1) - theirs < TOLERANCE)
    return same


# `Output.link` -> for each row, whether two models say the same; numbers are compared by their difference alone.
_SAME = {
    "softmax": _same_class,
    "sigmoid": lambda a, b: (((a > 0.5) == (b > 0.5)) | (np.abs(b - 0.5) < TOLERANCE)).all(axis=-1),
    "none": lambda a, b: np.ones(len(b), dtype=bool),
}


def judge(
    answers: np.ndarray, expected: np.ndarray, origin: str, what: str, start: float, link: str = "softmax"
) -> dict[str, Any]:
    """Return the result for probabilities [rows, labels] of `what`, or for numbers, whose tolerance is relative.

    Of ids alone [n, 1], whole numbers, the difference is the share that is not the same. Raises `ParityError` for a
    difference.
    """
    if expected.dtype.kind == "i":
        return _judge_ids(answers, expected, origin, what, start)
    scale = max(1.0, float(np.abs(expected).max())) if link == "none" else 1.0
    difference = float(np.abs(answers - expected).max()) / scale
    same = _SAME[link](answers, expected)
    if not same.all() or not difference <= TOLERANCE:  # not a number is a difference too
        values = "numbers" if link == "none" else "probabilities"
        raise ParityError(
            f"{what} is not the model that was trained: on {len(expected)} rows ({origin}) {values} differ by up "
            f"to {difference:.2g} (allowed {TOLERANCE:g}) and {(~same).sum()} labels. Do not publish it."
        )
    figures = {"labels_equal": True, "max_difference": difference, "seconds": round(time.perf_counter() - start, 3)}
    return unchecked(len(expected), origin, "") | figures | {"note": ""}


def _judge_ids(answers: np.ndarray, expected: np.ndarray, origin: str, what: str, start: float) -> dict[str, Any]:
    share = float((answers != expected).mean()) if answers.shape == expected.shape else 1.0
    if not share <= SHARE:
        raise ParityError(
            f"{what} is not the model that was trained: of {len(expected):,} pixels ({origin}) {share:.2%} have another "
            f"class (allowed {SHARE:.1%}). Do not publish it."
        )
    figures = {"labels_equal": True, "max_difference": share, "tolerance": SHARE, "note": ""}
    return unchecked(len(expected), origin, "") | figures | {"seconds": round(time.perf_counter() - start, 3)}


def unchecked(rows: int, origin: str, why: str) -> dict[str, Any]:
    """Return the result of a check that was not made."""
    figures = {"labels_equal": None, "max_difference": None, "tolerance": TOLERANCE, "seconds": 0.0}
    return {"rows": rows, "origin": origin, **figures, "note": f"not checked: {why}"}


def _ask(place: Place, rows: RealRows, work: Path) -> dict[str, Any] | int:
    """Return the labels and what `pipeline` answers to each row, or the number of the signal that ended the process."""
    task = place.task
    question = {
        "model": place.model,
        "revision": place.revision,
        "base": place.base,
        "own_code": place.own_code,
        "task": task.name,
        "auto_model": task.auto_model,
        "processor": task.inputs.processor,
        "argument": task.inputs.argument,
        "options": task.pipeline_options,
        "asked": task.output.ask(place.labels),
        "download_to": str(work / "hub"),
        "rows": [as_json(row, work / f"{i}.png") for i, row in enumerate(rows.inputs)],
    }
    done = fresh([str(fresh_process.__file__)], question, _environment(place, work))
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


def as_json(row: Any, file: Path) -> Any:
    """Return texts as they are; write an image to `file`, without loss, and return its path."""
    if not hasattr(row, "save"):
        return row
    row.save(file)
    return str(file)


def _environment(place: Place, work: Path) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in _LAUNCHER and not name.startswith(("ACCELERATE_", "TORCHELAS"))
    }
    return {
        **inherited,
        **({} if place.revision else {"HF_HUB_OFFLINE": "1"}),
        **({} if place.token is None else {"HF_TOKEN": place.token}),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "HF_MODULES_CACHE": str(work / "modules"),
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def _few(names: Any) -> str:
    return ", ".join(map(repr, list(names)[:3])) + (", ..." if len(names) > 3 else "")
