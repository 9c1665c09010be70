"""The tab where a file, or many images, are classified at once: a table or image files in, a CSV out."""

import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile

import gradio as gr
from PIL import Image as PILImage

from hftl.atomic import new_file
from hftl.demo.feedback import as_text
from hftl.demo.looks import html, in_place, piece, with_messages
from hftl.demo.served import Served, read_words, refuse_addresses
from hftl.errors import DataError
from hftl.predict_file import names_beside, write_table
from hftl.report.rows import thumbnail
from hftl.report.statements import counted
from hftl.report.visible import one_line
from hftl.tasks.task import Answer


_OWN: dict[str, Any] = {"api_visibility": "private"}
_SHOWN = 24  # images of a batch, as thumbnails


class BatchRow(NamedTuple):
    """One line of the CSV; an input that cannot be read has no answer."""

    inputs: dict[str, Any]  # of a table all of its columns, else the name of the file
    input: str  # in a line
    cells: dict[str, Any] = {}  # noqa: RUF012 it is never changed
    not_sure: bool | None = None
    picture: dict[str, Any] | None = None  # a thumbnail, of the first images

    @property
    def prediction(self) -> str:
        """The answer as text; "" for none."""
        return as_text(self.cells["prediction"]) if self.cells else ""

    @property
    def more(self) -> dict[str, float]:
        """The numbers beside the answer: its probability, or the ends of its interval."""
        return {k: v for k, v in self.cells.items() if k != "prediction" and isinstance(v, float)}

    @property
    def probability(self) -> float | None:
        """The probability of the answer; None where there is none."""
        return self.cells.get("probability")


def classify(
    served: Served,
    uploads: Any,
    column: str | None,
    step: Callable[[int, int], None],
    paint: Callable[[int, str, Answer], str] | None = None,
) -> tuple[list[BatchRow], list[str]]:
    """Classify a table of texts (in `column`), or image files; return a row for each and what to say about them.

    `step` is called with how many are done, and of how many; `paint` with each answer, its number and the name of its
    input. Raises `DataError` when nothing can be read.
    """
    box, kind = served.box, served.inputs.called
    contents = box.contents(uploads, column, served.predictor)
    notes = []
    if len(contents) > box.most:
        notes.append(
            f"There are {len(contents):,} {kind}s; the first {box.most:,} were answered. "
            "For all of them: hftl predict MODEL --data FILE --output OUT.csv"
        )
        contents = contents[: box.most]
    rows = [BatchRow(columns, name) for columns, name, _ in contents]
    faults = []
    for start in range(0, len(contents), box.chunk):
        readable: dict[int, Any] = {}
        for i, (*_, content) in enumerate(contents[start : start + box.chunk], start):
            try:
                readable[i] = read_words(content[0]) if isinstance(content[0], list) else served.read(content)
            except DataError as error:
                faults.append(f"number {i + 1} ({one_line(rows[i].input, 40) or 'empty'}). {error}")
        answers = served.predict(list(readable.values())) if readable else []
        for i, answer in zip(readable, answers, strict=True):
            unsure = None if served.threshold is None else answer.confidence < served.threshold
            image = readable[i] if i < _SHOWN and isinstance(readable[i], PILImage.Image) else None
            picture = thumbnail(served.over(image, answer)) if image else None
            written = {} if paint is None else {"file": paint(i, rows[i].input, answer)}
            cells = {**served.output.cells(answer), **written}
            rows[i] = rows[i]._replace(cells=cells, not_sure=unsure, picture=picture)
        step(min(start + box.chunk, len(contents)), len(contents))
    if len(faults) == len(rows):
        raise DataError(f"None of the {len(rows):,} {kind}s can be answered. The first: {faults[0]}")
    if faults:
        notes.append(f"Without a prediction: {counted(len(faults), kind, f'{kind}s')}. The first: {faults[0]}")
    return rows, notes


def write_csv(path: Path, rows: list[BatchRow]) -> None:
    """Write the inputs, prediction, and what goes with it."""
    sure = {None: "", False: "false", True: "true"}
    cells = [{**row.cells, "not_sure": sure[row.not_sure]} for row in rows]
    answers = {column: [one.get(name) for one in cells] for name, column in columns_of(rows).items()}
    write_table({name: [row.inputs[name] for row in rows] for name in rows[0].inputs} | answers, path)


def painter(served: Served, folder: Path) -> Callable[[int, str, Answer], str]:
    """Return a function that writes an answer as a PNG, named like its image, into a folder, and returns its name."""

    def paint(number: int, name: str, answer: Answer) -> str:
        place = folder / f"{Path(name).stem}.png"
        while place.exists():
            place = folder / f"{place.stem}-{number + 1}.png"
        with new_file(place) as partial:
            served.output.picture(answer, served.predictor.model.config).save(partial, format="PNG")  # type: ignore[misc]
        return place.name

    return paint


def columns_of(rows: list[BatchRow]) -> dict[str, str]:
    """Return what is known of the answers, and its column: under another name where the table has that one already.

    Where they have a probability, that is also whether it is too small.
    """
    answered = next((row for row in rows if row.cells), rows[0])
    told = [name for name, value in answered.cells.items() if value is not None and not isinstance(value, dict)]
    names = [*(told or ["prediction"]), *(["not_sure"] if "probability" in told else [])]
    return names_beside(rows[0].inputs, names)


def batch_tab(served: Served, folder: Path) -> None:
    """Lay out the tab and join its events, inside `gr.Blocks`. CSV files are written under `folder`."""
    box, kind, painted = served.box, served.inputs.called, served.output.picture is not None
    gives = f"a zip with the {served.output.words['given']}s and a CSV" if painted else "a CSV with the answers"
    html(
        piece(
            "line",
            look="hint",
            text=f"{box.hint}, up to {box.most:,} {kind}s at once. You get {gives}.",
        )
    )
    files = refuse_addresses(gr.File(elem_id="batch-files", height=160, **box.files))
    column = gr.Dropdown([], label=f"Column with the {kind}", visible=False, elem_id="batch-column", interactive=True)
    run = gr.Button(f"{served.output.words['ask']} all", variant="primary", elem_id="batch-run")
    output = gr.File(
        label="Answers" if painted else "Answers as CSV", visible=False, interactive=False, elem_id="batch-output"
    )
    summary = html("", "batch-summary", min_height=20)

    def answer(uploads: Any, name: Any, progress: Any = gr.Progress()) -> tuple[str, Any]:  # noqa: B008 Gradio's way
        if not uploads:
            raise DataError(f"Choose a file with {kind}s first.")
        progress(0, desc="Reading")

        def step(done: int, total: int) -> None:
            progress((done, total), desc="Answering", unit=f"{kind}s")

        path = folder / secrets.token_hex(16) / "answers.csv"
        path.parent.mkdir(parents=True)
        paint = None
        if painted:
            (masks := path.with_name("masks")).mkdir()
            paint = painter(served, masks)
        rows, notes = classify(served, uploads, str(name) if name else None, step, paint)
        write_csv(path, rows)
        path = _zipped(path.parent) if painted else path
        return _summary(served, rows, notes), gr.File(value=str(path), visible=True)

    def forget() -> tuple[Any, str, Any]:
        return gr.Dropdown(choices=[], value=None, visible=False), "", gr.File(value=None, visible=False)

    def offer_columns(path: str | None) -> Any:
        names, likely = box.columns(Path(path), served.predictor) if path and box.columns else ([], None)
        return gr.Dropdown(choices=names, value=likely, visible=len(names) > 1)

    if box.columns:
        files.upload(with_messages(offer_columns), files, column, **_OWN)
    files.clear(forget, None, [column, summary, output], **_OWN)
    outputs = [summary, output]
    shown: dict[str, Any] = {"show_progress_on": summary, "trigger_mode": "always_last"}
    told = in_place(answer, lambda said: [said, gr.File(value=None, visible=False)])
    run.click(told, [files, column], outputs, concurrency_limit=1, **shown, **_OWN)


def _zipped(folder: Path) -> Path:
    """Return all files below a folder in one beside them; they themselves are removed."""
    target, files = folder / "answers.zip", sorted(file for file in folder.rglob("*") if file.is_file())
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.relative_to(folder))
            file.unlink()
    return target


def _summary(served: Served, rows: list[BatchRow], notes: list[str]) -> str:
    answers = [row.cells["prediction"] for row in rows if row.cells]
    lists = [a if isinstance(a, list) else [a] for a in answers if not isinstance(a, float)]  # numbers are not counted
    known = {*served.predictor.labels}
    counts = Counter(label for labels in lists for label in labels if label in known).most_common()
    return piece(
        "batch",
        done=len(answers),
        columns=", ".join([*rows[0].inputs, *columns_of(rows).values()]),
        thing=served.inputs.called,
        unsure=None if served.threshold is None else sum(bool(row.not_sure) for row in rows),
        notes=notes,
        counts=[(label, count, count / counts[0][1]) for label, count in counts],
        first=rows[:_SHOWN] if any(row.picture for row in rows) else rows[:10],
    )
