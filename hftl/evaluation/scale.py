"""How a score is written: a share of the rows as a percentage, anything else as a number with three digits."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:  # a list of runs is written without scipy
    from hftl.evaluation.bootstrap import Interval


MINUS = "\u2212"
_DASH = "\u2013"
_NOTHING, _TINY = 1e-8, 1e-5  # what rounding leaves of 0; what takes an exponent
_NAMES = {
    "exact": "exact match",
    "map": "mAP",
    "miou": "mIoU",
    "r2": "R2",
    "rmse": "RMSE",
    "mae": "MAE",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
}
# The score that a report begins with, by what is answered, and those that are no shares: a list of runs knows them without
# torch, and a test holds them against `TASKS`.
HEADLINES = {
    "single_label_classification": "accuracy",
    "multi_label_classification": "micro_f1",
    "regression": "r2",
    "token_classification": "f1",
    "semantic_segmentation": "miou",
}
FIGURES = ("rmse", "mae", "r2", "pearson", "spearman")
# What each score that has an interval says; {name} is a class, a label, a type.
MEANINGS = {
    "accuracy": "The share of test rows with the right answer.",
    "macro_f1": "The F1 of each {name}, averaged so that a rare {name} counts as much as a frequent one.",
    "micro_f1": "The F1 over all pairs of a row and a {name}: frequent {names} count the most.",
    "f1": "The F1 over the {names} there are: one is found when its type and all of its words are right.",
    "strict_f1": "The same, of those alone whose tags keep to the scheme.",
    "exact": "The share of test rows that were answered with exactly the right {names}.",
    "map": "The mean over the {names} of the average precision: how well rows that have a {name} are ranked before those "
    "without it, whatever the threshold.",
    "miou": "The mean over the {names} of the pixels that truth and answer share, divided by those that either has.",
    "pixel_accuracy": "The share of the pixels of all test images with the right answer.",
    "dice": "The mean over the {names} of twice the shared pixels, divided by those of truth and answer together.",
    "r2": "The share of the variance of the true numbers that the answers explain: 1 is perfect, 0 is no better than "
    "always their mean, below 0 is worse.",
    "rmse": "The root of the mean squared error, in the unit of the numbers: large errors count the most.",
    "mae": "The mean size of the error, in the unit of the numbers.",
    "pearson": "How close answers and truth are to a straight line, from \u22121 to 1.",
    "spearman": "How alike answers and truth order the rows, from \u22121 to 1.",
}


def score_name(name: str, *, heads: bool = False) -> str:
    """Return what a person calls a score, such as "macro F1"; with a capital where it `heads` a line."""
    words = _NAMES.get(name) or name.replace("_", " ").replace("f1", "F1")
    return _capital(words) if heads else words


def _capital(words: str) -> str:
    return words if words in (_NAMES["map"], _NAMES["miou"]) else words[:1].upper() + words[1:]


def chance(p: float) -> str:
    """Return a p-value, such as p = 0.042 or p < 0.001."""
    return f"p {'<' if p < 0.001 else '='} {max(p, 0.001):.3f}"


def figures(*values: float, sign: str = "") -> list[str]:
    """Return numbers with as many decimals as give the largest of them three digits; `sign` is "+" to show it always."""
    size = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if _NOTHING < size < _TINY:
        return [f"{value:{sign}.2e}".replace("-", MINUS) for value in values]
    decimals = max(0, 2 - math.floor(math.log10(size))) if size > _NOTHING else 3
    form = f"{{:{sign},.{decimals}f}}"
    rounded = (form.format(round(value, decimals) + 0) if math.isfinite(value) else _DASH for value in values)
    return [text.replace("-", MINUS) for text in rounded]


@dataclass(frozen=True)
class Scale:
    """How the values of one score are written."""

    name: str = "accuracy"  # as people call it
    share: bool = True
    smaller: bool = False  # is less better?
    right: bool = True  # is it the share of right rows?

    def values(self, *values: float) -> list[str]:
        """Return such as 80.1% or 0.801."""
        if not self.share:
            return figures(*values)
        return [f"{100 * value:.1f}%" if math.isfinite(value) else _DASH for value in values]

    def value(self, value: float | None) -> str:
        """Return one value, a dash for none."""
        return _DASH if value is None else self.values(value)[0]

    def bounds(self, low: float, high: float) -> str:
        """Return such as 80.1 to 87.2%."""
        return " to ".join(self.values(low, high)).replace("% to", " to")

    def gaps(self, *gaps: float) -> list[str]:
        """Return differences with their sign, of shares in points, without the word."""
        if not self.share:
            return figures(*gaps, sign="+")
        return [f"{round(100 * gap, 1) + 0:+.1f}".replace("-", MINUS) for gap in gaps]

    @property
    def heading(self) -> str:
        """The name as it begins a line."""
        return _capital(self.name)

    @property
    def unit(self) -> str:
        """What follows a difference."""
        return " points" if self.share else ""

    def gap(self, gap: "Interval") -> str:
        """Return a difference with its bounds, such as +3.1 points, 95% +0.2 to +6.0."""
        value, low, high = self.gaps(gap.value, gap.low, gap.high)
        return f"{value}{self.unit}, 95% {low} to {high}"
