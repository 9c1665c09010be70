"""What the four steps of the page show, as plain values: data, plan, result; each by the part of hftl that knows it."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hftl.config import DataConfig, build_config, read_yaml
from hftl.errors import HftlError, RunError
from hftl.methods import METHODS
from hftl.methods.auto import AUTO
from hftl.methods.gradual import GRADUAL
from hftl.models.find import check_model
from hftl.surroundings import ONE_AT_A_TIME
from hftl.ui.files import Workspace, later_name


FIRST, SHOWN, WORST = 5, 6, 12  # rows: of the data, behind a finding, and the worst of each kind
CLASSES_SHOWN = 8  # of a mask
MOVED = "The rows of this run cannot be read any more, so its errors are not shown: its data have moved, or changed."
Content = Any  # a text (str), or an image (PIL.Image)


@dataclass(frozen=True)
class Row:
    """One row of the data."""

    split: str  # train, validation or test, as hftl reads the source
    row: int  # counted from 0 in that split of the source
    content: Content
    label: str | None  # None: it has none


@dataclass(frozen=True)
class Problem:
    """A finding of the doctor's, with the first of its rows."""

    check: str
    level: str  # PASS, INFO, WARN or FAIL
    count: int
    advice: str
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, eq=False)  # as a `gr.State` that is listened to it is hashed
class DataLook:
    """Step 1."""

    data: str  # the value of --data
    name: str
    task: str
    why: str  # a sentence: what in the data speaks for the task
    splits: dict[str, int]  # rows
    rows: tuple[Row, ...]  # the first five
    classes: dict[str, int]  # rows of train by class, the most frequent first; empty where labels are no classes
    problems: tuple[Problem, ...]  # the gravest first; those that passed are left out
    fixable: bool  # the doctor's fix would change something
    flags: tuple[str, ...] = ()  # words that name the columns, where they are not found
    notes: tuple[str, ...] = ()  # how the data were read


@dataclass(frozen=True)
class Card:
    """Step 2: one method."""

    method: str
    words: str  # what it does, in one line
    seconds: float | None = None
    memory: int | None = None  # bytes
    fits: bool = True
    expected: str = (
        ""  # what the probe and a baseline reach by cross-validation, with 95% bounds, or why there is no score
    )
    recommended: bool = False
    reason: str = ""  # why it is
    words_of_command: tuple[str, ...] = ()  # after `hftl train`, for `hftl.ui.process.start`
    command: str = ""  # the same as a line for a shell
    problem: str = ""  # why this method cannot be used here


@dataclass(frozen=True)
class WorstRow:
    """A test row that the model got most wrong, or a training row whose label looks wrong (`suspect`)."""

    split: str  # in which the source has it: train, validation or test
    row: int  # counted from 0 there
    content: Content
    label: str | None  # None: it has no single label, and `prediction` says what is wrong
    prediction: str
    probability: float | None  # of the prediction
    suspect: bool = False
    typed: str = ""  # the prediction as a person would type it
    truth: Any = None  # of a mask: the class of each pixel [height, width], below 0 where it is not counted


@dataclass(frozen=True)
class ResultView:
    """Step 4."""

    folder: Path
    report: dict[str, Any]
    score: str  # "87.9%"
    interval: str  # "86.4 to 89.4%"
    ladder: tuple[tuple[str, ...], ...]  # name, score, interval
    verdict: str  # the title of the verdict
    sentence: str
    look: str  # good, neutral or bad
    classes: tuple[str, ...]
    worst: tuple[WorstRow, ...]
    trouble: str  # why its errors are not shown; "": they are
    single: bool  # is a label one class?
    painted: bool  # is it a mask?
    how: str  # a right label is given: a sentence
    config: DataConfig  # the data it was trained on, and how they were read
    words: tuple[str, ...]  # after `hftl train`: trains the same again


def look(data: str, task: str | None = None, flags: Sequence[str] = ()) -> DataLook:
    """Examine the data as `hftl doctor` does; `flags` are words that name columns.

    Raises an `HftlError` when they cannot be read or learnt from.
    """
    from hftl.doctor import examine_source  # late here and below: with them come torch and its kin
    from hftl.doctor.fix import count_changes

    opened, findings, _ = examine_source(data, task, **_values(flags))
    records, columns, output = opened.records, opened.columns, opened.task.output
    counts = zip(records.labels, records.counts("train").tolist(), strict=True)
    classes = dict(sorted(counts, key=lambda pair: -pair[1])) if records.classes else {}
    named = " and ".join(map(repr, columns.inputs))
    learned = (
        output.words["learned"].format(n=f"{len(opened.names):,}")
        if len(opened.names) != 1
        else f"one {output.words['name']}"
    )
    grave = sorted((f for f in findings if f.level != "PASS"), key=lambda f: ("FAIL", "WARN", "INFO").index(f.level))
    first = [(records.splits[0], row) for row in records.row[records.within(records.splits[0])][:FIRST].tolist()]
    return DataLook(
        data=data,
        name=records.name,
        task=opened.task.name,
        why=f"{records.kind.name.capitalize()}s in {named}, {learned} in {str(columns.label)!r}.",
        splits={split: int(records.within(split).sum()) for split in records.splits},
        rows=_rows(opened, first),
        classes=classes,
        problems=tuple(Problem(f.check, f.level, f.count, f.fix, _rows(opened, _places(f.rows))) for f in grave),
        fixable=count_changes(records) > 0,
        flags=tuple(flags),
        notes=tuple(opened.source.warnings),
    )


def _places(rows: dict[str, list[int]]) -> list[tuple[str, int]]:
    """Return the first rows of a finding, of each split in turn."""
    turns = ([(split, numbers[i]) for split, numbers in rows.items() if i < len(numbers)] for i in range(SHOWN))
    return [place for turn in turns for place in turn][:SHOWN]


def _rows(opened: Any, places: list[tuple[str, int]]) -> tuple[Row, ...]:
    """Return rows of opened data with their contents; a broken image is shown as the line that says so."""
    records = opened.records
    pairs = enumerate(zip(records.split.tolist(), records.row.tolist(), strict=True))
    position_of = {(records.splits[split], row): position for position, (split, row) in pairs}
    shown = []
    for split, row in places:
        content = _content(opened.task.inputs, opened.inputs[split], row) if split in opened.inputs else ""
        position = position_of.get((split, row))
        shown.append(Row(split, row, content, None if position is None else _label(opened, position)))
    return tuple(shown)


def _label(opened: Any, position: int) -> str | None:
    """Return the label of one of the records in words, None where it has none; of a mask the classes that are in it."""
    records = opened.records
    if records.masks:
        mask, names = records.masks[position], opened.source.classes
        ids = () if mask is None else mask.ids
        more = f" and {len(ids) - CLASSES_SHOWN:,} more" if len(ids) > CLASSES_SHOWN else ""
        return ", ".join(names[i] if i < len(names) else str(i) for i in ids[:CLASSES_SHOWN]) + more or None
    code = int(records.label[position])
    return records.labels[code] if code >= 0 else None


def _content(inputs: Any, table: Any, row: int) -> Content:
    try:
        value = inputs.values(table.select([row], new_fingerprint=f"row-{row}"))[0]
        return "(nothing)" if value is None else inputs.show(value)
    except (OSError, ValueError, TypeError, AttributeError) as error:  # what the doctor finds fault with
        return f"({' '.join(str(error).split()) or 'nothing'})"


def fix(workspace: Workspace, old: DataLook) -> DataLook:
    """Write the doctor's cleaned copy of the data into the workspace and return the look at it."""
    from hftl.doctor import examine_source

    path = workspace.new_data(f"{later_name(old.data)}-cleaned")
    workspace.data.mkdir(parents=True, exist_ok=True)
    examine_source(old.data, old.task, fix=str(path), **_values(old.flags))
    return look(str(path), old.task, old.flags)


def plan_cards(data: str, task: str, model: str | None, flags: list[str]) -> Iterator[Card]:
    """Yield a card for each method at once, its command alone, and then again as what it takes is worked out.

    The first is auto, which says why where no method is recommended. `flags` are words as `take_flags` returns them.
    Raises an `HftlError` where no method could work; a model that cannot be found, before the first card.
    """
    from hftl.adapt import complete
    from hftl.planning.plan_report import measure, report_for

    words = [task, "--data", data, *(("--model", model) if model else ())]
    values: dict[str, Any] = {"data": data, "model": model, "method": AUTO.name, **_values(flags)}
    with ONE_AT_A_TIME:  # but never while a card is on its way: a page that is closed then may hold it for ever
        config = complete(build_config(task, values))
    check_model(str(config.model.model), config.model.revision)
    cards = [_bare(name, [*words, "--method", name, *flags]) for name in METHODS]
    yield from cards
    with ONE_AT_A_TIME:
        basis = measure(config)
    for card in sorted(cards, key=lambda card: card.method == GRADUAL.name):  # its many stages take long to time
        try:
            with ONE_AT_A_TIME:
                report = report_for(basis, card.method)
        except HftlError as error:
            yield replace(card, problem=str(error))
        else:
            yield _filled(card, report, basis.ready.task)


def _bare(method: str, words: list[str]) -> Card:
    return Card(method, METHODS[method].summary, words_of_command=tuple(words), command=command_line(words))


def _filled(card: Card, report: dict[str, Any], task: Any) -> Card:
    """Return a card with what the plan says of its method, and with a score where the probe speaks for it."""
    advice, memory = report["recommendation"], report["memory"]
    card = replace(card, seconds=report["time"]["total_seconds"], memory=memory["total_bytes"], fits=memory["fits"])
    if card.method in (AUTO.name, "probe"):  # of the others nothing is known before they are trained
        card = replace(card, expected=_expected(card.method, report, task.output.written()))
    advised, reason = advice["method"], advice["reason"]
    if advised not in METHODS:  # not to transfer at all
        return replace(card, reason=reason if card.method == AUTO.name else "")
    best = AUTO.name if task.default_method == AUTO.name else advised
    said = "" if card.method != advised else reason if best == advised else f"Of a single method, this one. {reason}"
    return replace(card, recommended=card.method == best, reason=said)


def _expected(method: str, report: dict[str, Any], scale: Any) -> str:
    """Return what cross-validation expects of the probe, beside the baseline; and what that says of `auto`."""
    from hftl.selection.race_policy import SURE, sure

    found = report["recommendation"]["comparison"]
    if found is None:
        return "No score yet: too few rows of each class to cross-validate."
    value = found["probe_accuracy"]
    low, high = _bounds(value, found["rows"]) if scale.right else (None, None)
    bounds = f" ({scale.bounds(low, high)})" if low is not None and high is not None else ", without an interval"
    if method == "probe":
        beside = f"without pretraining {scale.value(found['baseline_accuracy'])} ({found['baseline']})"
        return f"Expected {scale.name}: {scale.value(value)}{bounds}; {beside}"
    said = f"Begins at the probe's {scale.name}: {scale.value(value)}{bounds}"
    rows, per_name = report["data"]["rows"]["validation"], report["recommendation"]["rows_per_class"]
    asked = {sure(trial["method"], rows, per_name) for trial in report["race"]["trials"]}
    if asked == {SURE}:
        said += f". Keeps the probe unless another is better in {SURE:.0%} of the draws from the validation rows"
    return said


def _bounds(share: float, rows: int) -> tuple[float, float]:
    from hftl.evaluation.bootstrap import proportion_interval

    interval = proportion_interval(round(share * rows), rows)
    return interval.low, interval.high


def _values(flags: Sequence[str]) -> dict[str, Any]:
    """Return words of flags as values by name."""
    values: dict[str, list[str]] = {}
    for word in flags:
        if word.startswith("--"):
            values[word[2:]] = []
        else:
            values[next(reversed(values))].append(word)
    return {name: one[0] if len(one) == 1 else one or True for name, one in values.items()}


def command_line(words: tuple[str, ...] | list[str]) -> str:
    """Return `hftl train WORDS` quoted for a shell."""
    return shlex.join(["hftl", "train", *words])


def result(folder: Path) -> ResultView:
    """Return what the page shows of a finished run. Raises `RunError` where there is none."""
    from hftl.report.views import statements_of
    from hftl.run_data import read_report
    from hftl.run_folder import check_finished
    from hftl.tasks import task_of

    report = read_report(check_finished(folder) / "report.json")
    if report is None:
        raise RunError(f"{folder} has no report.json: train the run again.")
    said, task = statements_of(report), task_of(report)
    scale, score = task.output.written(), report["metrics"]["test"][task.output.headline]
    worst, readable = _worst(folder, report, task)
    return ResultView(
        folder=folder,
        report=report,
        score=scale.value(score["value"]),
        interval=scale.bounds(score["low"], score["high"]),
        ladder=tuple(tuple(row) for row in said["ladder"]["rows"]),
        verdict=said["verdict"]["title"],
        sentence=said["verdict"]["sentence"],
        look=said["verdict"]["look"],
        classes=tuple(report["data"]["labels"]),
        worst=worst,
        trouble="" if readable else MOVED,
        single=task.output.single,
        painted=task.output.picture is not None,
        how=task.output.words.get("typed", ""),
        config=_config(folder),
        words=(str(folder / "config.yaml"),),
    )


def _config(folder: Path) -> DataConfig:
    values = read_yaml(folder / "config.yaml")
    return build_config(values.pop("task"), values).data


def _worst(folder: Path, report: dict[str, Any], task: Any) -> tuple[tuple[WorstRow, ...], bool]:
    """Return the worst test rows and the suspect training rows, and whether the data could be read for them."""
    from hftl.run_data import run_splits

    evidence, names, say = report.get("evidence") or {}, report["data"]["labels"], task.output.say
    try:
        splits, homes = run_splits(folder), _homes(folder, task)
    except HftlError:  # the data have moved, or were in memory
        return (), False
    rows: list[WorstRow] = []
    for entry in (evidence.get("worst_rows") or [])[:WORST]:
        content = _content(task.inputs, splits.test, entry["row"])
        label: str | None
        label, guess = (str(say(entry[what], names)) for what in ("true", "predicted"))
        truth = None
        if task.output.picture is not None:
            label, guess = None, task.output.words["loss"].format(**entry)
            (truth,) = task.output.gather(splits.test.select([entry["row"]])["label"][:])
        (value,) = task.inputs.values(splits.test.select([entry["row"]]))
        typed, sure = task.output.as_typed(entry["predicted"], names, value), entry.get("probability")
        home, number = homes["test"], entry["source_row"]
        rows.append(WorstRow(home, number, content, label, guess, sure, typed=typed, truth=truth))
    for entry in (evidence.get("suspects") or [])[:WORST]:
        content = _content(task.inputs, splits.train, entry["row"])
        label, guess = (names[entry[what]] for what in ("given", "suggested"))
        sure = entry.get("suggested_probability")
        rows.append(WorstRow("train", entry["source_row"], content, label, guess, sure, suspect=True, typed=guess))
    return tuple(rows), True


def _homes(folder: Path, task: Any) -> dict[str, str]:
    """Return in which split of the source the test rows are: in train, where they were cut from it."""
    from hftl.data.settle import as_lists, find_columns, train_of
    from hftl.data.sources import read_source

    config = _config(folder)
    source = as_lists(read_source(config.data, task.inputs.kind), config)
    named = train_of(source)
    train = source.tables[named["train"]]
    label = str(find_columns(train, task.inputs, config, need_label=True, output=task.output).label)
    table = source.tables.get(named.get("test", ""))
    labelled = table is not None and label in table.column_names and any(v is not None for v in table[label][:])
    return {"train": "train", "test": "test" if labelled else "train"}
