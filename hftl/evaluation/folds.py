"""Which training rows cross-validation looks at, and which of them it holds out in turn."""

import warnings
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from hftl.evaluation import CV_FOLDS, CV_ROWS, THREADS_PAY


Folds = list[tuple[np.ndarray, np.ndarray]]  # (fit, held out), rows of each


def some_rows(rows: int, seed: int = 0) -> np.ndarray:
    """Return at most 3,000 of the rows, drawn, in order."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:CV_ROWS])


def held_out_folds(
    rows: int, seed: int = 0, classes: np.ndarray | None = None, groups: np.ndarray | None = None
) -> Folds:
    """Return three parts of the rows, stratified where `classes` [rows] are given; none where nothing can be held out.

    Rows of one of the `groups` [rows], such as the words of a sentence, are held out together where there are groups
    enough. A class with fewer rows than folds is in some folds only, and missed in the others, as it would be in new data.
    """
    from sklearn import model_selection as ways  # late: scikit-learn takes a second

    count = min(CV_FOLDS, rows if classes is None else int(np.unique(classes, return_counts=True)[1].max()))
    if count < 2:
        return []
    kind = ways.KFold if classes is None else ways.StratifiedKFold
    if classes is None or groups is None or len(np.unique(groups)) < count:
        groups = None
    else:
        kind = ways.StratifiedGroupKFold
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The (least populated|number of unique) class")
        return list(kind(count, shuffle=True, random_state=seed).split(np.zeros(rows), classes, groups))


def threads(size: int) -> Any:
    """Limit the threads of matrix products to one, unless so many rows times classes pay for more."""
    return threadpool_limits(None if size >= THREADS_PAY else 1, user_api="blas")
