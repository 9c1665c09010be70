"""Who races, for how many steps, within which time: the table of a race, made once and kept in the run's config."""

import copy
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from hftl import terminal
from hftl.config import RunConfig, parse_budget, read_yaml
from hftl.errors import ConfigError
from hftl.methods import get_method
from hftl.methods.auto import AUTO
from hftl.methods.policy import duration
from hftl.planning.costs import choose_cache, stage_costs, stage_seconds
from hftl.prepare import Prepared
from hftl.report import statements
from hftl.report.table import print_table
from hftl.run import Run
from hftl.run_folder import partial_of
from hftl.selection import race_policy as policy
from hftl.training.world import broadcast_from_main, is_main_process


_PLAIN = ":plain"  # of a trial in config.yaml


@dataclass(frozen=True)
class Trial:
    """One way to train, and the steps after which it is looked at; the last is its end."""

    method: str
    learning_rate: float
    looks: tuple[int, ...]
    train_top: int | None = None
    plain: bool = False

    @property
    def name(self) -> str:
        """What people read: "full at 0.0002"."""
        top = "" if self.train_top is None else f", top {self.train_top}"
        return f"{'plain ' if self.plain else ''}{self.method}{top} at {self.learning_rate:g}"

    def look(self, rung: int) -> int:
        """Return the step of its look at a rung, the last one after its end."""
        return self.looks[min(rung, len(self.looks) - 1)]

    def config(self, config: RunConfig) -> RunConfig:
        """Return the config of the run that this trial is."""
        config = _config_of(self, config)
        flags = {"learning_rate": self.learning_rate, "max_steps": self.looks[-1]}
        return replace(config, training={**config.training, **flags})


@dataclass(frozen=True)
class Race:
    """Who races, for how many seconds at most, and what the steps are expected to take."""

    trials: tuple[Trial, ...]
    budget: float
    seconds: dict[str, float]  # of each whole trial, by name

    @property
    def text(self) -> str:
        """What config.yaml holds of it."""
        return " ".join(
            f"{t.method}{f':{t.train_top}' if t.train_top else _PLAIN if t.plain else ''}@{t.learning_rate!r}"
            f"/{'/'.join(map(str, t.looks))}"
            f"={self.seconds[t.name]:.1f}"
            for t in self.trials
        )


def read_race(text: str, budget: float) -> Race:
    """Return the race that `Race.text` tells. Raises `ConfigError` for a text that is none."""
    trials, seconds = [], {}
    try:
        for word in text.split():
            told, _, took = word.partition("=")
            method, _, rest = told.partition("@")
            rate, *looks = rest.split("/")
            plain = method.endswith(_PLAIN)
            name, _, top = method.removesuffix(_PLAIN).partition(":")
            steps = tuple(int(step) for step in looks)
            if not steps or list(steps) != sorted(set(steps)) or steps[0] < 1:
                raise ValueError(word)
            trials.append(Trial(get_method(name).name, float(rate), steps, int(top) if top else None, plain))
            seconds[trials[-1].name] = float(took)
    except ValueError:
        raise ConfigError(f"--race {text!r} is no race: config.yaml of a run with --method auto holds one.") from None
    return Race(tuple(trials), budget, seconds)


def plan_race(ready: Prepared) -> Race:
    """Decide who races for how many steps, from step times measured here; all processes take those of the first.

    Raises `ConfigError` for a budget in which nothing can race.
    """
    method, typed = ready.config.method, ready.config.training
    asked = parse_budget(method.budget) if method.budget else None
    measured: dict[policy.Candidate, tuple[float, int, float]] = {}
    trials: dict[str, Trial] = {}
    costs: dict[str, float] = {}
    spare: set[str] = set()
    for one in policy.candidates(ready):
        key = replace(one, factor=1.0, spare=False)
        measured[key] = measured.get(key) or broadcast_from_main(_measure(ready, one))
        rate, steps, seconds = measured[key]
        trial = Trial(one.method, typed.get("learning_rate", rate * one.factor), (steps,), one.train_top, one.plain)
        spare |= {trial.name} if one.spare and trial.name not in trials else set()
        trials[trial.name], costs[trial.name] = trial, seconds * steps
    budget = asked or policy.usual_budget([*costs.values()], any(trial.plain for trial in trials.values()))
    fixed = typed.get("max_steps", -1) > 0 or "num_train_epochs" in typed  # the user's own length, or less
    names = policy.fitting(
        policy.invited(costs, spare, budget), costs, {n: t.looks[0] for n, t in trials.items()}, budget
    )
    if trials and not names:
        raise ConfigError(
            f"--budget {method.budget} allows nothing beyond the probe: the shortest race takes about "
            f"{math.ceil(policy.shortest(costs, {n: t.looks[0] for n, t in trials.items()})) + 1} s. Give a longer one, or use "
            "--method probe."
        )
    taken = [costs[name] for name in names]
    longer = policy.stretch(taken, budget, policy.LONGEST if asked and not fixed else 1.0) if names else 0.0
    shares, raced = policy.rungs_of([longer * cost for cost in taken], budget), []
    for trial in (trials[name] for name in names):
        looks = sorted({max(1, round(trial.looks[0] * longer * share)) for share in shares})
        raced.append(replace(trial, looks=tuple(looks)))
    return Race(tuple(raced), budget, {name: costs[name] * longer for name in names})


def stored_race(config: RunConfig) -> RunConfig:
    """Return the config with the race that a run to be resumed was begun with, so that it goes on as it began."""
    method, folder = config.method, config.output_dir
    if not config.resume or method.method != AUTO.name or method.race is not None or folder is None:
        return config
    for path in (partial_of(folder) / "config.yaml", folder / "config.yaml"):
        if path.is_file():
            values = read_yaml(path)
            budget = method.budget if values.get("race") is None else method.budget or values.get("budget")
            return replace(config, method=replace(method, race=values.get("race"), budget=budget))
    return config


def with_race(run: Run, ready: Prepared) -> Run:
    """Return the run with the table of its race in the config, so that config.yaml repeats it. Prints the table."""
    method = run.config.method
    table = read_race(method.race, parse_budget(method.budget or "1h")) if method.race else plan_race(ready)
    if terminal.verbose and is_main_process():
        print_table(*race_table(asdict(table)))
    racing = statements.counted(len(table.trials), "trial races", "trials race")
    names = ", ".join(t.name for t in table.trials)
    terminal.log(f"{racing} against the probe for at most {statements.duration(table.budget)}: {names}")
    budget = method.budget or f"{table.budget:.1f}"
    return replace(run, config=replace(run.config, method=replace(method, race=table.text, budget=budget)))


def race_table(table: dict[str, Any]) -> tuple[str, tuple[str, ...], list[Any]]:
    """Return title, header and rows of a `Race` as a dict."""
    names = [Trial(**trial).name for trial in table["trials"]]
    looks = [" / ".join(map(str, trial["looks"])) for trial in table["trials"]]
    rows = [(name, steps, duration(table["seconds"][name])) for name, steps in zip(names, looks, strict=True)]
    title = f"Race for at most {statements.duration(table['budget'])}, after the probe"
    return title, ("trial", "looked at after steps", "to its end"), rows


def _config_of(one: policy.Candidate | Trial, config: RunConfig) -> RunConfig:
    """Return the config of a run by its method; what the user typed stays."""
    start: dict[str, Any] = {"init_head": "random", "layer_decay": 1.0} if one.plain else {}
    method = replace(config.method, method=one.method, train_top=one.train_top, budget=None, race=None, **start)
    usual = policy.PLAIN if one.plain else {}
    return replace(config, method=method, training={**usual, **config.training, "eval_strategy": "no"})


def _measure(ready: Prepared, one: policy.Candidate) -> tuple[float, int, float]:
    """Return a method's own rate and steps, and seconds per step."""
    config = _config_of(one, ready.config)
    trial = replace(ready, config=config, loaded=copy.deepcopy(ready.loaded))
    with torch.random.fork_rng():
        plan = get_method(one.method)(trial.loaded, config.method, len(ready.train))
    costs = [cost for cost in stage_costs(trial, plan, choose_cache(trial, plan)) if cost.args is not None]
    seconds = sum(stage_seconds(cost, 0)["train_seconds"] or 0.0 for cost in costs)
    steps = sum(cost.steps for cost in costs)
    return float(plan.defaults["learning_rate"]), steps, seconds / max(steps, 1)
