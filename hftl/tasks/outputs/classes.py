"""One class for one row: the names of the labels, what of them can be learnt, and how an answer reads."""

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset, Value
from torch import Tensor

from hftl.data.columns import (
    LABEL_NAMES,
    as_it_was,
    is_list,
    is_measured,
    is_string,
    kind_of,
    numbers_of,
    quoted,
    shortened,
    written_numbers,
)
from hftl.data.lists import list_separator
from hftl.errors import DataError, ModelError
from hftl.evaluation.metrics import COMPARED, SCORES, add_made_up, class_statistics
from hftl.evaluation.neighbours import nearest_neighbours
from hftl.evaluation.row_scores import row_scores
from hftl.tasks.outputs.names import (
    check_names,
    declared_in,
    index,
    late,
    recognised_by,
    refuse_unlearnt,
    typed_name,
)
from hftl.tasks.task import Answer, Output, Summed


_PLAIN_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")  # "007" is a name


@dataclass(frozen=True, repr=False)
class Probable(Answer):
    """An answer with a probability for every label, which is its detail."""

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of every label."""
        return dict(self.detail)


@dataclass(frozen=True, repr=False)
class Prediction(Probable):
    """The label of one row; the confidence is its probability."""

    def __repr__(self) -> str:
        return f"Prediction(label={self.label!r}, probability={self.probability}, probabilities={self.probabilities})"

    @property
    def label(self) -> str:
        """The answer."""
        return str(self.value)

    @property
    def probability(self) -> float:
        """The probability of the label."""
        return self.confidence


def labels_of(table: Dataset, column: str, where: str, known: Collection[str] | None = None) -> list[str | None]:
    """Return the names of the labels; None where a row has none (null, "", or -1 in a ClassLabel).

    Without `known`, "1.0" is the name "1" where all labels are whole numbers. With the names that are `known` already,
    those of train or of a model, a number takes the name that is the same number there, and "true" that of "True". A
    quote that `no_formula` put before a name is taken off again. Raises `DataError` for lists, many numbers with
    fractions, and values of another kind that names no class.
    """
    names = _raw_names(table, column, where, known is None)
    if known is None:
        whole = all(name is None or re.fullmatch(r"-?\d+\.0+", name) for name in names)
        return [name and (name.split(".")[0] if whole else as_it_was(name)) for name in names]
    alike = {_value_of(name): name for name in reversed([*known])} | {name: name for name in known}
    known_as = {name: _known_as(name, alike) for name in {*names} if name is not None}
    return [None if name is None else known_as[name] for name in names]


def _value_of(name: str) -> float | str:
    """Return what other spellings of the name have in common with it: the number, or the truth value."""
    if _PLAIN_NUMBER.fullmatch(name):
        return float(name)
    return name.lower() if name.lower() in ("true", "false") else name


def _known_as(name: str, alike: dict[float | str, str]) -> str:
    plain = as_it_was(name)
    return alike.get(name) or alike.get(plain) or alike.get(_value_of(plain)) or plain


def _raw_names(table: Dataset, column: str, where: str, refuse_measured: bool) -> list[str | None]:
    """Return the labels as text."""
    feature, values = table.features[column], table[column][:]
    if isinstance(feature, ClassLabel):
        return [None if value is None or value < 0 else feature.names[value] for value in values]
    numbers = numbers_of(table, column) if refuse_measured else None
    if numbers is not None and is_measured(numbers):
        distinct = len({*numbers} - {None})
        raise DataError(
            f"{where}: the label column {column!r} holds {distinct:,} different numbers with fractions (regression), and "
            "one class is asked for. Leave --problem_type out, or use regression"
        )
    if is_string(feature):
        return [value if value and value.strip() else None for value in values]
    if is_list(feature):
        raise DataError(
            f"{where}: the label column {column!r} holds lists, several labels for a row (multi-label), and one class is "
            "asked for. Leave --problem_type out, or use multi_label_classification"
        )
    if not isinstance(feature, Value) or not re.match(r"u?int|bool|float", feature.dtype):
        raise DataError(f"{where}: the label column {column!r} holds {kind_of(feature)} values: need names")
    fractions = "float" in feature.dtype
    values = [None if v is None or (fractions and not math.isfinite(v)) else v for v in values]
    return [None if v is None else str(int(v) if fractions and v.is_integer() else v) for v in values]


def class_names(parts: dict[str, list[str]], feature: Any, column: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the classes of train, in the order of the ClassLabel, else sorted (numbers by value), and notes.

    Raises `DataError` when there are fewer than two classes, one has a single row, or train lacks one of another split.
    """
    counts = Counter(parts["train"])
    declared = declared_in(feature) or ()
    by_value = all(_PLAIN_NUMBER.fullmatch(name) for name in counts)
    ordered = sorted(counts, key=lambda name: (float(name), name)) if by_value else sorted(counts)
    labels = tuple(name for name in declared if name in counts) if declared else tuple(ordered)
    which = f"the label column {column!r}"
    if len(labels) < 2:
        one = shortened(labels[0])
        raise DataError(f"all {len(parts['train'])} rows of train are of one class ({one}) in {which}: two are needed")
    single = [name for name in labels if counts[name] == 1]
    if single:
        wrong_column = len(single) * 2 > len(labels) > 2
        advice = "is this the right column (--label-column)?" if wrong_column else "add rows of them or remove them"
        if written_numbers(labels) and (wrong_column or not by_value):
            advice += " To learn a number: --problem_type regression"
        separator = list_separator(counts)
        if separator is not None:
            advice = f"they look like lists of labels: --label_separator {separator!r}"
        raise DataError(
            f"{len(single)} of {len(labels)} classes {'have' if len(single) > 1 else 'has'} a single row in train: "
            f"{quoted(single)}, in {which}: {advice}"
        )
    refuse_unlearnt(parts, counts, "class", "classes")
    unused = [name for name in declared if name not in counts]
    notes = [f"{len(unused)} declared classes have no rows and are left out: {quoted(unused)}"] if unused else []
    return labels, notes


def class_ids(names: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Return the index of each name among the labels, [n] int64."""
    places = index(labels)
    return np.asarray([places[name] for name in names], dtype=np.int64)


def cross_entropy(logits: Tensor, labels: Tensor, weights: Any = None, smoothing: float = 0.0) -> Summed:
    """Return the sum over the rows of [n, K] logits, and n; `weights` is one factor per class [K]."""
    summed = F.cross_entropy(logits.float(), labels, weight=weights, reduction="sum", label_smoothing=smoothing)
    return summed, len(labels)


def predictions(logits: np.ndarray, labels: Sequence[str]) -> list[Prediction]:
    """Return the answer to each row of [n, K] logits."""
    return [
        Prediction(labels[int(row.argmax())], float(row.max()), dict(zip(labels, row.tolist(), strict=True)))
        for row in torch.from_numpy(logits).double().softmax(-1)
    ]


def errors(logits: np.ndarray, answers: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return which answers are wrong, and loss, probability of the answer and of the truth: see `Output.errors`."""
    rows = row_scores(logits, ids)
    sure = {"probability": rows.confidence, "true_probability": rows.true_probability}
    return (answers != ids).astype(np.int64), {"loss": rows.loss, **sure}


def probabilities_of(answer: Sequence[dict[str, Any]], labels: Sequence[str], row: Any = None) -> list[float]:
    """Return the probability of every label from what `pipeline` answers to a row with `top_k` labels."""
    by_label = {one["label"]: one["score"] for one in answer}
    return [by_label[label] for label in labels]


def check_classifier(config: Any, name: str) -> None:
    """Raise `ModelError` for a model whose outputs are no classes of which one is right, each with a name."""
    check_names(config, name)
    if config.num_labels == 1 or config.problem_type == "regression":
        raise ModelError(f"{name} answers with a number (regression), not with one of several labels.")
    if config.problem_type == "multi_label_classification":
        raise ModelError(f"{name} gives a row several labels (multi-label), not one of them.")


def typed_class(text: str, known: Collection[str], row: Any) -> str:
    """Return the class that was typed. Raises `DataError` for one that the data do not have."""
    return typed_name(text.strip(), known, "class")


CLASSES = Output(
    problem_type="single_label_classification",
    link="softmax",
    usual=LABEL_NAMES,
    read=labels_of,
    names=class_names,
    encode=class_ids,
    recognise=recognised_by(class_ids, "labels"),
    gather=lambda ids: np.asarray(ids, dtype=np.int64),
    strata=lambda ids, labels: (ids, len(labels)),
    single=True,
    counts=lambda ids, labels: np.bincount(ids, minlength=len(labels)),
    loss=cross_entropy,
    decode=lambda logits: logits.argmax(-1),
    answers=predictions,
    check=check_classifier,
    statistics=lambda ids, true, labels: class_statistics(ids, true, len(labels)),
    scores=SCORES,
    compared=COMPARED,
    best="macro_f1",
    right={"accuracy": lambda ids, true: np.asarray(ids) == np.asarray(true)},
    made_up=add_made_up,
    lines=lambda labels: labels,
    units=lambda logits, ids: (logits, ids),
    errors=errors,
    probe=late("logistic", "fit_probe"),
    alike=lambda ids: (ids[:, None] == ids[None]).float(),
    neighbours=nearest_neighbours,
    columns=lambda ids, labels, _=None: np.eye(len(labels))[ids],
    plain=late("linear_baselines", "class_baselines"),
    parts=("forgetting", "calibration", "abstain", "slices", "confusion", "worst_rows", "suspects", "doctor"),
    ask=lambda labels: {"top_k": len(labels)},
    flatten=probabilities_of,
    flat=lambda answer, labels: [answer.detail[label] for label in labels],
    cells=lambda a: {"prediction": a.value, "probability": a.confidence, "probabilities": a.probabilities},
    widget="Label",
    draw=lambda answer, row, config: answer.detail,
    words={
        "does": "sorts {row} into one of {n} classes",
        "learned": "{n} classes",
        "always": "It always answers with one of its {n} classes, also for {rows} that belong to none.",
        "use": "For sorting {rows} like those it was trained on into these classes",
        "name": "class",
        "names": "classes",
        "units": "rows",
        "same": "labels, probabilities apart by at most {}",
        "given": "label",
        "per": " per class",
        "guess": "the most frequent class",
        "worst": "The wrong answers in which the model gave the true class the least probability.",
        "loss": "loss {:.2f}",
        "ask": "Classify",
        "typed": "Choose the right class.",
        "for": "speaks for",
        "against": "speaks against",
        "call": "",
        "code": "",
    },
    say=lambda code, labels: labels[code],
    typed=typed_class,
    as_typed=lambda code, labels, row: labels[code],
)
