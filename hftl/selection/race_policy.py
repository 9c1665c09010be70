"""The policy of `--method auto`: who races, for how long, and who is dropped. Every number of it stands here."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from hftl.errors import ConfigError
from hftl.methods import METHODS
from hftl.methods.contrastive import CONTRASTIVE
from hftl.methods.plan import Method
from hftl.methods.policy import WIDE, width_of
from hftl.prepare import Prepared


# Training rows of a class (median) up to which they are few, and some. SetFit (Tunstall et al. 2022) reports its gains
# over fine-tuning at 8 rows a class and less of them at 64: up to there contrastive learning is believed without rows that
# tell (docs/log.md, 2026-11-28).
FEW, SOME = 8, 64
# The other rate of `full`, relative to its own. Half-way it looks better than it is: on restaurant8k .755 to .737, and at
# the ends .854 to .879. On no set of words, labels or numbers was it better (docs/log.md, 2026-11-27 and 2026-11-28).
LOWER = 0.5
# A plain trial is what a copied script does: a random head, equal rates for all layers, three epochs (Devlin et al. 2019,
# A.3). Where labels are noisy, the head of a probe and our own length fit the noise (docs/log.md, 2026-11-28).
PLAIN = {"num_train_epochs": 3.0}
ETA = 3  # of the trials of a rung one in three goes on (Jamieson and Talwalkar 2016; Li et al. 2018, Hyperband)
# Looks as shares of a trial's steps. The first drop comes as late as the default budget allows: at a quarter LoRA was
# ahead of `full` on mr_polarity, and 1.7 points behind at the end (docs/log.md, 2026-11-27). Where even a quarter is too
# late, trials are dropped in two rungs.
FIRST_LOOKS, LONG_RUNGS = (1 / 2, 1 / 3, 1 / 4), (1 / 6, 1 / 2, 1.0)
AVERAGED = (0.8, 0.9, 1.0)  # where the winner's weights are kept for averaging, at the low end of its schedule
MIXTURES = (0.2, 0.4, 0.6, 0.8, 1.0)  # shares of the tuned weights; a pass over the validation rows each
SURE = 0.85  # share of paired draws in which the winner beats the probe (`Look.sureness`), or else the probe stays
TOLD = 30  # validation rows from which a baseline may win: of a handful all resamples can agree by chance. Rule of thumb, ours.
LEVEL = 0.75  # up to this share two trials are level, and the cheaper goes on
CHEAPER = 0.8  # of the other's seconds, or less
BUDGET_OF_FULL, BUDGET_MOST = 1.5, 3600.0  # the default: so many times what `full` takes, and at most an hour
BUDGET_OF_PLAIN = 2.0  # where a plain trial races: its random head is behind at every look but the last
BUDGET_LEAST = (
    60.0  # and at least so many: in a race of seconds, another job on the machine would be the clock that ends it
)
LONGEST = 4.0  # times a method's own steps that a large budget may lengthen them to
SHORTEST = 40  # steps; a race of shorter trials would measure the warm-up
OVER = 1.2  # times the budget at which the clock ends a race
# Validation rows from which macro F1 ranks trials; with fewer, one row moves it by more than the trials differ, and the
# log-loss ranks them. With more it does not: on 500 rows of banking77 it dropped `full` at a third of its steps, three
# points ahead of the probe in accuracy at the end (docs/log.md, 2026-11-27).
ENOUGH_ROWS = 100


@dataclass(frozen=True)
class Candidate:
    """A method at a rate, which is relative to the method's own."""

    method: str
    factor: float = 1.0
    train_top: int | None = None
    plain: bool = False  # as `PLAIN` has it
    spare: bool = False  # races only where the budget lets all go to their ends


def candidates(ready: Prepared) -> list[Candidate]:
    """Return who races, the most promising first. What the model cannot be trained by is left out.

    LoRA races in wide models alone: in narrow ones its best rate was behind the best of `full` on six of six sets.
    """
    third = max(1, round(len(ready.loaded.layers.modules) / 3))
    wide = [Candidate("lora")] if (width_of(ready.loaded) or 0) >= WIDE else []
    single = ready.task.output.single
    texts = ready.loaded.model.main_input_name == "input_ids" and single
    if ready.rows_per_name <= FEW:
        race = [Candidate("contrastive"), Candidate("full")]
    elif ready.rows_per_name <= SOME:
        race = [Candidate("full"), Candidate("contrastive"), *wide, Candidate("full", train_top=third)]
    else:
        other = Candidate("full", LOWER, plain=texts, spare=not single)
        race = [Candidate("full"), *wide, other]
    unclear = len(ready.validation.targets) < ENOUGH_ROWS and ready.rows_per_name <= SOME
    if unclear and texts and _possible(CONTRASTIVE, ready):
        return [Candidate(CONTRASTIVE.name)]  # the validation rows cannot tell it from others: see `sure`
    return [one for one in race if _possible(METHODS[one.method], ready)]


def _possible(method: Method, ready: Prepared) -> bool:
    rows = ready.config.training.get("per_device_train_batch_size", method.group)
    if rows % method.group or (method.group > 1 and ready.task.output.alike is None):
        return False
    try:
        method.refuse(ready.loaded, ready.config.method)
    except ConfigError:
        return False
    return True


def rungs_of(costs: list[float], budget: float) -> tuple[float, ...]:
    """Return the shares of their steps at which trials of so many seconds each are looked at.

    Where the budget allows all of them to go to the end, nobody is dropped before.
    """
    if sum(costs) <= budget:
        return (1.0,)
    fitting = (look for look in FIRST_LOOKS if race_seconds(costs, (look, 1.0)) <= BUDGET_OF_FULL * max(costs))
    first = next(fitting, None)
    return LONG_RUNGS if first is None else (first, 1.0)


def sure(method: str, rows: int, per_name: float) -> float:
    """Return in which share of the draws a winner has to beat the probe on so many validation rows, from `per_name` training rows a class.

    A handful of rows cannot tell. Contrastive learning was ahead of the probe in six of six sets with 8 and 16 rows a class,
    and in 11 of 14 trainings with 32 and 64 (docs/log.md; Tunstall et al. 2022, table 2): there it is the probe that has to be
    better, and on under `TOLD` rows not even that would show.
    """
    unclear = rows < ENOUGH_ROWS and per_name <= SOME
    if method != CONTRASTIVE.name or not unclear:
        return SURE
    return 1 - SURE if rows >= TOLD else 0.0


def usual_budget(costs: list[float], plain: bool) -> float:
    """Return the default budget, in seconds, for trials that take so many; `plain`: one of them is."""
    times = BUDGET_OF_PLAIN if plain else BUDGET_OF_FULL
    return min(max(times * max(costs, default=0.0), BUDGET_LEAST), BUDGET_MOST)


def invited(costs: dict[str, float], spare: Collection[str], budget: float) -> list[str]:
    """Return which trials, of so many seconds each, may race: the `spare` ones where the budget lets all go to their ends."""
    return [name for name in costs if name not in spare or sum(costs.values()) <= budget]


def survivors(trials: int) -> int:
    """Return how many of so many trials go on after a rung."""
    return math.ceil(trials / ETA)


def race_seconds(costs: list[float], rungs: tuple[float, ...]) -> float:
    """Return what a race takes at most, where `costs` are the seconds of each whole trial: the dearest go on."""
    total, done, racing = 0.0, 0.0, sorted(costs, reverse=True)
    for share in rungs:
        total += (share - done) * sum(racing)
        racing, done = racing[: survivors(len(racing))], share
    return total


def stretch(costs: list[float], budget: float, most: float) -> float:
    """Return how much longer than usual, or shorter, trials of so many seconds can be within a budget."""
    return min(budget / race_seconds(costs, rungs_of(costs, budget)), most)


def fitting(names: list[str], costs: dict[str, float], steps: dict[str, int], budget: float) -> list[str]:
    """Return the first of `names` that a budget allows to race, shortened to `SHORTEST` steps at most; none may fit.

    `costs` are the seconds and `steps` the steps of whole trials. A trial that is short by itself may stay so.
    """
    names = list(names)
    while names:
        longer = stretch([costs[name] for name in names], budget, 1.0)
        if longer >= 1 or longer * min(steps[name] for name in names) >= SHORTEST:
            return names
        names.pop()
    return names


def shortest(costs: dict[str, float], steps: dict[str, int]) -> float:
    """Return the seconds of the shortest race there is."""
    return min(cost * min(1.0, SHORTEST / steps[name]) for name, cost in costs.items())
