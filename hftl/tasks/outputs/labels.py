"""Several labels for one row, or none: each is yes or no by itself, from its own threshold on."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset
from scipy.special import expit

from hftl.data.columns import LABEL_NAMES, is_list, kind_of, quoted, refuse_missing
from hftl.errors import DataError, ModelError, did_you_mean
from hftl.evaluation.label_scores import (
    COMPARED,
    SCORES,
    choose_thresholds,
    label_statistics,
    mean_average_precision,
    per_label,
    row_units,
    worst_label_rows,
)
from hftl.tasks.outputs.classes import probabilities_of
from hftl.tasks.task import Answer, Output


USUAL_THRESHOLD = 0.5


@dataclass(frozen=True, repr=False)
class LabelSet(Answer):
    """The labels of one row; the detail is the probability of every label, the confidence that of the least sure one."""

    def __repr__(self) -> str:
        return f"LabelSet(labels={list(self.value)!r}, probabilities={self.detail})"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the row has, in the order of the model's labels."""
        return tuple(self.value)

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of every label."""
        return dict(self.detail)


def sets_of(
    table: Dataset, column: str, where: str, known: Collection[Any] | None = None
) -> list[tuple[str, ...] | None]:
    """Return the names of each row's labels, () for a row that has none of them; None where nothing is said.

    Raises `DataError` for a column that does not hold lists of names.
    """
    feature, values = table.features[column], table[column][:]
    if not is_list(feature):
        raise DataError(
            f"{where}: the label column {column!r} holds {kind_of(feature)} values, and several labels for a row are asked "
            "for: lists are needed, or --label_separator, or --label_columns"
        )
    inner = feature[0] if isinstance(feature, list) else feature.feature
    called = inner.names if isinstance(inner, ClassLabel) else None
    sets: list[tuple[str, ...] | None] = []
    for row, value in enumerate(values):
        if value is None:
            sets.append(None)
            continue
        if any(one is None or isinstance(one, list | dict | float) or one == "" for one in value):
            raise DataError(f"{where}: the list of labels in row {row} (counted from 0) of {column!r} holds no names")
        names = [called[one] if called else str(one) for one in value]
        sets.append(tuple(dict.fromkeys(names)))
    return sets


def label_names(
    parts: dict[str, list[tuple[str, ...]]], feature: Any, column: str
) -> tuple[tuple[str, ...], list[str]]:
    """Return the labels of train, in the order of the ClassLabel, else sorted, and notes.

    Raises `DataError` when there are fewer than two labels, or train lacks one of another split.
    """
    counts = Counter(name for row in parts["train"] for name in row)
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    declared = inner.names if isinstance(inner, ClassLabel) else ()
    by_value = all(name.removeprefix("-").isdecimal() for name in counts)
    labels = tuple(n for n in declared if n in counts) or tuple(sorted(counts, key=int if by_value else None))
    if len(labels) < 2:
        have = f"only the label {quoted(labels)}" if labels else "no label at all"
        raise DataError(f"the rows of train have {have} in the label column {column!r}: two different ones are needed")
    for split, rows in parts.items():
        unknown = sorted({name for row in rows for name in row} - {*counts})
        if unknown:
            raise DataError(
                f"{split} holds the label{'s' if len(unknown) > 1 else ''} {quoted(unknown)}, which train lacks: add such "
                f"rows to train or remove them from {split}.{did_you_mean(unknown[0], labels)}"
            )
    none = sum(not row for row in parts["train"])
    mean = sum(counts.values()) / len(parts["train"])
    notes = [f"Rows have several labels ({column}): {len(labels)} labels, {mean:.2f} for a row on average."]
    return labels, [*notes, *([f"{none} rows of train have no label."] if none else [])]


def as_matrix(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> np.ndarray:
    """Return 1 where a row has a label, [n, L] float32."""
    index = {name: place for place, name in enumerate(labels)}
    matrix: np.ndarray = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for i, row in enumerate(rows):
        matrix[i, [index[name] for name in row]] = 1
    return matrix


def known_sets(rows: Sequence[Any], labels: Sequence[str], where: str, column: str) -> np.ndarray:
    """Return `as_matrix` for the labels of a model. Raises `DataError` for a label that it does not know."""
    refuse_missing(rows, column, where)
    unknown = sorted({name for row in rows for name in row} - {*labels})
    if unknown:
        raise DataError(
            f"{where}: the column {column!r} holds labels that the model does not know: {quoted(unknown)}; it knows "
            f"{quoted(labels)}.{did_you_mean(unknown[0], labels)}"
        )
    return as_matrix(rows, labels)


def rarest(matrix: np.ndarray, labels: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return each row's rarest label as its stratum, the last one for rows without any: so that rare labels are in
    every split (a simple form of the iterative stratification of Sechidis, Tsoumakas and Vlahavas, ECML 2011).
    """
    counts = matrix.sum(axis=0)
    rarity = np.where(matrix > 0, 1 / np.maximum(counts, 1), 0)
    return np.where(matrix.any(axis=1), rarity.argmax(axis=1), len(labels)), len(labels) + 1


def binary_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None, smoothing: float = 0.0
) -> tuple[torch.Tensor, int]:
    """Return the sum over the decisions of [n, L] logits, and how many there are."""
    targets = targets.float() * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum"), targets.numel()


def decode(logits: Any, cuts: np.ndarray | float = 0.0) -> Any:
    """Return 1 where a logit is above its cut, [n, L] float32: of an array an array, of a tensor a tensor."""
    if isinstance(logits, torch.Tensor):
        return (logits > torch.as_tensor(cuts, device=logits.device)).float()
    return (np.asarray(logits) > cuts).astype(np.float32)


def answers(logits: np.ndarray, labels: Sequence[str], cuts: np.ndarray | float = 0.0) -> list[LabelSet]:
    """Return the answer to each row of [n, L] logits."""
    sets: list[LabelSet] = []
    for row, has in zip(expit(np.asarray(logits, dtype=np.float64)), decode(logits, cuts).astype(bool), strict=True):
        value = tuple(name for name, here in zip(labels, has, strict=True) if here)
        detail = dict(zip(labels, row.tolist(), strict=True))
        sets.append(LabelSet(value, float(np.where(has, row, 1 - row).min()), detail))
    return sets


def settle(outputs: np.ndarray, targets: np.ndarray, labels: Sequence[str], asked: str) -> dict[str, Any]:
    """Return the thresholds of a model's config: `asked` for all labels, or for "auto" one a label by validation rows."""
    if asked == "auto":
        return {"thresholds": [round(float(t), 6) for t in choose_thresholds(outputs, targets)]}
    return {} if float(asked) == USUAL_THRESHOLD else {"thresholds": [float(asked)] * len(labels)}


def configured(config: Any) -> Output:
    """Return the output that answers by the thresholds in a model's config. Raises `ModelError` for such as cannot be."""
    thresholds = getattr(config, "thresholds", None)
    if thresholds is None:
        return LABELS
    values = np.asarray(thresholds, dtype=np.float64)
    if values.shape != (config.num_labels,) or not ((values > 0) & (values < 1)).all():
        raise ModelError(f"config.json has thresholds that are not {config.num_labels} numbers between 0 and 1.")
    cuts = np.log(values / (1 - values))
    return replace(
        LABELS,
        decode=partial(decode, cuts=cuts),
        answers=partial(answers, cuts=cuts),
        worst=partial(worst_label_rows, thresholds=values),
    )


def check_labels(config: Any, name: str) -> None:
    """Raise `ModelError` for a model whose outputs are not several labels, each with a name."""
    if config.problem_type != "multi_label_classification":
        raise ModelError(f"{name} does not give several labels (its problem_type is {config.problem_type}).")


def _probe(*arguments: Any, **options: Any) -> Any:
    from hftl.evaluation.probes import fit_label_probe  # late, as below: scikit-learn takes a second

    return fit_label_probe(*arguments, **options)


def _plain(kinds: Sequence[str], train: Any, targets: np.ndarray, test: Any) -> list[Any]:
    from hftl.evaluation import baselines
    from hftl.evaluation.linear_baselines import plain_baselines

    return plain_baselines(baselines.LABEL_SET, kinds, train, targets, test)


def _neighbours(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
    from hftl.evaluation.neighbours import neighbour_means

    return (neighbour_means(train, targets, test) >= 0.5).astype(np.float32)


LABELS = Output(
    kind="labels",
    problem_type="multi_label_classification",
    link="sigmoid",
    usual=LABEL_NAMES,
    read=sets_of,
    names=label_names,
    encode=as_matrix,
    recognise=known_sets,
    gather=lambda rows: np.asarray(rows, dtype=np.float32),
    strata=rarest,
    classes=None,
    counts=lambda matrix, labels: np.asarray(matrix).sum(axis=0).astype(np.int64),
    width=len,
    collate=lambda targets: torch.as_tensor(np.asarray(targets, dtype=np.float32)),
    loss=binary_cross_entropy,
    chance=lambda labels: math.log(2),
    decode=decode,
    answers=answers,
    check=check_labels,
    statistics=lambda sets, true, labels: label_statistics(sets, true),
    scores=SCORES,
    compared=COMPARED,
    best="micro_f1",
    right={"exact": lambda sets, true: (np.asarray(sets) == np.asarray(true)).all(axis=1)},
    made_up=None,
    table=per_label,
    units=row_units,
    worst=worst_label_rows,
    probe=_probe,
    neighbours=_neighbours,
    plain=_plain,
    parts=("forgetting", "calibration", "slices", "worst_rows", "doctor"),
    ask=lambda labels: {"top_k": len(labels)},
    flatten=probabilities_of,
    flat=lambda answer, labels: [answer.detail[label] for label in labels],
    cells=lambda answer: {"prediction": [*answer.value], "probabilities": answer.probabilities},
    widget="Label",
    draw=lambda answer: answer.detail,
    words={
        "does": "tells which of {n} labels {row} has",
        "learned": "{n} labels",
        "always": "It knows its {n} labels and no others, and may give {row} none of them.",
        "use": "For telling which of these labels {rows} like those it was trained on have",
        "name": "label",
        "names": "labels",
        "units": "rows",
        "same": "labels, probabilities",
        "given": "label",
        "per": " per label",
        "guess": "the most frequent set of labels",
        "worst": "The wrong answers whose labels the model found the least probable, all labels of a row together.",
        "loss": "loss {:.2f}",
        "ask": "Classify",
        "for": "speaks for",
        "against": "speaks against",
        "call": ", top_k={n}",
        "code": "It gives the probability of every label. Those above their threshold are the answer: `thresholds` in "
        "`config.json` has one for each label, in the order of `id2label`; without that field it is 0.5 for all.",
    },
    named=lambda row, labels: ", ".join(labels[i] for i in np.flatnonzero(row)) or "no label",
    say=lambda ids, labels: ", ".join(labels[i] for i in ids) or "no label",
    tell=lambda answer: ", ".join(answer.value) or "No label is above its threshold",
    beside=lambda outputs, targets: {"map": mean_average_precision(outputs, targets)},
    settle=settle,
    configured=configured,
)
