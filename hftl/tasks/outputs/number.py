"""A number for one row: regression. In training the targets are standardised; the saved head answers in their units."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor

from hftl.data.columns import is_string, kind_of, shortened, written_numbers
from hftl.data.columns import numbers_of as numbers_in
from hftl.errors import DataError, ModelError
from hftl.evaluation.number_scores import (
    COMPARED,
    SCORES,
    conformal_width,
    number_statistics,
    spearman,
)
from hftl.evaluation.scale import FIGURES
from hftl.tasks.outputs.names import IN_SOURCE, late
from hftl.tasks.task import Answer, Output, Summed


# Steps of 32 bits in a deviation of the targets: rounding takes a twelfth of the square, .003, from R2.
COARSE = 0.2
LEVEL = 0.9  # share of rows whose target a conformal interval holds


@dataclass(frozen=True, repr=False)
class Estimate(Answer):
    """The number of one row; the detail holds low and high of its conformal interval, None where none is known."""

    def __repr__(self) -> str:
        return f"Estimate(value={self.value}, low={self.low}, high={self.high})"

    @property
    def low(self) -> float | None:
        """The lower end of the interval that holds the truth for 90% of rows."""
        return None if self.detail is None else float(self.detail["low"])

    @property
    def high(self) -> float | None:
        """The upper end of it."""
        return None if self.detail is None else float(self.detail["high"])


def numbers_of(table: Dataset, column: str, where: str, known: Collection[Any] | None = None) -> list[float | None]:
    """Return the numbers; None for what is missing or not finite. Raises `DataError` for a column of other values."""
    numbers = numbers_in(table, column)
    values = table[column][:] if numbers is None and is_string(table.features[column]) else []
    cells = [value for value in values if value and value.strip()]
    ways = written_numbers(cells) if cells else []
    if len(ways) == 1:
        known = dict(zip(cells, ways[0], strict=True))
        return [known.get(value) for value in values]
    if cells:
        cell = next((cell for cell in cells if not written_numbers([cell])), cells[0])
        raise DataError(
            f"{where}: the label column {column!r} holds {shortened(cell)}, and a number for a row is asked for, written in one "
            "way: such as 1234.5. Or leave --problem_type out, or name the column with --label_column"
        )
    if numbers is None:
        raise DataError(
            f"{where}: the label column {column!r} holds {kind_of(table.features[column])} values, and a number for a row "
            "is asked for. Leave --problem_type out, or name the column with --label_column"
        )
    return numbers


def one_name(parts: dict[str, list[float]], feature: Any, column: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the column as the name of the number, and notes. Raises `DataError` when all rows of train have the same."""
    values = parts["train"]
    if len({*values}) < 2:
        raise DataError(
            f"all {len(values)} rows of train have the same number in {column!r}: there is nothing to learn"
        )
    step, spread = float(np.spacing(np.float32(max(map(abs, values))))), float(np.std(values))
    if step > COARSE * spread:
        base = float(f"{np.mean(values):.{max(0, int(math.log10(abs(np.mean(values)) / spread)) - 1)}e}")
        raise DataError(
            f"the numbers of {column!r} lie near {base:,.10g} and differ by {spread:.2g} (standard deviation), and models answer "
            f"in steps of {step:.2g} there (32 bits): subtract {base:,.10g} from all of them, and add it to the answers"
        )
    span = f"{min(values):.2g} to {max(values):.2g}"  # about: a card shows it, and no row
    said = f"The answer is a number ({column}): regression, {len({*values}):,} different values {IN_SOURCE}, {span}."
    return (column,), [said]


def _recognise(values: Sequence[Any], names: Sequence[str], where: str, column: str) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def squared_error(outputs: Tensor, targets: Tensor, weights: Any = None, smoothing: float = 0.0) -> Summed:
    """Return the sum over the rows of [n, 1] outputs, and n."""
    return ((outputs[..., 0].float() - targets.float()) ** 2).sum(), len(targets)


def scale_of(targets: np.ndarray) -> tuple[float, float]:
    """Return mean and deviation of the training targets, by which they are standardised."""
    values = np.asarray(targets, dtype=np.float64)
    return float(values.mean()), float(values.std()) or 1.0


def answers(outputs: np.ndarray, names: Sequence[str], width: float | None = None) -> list[Estimate]:
    """Return the answer to each row of [n, 1] outputs; `width` is half that of the conformal interval."""
    values = np.asarray(outputs, dtype=np.float64)[..., 0].tolist()
    ends = [None if width is None else {"low": value - width, "high": value + width} for value in values]
    return [Estimate(value, math.nan, detail) for value, detail in zip(values, ends, strict=True)]


def settle(outputs: np.ndarray, targets: np.ndarray, names: Sequence[str], asked: str) -> dict[str, Any]:
    """Return half the width of a conformal interval, by the validation rows; nothing where they are too few."""
    width = conformal_width(np.abs(np.asarray(targets) - decode(outputs)), LEVEL)
    return {} if width is None else {"conformal_width": width, "conformal_level": LEVEL}


def configured(config: Any) -> Output:
    """Return the output that answers with the interval in a model's config."""
    width = getattr(config, "conformal_width", None)
    return NUMBER if width is None else replace(NUMBER, answers=partial(answers, width=float(width)))


def decode(outputs: Any) -> Any:
    """Return the number of each row of [n, 1] outputs, [n]: of an array an array, of a tensor a tensor."""
    return outputs[..., 0]


def check_regression(config: Any, name: str) -> None:
    """Raise `ModelError` for a model that does not answer with one number."""
    if config.num_labels != 1 or config.problem_type != "regression":
        raise ModelError(f"{name} answers with {config.num_labels} numbers (regression), not with one.")


def _tell(answer: Any) -> str:
    if answer.low is None:
        return ""
    return f"{answer.value:.4g}; for {LEVEL:.0%} of rows the truth lies between {answer.low:.4g} and {answer.high:.4g}"


def typed_number(text: str, known: Any, row: Any) -> float:
    """Return the number that was typed. Raises `DataError` for what is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{shortened(text.strip())} is not a number: write it such as 1234.5")
    return value


NUMBER = Output(
    problem_type="regression",
    link="none",
    read=numbers_of,
    names=one_name,
    encode=lambda values, names: np.asarray(values, dtype=np.float64),
    recognise=_recognise,
    gather=lambda values: np.asarray(values, dtype=np.float64),
    counts=lambda targets, names: np.array([len(targets)]),
    loss=squared_error,
    decode=decode,
    answers=answers,
    check=check_regression,
    statistics=lambda values, true, names: number_statistics(values, true),
    scores=SCORES,
    compared=COMPARED,
    best="r2",
    errors=lambda outputs, values, true: ((values != true) * 1, {"loss": abs(values - true)}),
    probe=late("probes", "fit_number_probe"),
    neighbours=late("neighbours", "neighbour_means"),
    columns=lambda targets, names, _=None: np.asarray(targets).reshape(-1, 1),
    plain=late("linear_baselines", "number_baselines"),
    parts=("forgetting", "conformal", "slices", "worst_rows", "doctor"),
    ask=lambda names: {"function_to_apply": "none"},
    flatten=lambda answer, names, row: [answer["score"] if isinstance(answer, dict) else answer[0]["score"]],
    flat=lambda answer, names: [answer.value],
    cells=lambda answer: {"prediction": answer.value, "low": answer.low, "high": answer.high},
    widget="Number",
    draw=lambda answer, row, config: answer.value,
    words={
        "does": "estimates a number for {row}",
        "learned": "a number",
        "always": "It always answers with a number, also for {rows} of which none makes sense.",
        "use": "For estimating this number for {rows} like those it was trained on",
        "name": "number",
        "names": "numbers",
        "units": "rows",
        "same": "numbers, apart by at most {}",
        "lacks": "without a finite number",
        "given": "number",
        "per": "",
        "guess": "the mean",
        "worst": "The answers that are furthest from the truth.",
        "loss": "off by {:.4g}",
        "ask": "Estimate",
        "typed": "Write the right number, such as 1234.5.",
        "for": "raises",
        "against": "lowers",
        "call": ', function_to_apply="none"',
        "code": "The number is its `score`, which plain `pipeline` gives as well, since `config.json` says `regression`. "
        "`conformal_width` in `config.json`, where it is there, is how far from the answer the truth lies at most in the "
        "share `conformal_level` of rows.",
    },
    say=lambda value, names: f"{value:.4g}",
    typed=typed_number,
    as_typed=lambda value, names, row: f"{value:.7g}",  # the digits of 32 bits
    tell=_tell,
    beside=lambda outputs, targets: {"spearman": spearman(decode(outputs), targets)},
    smaller=("rmse", "mae"),
    figures=FIGURES,
    settle=settle,
    configured=configured,
    scale=scale_of,
)
