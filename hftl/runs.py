"""Every run under a folder: what it was, what it reached, how it stands; read from the disk alone, without torch."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from hftl.atomic import partial_of
from hftl.config import build_config, read_yaml
from hftl.errors import HftlError, RunError
from hftl.evaluation.scale import FIGURES, HEADLINES, Scale, score_name
from hftl.paths import typed_path
from hftl.run_folder import is_held


Status = Literal["running", "finished", "stopped", "failed", "damaged"]
UNSEEN = ("checkpoints", "race", "final", "baseline", "control")  # folders of a run that hold no run
NO_LAST_WORD = "The process ended without a word: the log may say more."
NOTHING = "-"


@dataclass(frozen=True)
class Run:
    """One run as `hftl runs` lists it; what is not known is None."""

    folder: Path  # where the run lies, or will lie once it is finished
    status: Status
    data: str | None = None
    task: str | None = None
    model: str | None = None
    method: str | None = None
    metric: str | None = None  # such as "accuracy"
    value: float | None = None  # on the test rows, as are its 95% bounds
    low: float | None = None
    high: float | None = None
    verdict: str | None = None  # POSITIVE, NEGATIVE, NEUTRAL, EQUIVALENT or UNDECIDED
    seconds: float | None = None
    date: str | None = None  # ISO 8601, UTC
    problem: str | None = None  # one line: why it failed, or what is damaged


@dataclass(frozen=True)
class Point:
    """One mark of a training curve; several stages, or trials of a race, follow each other."""

    stage: str
    step: int
    epoch: float
    loss: float | None = None  # on training rows, mean since the last mark
    score: float | None = None  # the task's headline score on the validation rows


@dataclass(frozen=True)
class Pair:
    """Two runs that answered the same test rows; `gap` is a's score minus b's, with its 95% bounds."""

    metric: str
    rows: int
    a: float
    b: float
    gap: float
    low: float
    high: float
    p: float | None
    label: str  # POSITIVE: a is better, NEGATIVE: b is better, NEUTRAL: not shown
    sentence: str


# ------------------------------------------------------------------------------------------ what a process leaves


def process_folder(run: Path) -> Path:
    """Return where `hftl ui` keeps what it knows of the process of a run: start.json, progress.jsonl, log.txt."""
    return run.with_name(f".{run.name}.process")


def progress_of(run: Path) -> list[dict[str, Any]]:
    """Return what the run's processes have recorded (`hftl.terminal.record`), in order; a line that is not whole is left out."""
    try:
        lines = (process_folder(run) / "progress.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    entries = (_json(line) for line in lines)
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("time"), int | float)]


def started(run: Path) -> dict[str, Any] | None:
    """Return what was noted when the page started the run: words, cwd, pid, created; None where it did not."""
    try:
        noted = _json((process_folder(run) / "start.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return noted if isinstance(noted, dict) and isinstance(noted.get("words"), list) else None


def is_alive(noted: dict[str, Any] | None) -> bool:
    """Does the process that was noted still run? Its number may have gone to another one."""
    if noted is None or not noted.get("pid"):
        return False
    import psutil  # late: a finished run needs none

    try:
        process = psutil.Process(int(noted["pid"]))
        return process.create_time() == noted["created"] and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def last_error(entries: Sequence[dict[str, Any]]) -> str | None:
    """Return the error with which the last process ended; None where it was asked to end, or has not ended so."""
    since = max((i for i, entry in enumerate(entries) if "started" in entry), default=-1)
    errors = [str(entry["error"]) for entry in entries[since + 1 :] if entry.get("error")]
    return errors[-1] if errors else None


def was_stopped(entries: Sequence[dict[str, Any]]) -> bool:
    """Was the last process asked to end?"""
    since = max((i for i, entry in enumerate(entries) if "started" in entry), default=-1)
    return any("stop" in entry or "stopped" in entry for entry in entries[since + 1 :])


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


# ---------------------------------------------------------------------------------------------------- the list


def list_runs(folder: Path) -> list[Run]:
    """Return every run under `folder`, at any depth, the newest first. Raises `RunError` where there is no such folder."""
    folder = typed_path(folder)
    if not folder.is_dir():
        raise RunError(f"There is no folder {folder}: hftl runs takes one that holds runs, such as runs.")
    runs = [read_run(path) for path in _run_folders(folder)]
    return sorted(runs, key=lambda run: (run.date or "", run.folder.name), reverse=True)


def _run_folders(folder: Path) -> list[Path]:
    """Return the folders, finished or not yet there, of the runs under `folder`, and `folder` itself where it is one."""
    found: set[Path] = {folder} if _is_run(folder) else set()
    for here, names, _ in os.walk(folder) if not found else ():
        deeper = []
        for name in names:
            path = Path(here, name)
            if name.startswith(".") and name.endswith(".process"):
                found.add(path.with_name(name[1 : -len(".process")]))
            elif name.endswith((".partial", ".seeds")) and (name.endswith(".seeds") or _holds(path, "rows.json")):
                found.add(path.with_name(name.rpartition(".")[0]))
            elif _is_run(path):
                found.add(path)
            elif not name.startswith(".") and name not in UNSEEN and not name.endswith(".partial"):
                deeper.append(name)
        names[:] = deeper
    return sorted(found)


def _is_run(path: Path) -> bool:
    """A report beside a model or a config: what `hftl train` makes, also where one of the three is damaged or gone."""
    return sum(_holds(path, name) for name in ("report.json", "config.yaml", "final/config.json")) >= 2


def _holds(path: Path, name: str) -> bool:
    try:
        return (path / name).is_file()
    except OSError:
        return False


def read_run(folder: Path) -> Run:
    """Return what the disk says of the run that lies in `folder`, or that is on its way there."""
    begun, entries = started(folder), progress_of(folder)
    status: Status = "finished" if _is_run(folder) else "stopped"
    alive = is_alive(begun)
    if alive or is_held(folder):
        status = "running"
    elif status == "finished":
        return _finished(folder)
    error = last_error(entries) if status != "running" else None
    if begun is not None and status == "stopped" and not was_stopped(entries):
        error = error or NO_LAST_WORD
    status = "failed" if error else status
    try:
        values = _values(folder, begun)
    except HftlError as damaged:
        return Run(folder, "damaged", date=_date(folder), problem=str(damaged))
    known: dict[str, Any] = {name: _text(values.get(name)) for name in ("data", "task", "model", "method")}
    seconds = _spent(entries, alive=alive)
    return Run(folder, status, **known, seconds=seconds, date=_date(folder), problem=error)


def _finished(folder: Path) -> Run:
    """Return a finished run by its report; one that says what is wrong with it where that cannot be read."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        metric = HEADLINES.get(report.get("problem_type"), "accuracy")  # a report of old has classes alone
        score, verdict = report["metrics"]["test"][metric], (report.get("evidence") or {}).get("verdict") or {}
        figures: dict[str, Any] = {name: float(score[name]) for name in ("value", "low", "high")}
        return Run(
            folder,
            "finished",
            data=_text(report["data"]["name"]),
            task=_text(report["task"]),
            model=_text(report["model"]["name"]),
            method=_text(report["method"]),
            metric=metric,
            **figures,
            verdict=verdict.get("kind") or verdict.get("label"),
            seconds=float(report["timing"].get("total_seconds") or report["timing"]["train_seconds"]),
            date=_text(report.get("date")) or _date(folder),
        )
    except OSError as error:
        problem = f"report.json cannot be read: {error.strerror}"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        problem = "report.json is damaged"
    return Run(folder, "damaged", date=_date(folder), problem=f"{problem}. Train the run again.")


def _values(folder: Path, begun: dict[str, Any] | None) -> dict[str, Any]:
    """Return the flags of a run that is not finished. Raises `ConfigError` for a config.yaml that cannot be read."""
    path = partial_of(folder) / "config.yaml"
    if path.is_file():
        return read_yaml(path)
    words = [str(word) for word in (begun or {}).get("words", [])]
    flags = {w[2:].replace("-", "_"): words[i + 1] for i, w in enumerate(words[:-1]) if w.startswith("--")}
    task = words[0] if words and not words[0].startswith("--") else None
    return {"task": task, **flags}


def _date(folder: Path) -> str | None:
    """Return when the run was last touched."""
    times = []
    for path in (folder, partial_of(folder), process_folder(folder)):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return datetime.fromtimestamp(max(times), UTC).isoformat(timespec="seconds") if times else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _spent(entries: Sequence[dict[str, Any]], *, alive: bool) -> float | None:
    """Return the seconds that the run's processes took together, the one that runs until now."""
    starts = [i for i, entry in enumerate(entries) if "started" in entry]
    parts = [entries[a:b] for a, b in zip(starts, [*starts[1:], len(entries)], strict=False)]
    total = sum(part[-1]["time"] - part[0]["time"] for part in parts)
    if alive and parts:
        total += max(0.0, datetime.now(UTC).timestamp() - parts[-1][-1]["time"])
    return round(total, 1) if parts else None


# ------------------------------------------------------------------------------------------------------ curves


def curve(run: Path) -> list[Point]:
    """Return the training curve of a run folder, finished or not; empty for a method without gradient."""
    report = _json(_read(run / "report.json"))
    if isinstance(report, dict) and not is_alive(started(run)):
        stages = [(one.get("name", ""), one.get("history", [])) for one in report.get("stages") or []]
        return _of_histories(stages, HEADLINES.get(str(report.get("problem_type"))))
    points = curve_of(progress_of(run))
    return points or _of_histories(_saved_histories(partial_of(run)), None)


def curve_of(entries: Iterable[dict[str, Any]]) -> list[Point]:
    """Return the curve that the processes of a run recorded. Steps that were done twice, after a kill, count once."""
    points: dict[tuple[str, int], Point] = {}
    for entry in entries:
        if "at_step" not in entry:
            continue
        key = (str(entry.get("stage")), int(entry["at_step"]))
        before = points.get(key)
        values: dict[str, Any] = {k: entry.get(k, getattr(before, k, None)) for k in ("loss", "score")}
        points[key] = Point(*key, float(entry.get("epoch", 0.0)), **values)
    return list(points.values())


def _of_histories(stages: Iterable[tuple[str, Any]], headline: str | None) -> list[Point]:
    """Return the curve of Trainer's logs; without a headline, by the first that they have of those there are."""
    entries: list[dict[str, Any]] = []
    for name, history in stages:
        for one in history if isinstance(history, list) else []:
            metrics = [headline] if headline else [m for m in HEADLINES.values() if f"eval_{m}" in one]
            score = one.get(f"eval_{metrics[0]}") if metrics else None
            known = {k: v for k, v in (("loss", one.get("loss")), ("score", score)) if v is not None}
            if known and "step" in one:
                entries.append({"stage": name, "at_step": one["step"], "epoch": one.get("epoch", 0.0), **known})
    return curve_of(entries)


def _saved_histories(partial: Path) -> list[tuple[str, Any]]:
    """Return the logs of the finished stages, and of the last checkpoint of the one that was cut off."""
    done = _json(_read(partial / "stage.json"))
    stages = done.get("stages", []) if isinstance(done, dict) else []
    states = sorted(partial.glob("checkpoints/*/*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
    saved = _json(_read(states[-1])) if states else None
    cut = [("training", saved.get("log_history", []))] if isinstance(saved, dict) else []
    return [*((one.get("name", ""), one.get("history", [])) for one in stages), *cut]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# ------------------------------------------------------------------------------------------------------- words


def as_row(run: Run) -> dict[str, Any]:
    """Return the run as `hftl runs --json` prints it: plain values by name."""
    return {**asdict(run), "folder": str(run.folder)}


def scale_of(metric: str) -> Scale:
    """Return how a headline score is written."""
    return Scale(score_name(metric), metric not in FIGURES)


def table(runs: Sequence[Run]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows, in words, of the table that `hftl runs` and the page show."""
    header = ("run", "data", "model", "method", "score", "95%", "verdict", "seconds", "status")
    return header, [_cells(run) for run in runs]


def _cells(run: Run) -> tuple[str, ...]:
    score = bounds = NOTHING
    if run.metric is not None and run.value is not None and run.low is not None and run.high is not None:
        scale = scale_of(run.metric)
        score, bounds = f"{scale.value(run.value)} {scale.name}", scale.bounds(run.low, run.high)
    seconds = NOTHING if run.seconds is None else f"{run.seconds:,.0f}"
    status = run.status if run.problem is None else f"{run.status}: {run.problem}"
    names = (str(run.folder), _short(run.data), _short(run.model), run.method or NOTHING)
    return (*names, score, bounds, (run.verdict or NOTHING).lower(), seconds, status)


def _short(name: str | None) -> str:
    return NOTHING if not name else Path(name).name or name


# -------------------------------------------------------------------------------------------------- two of them


def compare_two(a: Path, b: Path) -> Pair:
    """Compare two finished runs on their test rows by the paired bootstrap. Imports torch, and answers the rows anew.

    Raises `RunError` when the test rows differ, or one of the runs is not finished.
    """
    from hftl.data.load import load_task  # late, all of them: the list does without torch
    from hftl.run_folder import check_finished
    from hftl.selection.trials import answers_of
    from hftl.tasks.scores import gap, measure

    answers, tests, outputs = [], [], []
    for folder in (check_finished(a), check_finished(b)):
        report = _json(_read(folder / "report.json"))
        if not isinstance(report, dict):
            raise RunError(f"{folder} has no report.json that can be read: train it again.")
        values = read_yaml(folder / "config.yaml")
        config = build_config(values.pop("task"), {**values, "output_dir": folder})
        task, splits = load_task(config.task, config.data, report["seed"])
        tests.append((splits.labels, _identity(splits.test, task.inputs)))
        if tests[0] != tests[-1]:
            raise RunError(f"{a} and {b} were not tested on the same rows: only runs on the same test rows compare.")
        answers.append(answers_of(config, report, splits))
        outputs.append((task.output, task.output.gather(splits.test["label"][:])))
    (output, targets), labels = outputs[0], tests[0][0]
    first, second = (measure(output, one, targets, labels)[output.headline] for one in answers)
    found, scale = gap(output, answers[0], answers[1], targets, labels), output.written()
    value, low, high = scale.gaps(found.gap, found.low, found.high)
    better = {"POSITIVE": a.name, "NEGATIVE": b.name}
    if scale.smaller:
        better = {"POSITIVE": b.name, "NEGATIVE": a.name}
    said = f"{better[found.label]} is better" if found.label in better else "No difference is shown"
    rows = f"on the same {len(targets):,} test rows"
    sentence = f"{said}: {a.name} is {value}{scale.unit} of {scale.name} from {b.name} (95% {low} to {high}) {rows}."
    return Pair(
        output.headline, len(targets), first, second, found.gap, found.low, found.high, found.p, found.label, sentence
    )


def _identity(test: Any, inputs: Any) -> list[Any]:
    """Return what each test row holds: its input, as `Inputs.key` has it, and its target."""
    keys = [inputs.key(row) for row in inputs.values(test)]
    return [*zip(keys, map(str, test["label"][:]), strict=True)]
