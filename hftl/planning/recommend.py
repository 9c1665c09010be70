"""Which method the data, the model and the machine speak for: a pure function of a few facts."""

from dataclasses import dataclass

from hftl.evaluation import FEW_PER_CLASS
from hftl.evaluation.bootstrap import Interval
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

    rows_per_class: float  # median over the classes
    gap: Interval | None  # None where the rows are too few to cross-validate
    baseline: str  # its name
    full_seconds: float  # estimated, of fine-tuning every layer on this machine
    full_fits: bool | None  # in memory, with gradients and AdamW's states for every parameter
    convnet: bool


@dataclass(frozen=True)
class Recommendation:
    """A method, or `NO_TRANSFER`, and why."""

    method: str
    reason: str


def recommend(facts: Facts) -> Recommendation:
    """Return what to try, by the guide's rules: features when the domain is near, fine-tuning when it is not.

    Rows per class decide how much may learn, the probe against the baseline whether the features are near, and time
    and memory what is out of reach.
    """
    gap, rows = facts.gap, facts.rows_per_class
    if gap is None:
        return Recommendation(
            "probe",
            f"With {rows:g} rows per class the probe cannot be held against a baseline: too few to cross-validate, and "
            "far too few to fine-tune on. More rows help more than another method.",
        )
    if gap.high < 0:
        return _far(facts, gap)
    if rows <= FEW_PER_CLASS:
        return Recommendation(
            "probe",
            f"{stands(gap, facts.baseline)}, and {rows:g} rows per class are few (up to {FEW_PER_CLASS}): the fewest weights "
            "that can learn the task overfit the least.",
        )
    if facts.full_seconds > PATIENCE:
        return Recommendation(
            "head", f"{stands(gap, facts.baseline)}, and {_too_long(facts)}: a head on cached features does not."
        )
    if rows <= MANY_PER_CLASS:
        return _moderate(facts, gap)
    if facts.full_fits is False:
        return Recommendation(
            "lora", f"{rows:g} rows per class would carry full fine-tuning, which does not fit in memory: adapters do."
        )
    return Recommendation(
        "full",
        f"{rows:g} rows per class (above {MANY_PER_CLASS}) carry all layers, and the time is there (about "
        f"{duration(facts.full_seconds)} here). {stands(gap, facts.baseline)}.",
    )


def _far(facts: Facts, gap: Interval) -> Recommendation:
    """The frozen features lose: this model's domain is far from this data."""
    rows = facts.rows_per_class
    if rows <= FEW_PER_CLASS:
        return Recommendation(
            NO_TRANSFER,
            f"{stands(gap, facts.baseline)}: this model's features are far from this data, and {rows:g} rows per class are too "
            f"few (up to {FEW_PER_CLASS}) to move them. Use the baseline, or a model from a closer domain.",
        )
    if facts.full_seconds > PATIENCE:
        return Recommendation(
            NO_TRANSFER,
            f"{stands(gap, facts.baseline)}: this model's features are far from this data, and {_too_long(facts)}. Use the "
            "baseline, a smaller model or a faster machine.",
        )
    if facts.full_fits is False:
        return Recommendation(
            "lora",
            f"{stands(gap, facts.baseline)}: the features are far from this data and must move; all layers do not fit in memory, "
            "adapters on all of them do.",
        )
    return Recommendation(
        "full",
        f"{stands(gap, facts.baseline)}: the features are far from this data, so every layer has to learn; {rows:g} rows per "
        "class are enough to try.",
    )


def _moderate(facts: Facts, gap: Interval) -> Recommendation:
    rows = f"{facts.rows_per_class:g} rows per class are neither few nor many ({FEW_PER_CLASS} to {MANY_PER_CLASS})"
    if facts.convnet:
        # Adapters leave out depthwise convolutions (peft); thawing from the top is ULMFiT's answer to small data
        # (Howard & Ruder 2018, table 7; ANCHORS.md, C).
        return Recommendation(
            "gradual", f"{stands(gap, facts.baseline)}, and {rows}: thaw the convnet block by block, from the top."
        )
    # VTAB-1k, ViT-B/16: LoRA above full in all three groups; GLUE: equal (ANCHORS.md, C).
    return Recommendation(
        "lora", f"{stands(gap, facts.baseline)}, and {rows}: adapters on every layer move few weights."
    )


def _too_long(facts: Facts) -> str:
    return f"fine-tuning all layers would take about {duration(facts.full_seconds)} on this machine"


def duration(seconds: float | None) -> str:
    """Return about how long that is, in words: "12 s", "5 min", "2.5 h", or "unknown"."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
