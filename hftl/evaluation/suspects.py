"""Labels that look wrong: what a probe that has not seen the row says against the label that was given."""

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from hftl.evaluation.folds import threads
from hftl.evaluation.logistic import standardise
from hftl.evaluation.row_scores import check_logits, row_scores


MIN_CLASS_ROWS = 3  # a probe that has seen one row of a class knows nothing of it
_MAX_ITERATIONS = 50
LOOKED_AT = 20_000_000  # rows x classes; of more rows, so many are drawn (scores of all would take gigabytes)


@dataclass(frozen=True)
class Suspect:
    """A row (its position in the features) whose label may be wrong."""

    row: int
    given: int
    suggested: int  # the probe's prediction
    score: float  # log(probability of the suggested class / of the given one), above 0; higher is more suspect
    given_probability: float
    suggested_probability: float
    confident: bool  # the probe is as sure of the suggested class as it is on average of that class's own rows


def suspect_labels(
    features: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    seed: int = 0,
    c: float = 0.01,
    folds: int = 5,
    limit: int | None = None,
) -> list[Suspect]:
    """Return the rows for which a probe fitted without them predicts another class, the most suspect first.

    `features` is [n, d], `labels` [n] class ids below `n_classes`. Ranked by the log-ratio of the probability of the
    prediction to that of the given label. Of 5% flipped labels it found among the top 5% of rows, in banking77 and
    wikipedia-topics (MiniLM, mean of three seeds): .93 and .82 when flipped at random (the margin of Northcutt et al.:
    .79 and .68); .69 and .67 when flipped to the class with the most similar mean (self-confidence: .62 and .66). `c`
    hardly matters from .001 to .1.

    Rows of classes with fewer than 3 rows sit out; of very many rows a sample is looked at.
    """
    x, y = np.asarray(features), np.asarray(labels)
    counts = np.bincount(y, minlength=n_classes)
    classes, rows = np.flatnonzero(counts >= MIN_CLASS_ROWS), np.flatnonzero(counts[y] >= MIN_CLASS_ROWS)
    if len(rows) * len(classes) > LOOKED_AT:
        rng = np.random.default_rng(seed)
        classes = rng.permutation(classes)[: math.isqrt(LOOKED_AT // folds)]  # a row for each fold of each
        rows = rng.permutation(rows[np.isin(y[rows], classes)])[: LOOKED_AT // len(classes)]
        counts = np.bincount(y[rows], minlength=n_classes)
        rows = np.sort(rows[counts[y[rows]] >= MIN_CLASS_ROWS])
        classes = np.unique(y[rows])
    if len(classes) < 2:
        return []
    codes = np.searchsorted(classes, y[rows])
    logits = out_of_fold_logits(x[rows], codes, seed, c, min(folds, int(counts.max())))
    return [
        replace(s, row=int(rows[s.row]), given=int(classes[s.given]), suggested=int(classes[s.suggested]))
        for s in rank_suspects(logits, codes, limit)
    ]


def out_of_fold_logits(
    features: np.ndarray, labels: np.ndarray, seed: int = 0, c: float = 0.01, folds: int = 5
) -> np.ndarray:
    """Return logits [n, k] float32, each row's from a logistic regression on the other folds (stratified, seeded).

    `labels` [n] are 0 to k - 1, with at least two rows of each class, so that every regression knows all of them. The
    features are standardised. Loosely converged: the order of the suspects needs no last digit.
    """
    k = int(labels.max()) + 1
    x = standardise(features, centre=True)[0].astype(np.float32)
    logits = np.empty((len(x), k), dtype=np.float32)
    # lbfgs stops on the size of the mean gradient, which at the start is about one over the number of classes
    model = LogisticRegression(C=c, max_iter=_MAX_ITERATIONS, tol=min(1e-3, 0.1 / k))
    with warnings.catch_warnings(), threads(len(x) * k):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The least populated class")
        for fit, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, labels):
            values = model.fit(x[fit], labels[fit]).decision_function(x[held])
            logits[held] = np.stack([-values / 2, values / 2], axis=1) if k == 2 else values
    return logits


def rank_suspects(logits: np.ndarray, labels: np.ndarray, limit: int | None = None) -> list[Suspect]:
    """Return the rows whose out-of-fold logits [n, k] are highest for another class than the label's, ranked.

    `confident` follows confident learning (Northcutt, Jiang and Chuang, JAIR 2021): the threshold of a class is the mean
    probability that it has on the rows labelled so, and the suggested class must reach its own.
    """
    scores, given = check_logits(logits, labels)
    parts = row_scores(scores, given)
    k = scores.shape[1]
    sums = np.bincount(given, weights=parts.true_probability, minlength=k)
    thresholds = sums / np.maximum(np.bincount(given, minlength=k), 1)
    at = np.arange(len(given))
    log_ratio = scores[at, parts.predicted].astype(np.float64) - scores[at, given]
    order = np.argsort(-log_ratio, kind="stable")  # of equal ratios the first row first
    order = order[parts.predicted[order] != given[order]][:limit]
    confident = parts.confidence >= thresholds[parts.predicted]
    columns = (at, given, parts.predicted, log_ratio, parts.true_probability, parts.confidence, confident)
    return [Suspect(*row) for row in zip(*(column[order].tolist() for column in columns), strict=True)]
