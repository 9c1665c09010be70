"""Which method the data, the model and the machine speak for: a pure function of a few facts."""

from dataclasses import dataclass

from hftl.evaluation import FEW_PER_CLASS
from hftl.evaluation.bootstrap import Interval
from hftl.evaluation.scale import Scale
from hftl.evaluation.verdict import stands


# Beyond so many rows per class, every layer: ANCHORS.md, F. LoRA loses when the data exceed its capacity (LoRA Without
# Regret 2025), and what penalties gain, they gain on small data (both in ANCHORS.md, C).
MANY_PER_CLASS = 500
# Longest fine-tuning that is recommended, in seconds: a night. Rule of thumb, ours.
PATIENCE = 8 * 3600.0

NO_TRANSFER = "do not transfer"


@dataclass(frozen=True)
class Facts:
    """What the choice rests on."""

    rows_per_class: float  # median over what can be answered
    gap: Interval | None  # None where the rows are too few to cross-validate
    baseline: str  # its name
    full_seconds: float  # estimated, of fine-tuning every layer on this machine
    full_fits: bool | None  # in memory, with gradients and AdamW's states for every parameter
    convnet: bool
    scale: Scale = Scale()  # of the gap
    per: str = " per class"  # what follows a count of rows, from `Output.words`


@dataclass(frozen=True)
class Recommendation:
    """A method, or `NO_TRANSFER`, and why."""

    method: str
    reason: str


def recommend(facts: Facts) -> Recommendation:
    """Return what to try, by the guide's rules: features when the domain is near, fine-tuning when it is not.

    Rows per class decide how much may learn, the probe against the baseline whether the features are near, and time
    and memory what is out of reach. The first rule that holds decides.
    """
    rows = f"{facts.rows_per_class:g} rows{facts.per}"
    if facts.gap is None:
        return Recommendation(
            "probe",
            f"With {rows} the probe cannot be held against a baseline: too few to cross-validate, and far too few to "
            "fine-tune on. More rows help more than another method.",
        )
    far = facts.gap.high < 0  # the frozen features lose: this model's domain is far from this data
    few, many = facts.rows_per_class <= FEW_PER_CLASS, facts.rows_per_class > MANY_PER_CLASS
    slow, large = facts.full_seconds > PATIENCE, facts.full_fits is False
    beside = stands(facts.gap, facts.baseline, facts.scale)
    took = f"fine-tuning all layers would take about {duration(facts.full_seconds)} on this machine"
    away = f"{beside}: this model's features are far from this data, and"
    between = f"{beside}, and {rows} are neither few nor many ({FEW_PER_CLASS} to {MANY_PER_CLASS})"
    rules = (
        (
            far and few,
            NO_TRANSFER,
            f"{away} {rows} are too few (up to {FEW_PER_CLASS}) to move them. Use the baseline, or a model from a closer "
            "domain.",
        ),
        (far and slow, NO_TRANSFER, f"{away} {took}. Use the baseline, a smaller model or a faster machine."),
        (
            far and large,
            "lora",
            f"{away} must move: all layers do not fit in memory, adapters on all of them do.",
        ),
        (far, "full", f"{away} every layer has to learn; {rows} are enough to try."),
        (
            few,
            "probe",
            f"{beside}, and {rows} are few (up to {FEW_PER_CLASS}): the fewest weights that can learn the task overfit the "
            "least.",
        ),
        (slow, "head", f"{beside}, and {took}: a head on cached features does not."),
        # Adapters leave out depthwise convolutions (peft); thawing from the top is ULMFiT's answer to small data
        # (Howard & Ruder 2018, table 7; ANCHORS.md, C).
        (not many and facts.convnet, "gradual", f"{between}: thaw the convnet block by block, from the top."),
        # VTAB-1k, ViT-B/16: LoRA above full in all three groups; GLUE: equal (ANCHORS.md, C).
        (not many, "lora", f"{between}: adapters on every layer move few weights."),
        (large, "lora", f"{rows} would carry full fine-tuning, which does not fit in memory: adapters do."),
    )
    for holds, method, reason in rules:
        if holds:
            return Recommendation(method, reason)
    return Recommendation(
        "full",
        f"{rows} (above {MANY_PER_CLASS}) carry all layers, and the time is there (about {duration(facts.full_seconds)} "
        f"here). {beside}.",
    )


def duration(seconds: float | None) -> str:
    """Return about how long that is, in words: "12 s", "5 min", "2.5 h", or "unknown"."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
