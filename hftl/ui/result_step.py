"""Step 4 of the page: the score, a box to try the model in, its worst errors to put right, and where it goes next."""

import functools
import math
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from hftl.demo.feedback import as_text
from hftl.demo.looks import html, in_place, piece, with_messages
from hftl.demo.served import BOXES, Served, refuse_addresses
from hftl.errors import DataError
from hftl.predict import load
from hftl.report.overlays import legend_of, overlay
from hftl.report.rows import thumbnail
from hftl.report.statements import counted
from hftl.run_data import open_artifact
from hftl.ui import files, steps
from hftl.ui.files import Correction, Workspace
from hftl.ui.looks import go_to, part, result_html, shown
from hftl.ui.verbs import Demos, begun, exported, pushed


_WORST, _LABELS = 5, 5  # rows to put right; labels under an answer
_ASK = "Is it the label that is wrong? {} A corrected copy of the data is written, your own stay as they are."
_MASK: dict[str, Any] = {"file_types": ["image"], "height": 130, "visible": False}
_OWN: dict[str, Any] = {"api_visibility": "private"}
_QUIET: dict[str, Any] = {**_OWN, "show_progress": "hidden"}


@functools.lru_cache(maxsize=2)
def _served(folder: Path, written: float) -> Served:
    """Return the model of a run, loaded once; `written` is when, so that another run in its place is another model."""
    artifact = open_artifact(folder)
    return Served(artifact, load(artifact.folder))


def served(folder: Path) -> Served:
    """Return the model of a finished run. Raises `ModelError` where there is none."""
    return _served(folder, (folder / "report.json").stat().st_mtime)


def result_step(
    workspace: Workspace, page: gr.Blocks, run: Any, finished: Any, cache: Path, auth: tuple[str, str] | None
) -> None:
    """Lay out step 4; it shows the run whose folder `finished` holds, and starts another by setting `run`."""
    view = gr.State(None)
    with gr.Column(elem_classes="step", elem_id="step-result", visible=False) as column:
        html(part("title", number=4, text="Result"))
        panel = html("", "result-panel")
        with gr.Row(equal_height=False):
            with gr.Column(min_width=280):
                boxes = _try_boxes()
            with gr.Column(min_width=280):
                answer = html("", "answer", min_height=60)
        with gr.Column(visible=False, elem_id="worst-rows") as errors:
            fill, filled = _worst_rows(workspace, view, run)
        _next_steps(view, page, cache, auth)
    outputs = [view, column, panel, *boxes.values(), answer, errors, *filled]

    def show(folder: Path | None) -> list[Any]:
        if folder is None:
            same = [gr.skip()] * (1 + len(filled))
            return [None, gr.Column(visible=False), "", *[gr.skip()] * len(boxes), "", *same]
        new = steps.result(folder)
        inputs = served(folder).inputs
        seen = {"text": inputs.box == "Textbox", "pair": len(inputs.columns) > 1, "image": inputs.box == "Image"}
        parts = [type_of(visible=seen.get(name, True)) for name, type_of in _BOXES.items()]
        worst = gr.Column(visible=bool(new.worst or new.trouble))
        return [
            new,
            gr.Column(visible=True),
            result_html(new),
            *parts,
            piece("line", look="hint", text="The answer stands here."),
            worst,
            *fill(new),
        ]

    finished.change(with_messages(show), finished, outputs, concurrency_limit=1, **_QUIET)

    def tried(current: steps.ResultView | None, *values: Any) -> str:
        if current is None:
            raise DataError("There is no model yet.")
        model = served(current.folder)
        text, pair, image = values
        given = (image,) if model.inputs.box == "Image" else (text, pair)[: len(model.inputs.columns)]
        content = model.read(given)
        found = model.predict([content])[0]
        painted = model.output.over is not None
        over = thumbnail(model.over(content, found)) if painted else None
        sure = math.nan if painted else found.confidence  # of a mean over pixels nothing follows
        said, share = _in_words(model.output, found)
        note = piece("answer", said=None, probability=sure, threshold=model.threshold,
                     abstain=model.abstain, note=None)  # fmt: skip
        return part("answer", said=said, ranked=share, over=over) + note

    sources = [boxes[name] for name in ("text", "pair", "image")]
    asks = in_place(tried, lambda said: said)
    for trigger in (boxes["button"].click, boxes["text"].submit, boxes["image"].upload):
        trigger(asks, [view, *sources], answer, preprocess=False, **_OWN)


def _in_words(output: Any, answer: Any) -> tuple[str, list[tuple[str, float]]]:
    """Return an answer in words, and the labels, or the entities in the text, that are most probable."""
    cells = output.cells(answer)
    entities = [one for one in cells["prediction"] if isinstance(one, dict)] if isinstance(answer.value, list) else []
    if entities:
        said = ", ".join(dict.fromkeys(one["label"] for one in entities))
        return said, [(f"{one['text']} ({one['label']})", one["score"]) for one in entities]
    ranked = sorted(cells.get("probabilities", {}).items(), key=lambda one: -one[1])[:_LABELS]
    return output.tell(answer) or as_text(cells["prediction"]), ranked


def _pictures(view: steps.ResultView, rows: list[steps.WorstRow]) -> tuple[list[dict[str, Any]], str]:
    """Return what is shown of rows, and of masks what chooses between the answer and the right one that lie over them."""
    if not view.painted or not rows:
        return [shown(row.content) for row in rows], ""
    model = served(view.folder)
    colours = model.output.colours(model.predictor.model.config, len(view.classes))  # type: ignore[misc]
    answers = [answer.value for answer in model.predict([row.content for row in rows])]
    over = [overlay(row.content, row.truth, answer, colours) for row, answer in zip(rows, answers, strict=True)]
    return over, part("layers", colours=legend_of(view.report, colours), unasked=any(one["unasked"] for one in over))


def _answer_as_mask(view: steps.ResultView, row: steps.WorstRow) -> Any:
    model = served(view.folder)
    return model.output.picture(model.predict([row.content])[0], model.predictor.model.config)  # type: ignore[misc]


_BOXES = {"text": gr.Textbox, "pair": gr.Textbox, "image": gr.Image, "button": gr.Button}


def _try_boxes() -> dict[str, Any]:
    """Lay out a box for every kind of input; those that the model does not take are hidden."""
    options = {name: {k: v for k, v in BOXES[name].options.items() if k != "placeholder"} for name in BOXES}
    text = options["Textbox"] | {"lines": 3}
    return {
        "text": gr.Textbox(label="Try it: a text", elem_id="try-text", **text),
        "pair": gr.Textbox(label="and the second one", elem_id="try-pair", visible=False, **text),
        "image": refuse_addresses(
            gr.Image(
                label="Try it: an image", elem_id="try-image", visible=False, **options["Image"] | {"height": 240}
            )
        ),
        "button": gr.Button("Try it", elem_id="try"),
    }


def _worst_rows(workspace: Workspace, view: Any, run: Any) -> tuple[Any, list[Any]]:
    """Lay out the rows that the model got most wrong; return what fills them, and what it fills."""
    corrected = gr.State(None)
    html(part("title", number="!", text="Where it was most wrong"), "worst-title")
    hint = html("", "worst-hint", min_height=20)
    slots = []
    for i in range(_WORST):
        with gr.Row(elem_classes="to-right", visible=False) as row:
            shows = html("", min_width=280, scale=2)
            with gr.Column(min_width=220):
                right = gr.Dropdown([], label="Right label", elem_id=f"right-{i}", allow_custom_value=True)
                typed = gr.Textbox(label="Right label", elem_id=f"typed-{i}", max_lines=8, max_length=100_000)
                mask = gr.File(None, label="Right mask", elem_id=f"mask-{i}", **_MASK)
                wrong = gr.Button("The label is wrong", size="sm", elem_id=f"wrong-{i}")
        slots.append((row, shows, right, typed, mask, wrong))
    said = html("", "corrected")
    again = gr.Button("Train again on the corrected copy", variant="primary", visible=False, elem_id="train-again")

    def fill(new: steps.ResultView) -> list[Any]:
        rows, can = [*new.worst[:_WORST]], not new.trouble
        pictures, bar = _pictures(new, rows)
        values: list[Any] = [piece("line", look="hint", text=new.trouble or _ASK.format(new.how)) + bar]
        for i in range(_WORST):
            row = rows[i] if i < len(rows) else None
            labels = [label for label in new.classes if row is None or label != row.label] if new.single else []
            likely = row.typed if row is not None else ""
            values += [
                gr.Row(visible=row is not None),
                part("worst", row=row, shown=pictures[i]) if row is not None else "",
                gr.Dropdown(labels, value=likely if likely in labels else None, visible=can and new.single),
                gr.Textbox(likely, visible=can and not new.single and not new.painted),
                gr.File(None, visible=can and new.painted),
                gr.Button("The label is wrong", interactive=True, visible=can),
            ]
        copy, changes = files.last_corrected(workspace, str(new.config.data))
        said = f"{counted(len(changes), 'label is', 'labels are')} put right in {copy.name}." if copy and can else ""
        line = piece("line", look="note", text=said) if said else ""
        return [*values, str(copy) if said else None, line, gr.Button(visible=bool(said))]

    def correct(i: int, new: steps.ResultView, chosen: str | None, typed: str, mask: str | None) -> list[Any]:
        row, label = new.worst[i], (chosen if new.single else typed) or ""
        if new.single and not label:
            raise DataError("Choose the right label first.")
        painted = files.right_mask(workspace, mask, partial(_answer_as_mask, new, row))
        with painted if new.painted else nullcontext(label) as right:  # of a mask, what was typed would be a path
            one = Correction(row.split, row.row, right)
            data = files.corrected_copy(workspace, str(new.config.data), [one], new.report["task"], new.config)
        saved = "The mask is saved" if new.painted else f"Saved as {label}"
        line = piece("line", look="note", text=f"{saved} in {Path(data).name}.")
        return [data, line, gr.Button(visible=True), gr.Button("Corrected", interactive=False)]

    def train_again(new: steps.ResultView, data: str) -> list[Any]:
        words = (*new.words, "--data", data)
        return begun(workspace, words, str(new.report["method"]), str(new.report["model"]))

    for i, (_, _, *given, wrong) in enumerate(slots):
        wrong.click(with_messages(partial(correct, i)), [view, *given], [corrected, said, again, wrong], **_OWN)
    started = again.click(with_messages(train_again), [view, corrected], [*run], trigger_mode="once", **_OWN)
    started.success(None, js=go_to("step-train"), **_OWN)
    return fill, [hint] + [part for slot in slots for part in slot] + [corrected, said, again]


def _next_steps(view: Any, page: gr.Blocks, cache: Path, auth: tuple[str, str] | None) -> None:
    """Lay out the buttons for report, demo, export and push."""
    demos = Demos(auth)
    with gr.Row():
        report = gr.Button("Report", min_width=120, elem_id="report")
        demo = gr.Button("Demo", min_width=120, elem_id="demo")
        export = gr.Button("Export", min_width=120, elem_id="export")
    with gr.Accordion("Push to the Hub", open=False, elem_id="push-panel"):
        token = "Private. The token is that of the environment (HF_TOKEN) or of hf auth login."
        html(piece("line", look="hint", text=token))
        with gr.Row(equal_height=True):
            repository = gr.Textbox(label="Repository", placeholder="my-name/tickets", max_length=200, elem_id="repo")
            licence = gr.Textbox(label="Licence", placeholder="apache-2.0", max_length=60, elem_id="licence")
        push = gr.Button("Push", elem_id="push")
    said = html("", "said-next", min_height=20)
    file = gr.File(label="The exported model", visible=False, interactive=False, elem_id="exported")
    frame = html("", "report-frame")

    def read(current: steps.ResultView, open_now: str) -> list[Any]:
        if open_now:
            return ["", gr.Button("Report")]
        page = (current.folder / "report.html").read_text(encoding="utf-8")
        return [part("report", page=page), gr.Button("Close the report")]

    def write(current: steps.ResultView) -> list[Any]:
        path = exported(current.folder, cache)
        return [piece("line", look="note", text=f"Written and checked: {path.name}"), gr.File(str(path), visible=True)]

    shown_on: dict[str, Any] = {**_OWN, "trigger_mode": "once", "show_progress_on": said}
    report.click(with_messages(read), [view, frame], [frame, report], **_QUIET)

    def served_at(current: steps.ResultView) -> str:
        return part("link", words="The demo is at", url=demos.url(current.folder))

    def sent(current: steps.ResultView, name: str, terms: str) -> str:
        return part("link", words="Pushed:", url=pushed(current.folder, name, terms))

    demo.click(in_place(served_at, lambda line: line), view, said, **shown_on)
    export.click(in_place(write, lambda line: [line, gr.File(visible=False)]), view, [said, file], **shown_on)
    push.click(in_place(sent, lambda line: line), [view, repository, licence], said, **shown_on)
