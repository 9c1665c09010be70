"""Logistic regression on more rows and classes than fit beside each other: the objective is summed over chunks of rows.

scikit-learn's solvers hold several [rows, classes] matrices in float64: 200,000 rows of 1,000 classes are 1.6 GB each.
"""

import numpy as np
from scipy.optimize import minimize


LARGE = 20_000_000  # rows x classes from which the probe is fitted here; below, Newton's steps end exactly
_CHUNK = 8_000_000  # rows x classes at once, in float32
_ITERATIONS = 300
# Largest gradient of the mean loss at the end, times the number of classes: that of one class is about 1/K at the start.
_TOLERANCE = 3e-4


def fit_in_chunks(
    features: np.ndarray,
    codes: np.ndarray,
    classes: int,
    c: float,
    row_weights: np.ndarray | None,
    mean: np.ndarray,
    scale: np.ndarray,
    *,
    intercept: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (weight [classes, d], bias [classes]) on the features standardised by `mean` and `scale` ([d]).

    The objective is scikit-learn's: the weighted mean of the cross entropy of the codes [n], 0 to `classes` - 1, plus
    |weight|^2 / (2 C sum of row weights). Minimised by L-BFGS (Liu and Nocedal 1989); sums are float64, products float32.
    """
    n, d = features.shape
    total = float(n if row_weights is None else row_weights.sum())
    step = max(1, _CHUNK // classes)
    centre, width = mean.astype(np.float32), scale.astype(np.float32)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        both = flat.reshape(classes, -1)
        weight = both[:, :d].astype(np.float32)
        bias = both[:, d].astype(np.float32) if intercept else np.zeros(classes, dtype=np.float32)
        gradient = np.zeros_like(both)
        loss = 0.0
        for start in range(0, n, step):
            part = slice(start, start + step)
            x = (np.asarray(features[part], dtype=np.float32) - centre) / width
            logits = x @ weight.T
            logits += bias
            at = np.arange(len(x))
            logits -= logits.max(axis=1, keepdims=True)
            true = logits[at, codes[part]].astype(np.float64)
            np.exp(logits, out=logits)
            sums = logits.sum(axis=1)
            factor = np.ones(len(x), np.float32) if row_weights is None else row_weights[part].astype(np.float32)
            loss += float(((np.log(sums.astype(np.float64)) - true) * factor).sum())
            logits *= (factor / sums)[:, None]
            logits[at, codes[part]] -= factor
            gradient[:, :d] += logits.T @ x
            if intercept:
                gradient[:, d] += logits.sum(axis=0)
        penalty = both[:, :d]
        gradient[:, :d] += penalty / c
        return (loss + 0.5 * float((penalty**2).sum()) / c) / total, (gradient / total).ravel()

    start_at = np.zeros(classes * (d + intercept))
    options = {"maxiter": _ITERATIONS, "gtol": _TOLERANCE / classes, "ftol": 1e-11}
    both = minimize(objective, start_at, jac=True, method="L-BFGS-B", options=options).x.reshape(classes, -1)
    return both[:, :d], both[:, d] if intercept else np.zeros(classes)


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of every column, in float64, from chunks of rows."""
    n, d = features.shape
    step = max(1, _CHUNK // d)
    mean = sum(features[s : s + step].sum(axis=0, dtype=np.float64) for s in range(0, n, step)) / n
    squares = np.zeros(d)
    for start in range(0, n, step):
        centred = features[start : start + step].astype(np.float64) - mean
        squares += np.einsum("ij,ij->j", centred, centred)
    return mean, np.sqrt(squares / n)
