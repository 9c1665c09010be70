"""`hftl pick`: which pretrained model suits the data, by what its frozen features say of them, and what it costs."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Unpack

from hftl.adapt import config_of
from hftl.config import DataConfig, MethodConfig, ModelConfig, RunConfig
from hftl.data.load import load_task
from hftl.errors import DataError, ModelError, TrainingError
from hftl.methods import check_combination
from hftl.methods.auto import AUTO
from hftl.objects import for_python
from hftl.run_folder import named_folder
from hftl.selection.candidates import candidates
from hftl.selection.features import Seen, look_at
from hftl.selection.pick_page import write_pick
from hftl.selection.scores import rank_models
from hftl.selection.shortlist import Wanted, none_usable
from hftl.selection.trials import in_folder, report_of
from hftl.tasks import get_task
from hftl.tasks.task import Task
from hftl.terminal import progress


if TYPE_CHECKING:
    from hftl.flags import PickFlags


ROWS = 2000  # training rows that are looked at, unless --max_train_samples says otherwise
# The kinds whose frozen features say least of what fine-tuning makes of them: they learned to fill in or to find words,
# not to sum up a text (ANCHORS.md, F; docs/pick.md). One of them is always among the finalists.
_UNDERRATED = ("deberta", "deberta-v2", "roberta", "xlm-roberta", "camembert")


@for_python
def pick(
    task: str | None = None, models: Sequence[str] | str = (), race: bool = False, **values: "Unpack[PickFlags]"
) -> dict[str, Any]:
    """Rank pretrained models for the data and return what pick.json holds, as docs/pick.md lists it.

    `models` are named, or found by the values `shortlist`, `max_parameters`, `licence` and `language`; the other values
    are the arguments of `adapt`. With `race` the finalists are trained, by `auto` unless another method is named. Raises
    an `HftlError` as `adapt` does, and `ConfigError` when no model is left.
    """
    names, flags = {f.name for f in fields(Wanted)}, dict(values)
    wishes: dict[str, Any] = {name: flags.pop(name) for name in names & flags.keys()}
    wanted = Wanted.of(models, wishes)
    config = config_of(task, flags)
    data_name = config.data.data if isinstance(config.data.data, str) else "data"
    folder = config.output_dir or named_folder(data_name, wanted.shortlist or "models", "pick")
    method = replace(config.method, method=config.method.method or (AUTO.name if race else None))
    config = in_folder(replace(config, output_dir=folder, method=method), "pick")
    check_combination(config)
    limit = config.data.max_train_samples or ROWS
    data = replace(config.data, max_train_samples=limit)
    some = replace(config, data=data, method=MethodConfig("probe"))  # the method asked for is the race's
    asked, splits = load_task(config.task, some.data, config.train_seed)
    chosen, left = candidates(asked, wanted)
    splits = replace(splits, validation=splits.validation.select(range(1)))  # nothing is chosen on those rows
    seen: list[Seen] = []
    for one in progress(chosen, "models", "model"):
        try:
            seen.append(look_at(one, wanted, some, asked, splits))
        except (ModelError, DataError) as error:
            left[one.name] = str(error)
    if not seen:
        raise none_usable(left[one.name] for one in chosen)
    rows = ranked(seen, asked, splits.labels)
    document: dict[str, Any] = {
        "data": splits.name,
        "task": asked.name,
        "score": asked.output.headline,
        "rows": len(splits.train),
        "models": rows,
        "left_out": [{"name": name, "reason": reason} for name, reason in left.items()],
        "finalists": finalists(rows),
        "race": [],
        "winner": None,
        "command": command(config, rows[0]["name"]),
        "folder": str(folder),
    }
    write_pick(document, asked)
    if race:
        document["race"] = [_train(one["name"], config, asked) for one in document["finalists"]]
        trained = [one for one in document["race"] if one["score"] is not None]
        if trained:
            document["winner"] = max(trained, key=lambda one: one["score"])["name"]
            document["command"] = command(config, document["winner"])
        write_pick(document, asked)
    return document


def ranked(seen: Sequence[Seen], task: Task, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the models as pick.json has them, the best probe first."""
    ranks = rank_models(task.output, [one.answers for one in seen], seen[0].targets, labels)
    rows = []
    for one, rank in zip(seen, ranks, strict=True):
        score = {"probe": rank.score.value, "probe_low": rank.score.low, "probe_high": rank.score.high}
        places = {"rank_low": rank.low, "rank_high": rank.high, "behind": asdict(rank.behind)}
        rows.append({**one.facts, **score, **places})
    return sorted(rows, key=lambda row: -row["probe"])


def finalists(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the models that are worth training, each with the reason; `rows` are those of pick.json.

    They are the best by the probe, by nearest neighbours (or LogME, where that is the same model) and by the published
    prior, and one of the kinds that frozen features underrate; at least two where there are two.
    """
    reasons = {rows[0]["name"]: "best probe"}
    for score, words in (("knn", "best nearest neighbours"), ("logme", "best LogME")):
        measured = [row for row in rows if row[score] is not None]
        if len(reasons) == 1 and measured:
            reasons.setdefault(max(measured, key=lambda row: row[score])["name"], words)
    known = [row for row in rows if row["prior"] is not None]
    if known:
        reasons.setdefault(max(known, key=lambda row: row["prior"])["name"], "best published score")
    kind = [row for row in rows if row["family"] in _UNDERRATED]
    if kind and not any(row["name"] in reasons for row in kind):
        best = max(kind, key=lambda row: row["prior"] or 0)["name"]
        reasons[best] = "of a kind that frozen features underrate"
    if len(reasons) == 1 and len(rows) > 1:
        reasons[rows[1]["name"]] = "second best probe"
    return [{"name": name, "reason": reason} for name, reason in reasons.items()]


def _train(name: str, config: RunConfig, task: Task) -> dict[str, Any]:
    """Train a finalist in a folder of its own and return what it reaches on the validation rows."""
    assert config.output_dir is not None
    place = config.output_dir / "race" / re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")
    facts = {"name": name, "score": None, "low": None, "high": None, "seconds": None}
    try:
        report = report_of(replace(config, model=replace(config.model, model=name), output_dir=place))
    except (ModelError, TrainingError) as error:
        return {**facts, "run_dir": None, "reason": str(error)}
    score = report["metrics"]["validation"][task.output.headline]
    facts |= {"score": score["value"], "low": score["low"], "high": score["high"]}
    return {**facts, "seconds": report["timing"]["train_seconds"], "run_dir": str(place), "reason": None}


def command(config: RunConfig, name: str) -> str | None:
    """Return the `hftl train` line for a model, with what was typed; None for data that have no name."""
    if not isinstance(config.data.data, str):
        return None
    blanks = (DataConfig(), ModelConfig(), MethodConfig(get_task(config.task).default_method))
    sections: tuple[Any, ...] = (config.data, replace(config.model, model=name), config.method)
    flags = {
        f.name: (getattr(s, f.name), getattr(b, f.name))
        for s, b in zip(sections, blanks, strict=True)
        for f in fields(s)
    }
    typed = {name: value for name, (value, usual) in flags.items() if value != usual}
    typed |= {name: value for name, value in config.training.items() if name != "seed"}
    words = [[f"--{key}", *map(str, v if isinstance(v, list | tuple) else [v])] for key, v in typed.items()]
    return shlex.join(["hftl", "train", config.task, *chain.from_iterable(words)])
