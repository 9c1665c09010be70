"""A trained model as the demo serves it: what it takes from a visitor, and what it answers to one input."""

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from hftl.data.images import MAX_PIXELS, decode_image
from hftl.errors import DataError
from hftl.paths import typed_path
from hftl.predict import Prediction, Predictor
from hftl.run_data import Artifact


MAX_CHARACTERS = 20_000  # of one text; the longest models read a few thousand tokens of it
MAX_UPLOAD = "20mb"  # of one file
MAX_UPLOAD_BYTES = 20 * 1024 * 1024
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # no other decoder of Pillow sees a stranger's file
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
        """The Hub id, or the name of the run's or model's folder: no path of the machine."""
        path = typed_path(self.artifact.name)
        return (self.artifact.run or path).resolve().name if path.exists() else self.artifact.name


@dataclass(frozen=True)
class Answer:
    """One answer, and what should be said beside it."""

    prediction: Prediction
    not_sure: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """What the page needs to know of one kind of input. The values are in `hftl.demo.kinds`."""

    name: str  # "text" or "image": how sentences and /predict call an input
    smallest: Callable[[], Any]  # an input to warm up with

    box: Callable[[], Any]  # the Gradio component of the first tab
    plain: Callable[..., Any]  # the bare component, of examples and of /predict
    asks: str  # the event of the box that asks, as the button does
    forgets: str | None  # the event of the box that clears the page, as the other button does
    example_name: Callable[[str], str] | None  # how an example is called; None shows itself
    sent: Callable[[Any], Any]  # what an unprocessed component hands over -> the text, or the path of the upload
    read: Callable[[Any], Any]  # that -> what the model reads; raises DataError beyond the limits
    why: Callable[[Predictor, Any, str | None], str]  # what in it speaks for a label, as HTML
    save: Callable[
        [Path, Any, Prediction, str, str], None
    ]  # (folder, input, answer, right label, model): a correction

    files: Callable[[], Any]  # the component of the batch tab
    files_hint: str
    files_missing: str
    columns: Callable[[Path], tuple[list[str], str | None]] | None  # of a file: all, and the likely one
    classify: Callable[..., Any]  # (served, files, column, step) -> BatchResult


def serve(artifact: Artifact, predictor: Predictor) -> Served:
    """Return the model ready to be served."""
    threshold = ((artifact.evidence or {}).get("abstain") or {}).get("threshold")
    return Served(artifact, predictor, float(threshold) if isinstance(threshold, int | float) else None)


def predicted(served: Served, inputs: list[Any]) -> list[Prediction]:
    """Predict, one call at a time over all threads."""
    with _ONE_AT_A_TIME:
        return served.predictor.predict(inputs)


def answer(served: Served, content: Any) -> Answer:
    """Classify one text or decoded image."""
    prediction = predicted(served, [content])[0]
    notes = _length_notes(served.predictor.processor, content) if isinstance(content, str) else ()
    return Answer(prediction, is_unsure(served, prediction), notes)


def is_unsure(served: Served, prediction: Prediction) -> bool:
    """Tell whether the probability lies under the run's threshold; False where there is none."""
    return served.threshold is not None and prediction.probability < served.threshold


def _length_notes(tokenizer: Any, text: str) -> tuple[str, ...]:
    limit = tokenizer.model_max_length
    if tokenizer.is_fast:  # with the arguments of a prediction: others would change its settings under another thread
        encoding = tokenizer(text, truncation=True).encodings[0]
        special = tokenizer.num_special_tokens_to_add()
        count = len(encoding.ids) + sum(len(part.ids) - special for part in encoding.overflowing)
    else:
        count = len(tokenizer(text, truncation=False, verbose=False)["input_ids"])
    if count <= limit:
        return ()
    return (f"The text is longer than what the model reads: the first {limit:,} of its {count:,} tokens counted.",)


def checked_text(text: Any) -> str:
    """Return the text, as UTF-8 can hold it. Raises `DataError` when it is empty, too long, or no text."""
    if not isinstance(text, str) or not text.strip():
        raise DataError("There is no text to classify: type or paste one.")
    if len(text) > MAX_CHARACTERS:
        raise DataError(f"The text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are taken. Shorten it.")
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair can be neither read nor saved


def checked_image(path: Any) -> PILImage.Image:
    """Return the image of a file, upright and in RGB.

    The size is read from the file's header, before a pixel is decoded: a few kilobytes can unfold to gigabytes.
    Raises `DataError` when the file is missing, too large, broken, or of another kind.
    """
    if not isinstance(path, str | Path) or not Path(path).is_file():
        raise DataError("There is no image to classify: choose or drop a file.")
    if Path(path).stat().st_size > MAX_UPLOAD_BYTES:
        raise DataError(f"The file is larger than {MAX_UPLOAD_BYTES // 2**20} MB: send a smaller image.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PILImage.DecompressionBombWarning)  # the limit below is stricter
            with PILImage.open(path, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(_too_many_pixels(f"{image.width:,} x {image.height:,}"))
                return decode_image(image)
    except PILImage.DecompressionBombError:
        raise DataError(_too_many_pixels("far too many")) from None
    except UnidentifiedImageError:
        formats = ", ".join(_FORMATS[:-1]) + " or " + _FORMATS[-1]
        raise DataError(f"This is not an image that can be read: send {formats}.") from None
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over: OSError, SyntaxError, ValueError
        raise DataError(f"The image cannot be read ({' '.join(str(error).split())[:120]}): save it anew.") from None


def _too_many_pixels(size: str) -> str:
    return f"The image has {size} pixels; at most {MAX_PIXELS // 1_000_000} million are taken. Send a smaller one."
