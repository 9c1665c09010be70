"""Features that should not tell the label, and do: another column, a length, a file's size or its name."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hftl.doctor.findings import NO_LABEL, Feature, Finding, Records, as_sentence
from hftl.doctor.images import OF_NAMES
from hftl.terminal import progress


# Share of the majority class's errors that a feature alone must remove, in cross-validation, to be named; and by how
# many standard errors it must beat the majority class. Ours: the length of real texts stays far below (docs/doctor.md).
LEAK = 0.3
_DEVIATIONS = 4.0
_ROWS = 5_000  # training rows that are looked at, drawn at random
_FOLDS = 5
_LEAST = 20  # rows, below which nothing is certain
_MAX_COLUMNS = 100
_MANY = 0.5  # of the values differ: a column of strings is read by its pattern, not by its values
_SEED = 0


def leaky_feature(records: Records) -> Finding:
    """Count the features that alone predict the label far better than the most frequent class does."""
    train = np.flatnonzero(records.within("train"))
    labelled = train[records.label[train] != NO_LABEL]
    sizes = np.bincount(records.label[labelled], minlength=len(records.labels))
    rows = labelled[sizes[records.label[labelled]] >= 2]
    if len(rows) > _ROWS:
        rows = np.sort(np.random.default_rng(_SEED).choice(rows, _ROWS, replace=False))
    labels = records.label[rows]
    if len(rows) < _LEAST or len(np.unique(labels)) < 2:
        return Finding("leaky_feature")
    hits = {}
    for name, values in progress(features_of(records, rows), "leaks", "feature"):
        accuracy, majority = predictability(values, labels)
        error = (accuracy * (1 - accuracy) + majority * (1 - majority)) ** 0.5 / len(labels) ** 0.5
        if accuracy - majority >= max(LEAK * (1 - majority), _DEVIATIONS * error):
            hits[name] = (
                f"{name} tells the label of {accuracy:.0%} of the rows (the largest class alone: {majority:.0%})"
            )
    if not hits:
        return Finding("leaky_feature")
    only_names = set(hits) <= set(
        OF_NAMES
    )  # folders of cat_1.jpg and dog_1.jpg are the rule, and no model sees the names
    advice = (
        "nothing to do, hftl reads no file names"
        if only_names
        else "find out why, and even it out if the model could learn that instead of the task (hftl reads no other columns "
        "and no file names)"
    )
    fix = as_sentence(f"{'; '.join(hits.values())}: {advice}")
    return Finding("leaky_feature", "INFO" if only_names else "WARN", len(hits), {"train": len(hits)}, fix=fix)


def features_of(records: Records, rows: np.ndarray) -> list[Feature]:
    """Return (what it is, its values [m] at the positions chosen): numbers, or strings."""
    place = np.cumsum(records.within("train")) - 1  # among the rows of train
    return records.kind.features([records.facts[i] for i in rows]) + [
        (f"the column {column!r:.42}", [values[i] for i in place[rows].tolist()])
        for column, values in list(records.others.items())[:_MAX_COLUMNS]
    ]


def predictability(values: Sequence[Any], labels: np.ndarray) -> tuple[float, float]:
    """Return the accuracy of predicting `labels` [m] from one feature, and that of the most frequent class.

    Both are cross-validated on the same stratified folds. Numbers go into a decision tree with at least five rows per
    leaf, strings are looked up: their most frequent label, or that of all rows for a string that was not seen.
    """
    from sklearn.model_selection import StratifiedKFold
    from sklearn.tree import DecisionTreeClassifier

    column = pd.Series(list(values))
    numeric = _as_numbers(column)
    codes = _as_codes(column) if numeric is None else np.empty(0)
    folds = StratifiedKFold(min(_FOLDS, int(np.bincount(labels).max())), shuffle=True, random_state=_SEED)
    hits = majority_hits = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes with fewer rows than there are folds
        for train, test in folds.split(labels, labels):
            most = int(np.bincount(labels[train]).argmax())
            majority_hits += int((labels[test] == most).sum())
            if numeric is None:
                predicted = _look_up(codes, labels, train, test, most)
            else:
                tree = DecisionTreeClassifier(min_samples_leaf=5, max_leaf_nodes=256, random_state=_SEED)
                predicted = tree.fit(numeric[train, None], labels[train]).predict(numeric[test, None])
            hits += int((predicted == labels[test]).sum())
    return hits / len(labels), majority_hits / len(labels)


def _as_numbers(column: pd.Series) -> np.ndarray | None:
    """Return the values as float64, missing ones far below all others; None when they are no numbers."""
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().sum() > column.isna().sum():
        return None
    values = numbers.to_numpy(dtype=np.float64)
    finite = values[np.isfinite(values)]
    low = finite.min(initial=0.0) - 1.0
    return np.clip(np.where(np.isnan(values), low, values), -1e30, 1e30)


def _as_codes(column: pd.Series) -> np.ndarray:
    """Return a number per string; where most strings differ, per pattern of the string."""
    strings = column.fillna("").astype(str)
    if strings.nunique() > _MANY * len(strings):
        strings = strings.str.slice(0, 200).str.replace(r"\d+", "#", regex=True)
    return pd.factorize(strings)[0]


def _look_up(codes: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, most: int) -> np.ndarray:
    """Predict the most frequent label of the code in `train`; of equally frequent ones, the smallest."""
    counts = pd.crosstab(codes[train], labels[train])
    return counts.idxmax(axis=1).reindex(codes[test], fill_value=most).to_numpy()
