"""A trained model as the demo serves it, and what it answers to one input."""

import threading
from dataclasses import dataclass
from typing import Any

from hftl.demo.checks import checked_image, checked_text
from hftl.paths import typed_path
from hftl.predict import Prediction, Predictor
from hftl.run_data import Artifact


_ONE_AT_A_TIME = threading.Lock()  # datasets and accelerate swap sys.stdout and os.environ while they work


@dataclass(frozen=True)
class Served:
    """A model and its evidence."""

    artifact: Artifact
    predictor: Predictor
    threshold: float | None  # probability under which an answer is shown as "not sure"; None when none is known

    @property
    def reads_text(self) -> bool:
        """True for a text model, False for an image model."""
        return self.predictor.task.input_column == "text"

    @property
    def name(self) -> str:
        """The Hub id, or the name of the run's folder: no path of the machine."""
        return short_name(self.artifact)


@dataclass(frozen=True)
class Answer:
    """One answer, and what should be said beside it."""

    prediction: Prediction
    not_sure: bool
    notes: tuple[str, ...]


def short_name(artifact: Artifact) -> str:
    """Return the Hub id, or the last part of the folder of a run or model."""
    path = typed_path(artifact.name)
    return (artifact.run or path).resolve().name if path.exists() else artifact.name


def serve(artifact: Artifact, predictor: Predictor) -> Served:
    """Return the model ready to be served."""
    threshold = ((artifact.evidence or {}).get("abstain") or {}).get("threshold")
    return Served(artifact, predictor, float(threshold) if isinstance(threshold, int | float) else None)


def read_input(served: Served, value: Any) -> Any:
    """Return what the model reads, a text or a decoded image, from what the page sent: a text or a path.

    Raises `DataError` for an input that is empty, broken or beyond the limits.
    """
    return checked_text(value) if served.reads_text else checked_image(value)


def predicted(served: Served, inputs: list[Any]) -> list[Prediction]:
    """Predict, one call at a time over all threads."""
    with _ONE_AT_A_TIME:
        return served.predictor.predict(inputs)


def answer(served: Served, content: Any) -> Answer:
    """Classify one text or decoded image."""
    prediction = predicted(served, [content])[0]
    return Answer(prediction, is_unsure(served, prediction), _notes(served, content))


def is_unsure(served: Served, prediction: Prediction) -> bool:
    """Tell whether the probability lies under the run's threshold; False where there is none."""
    return served.threshold is not None and prediction.probability < served.threshold


def _notes(served: Served, content: Any) -> tuple[str, ...]:
    if not isinstance(content, str):
        return ()
    tokenizer = served.predictor.processor
    limit = tokenizer.model_max_length
    if tokenizer.is_fast:  # with the arguments of a prediction: others would change its settings under another thread
        read = tokenizer(content, truncation=True).encodings[0]
        special = tokenizer.num_special_tokens_to_add()
        count = len(read.ids) + sum(len(part.ids) - special for part in read.overflowing)
    else:
        count = len(tokenizer(content, truncation=False, verbose=False)["input_ids"])
    if count <= limit:
        return ()
    return (f"The text is longer than what the model reads: the first {limit:,} of its {count:,} tokens counted.",)
