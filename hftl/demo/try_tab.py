"""The tab where one input is classified: the answer first, then why, and a place to say that it is wrong."""

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from hftl.demo.feedback import NONE_OF_THESE
from hftl.demo.looks import html, piece, with_messages
from hftl.demo.served import Answer, Kind, Served, answer
from hftl.errors import DataError, HftlError
from hftl.predict import Prediction
from hftl.report.visible import one_line


_TOP = 5  # labels under the answer; the others stand in a list below
_MAX_LISTED = 2_000  # labels in that list; /predict returns every one
_EXAMPLE_SECONDS = 120  # that a page waits for examples
# Private: not in the page's API, which has /predict alone. Not preprocessed: see `Kind.sent`.
_OWN: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
_ANSWERS: dict[str, Any] = {"concurrency_id": "answers", "concurrency_limit": 2}
_REASONS: dict[str, Any] = {"concurrency_id": "reasons", "concurrency_limit": 1}


@dataclass(frozen=True)
class Asked:
    """What was last answered to a visitor: explanations and corrections are about this, whatever is typed since."""

    value: str  # the text, or the path of the upload, which is removed after a while
    prediction: Prediction


def try_tab(served: Served, kind: Kind, examples: Future[list[str]], feedback: Path | None, page: gr.Blocks) -> None:
    """Lay out the tab and join its events, inside the `gr.Blocks` of the page."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            box = kind.box()
            with gr.Row():
                clear = gr.Button("Clear", min_width=80, scale=1, elem_id="clear")
                button = gr.Button("Classify", variant="primary", min_width=120, scale=2, elem_id="classify")
            shelf = _shelf(kind)
        with gr.Column(scale=1, min_width=300):
            banner = html(_invitation(), "answer")
            label = gr.Label(num_top_classes=_TOP, label="Answer", show_label=False, elem_id="label", visible=False)
            every_label = html("", "all-labels")
            why_panel, why, why_label = _reasons(served)
            correction = _correction(served, feedback)
    asked = gr.State(None)
    outputs = [banner, label, every_label, asked, why_panel, why, why_label, *correction]

    def ask(value: Any) -> list[Any]:
        value = kind.sent(value)
        result = answer(served, kind.read(value))
        return [
            *_answer_updates(served, result, Asked(str(value), result.prediction)),
            *_reset(correction, visible=True),
        ]

    def explain(last: Asked | None, wanted: Any) -> str:
        if last is None:
            raise DataError("Classify something first.")
        content = kind.read(last.value)
        try:
            return kind.why(
                served.predictor, content, wanted if wanted in served.predictor.labels else last.prediction.label
            )
        except HftlError as error:  # of a model that cannot be explained: no fault of the visitor's
            return piece("line", look="note", text=str(error))

    def forget() -> list[Any]:
        hidden = [_invitation(), gr.Label(value=None, visible=False), "", None, gr.Accordion(visible=False), "", None]
        return [None, *hidden, *_reset(correction, visible=False)]

    reasons: dict[str, Any] = {"inputs": [asked, why_label], "outputs": why, **_OWN, **_REASONS}
    for trigger in (button.click, getattr(box, kind.asks), _choose_example(page, kind, box, shelf, examples)):
        answered = trigger(with_messages(ask), box, outputs, show_progress_on=banner, **_OWN, **_ANSWERS)
        answered.success(with_messages(explain), show_progress_on=why, **reasons)
    why_label.input(with_messages(explain), **reasons)
    for trigger in (clear.click, *([getattr(box, kind.forgets)] if kind.forgets else [])):
        trigger(forget, None, [box, *outputs], **_OWN)
    if feedback is not None:
        _join_correction(served, kind, feedback, asked, correction)


def _reasons(served: Served) -> tuple[Any, Any, Any]:
    """Return the panel of reasons, the reasons, and the label that they are for."""
    with gr.Accordion("Why?", elem_id="why-panel", visible=False) as panel:
        why = html("", "why", min_height=80)
        label = gr.Dropdown(list(served.predictor.labels), label="Why another label?", value=None, elem_id="why-label")
    return panel, why, label


def _shelf(kind: Kind) -> Any:
    """Return the row of examples, hidden until they are read."""
    return gr.Dataset(
        label="Examples: rows that it was tested on",
        components=[kind.plain(visible=False)],
        samples=[],
        type="index",
        layout="gallery",
        visible=False,
        elem_id="examples",
    )


def _invitation() -> str:
    return piece("line", look="empty", text="The answer appears here.")


def _answer_updates(served: Served, result: Answer, asked: Asked) -> list[Any]:
    """Return the new values of banner, label, list of labels, state, panel of reasons, reasons and their label."""
    p = result.prediction
    abstain = (served.artifact.evidence or {}).get("abstain") or {}
    banner = piece(
        "answer",
        not_sure=result.not_sure,
        probability=p.probability,
        threshold=served.threshold,
        target=abstain.get("precision"),
        precision=(abstain.get("test_precision") or {}).get("value"),
        notes=result.notes,
    )
    ranked = sorted(p.probabilities.items(), key=lambda item: -item[1])
    listed = piece("labels", rows=ranked[:_MAX_LISTED], count=len(ranked), shown=_TOP)
    label = gr.Label(value=p.probabilities, visible=True)
    return [banner, label, listed, asked, gr.Accordion(visible=True), "", p.label]


def _correction(served: Served, feedback: Path | None) -> list[Any]:
    """Return the panel, the dropdown, the line of thanks and the button; nothing without a folder to save to."""
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
    return [panel, right, html("", "thanks"), save]


def _reset(correction: list[Any], *, visible: bool) -> list[Any]:
    """Return new values for `correction`: an empty choice."""
    return [gr.Group(visible=visible), None, "", gr.Button(interactive=True)] if correction else []


def _join_correction(served: Served, kind: Kind, feedback: Path, asked: Any, correction: list[Any]) -> None:
    _, right, thanks, save = correction

    def keep(last: Asked | None, label: Any) -> tuple[str, Any]:
        if last is None:
            raise DataError("Classify something first.")
        if label not in (*served.predictor.labels, NONE_OF_THESE):
            raise DataError("Choose the right label first.")
        if label == last.prediction.label:
            raise DataError("That is the label that was answered: choose another one.")
        kind.save(feedback, kind.read(last.value), last.prediction, label, served.name)
        line = piece("line", look="note", text=f"Saved as {one_line(label)}. Thank you.")
        return line, gr.Button(interactive=False)

    save.click(with_messages(keep), [asked, right], [thanks, save], **_OWN, concurrency_limit=4)


def _choose_example(page: gr.Blocks, kind: Kind, box: Any, shelf: Any, examples: Future[list[str]]) -> Any:
    """Show the examples once they are read; return what happens after one of them was put into the box."""

    def fill() -> Any:
        inputs = examples.result(timeout=_EXAMPLE_SECONDS)
        if not inputs:
            return gr.Dataset(visible=False)
        names = None if kind.example_name is None else [kind.example_name(item) for item in inputs]
        return gr.Dataset(samples=[[item] for item in inputs], sample_labels=names, visible=True)

    page.load(fill, None, shelf, **_OWN, show_progress="hidden", concurrency_limit=None)
    chosen = shelf.click(lambda index: examples.result()[int(index)], shelf, box, **_OWN, show_progress="hidden")
    return chosen.success


def endpoint(served: Served, kind: Kind) -> None:
    """Add /predict: a text or an image in, {label, confidences} of all labels out."""
    box = kind.plain(label=kind.name, visible=False)
    label = gr.Label(label="answer", visible=False)
    button = gr.Button(visible=False)

    def predict(value: Any) -> dict[str, float]:
        """Return {label, confidences}: the probability of every label, the highest first."""
        return answer(served, kind.read(kind.sent(value))).prediction.probabilities

    button.click(with_messages(predict), box, label, api_name="predict", preprocess=False, **_ANSWERS)
