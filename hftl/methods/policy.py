"""What data, model and machine speak for: the one policy that the doctor, `hftl plan` and the advice of a run read.

Each rule is a pure function of facts; what is not known is None, and then no rule rests on it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hftl.config import RunConfig
from hftl.evaluation.bootstrap import Interval
from hftl.evaluation.scale import Scale
from hftl.evaluation.verdict import stands
from hftl.methods.plan import FEW as FEW
from hftl.methods.plan import Loaded, full_defaults


# Up to so many, adapters do no worse than all layers in a wide model: LoRA loses when the data exceed its capacity (LoRA
# Without Regret 2025), and VTAB-1k and GLUE have it level or ahead (ANCHORS.md, C and F).
MANY = 500
# Width from which that counts: below it, `full` at the measured rate is no worse and no slower (docs/log.md).
WIDE = 1024
PATIENCE = 8 * 3600.0  # longest fine-tuning that is recommended, in seconds: a night. Rule of thumb, ours.
FULL_STEP = (
    3  # forward passes that a step of all layers costs: the backward one counts twice (Kaplan et al. 2020, 2.1)
)
NO_TRANSFER = "do not transfer"
LADDER = (
    ("probe", "head"),
    ("gradual", "lora"),
    ("full",),
)  # the methods that the rules speak of: more and more learns


@dataclass(frozen=True)
class Facts:
    """What the choice of a method rests on."""

    rows_per_class: float  # median over what can be answered
    gap: Interval | None = None  # by how much the probe is ahead of the best baseline
    baseline: str = ""  # its name
    full_seconds: float | None = None  # estimated, of fine-tuning every layer on this machine
    full_fits: bool | None = None  # in memory, with gradients and AdamW's states for every parameter
    width: int | None = None  # of the hidden states of a transformer
    scale: Scale = Scale()  # of the gap
    per: str = " per class"  # what follows a count of rows, from `Output.words`

    @property
    def few(self) -> bool:
        """Are the rows too few for much to learn?"""
        return self.rows_per_class <= FEW

    @property
    def rows(self) -> str:
        """How many rows speak for each answer, in words."""
        return f"{self.rows_per_class:g} rows{self.per}"


@dataclass(frozen=True)
class Recommendation:
    """A method, or `NO_TRANSFER`, and why."""

    method: str
    reason: str


def recommend(facts: Facts) -> Recommendation:
    """Return what to try: features when the domain is near and rows are few, fine-tuning otherwise.

    Rows per class decide how much may learn, the probe against the baseline whether the features are near, and time
    and memory what is out of reach. The first rule that holds decides.
    """
    rows, gap = facts.rows, facts.gap
    far = gap is not None and gap.high < 0  # the frozen features lose: this model's domain is far from this data
    slow, large = (facts.full_seconds or 0.0) > PATIENCE, facts.full_fits is False
    beside = f"{stands(gap, facts.baseline, facts.scale)}, and " if gap is not None else ""
    took = f"fine-tuning all layers would take about {duration(facts.full_seconds)} on this machine"
    away = f"{beside}this model's features are far from this data; "
    rules = (
        (
            far and facts.few,
            NO_TRANSFER,
            f"{away}{rows} are too few (up to {FEW}) to move them. Use the baseline, or a model from a closer domain.",
        ),
        (far and slow, NO_TRANSFER, f"{away}{took}. Use the baseline, a smaller model or a faster machine."),
        (
            facts.few,
            "probe",
            f"{beside}{rows} are few (up to {FEW}): the fewest weights that can learn the task overfit the least.",
        ),
        (slow, "head", f"{beside}{took}: a head on cached features does not."),
        (large, "lora", f"{beside}all layers do not fit in memory: adapters on all of them do."),
        (far, "full", f"{away}every layer has to learn, and {rows} are enough to try."),
        (
            facts.rows_per_class <= MANY and (facts.width or 0) >= WIDE,
            "lora",
            f"{beside}{rows} are neither few nor many ({FEW} to {MANY}) for a model {facts.width} wide: adapters on every "
            "layer move few weights.",
        ),
    )
    fitting = (Recommendation(method, _sentence(reason)) for holds, method, reason in rules if holds)
    known = "" if facts.full_seconds is None else f"; the time is there (about {duration(facts.full_seconds)} here)"
    carry = f"{beside}{rows} (above {FEW}) carry all layers{known}."
    return next(fitting, Recommendation("full", _sentence(carry)))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def full_seconds(loaded: Loaded, config: RunConfig, n_train: int, one_pass: float) -> float:
    """Estimate how long fine-tuning every layer takes, from the seconds of one forward pass over the `n_train` rows."""
    usual = full_defaults(loaded, config.method, n_train)[1]["num_train_epochs"]
    return FULL_STEP * float(config.training.get("num_train_epochs", usual)) * one_pass


def width_of(loaded: Loaded) -> int | None:
    """Return the width of the hidden states; None where the config does not call it so, as those of convnets."""
    return getattr(loaded.model.config, "hidden_size", None)


def learns_more(facts: Facts, method: str) -> Recommendation | None:
    """Return the recommendation where more would learn than by `method`; None where it is enough, or not of the rules."""
    best, steps = recommend(facts), {name: step for step, names in enumerate(LADDER) for name in names}
    known = {method, best.method} <= steps.keys()
    return best if known and steps[best.method] > steps[method] else None


def duration(seconds: float | None) -> str:
    """Return about how long that is, in words: "12 s", "5 min", "2.5 h", or "unknown"."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# How a training went
LONGER = "train longer"
HIGHER_RATE = "raise the learning rate"
LOWER_RATE = "lower the learning rate, or give lower layers lower rates"
FALL = 0.02  # share by which the validation loss must have fallen at the end: less is mostly chance. Ours.
RISE = 0.1  # and by which it must have risen since its best for the training to have gone too far. Ours.
RATE_STEP = 3.0  # from one rate to the next: the logarithmic scale of Bengio 2012 ("Practical recommendations", 3.3)


@dataclass(frozen=True)
class Course:
    """How a training by gradient went: losses and scores on the validation rows, one a look, and the loss while training."""

    losses: tuple[float, ...]
    scores: tuple[float, ...]  # more is better
    train_loss: float | None  # at the end; None where it is no measure, as with weights or smoothing
    steps: int  # of all stages
    learning_rate: float


def course_of(stages: Sequence[Mapping[str, Any]], best: str, learning_rate: float | None) -> Course | None:
    """Return the course of the last stage by gradient, from `stages` of a report; `best` is the score that it follows.

    None where fewer than two looks at the validation rows were logged.
    """
    history: list[dict[str, float]] = next((stage["history"] for stage in reversed(stages) if stage["steps"]), [])
    looks = [e for e in history if "eval_loss" in e and f"eval_{best}" in e]
    losses = [e["loss"] for e in history if "loss" in e]
    if len(looks) < 2 or not losses or learning_rate is None:
        return None
    after = looks[-2]["step"]
    late = [e["loss"] for e in history if "loss" in e and e["step"] > after] or losses[-1:]
    steps = sum(int(stage["steps"]) for stage in stages)
    scores = tuple(e[f"eval_{best}"] for e in looks)
    return Course(tuple(e["eval_loss"] for e in looks), scores, math.fsum(late) / len(late), steps, learning_rate)


def look_at(course: Course) -> list[tuple[str, str, str]]:
    """Return what to try next by the course of a training: (advice, reason, flags).

    - Still improving (Prechelt 1998, "Early stopping - but when?"): the last look has the lowest validation loss, by
      `FALL` at least, and no lower score than any before. More steps are asked for.
    - And too slow (Smith 2018, "A disciplined approach", section 4: underfitting): the training loss is no lower than the
      validation loss, or of three looks or more the last brought half of what the second did. A higher rate is asked for.
    - Gone too far: loss and score were best at the first of three looks or more, and the loss rose by `RISE` since. A
      lower rate keeps more of what was pretrained (Mosbach et al. 2021).
    """
    losses, scores, rate = course.losses, course.scores, course.learning_rate
    if losses[-1] == min(losses) and losses[-1] <= (1 - FALL) * losses[-2] and scores[-1] == max(scores):
        fell = f"The validation loss was still falling at the end ({losses[-2]:.3g} to {losses[-1]:.3g})"
        longer = (LONGER, f"{fell}: twice the steps may bring more.", f"--max_steps {2 * course.steps}")
        slow = ""
        if course.train_loss is not None and course.train_loss >= losses[-1]:
            slow = f"the training loss ({course.train_loss:.3g}) is no lower: little is learnt by heart yet"
        elif len(losses) > 2 and losses[-2] - losses[-1] >= (losses[0] - losses[1]) / 2:
            slow = f"has hardly slowed since the first looks ({losses[0]:.3g} to {losses[1]:.3g})"
        higher = (HIGHER_RATE, f"{fell}, and {slow}.", f"--learning_rate {RATE_STEP * rate:.2g}")
        return [higher, longer] if slow else [longer]
    spoiled = len(losses) > 2 and losses[0] == min(losses) and scores[0] == max(scores) > scores[-1]
    if spoiled and losses[-1] > (1 + RISE) * losses[0]:
        rose = (
            f"The validation loss was lowest at the first look and rose from {losses[0]:.3g} to {losses[-1]:.3g} since"
        )
        return [
            (LOWER_RATE, f"{rose}: at {rate:.2g} the model moves too fast.", f"--learning_rate {rate / RATE_STEP:.2g}")
        ]
    return []
