"""A trained model as the page serves it. All that differs between kinds of inputs is in `BOXES`: one value a kind."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from datasets import Dataset
from gradio_client.utils import is_http_url_like
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from hftl.config import DataConfig
from hftl.data.files import DATA_SUFFIXES, data_errors
from hftl.data.images import decode_image
from hftl.data.settle import as_usual, find_columns
from hftl.data.sources import read_file
from hftl.data.splits import Source
from hftl.demo.explain import why_image, why_text
from hftl.errors import DataError, HftlError
from hftl.paths import bare_name
from hftl.predict import Predictor
from hftl.publishing.parity import as_json
from hftl.report.rows import THUMBNAIL_SIDE
from hftl.report.visible import one_line
from hftl.run_data import Artifact, some_rows
from hftl.surroundings import ONE_AT_A_TIME
from hftl.tasks.task import Answer, Inputs, Output


MAX_CHARACTERS = 20_000  # of one text; the longest models read a few thousand tokens of it
MAX_UPLOAD = 20 * 2**20  # bytes of one file
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # no other decoder of Pillow sees a stranger's file
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_EXAMPLES, _EXAMPLE_CHARACTERS = 5, 90
_PROMPT = "Type or paste a text (Shift + Enter: {ask})"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Box:
    """What the page needs to know beside the Gradio component that takes a row, which `Inputs.box` names."""

    options: dict[str, Any]  # of the component on the first tab
    asks: str  # its event that asks, as the button does
    forgets: str | None  # its event that clears the page, as the other button does
    smallest: Any  # an input to warm up with
    read: Callable[[Any], Any]  # what it hands over unprocessed -> what the model reads; raises DataError
    example_name: Callable[[Any], str] | None  # how an example is called; None shows itself
    why: Callable[[Predictor, Any, str | None], str]  # what in an input speaks for a label, as HTML
    # of many inputs at once
    files: dict[str, Any]  # options of the component that takes them
    hint: str
    most: int  # one page is for trying; `hftl predict --data` takes any number
    chunk: int  # inputs between two movements of the progress bar, and for which an answer may have to wait
    columns: Callable[[Path, Predictor], tuple[list[str], str | None]] | None  # of a file: all, and the likely one
    # (uploads, column, predictor) -> of each row what the CSV keeps by column, it in a line, and its parts for `read`
    contents: Callable[[Any, str | None, Predictor], list[tuple[dict[str, Any], str, tuple[Any, ...]]]]


@dataclass(frozen=True)
class Served:
    """A model and its evidence."""

    artifact: Artifact
    predictor: Predictor

    @property
    def box(self) -> Box:
        """What the page needs to know of its inputs."""
        return BOXES[self.inputs.box]

    @property
    def abstain(self) -> dict[str, Any]:
        """What the report says of answering only when sure; empty where it says nothing."""
        return (self.artifact.evidence or {}).get("abstain") or {}

    @property
    def threshold(self) -> float | None:
        """The probability under which an answer is shown as "not sure"; None when none is known."""
        value = self.abstain.get("threshold")
        return float(value) if isinstance(value, int | float) else None

    @property
    def name(self) -> str:
        """The Hub id, or the name of the run's or model's folder: no path of the machine."""
        return bare_name(str(self.artifact.run or self.artifact.name))

    @property
    def inputs(self) -> Inputs:
        """How a row comes in."""
        return self.predictor.task.inputs

    @property
    def output(self) -> Output:
        """What is answered."""
        return self.predictor.task.output

    def components(self, *, plain: bool = False, **options: Any) -> list[Any]:
        """Return new Gradio components that take a row, one for each of its columns; `plain` ones without our options."""
        ask, made = self.output.words["ask"].lower(), []
        own = {k: v.format(ask=ask) if isinstance(v, str) else v for k, v in self.box.options.items()}
        for i in range(len(self.inputs.columns)):
            place = f"{self.inputs.kind}-input-{i + 1}" if i else f"{self.inputs.kind}-input"
            several = len(self.inputs.columns) > 1
            names = ("First text", "Second text") if several else (self.inputs.called.capitalize(),)
            shown = {} if plain else {"label": names[i], "elem_id": place, **own}
            made.append(refuse_addresses(getattr(gr, self.inputs.box)(**shown, **options)))
        return made

    def read(self, values: Sequence[Any]) -> Any:
        """Return what the model reads of what the components hand over. Raises `DataError`."""
        return self.join([self.box.read(value) for value in values])

    def join(self, parts: Sequence[Any]) -> Any:
        """Return a row of its parts."""
        return parts[0] if len(parts) == 1 else dict(zip(self.inputs.columns, parts, strict=True))

    def parts(self, row: Any) -> list[Any]:
        """Return the parts of a row."""
        return [row] if len(self.inputs.columns) == 1 else [row[column] for column in self.inputs.columns]

    def over(self, image: PILImage.Image, answer: Answer) -> PILImage.Image:
        """Return an image with its answer over it, where that is a picture; then it is a small one."""
        if self.output.over is None:
            return image
        (small := image.copy()).thumbnail((2 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE))
        shown: PILImage.Image = self.output.over(small, answer, self.predictor.model.config)
        return shown

    def predict(self, contents: list[Any]) -> list[Answer]:
        """Predict, one call at a time over all threads."""
        with ONE_AT_A_TIME:
            return [*self.predictor.predict(contents)]


def length_note(tokenizer: Any, content: Any) -> str | None:
    """Return the sentence on a text that is longer than the model reads; None for what is read whole."""
    limit: Any = getattr(tokenizer, "model_max_length", None)
    if isinstance(content, dict):
        full = len(tokenizer(*content.values(), truncation=True)["input_ids"]) >= limit
        both = f"The texts reach the {limit:,} tokens that the model reads of both; what is beyond does not count."
        return both if full else None
    if not isinstance(content, str):
        return None
    if tokenizer.is_fast:  # with the arguments of a prediction: others would change its settings under another thread
        encoding = tokenizer(content, truncation=True).encodings[0]
        special = tokenizer.num_special_tokens_to_add()
        count = len(encoding.ids) + sum(len(part.ids) - special for part in encoding.overflowing)
    else:
        count = len(tokenizer(content, truncation=False, verbose=False)["input_ids"])
    if count <= limit:
        return None
    return f"The text is longer than what the model reads: the first {limit:,} of its {count:,} tokens counted."


def read_text(text: Any) -> str:
    """Return the text, as UTF-8 can hold it. Raises `DataError` when it is empty, too long, or no text."""
    if not isinstance(text, str) or not text.strip():
        raise DataError("There is no text to classify: type or paste one.")
    if len(text) > MAX_CHARACTERS:
        raise DataError(f"The text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are taken. Shorten it.")
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair can be neither read nor saved


def read_words(words: list[Any]) -> list[str]:
    """Return a row of a file that is a list of words. Raises `DataError` as `read_text` does, and for other lists."""
    if not all(isinstance(word, str) for word in words):
        raise DataError("A list of words holds something else.")
    read_text(" ".join(words))
    return words


def read_image(upload: Any) -> PILImage.Image:
    """Return the image of an upload, {"path": ...}, upright and in RGB. Raises `DataError` for what is no such image.

    Gradio has checked that it is one of its own uploads. Its preprocessing would decode an image before our limits are
    looked at. The size is read from the file's header: a few kilobytes can unfold to gigabytes.
    """
    path = upload.get("path") if isinstance(upload, dict) else None
    if not path or not Path(path).is_file():
        raise DataError("There is no image to classify: choose or drop a file.")
    _check_size(Path(path))
    try:
        with PILImage.open(path, formats=_FORMATS) as image:
            return decode_image(image)
    except UnidentifiedImageError:
        raise DataError(f"This is not an image that can be read: send one of {', '.join(_FORMATS)}.") from None
    except Exception as error:  # Pillow's decoders raise whatever they stumble over: OSError, SyntaxError, ValueError
        raise DataError(f"The image cannot be read: {' '.join(str(error).split())[:120]}. Send another.") from None


def _check_size(path: Path) -> None:
    if path.stat().st_size > MAX_UPLOAD:
        raise DataError(f"The file is larger than {MAX_UPLOAD // 2**20} MB: send a smaller one.")


def refuse_addresses(component: Any) -> Any:
    """Return the component, made to take uploaded files alone.

    Gradio would fetch an address that a visitor sends in place of a file, and has no setting against that.
    """
    move = component.async_move_resource_to_block_cache

    async def own_files(place: str | Path | None) -> str | None:
        if place is not None and is_http_url_like(str(place)):
            raise gr.Error("Send a file, not an address.", print_exception=False)
        return await move(place)

    component.async_move_resource_to_block_cache = own_files
    return component


def text_columns(path: Path, predictor: Predictor) -> tuple[list[str], str | None]:
    """Return the columns of a table and the one that holds the text, if it can be told; none to choose from for pairs.

    Raises `DataError`.
    """
    names = (table := _table(path)).column_names
    if len(predictor.task.inputs.columns) > 1:
        return [], None
    try:
        return names, _columns(table, predictor)[0]
    except DataError:
        return names, names[0] if len(names) == 1 else None


def _columns(table: Dataset, predictor: Predictor) -> tuple[str, ...]:
    """Return the columns that the model reads: those that it was trained on, else as `hftl predict` finds them."""
    usual = predictor.columns
    config = DataConfig() if usual is None else as_usual(DataConfig(), usual, Source({"train": table}, ""))
    return find_columns(table, predictor.task.inputs, config, need_label=False).inputs


def _table(path: Path) -> Dataset:
    """Return the rows of a file; of a .txt file the lines that are not empty."""
    _check_size(path)
    if path.suffix.lower() != ".txt":
        with data_errors(path.name):
            return read_file(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path.name} is not in UTF-8: save it in that encoding.") from None
    return Dataset.from_dict({"text": [line for line in lines if line.strip()]})


def texts_of(
    path: str, column: str | None, predictor: Predictor
) -> list[tuple[dict[str, Any], str, tuple[str | list[str], ...]]]:
    """Return each row of a file with all of its columns, its texts in a line, and they; a missing cell is an empty text.

    A list of words stays one. Raises `DataError`.
    """
    table, name = _table(Path(path)), Path(path).name
    if column and column not in table.column_names:
        raise DataError(f"{name} has no column {column!r}: choose one of its own.")
    columns = (column,) if column else _columns(table, predictor)
    if not len(table):
        raise DataError(f"{name} has no rows.")
    texts = [["" if v is None else v if isinstance(v, list) else str(v) for v in table[one][:]] for one in columns]
    lines = [[" ".join(map(str, v)) if isinstance(v, list) else v for v in one] for one in texts]
    rows = zip(table.to_list(), zip(*lines, strict=True), zip(*texts, strict=True), strict=True)
    return [(kept, " | ".join(line), row) for kept, line, row in rows]


BOXES = {
    "Textbox": Box(
        options={"placeholder": _PROMPT, "lines": 7, "max_length": MAX_CHARACTERS},
        asks="submit",
        forgets=None,
        smallest="warm up",
        read=read_text,
        example_name=lambda text: one_line(text, _EXAMPLE_CHARACTERS),
        why=why_text,
        files={"label": "File", "file_count": "single", "file_types": [*DATA_SUFFIXES, ".txt"]},
        hint="A table (CSV, TSV, JSON, JSONL, parquet) or a .txt file with a text a line",
        most=5_000,
        chunk=16,
        columns=text_columns,
        contents=texts_of,
    ),
    "Image": Box(
        options={
            "height": 320,
            "sources": ["upload", "webcam", "clipboard"],
            "webcam_options": gr.WebcamOptions(mirror=False),  # as a file of it would be
            "buttons": [],
        },
        asks="upload",
        forgets="clear",
        smallest=PILImage.new("RGB", (64, 64)),
        read=read_image,
        example_name=None,
        why=why_image,
        files={"label": "Images", "file_count": "multiple", "file_types": [*_IMAGE_SUFFIXES]},
        hint="Image files",
        most=500,
        chunk=1,
        columns=None,
        contents=lambda paths, *_: [
            ({"input": Path(path).name}, Path(path).name, ({"path": path},)) for path in paths
        ],
    ),
}


def examples_of(served: Served, folder: Path, *, share: bool, data: str | None) -> list[Any]:
    """Return texts, pairs, or images saved in `folder`, spread over the test rows of the model's own data, or of `data`.

    With `share` only a packaged sample, which is public, is shown. Data that moved or cannot be read give no examples.
    """
    artifact = served.artifact
    name = str(((artifact.report or {}).get("data") or {}).get("name") or "")
    public = (data or name).startswith("sample:")
    if not public and (share or (artifact.run is None and data is None)):
        return []  # a sample of other data would show the model what it does not know
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rows = some_rows(artifact, served.predictor.task.inputs, _EXAMPLES, data)
        inputs: list[Any] = list(rows.inputs) if rows.own or rows.origin == name else []
        inputs = [served.inputs.show(item) if isinstance(item, list) else item for item in inputs]  # of words
        return [as_json(item, folder / f"{i}.png") for i, item in enumerate(inputs)]
    except (HftlError, OSError) as error:
        _log.warning("There are no examples: %s", error)
        return []
