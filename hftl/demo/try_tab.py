"""The tab where one input is classified: the answer first, then why, and a place to say that it is wrong."""

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image as PILImage

from hftl.demo.checks import MAX_CHARACTERS
from hftl.demo.feedback import NONE_OF_THESE, save_image, save_text
from hftl.demo.looks import render
from hftl.demo.said import told
from hftl.demo.served import Answer, Served, answer, read_input
from hftl.demo.uploads import path_of, refuse_addresses
from hftl.demo.why import why_html
from hftl.errors import DataError
from hftl.predict import Prediction
from hftl.report.visible import one_line


TOP = 5  # labels under the answer; the others stand in a list below
MAX_LISTED = 2_000  # labels in that list; /predict returns every one
_EXAMPLE_SECONDS = 120  # that a page waits for examples
_EXAMPLE_CHARACTERS = 90
# Private: not in the page's API, which has /predict alone. Not preprocessed: see `path_of`.
_OWN: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
_ANSWERS: dict[str, Any] = {"concurrency_id": "answers", "concurrency_limit": 2}
_REASONS: dict[str, Any] = {"concurrency_id": "reasons", "concurrency_limit": 1}


@dataclass(frozen=True)
class Asked:
    """What was last answered to a visitor: explanations and corrections are about this, whatever is typed since."""

    value: str  # the text, or the path of the uploaded image
    prediction: Prediction


def try_tab(served: Served, examples: Future[list[str]], feedback: Path | None) -> None:
    """Lay out the tab and join its events, inside `gr.Blocks`."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            box = _input_box(served)
            with gr.Row():
                clear = gr.Button("Clear", min_width=80, scale=1, elem_id="clear")
                button = gr.Button("Classify", variant="primary", min_width=120, scale=2, elem_id="classify")
            shelf = _shelf(served)
        with gr.Column(scale=1, min_width=300):
            banner = gr.HTML(_invitation(), apply_default_css=False, elem_id="answer")
            label = gr.Label(num_top_classes=TOP, label="Answer", show_label=False, elem_id="label", visible=False)
            every_label = gr.HTML("", apply_default_css=False, elem_id="all-labels")
            why_panel, why, why_label = _reasons(served)
            correction = _correction(served, feedback)
    asked = gr.State(None)
    shown = [banner, label, every_label, asked, why_panel, why, why_label, *correction]

    def ask(value: Any) -> list[Any]:
        value = value if served.reads_text else path_of(value)
        found = answer(served, read_input(served, value))
        return [
            *_answer_updates(served, found, Asked(str(value), found.prediction)),
            *_reset(correction, visible=True),
        ]

    def explain(last: Asked | None, wanted: Any) -> str:
        if last is None:
            raise DataError("Classify something first.")
        known = wanted if wanted in served.predictor.labels else last.prediction.label
        return why_html(served, _again(served, last), known)

    def forget() -> list[Any]:
        hidden = [_invitation(), gr.Label(value=None, visible=False), "", None, gr.Accordion(visible=False), "", None]
        return [None, *hidden, *_reset(correction, visible=False)]

    box_events = [button.click, box.submit if served.reads_text else box.upload]
    for trigger in box_events:
        asking = trigger(told(ask), box, shown, show_progress_on=banner, **_OWN, **_ANSWERS)
        asking.success(told(explain), [asked, why_label], why, show_progress_on=why, **_OWN, **_REASONS)
    why_label.input(told(explain), [asked, why_label], why, **_OWN, **_REASONS)
    clear.click(forget, None, [box, *shown], **_OWN)
    if not served.reads_text:
        box.clear(forget, None, [box, *shown], **_OWN)
    if feedback is not None:
        _join_correction(served, feedback, asked, correction)
    choosing = _join_examples(box, shelf, examples)
    answering = choosing.success(told(ask), box, shown, show_progress_on=banner, **_OWN, **_ANSWERS)
    answering.success(told(explain), [asked, why_label], why, show_progress_on=why, **_OWN, **_REASONS)


def _input_box(served: Served) -> Any:
    if served.reads_text:
        return gr.Textbox(
            label="Text",
            placeholder="Type or paste a text",
            info="Shift + Enter classifies",
            lines=7,
            max_lines=14,
            max_length=MAX_CHARACTERS,
            elem_id="text-input",
        )
    return refuse_addresses(
        gr.Image(
            label="Image",
            type="filepath",
            image_mode=None,
            height=320,
            sources=["upload", "webcam", "clipboard"],
            elem_id="image-input",
            buttons=[],
        )
    )


def _reasons(served: Served) -> tuple[Any, Any, Any]:
    """Return the panel of reasons, the reasons, and the label that they are for."""
    with gr.Accordion("Why?", elem_id="why-panel", visible=False) as panel:
        why = gr.HTML("", apply_default_css=False, elem_id="why", min_height=80)
        label = gr.Dropdown(list(served.predictor.labels), label="Why another label?", value=None, elem_id="why-label")
    return panel, why, label


def _shelf(served: Served) -> Any:
    """Return the row of examples, hidden until they are read."""
    kind = gr.Textbox if served.reads_text else gr.Image
    return gr.Dataset(
        label="Examples: rows that it was tested on",
        components=[kind(visible=False)],
        samples=[],
        type="index",
        layout="gallery",
        visible=False,
        elem_id="examples",
    )


def _invitation() -> str:
    return render("said.html", look="empty", text="The answer appears here.")


def _answer_updates(served: Served, found: Answer, asked: Asked) -> list[Any]:
    """Return the new values of banner, label, list of labels, state, panel of reasons, reasons and their label."""
    p = found.prediction
    abstain = (served.artifact.evidence or {}).get("abstain") or {}
    banner = render(
        "answer.html",
        not_sure=found.not_sure,
        probability=p.probability,
        threshold=served.threshold,
        wished=abstain.get("precision"),
        precision=(abstain.get("test_precision") or {}).get("value"),
        notes=found.notes,
    )
    ranked = sorted(p.probabilities.items(), key=lambda item: -item[1])
    listed = render("labels.html", rows=ranked[:MAX_LISTED], count=len(ranked), shown=TOP)
    label = gr.Label(value=p.probabilities, visible=True)
    return [banner, label, listed, asked, gr.Accordion(visible=True), "", p.label]


def _again(served: Served, last: Asked) -> str | PILImage.Image:
    """Return what was asked; an image is read again from the upload, which is removed after a while."""
    content: str | PILImage.Image = read_input(served, last.value)
    return content


def _correction(served: Served, feedback: Path | None) -> list[Any]:
    """Return the panel, the dropdown and the line of thanks; nothing without a folder to save to."""
    if feedback is None:
        return []
    with gr.Group(visible=False, elem_id="feedback") as panel:
        right = gr.Dropdown(
            [*served.predictor.labels, NONE_OF_THESE],
            value=None,
            label="Is this wrong? Choose the right label",
            info="Saved on the machine that serves this page, with the input, to train on later.",
            elem_id="right-label",
        )
        save = gr.Button("This is wrong", size="sm", elem_id="save-feedback")
    thanks = gr.HTML("", apply_default_css=False, elem_id="thanks")
    return [panel, right, thanks, save]


def _reset(correction: list[Any], *, visible: bool) -> list[Any]:
    """Return new values for `correction`: an empty choice."""
    return [gr.Group(visible=visible), None, "", gr.Button(interactive=True)] if correction else []


def _join_correction(served: Served, feedback: Path, asked: Any, correction: list[Any]) -> None:
    _, right, thanks, save = correction

    def keep(last: Asked | None, label: Any) -> tuple[str, Any]:
        if last is None:
            raise DataError("Classify something first.")
        if label not in (*served.predictor.labels, NONE_OF_THESE):
            raise DataError("Choose the right label first.")
        if label == last.prediction.label:
            raise DataError("That is the label that was answered: choose another one.")
        content = _again(served, last)
        if isinstance(content, str):
            save_text(feedback, content, last.prediction, label, served.name)
        else:
            save_image(feedback, content, last.prediction, label, served.name)
        said = render("said.html", look="note", text=f"Saved as {one_line(label)}. Thank you.")
        return said, gr.Button(interactive=False)

    save.click(told(keep), [asked, right], [thanks, save], **_OWN, concurrency_limit=4)


def _join_examples(box: Any, shelf: Any, examples: Future[list[str]]) -> Any:
    """Show the examples once they are read; return the event of choosing one, which fills the box."""

    def fill() -> Any:
        found = examples.result(timeout=_EXAMPLE_SECONDS)
        if not found:
            return gr.Dataset(visible=False)
        names = [one_line(item, _EXAMPLE_CHARACTERS) for item in found] if isinstance(box, gr.Textbox) else None
        return gr.Dataset(samples=[[item] for item in found], sample_labels=names, visible=True)

    def choose(index: Any) -> Any:
        return examples.result()[int(index)]

    context = gr.context.Context.root_block
    assert context is not None
    context.load(fill, None, shelf, **_OWN, show_progress="hidden", concurrency_limit=None)
    return shelf.click(choose, shelf, box, **_OWN, show_progress="hidden")


def endpoint(served: Served) -> None:
    """Add /predict: a text or an image in, {label, confidences} of all labels out."""
    if served.reads_text:
        box: Any = gr.Textbox(label="text", visible=False)
    else:
        box = refuse_addresses(gr.Image(label="image", visible=False))
    label = gr.Label(label="answer", visible=False)
    button = gr.Button(visible=False)

    def predict(value: Any) -> dict[str, float]:
        """Return {label, confidences}: the probability of every label, the highest first."""
        content = read_input(served, value if served.reads_text else path_of(value))
        return answer(served, content).prediction.probabilities

    button.click(told(predict), box, label, api_name="predict", preprocess=False, **_ANSWERS)
