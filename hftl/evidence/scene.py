"""What the steps of a run found out, each in one value: what the parts of the evidence may look at."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hftl.evaluation.calibration import Temperature
from hftl.evidence.before import Base
from hftl.prepare import Prepared
from hftl.probing import Seen
from hftl.run import Run
from hftl.training.stages import Fitted


@dataclass(frozen=True, eq=False)
class Final:
    """The trained model as it is saved, its temperature in the head, and its validation logits [n, ...] before that."""

    model: Any
    temperature: Temperature
    raw: np.ndarray


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the final model puts out for the rows of test and of validation, [n, ...] each."""

    final: Final
    logits: dict[str, np.ndarray]
    row_seconds: float  # that a forward pass takes for a row
    shared: float = 0.0  # seconds of the look at the base that were the pass over the test rows too

    def raw(self, split: str) -> np.ndarray:
        """What it put out before the temperature."""
        return self.logits[split] * self.final.temperature.value


@dataclass(frozen=True, eq=False)
class Control:
    """The architecture trained from random weights: its answers to the test rows, and how long it took."""

    answers: Any
    seconds: float
    note: str


@dataclass(frozen=True, eq=False)
class Scene:
    """All that a run has found out when its last step begins."""

    run: Run
    ready: Prepared
    seen: Seen
    fitted: Fitted
    outcome: Outcome
    base: Base | None  # this and what follows: None without evidence
    control: Control | None = None
    forgetting: dict[str, Any] | None = None
    selection: dict[str, Any] | None = None  # what a race found out

    @property
    def before(self) -> Base:
        """What was seen of the base before training; only with evidence."""
        assert self.base is not None
        return self.base

    @property
    def learning_rate(self) -> float | None:
        """The rate of the run: the user's, else the method's."""
        rate: float | None = self.run.config.training.get("learning_rate", self.seen.learning_rate)
        return rate

    @property
    def test(self) -> Any:
        """The table of the test rows."""
        return self.ready.splits.test

    @property
    def targets(self) -> Any:
        """What is true of the test rows, [n, ...]."""
        return self.ready.task.output.gather(self.test["label"][:])

    @property
    def truth(self) -> tuple[Any, tuple[str, ...]]:
        """What is true of the test rows, and the names of what can be answered."""
        return self.targets, self.ready.splits.labels

    @property
    def answers(self) -> Any:
        """What the trained model answers to the test rows, in the form of targets."""
        return self.ready.task.output.decode(self.outcome.logits["test"])

    @property
    def certainty(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Logits of every decision before the temperature, and what is true, of validation and of test."""
        units = self.ready.task.output.units
        assert units is not None
        validation, test = self.outcome.raw("validation"), self.outcome.raw("test")
        return *units(validation, self.ready.validation.targets), *units(test, self.targets)
