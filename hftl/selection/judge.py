"""How a race ranks models by their answers to the validation rows: a score, and the same resamples for all of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hftl.evaluation.bootstrap import Interval, ends
from hftl.evaluation.calibration import fit_temperature
from hftl.evaluation.row_scores import row_scores
from hftl.prepare import Prepared
from hftl.selection.race_policy import ENOUGH_ROWS


DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Look:
    """What a model scores, higher being better, on the validation rows and on resamples of them, [draws]."""

    score: float
    draws: np.ndarray
    losses: np.ndarray | None = None  # minus the log-loss on the same resamples, for classes
    outputs: Any = None  # what the model put out, where it is still at hand

    def beats(self, other: "Look") -> float:
        """Return in which share of the draws this one is better, ties counted half."""
        return _share(self.draws, other.draws)

    def sureness(self, other: "Look") -> float:
        """Return the same, but by the log-loss where the score leaves it open and does not speak against this one.

        Of classes the loss tells more from the same rows than which answers are right: every row has its say, also those
        that both models get right.
        """
        share = self.beats(other)
        if self.losses is None or other.losses is None or share < 0.5:
            return share
        return max(share, _share(self.losses, other.losses))

    @property
    def interval(self) -> Interval:
        """The score with its 95% percentile interval."""
        return Interval(self.score, *ends(self.draws))


@dataclass(frozen=True, eq=False)
class Judge:
    """Ranks by `metric`: a score of the output, or "log_loss" (then scores are minus the loss)."""

    ready: Prepared
    metric: str

    def look(self, outputs: np.ndarray) -> Look:
        """Score what a model puts out for the validation rows, [n, ...].

        The log-loss is that at the model's best temperature: confidence is set afterwards, and is no reason to drop.
        """
        output, targets = self.ready.task.output, self.ready.validation.targets
        scored, losses = self.of_answers(output.decode(outputs)), None
        if output.single:
            assert output.units is not None
            logits, true = output.units(outputs, targets)
            rows = row_scores(logits, true, fit_temperature(logits, true).value).loss
            losses = -(_counts(len(rows)) @ rows) / len(rows)
            if self.metric == "log_loss":
                scored = Look(float(-rows.mean()), losses)
        return Look(scored.score, scored.draws, losses, outputs)

    def of_answers(self, answers: np.ndarray) -> Look:
        """Score answers, also those of a model that has no probabilities; by the headline score if `metric` needs them."""
        output, labels = self.ready.task.output, self.ready.splits.labels
        statistics = output.statistics(answers, self.ready.validation.targets, labels)
        score = output.scores[output.headline if self.metric == "log_loss" else self.metric]
        counts = _counts(statistics.shape[0])
        return Look(float(score(statistics.sum(axis=0)[None])[0]), score(counts @ statistics))


def _share(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float((ours > theirs).mean() + 0.5 * (ours == theirs).mean())


def best_mixture(looks: dict[float, Look]) -> float:
    """Return the share of the tuned weights that has the best log-loss, of those whose score does not lose to 1.

    Of answers that are no classes it is the best score, and of equals the nearest to the base. Of five mixtures the macro F1 of
    200 rows took one that was five points behind on test; the loss, one that was level (docs/log.md, 2026-11-28).
    """

    def told(alpha: float) -> float:
        losses = looks[alpha].losses
        return looks[alpha].score if losses is None else float(losses.mean())

    level = [alpha for alpha in looks if looks[alpha].score >= looks[1.0].score]
    return max(level, key=lambda alpha: (told(alpha), -alpha))


def judge_of(ready: Prepared) -> Judge:
    """Rank by the score that early stopping follows, or by the log-loss where the validation rows are few for it."""
    output, targets = ready.task.output, ready.validation.targets
    few = len(targets) < ENOUGH_ROWS
    return Judge(ready, "log_loss" if few and output.single else output.best)


def _counts(rows: int) -> np.ndarray:
    """How often each row is drawn in each resample, [draws, rows]: the same for every model, so that they are paired."""
    counts: np.ndarray = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=DRAWS)
    return counts.astype(np.float32)
