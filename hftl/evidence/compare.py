"""The probe against the baseline without pretraining, by cross-validation on training rows alone."""

import warnings

import numpy as np
from sklearn.model_selection import StratifiedKFold

from hftl.evaluation.baselines import best_baseline
from hftl.evaluation.cross_validated import Comparison, paired_gap
from hftl.evaluation.evidence import no_pretraining_baselines
from hftl.models.heads import without_bias
from hftl.prepare import Prepared
from hftl.progress import progress
from hftl.training.logistic import FOLDS, fit_probe


ENOUGH = 2 * FOLDS  # rows that a class needs: in two of three folds, and in the folds within them that choose C


def compare(ready: Prepared, rows: np.ndarray, features: dict[str, np.ndarray]) -> Comparison | None:
    """Cross-validate both in three folds of the training rows numbered `rows`; `features` are of those, by pooling.

    Each chooses its penalty, and the probe its pooling, inside the two folds that it learns from, so that neither has
    seen what it is scored on. Classes of fewer than six rows sit this out; None when fewer than two are left.
    """
    labels = ready.train.labels[rows]
    counts = np.bincount(labels, minlength=len(ready.splits.labels))
    enough = counts >= ENOUGH
    if enough.sum() < 2:
        return None
    kept = np.flatnonzero(enough[labels])
    hits = {"probe": np.zeros(len(kept), bool), "baseline": np.zeros(len(kept), bool)}
    name = ""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=ready.config.train_seed).split(kept, labels[kept])
    for learn, held in progress(folds, "probe against baseline", "fold", FOLDS):
        a, b = kept[learn], kept[held]
        hits["probe"][held] = _probe(features, labels, a, b, ready) == labels[b]
        train = ready.splits.train
        found = no_pretraining_baselines(
            train.select(rows[a]), train.select(rows[b]), ready.train.take(rows[a]), ready.train.take(rows[b])
        )
        baseline = best_baseline(found)
        name = baseline.name
        hits["baseline"][held] = baseline.predictions == labels[b]
    return Comparison(len(kept), name, float(hits["probe"].mean()), float(hits["baseline"].mean()), paired_gap(**hits))


def _probe(
    features: dict[str, np.ndarray], labels: np.ndarray, learn: np.ndarray, held: np.ndarray, ready: Prepared
) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        probe = fit_probe(
            {k: v[learn] for k, v in features.items()}, labels[learn], len(ready.splits.labels), "auto",
            ready.config.train_seed, no_bias=without_bias(ready.loaded.model, ready.loaded.output),
        )  # fmt: skip
    return probe.logits(features[probe.pooling][held]).argmax(-1)
