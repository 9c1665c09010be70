"""Several labels for one row, or none: each is yes or no by itself, from its own threshold on."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from scipy.special import expit
from torch import Tensor

from hftl.data.columns import quoted
from hftl.errors import DataError, ModelError
from hftl.evaluation.label_scores import (
    COMPARED,
    SCORES,
    choose_thresholds,
    label_statistics,
    mean_average_precision,
    row_losses,
    row_units,
)
from hftl.tasks.outputs.classes import CLASSES, Probable
from hftl.tasks.outputs.names import (
    IN_SOURCE,
    declared_in,
    index,
    late,
    lists_in,
    recognised_by,
    refuse_unlearnt,
    typed_name,
)
from hftl.tasks.task import Output, Summed


USUAL_THRESHOLD = 0.5
NO_LABEL = "no label"


@dataclass(frozen=True, repr=False)
class LabelSet(Probable):
    """The labels of one row; the detail is the probability of every label, the confidence that of the least sure one."""

    def __repr__(self) -> str:
        return f"LabelSet(labels={list(self.value)!r}, probabilities={self.detail})"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the row has, in the order of the model's labels."""
        return tuple(self.value)


def sets_of(table: Dataset, column: str, where: str, known: Any = None) -> list[tuple[str, ...] | None]:
    """Return the names of each row's labels, () for a row that has none of them; None where nothing is said.

    Raises `DataError` for a column that does not hold lists of names.
    """
    needed = "and several labels for a row are asked for: lists are needed, or --label_separator, or --label_columns"
    sets: list[tuple[str, ...] | None] = []
    for row, value in lists_in(table, column, where, needed):
        if any(one is None or isinstance(one, list | dict | float) or one == "" for one in value or ()):
            raise DataError(f"{where}: the list of labels in row {row} (counted from 0) of {column!r} holds no names")
        sets.append(None if value is None else tuple(dict.fromkeys(map(str, value))))
    return sets


def label_names(parts: dict[str, list[Any]], feature: Any, column: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the labels of train, in the order of the ClassLabel, else sorted, and notes.

    Raises `DataError` when there are fewer than two labels, or train lacks one of another split.
    """
    counts = Counter(name for row in parts["train"] for name in row)
    by_value = all(name.removeprefix("-").isdecimal() for name in counts)
    declared = declared_in(feature) or sorted(counts, key=int if by_value else None)
    labels = tuple(name for name in declared if name in counts)
    if len(labels) < 2:
        have = f"only the label {quoted(labels)}" if labels else "no label at all"
        raise DataError(f"the rows of train have {have} in the label column {column!r}: two different ones are needed")
    refuse_unlearnt(parts, counts, "label", "labels")
    none = sum(not row for row in parts["train"])
    mean = sum(counts.values()) / len(parts["train"])
    several = (
        f"Rows have several labels ({column}): {len(labels)} labels, {mean:.2f} for a row {IN_SOURCE} on average."
    )
    return labels, [f"{several} Rows without any: {none:,}." if none else several]


def as_matrix(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> np.ndarray:
    """Return 1 where a row has a label, [n, L] float32."""
    places, matrix = index(labels), np.zeros((len(rows), len(labels)), dtype=np.float32)
    for i, row in enumerate(rows):
        matrix[i, [places[name] for name in row]] = 1
    return matrix


def rarest(matrix: np.ndarray, labels: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return each row's rarest label as its stratum, the last one for rows without any: so that rare labels are in
    every split (a simple form of the iterative stratification of Sechidis, Tsoumakas and Vlahavas, ECML 2011).
    """
    counts = matrix.sum(axis=0)
    rarity = np.where(matrix > 0, 1 / np.maximum(counts, 1), 0)
    return np.where(matrix.any(axis=1), rarity.argmax(axis=1), len(labels)), len(labels) + 1


def overlap(sets: Tensor) -> Tensor:
    """Return the shared labels of every two rows of [n, L] over those that one of them has, [n, n]; 1 without any."""
    shared = sets @ sets.T
    either = sets.sum(1)[:, None] + sets.sum(1)[None] - shared
    return torch.where(either > 0, shared / either.clamp(min=1), 1.0)


def binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Any = None, smoothing: float = 0.0) -> Summed:
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
    return replace(LABELS, decode=partial(decode, cuts=cuts), answers=partial(answers, cuts=cuts))


def check_labels(config: Any, name: str) -> None:
    """Raise `ModelError` for a model whose outputs are not several labels, each with a name."""
    if config.problem_type != "multi_label_classification":
        raise ModelError(f"{name} does not give several labels (its problem_type is {config.problem_type}).")


def _neighbours(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
    from hftl.evaluation.neighbours import neighbour_means

    return (neighbour_means(train, targets, test) >= 0.5).astype(np.float32)


def in_words(row: Any, labels: Sequence[str]) -> str:
    """Return the labels of one row, a target or a list of the ids of its labels."""
    ids: list[int] = row if isinstance(row, list) else np.flatnonzero(row).tolist()
    return ", ".join(labels[i] for i in ids) or NO_LABEL


def typed_set(text: str, known: Collection[str], row: Any) -> tuple[str, ...]:
    """Return the labels that were typed, with commas between them. Raises `DataError` for one that the data do not have."""
    if text.strip() == NO_LABEL and NO_LABEL not in known:
        return ()
    whole = [text.strip()] if text.strip() in known else [part.strip() for part in text.split(",") if part.strip()]
    if not whole:
        raise DataError(f"no label was given: write {NO_LABEL!r} where the row has none")
    return tuple(dict.fromkeys(typed_name(name, known, "label") for name in whole))


LABELS = replace(
    CLASSES,
    problem_type="multi_label_classification",
    link="sigmoid",
    read=sets_of,
    names=label_names,
    encode=as_matrix,
    recognise=recognised_by(as_matrix, "labels"),
    gather=lambda rows: np.asarray(rows, dtype=np.float32),
    strata=rarest,
    single=False,
    counts=lambda matrix, labels: np.asarray(matrix).sum(axis=0).astype(np.int64),
    loss=binary_cross_entropy,
    decode=decode,
    answers=answers,
    check=check_labels,
    statistics=lambda sets, true, labels: label_statistics(sets, true),
    scores=SCORES,
    compared=COMPARED,
    best="micro_f1",
    right={"exact": lambda sets, true: (np.asarray(sets) == np.asarray(true)).all(axis=1)},
    made_up=None,
    units=row_units,
    errors=lambda outputs, sets, true: ((sets != true).any(axis=1) * 1, {"loss": row_losses(outputs, true)}),
    coded=lambda row: np.flatnonzero(row).tolist(),
    probe=late("probes", "fit_label_probe"),
    alike=overlap,
    neighbours=_neighbours,
    columns=lambda matrix, labels, _=None: np.asarray(matrix),
    plain=late("linear_baselines", "label_baselines"),
    parts=("forgetting", "calibration", "slices", "worst_rows", "doctor"),
    cells=lambda answer: {"prediction": [*answer.value], "probabilities": answer.probabilities},
    words=CLASSES.words
    | {
        "does": "tells which of {n} labels {row} has",
        "learned": "{n} labels",
        "always": "It knows its {n} labels and no others, and may give {row} none of them.",
        "use": "For telling which of these labels {rows} like those it was trained on have",
        "name": "label",
        "names": "labels",
        "per": " per label",
        "guess": "the most frequent set of labels",
        "worst": "The wrong answers whose labels the model found the least probable, all labels of a row together.",
        "typed": "Write the right labels with commas between them, or: no label.",
        "call": ", top_k={n}",
        "code": "It gives the probability of every label. Those above their threshold are the answer: `thresholds` in "
        "`config.json` has one for each label, in the order of `id2label`; without that field it is 0.5 for all.",
    },
    say=in_words,
    typed=typed_set,
    as_typed=lambda target, labels, row: in_words(target, labels),
    tell=lambda answer: ", ".join(answer.value) or "No label is above its threshold",
    beside=lambda outputs, targets: {"map": mean_average_precision(outputs, targets)},
    settle=settle,
    configured=configured,
)
