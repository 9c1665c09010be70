"""Two classifiers whose true scores are known, and test rows drawn from what they do."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import multivariate_normal, norm


@dataclass(frozen=True)
class Population:
    """How often each class occurs; per class how often both, the method alone and the baseline alone are right; and
    which class a wrong answer names, half the time the same one for both."""

    share: np.ndarray  # [classes]
    outcomes: np.ndarray  # [classes, 4]: both, method, baseline, neither
    confusion: np.ndarray  # [classes, classes], 0 on the diagonal

    def draw(self, rows, rng):
        """Return (method, baseline, references), class ids [rows] each."""
        classes = len(self.share)
        true = rng.choice(classes, size=rows, p=self.share)
        outcome = (rng.random(rows)[:, None] > self.outcomes[true].cumsum(1)[:, :3]).sum(1)
        names = self.confusion.cumsum(1)
        wrong = [np.minimum((rng.random(rows)[:, None] > names[true]).sum(1), classes - 1) for _ in range(2)]
        wrong[1] = np.where(rng.random(rows) < 0.5, wrong[0], wrong[1])
        method = np.where(outcome <= 1, true, wrong[0])
        baseline = np.where((outcome == 0) | (outcome == 2), true, wrong[1])
        return method, baseline, true

    def gaps(self):
        """Return the true gaps in accuracy and macro-F1: what endless test rows would give."""
        right = [self.outcomes[:, 0] + self.outcomes[:, i] for i in (1, 2)]
        f1 = []
        for per_class in right:
            hits = self.share * per_class
            predicted = hits + (self.share * (1 - per_class)) @ self.confusion
            f1.append(np.mean(2 * hits / (self.share + predicted)))
        return float(self.share @ (right[0] - right[1])), float(f1[0] - f1[1])


def discordance(method, baseline, correlation):
    """Return how often the method alone, and the baseline alone, is right: two accuracies, joined by a Gaussian copula."""
    both = multivariate_normal.cdf(norm.ppf([method, baseline]), cov=[[1, correlation], [correlation, 1]])
    return method - both, baseline - both


def population(classes, accuracy, gap, correlation, *, skewed=False, seed=0):
    """Classes of unequal difficulty, each a little harder for the baseline when there is a gap."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, classes + 1) if skewed else np.ones(classes)
    difficulty = 0.4 * rng.standard_normal(classes)
    confusion = rng.dirichlet(np.full(classes, 0.3), size=classes)
    np.fill_diagonal(confusion, 0)
    confusion += 1e-9 * (1 - np.eye(classes))
    outcomes = []
    for shift in difficulty:
        method, baseline = (norm.cdf(norm.ppf(a) + shift) for a in (accuracy, accuracy - gap))
        alone = discordance(method, baseline, correlation)
        outcomes.append([method - alone[0], *alone, 1 - method - alone[1]])
    return Population(share / share.sum(), np.array(outcomes), confusion / confusion.sum(1, keepdims=True))
