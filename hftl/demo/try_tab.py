"""The tab where one input is classified: the answer first, then why, and a place to say that it is wrong."""

from concurrent.futures import Future
from typing import Any, NamedTuple

import gradio as gr

from hftl.demo.feedback import NONE_OF_THESE, Feedback
from hftl.demo.looks import html, piece, with_messages
from hftl.demo.served import Served, length_note
from hftl.errors import DataError, HftlError
from hftl.predict import Prediction
from hftl.report.visible import one_line


_TOP, _MAX_LISTED = 5, 2_000  # labels under the answer, and in a list below; /predict returns every one
_WIDGETS: dict[str, dict[str, Any]] = {"Label": {"num_top_classes": _TOP}}  # options of what `Output.widget` names
# Private: not in the page's API, which has /predict alone. Not preprocessed: see `hftl.demo.served.read_image`.
_NOT_SAVED = [None, "", gr.update(interactive=True)]  # right label, thanks and button
_INVITATION = piece("line", look="empty", text="The answer appears here.")
_FORGOTTEN = [None, None, _INVITATION, gr.update(visible=False), None, "", "", None, *_NOT_SAVED]  # box and `Panel`
_OWN: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
_ANSWERS: dict[str, Any] = {"concurrency_id": "answers", "concurrency_limit": 2}
_REASONS: dict[str, Any] = {"concurrency_id": "reasons", "concurrency_limit": 1}


class Asked(NamedTuple):
    """What was last answered to a visitor: explanations and corrections are about this, whatever is typed since."""

    value: Any  # as the box handed it over; an upload is removed after a while
    prediction: Prediction


class Panel(NamedTuple):
    """Where the answer is shown, in the order in which handlers return it."""

    asked: Any
    banner: Any
    result: Any  # the column of all that follows, hidden while there is no answer
    label: Any
    every_label: Any
    why: Any
    why_label: Any
    right: Any
    thanks: Any
    save: Any


def _answer_panel(served: Served, with_feedback: bool) -> Panel:
    labels = list(served.predictor.labels)
    banner = html(_INVITATION, "answer")
    with gr.Column(visible=False) as result:
        widget = served.predictor.task.output.widget
        label = getattr(gr, widget)(label="Answer", show_label=False, elem_id="label", **_WIDGETS[widget])
        every_label = html("", "all-labels")
        with gr.Accordion("Why?", elem_id="why-panel"):
            why = html("", "why", min_height=80)
            why_label = gr.Dropdown(labels, label="Why another label?", value=None, elem_id="why-label")
        with gr.Group(visible=with_feedback, elem_id="feedback"):
            right = gr.Dropdown(
                [*labels, NONE_OF_THESE],
                value=None,
                label="Is this wrong? Choose the right label",
                info="Saved on the machine that serves this page, with the input, to train on later.",
                elem_id="right-label",
            )
            thanks = html("", "thanks")
            save = gr.Button("This is wrong", size="sm", elem_id="save-feedback")
    return Panel(gr.State(None), banner, result, label, every_label, why, why_label, right, thanks, save)


def _answered(served: Served, content: Any, prediction: Prediction) -> list[Any]:
    """Return the values of all of a `Panel` but the first."""
    values = {"probability": prediction.probability, "threshold": served.threshold, "abstain": served.abstain}
    banner = piece("answer", note=length_note(served.predictor.processor, content), **values)
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    every_label = piece("labels", rows=ranked[:_MAX_LISTED], count=len(ranked), top=_TOP)
    value = served.predictor.task.output.draw(prediction)
    return [banner, gr.Column(visible=True), value, every_label, "", prediction.label, *_NOT_SAVED]


def try_tab(served: Served, examples: Future[list[str]], feedback: Feedback | None, page: gr.Blocks) -> None:
    """Lay out the tab and join its events, inside the `gr.Blocks` of the page."""
    box, kind, labels = served.box, served.kind, served.predictor.labels
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            source = served.component(label=kind.capitalize(), elem_id=f"{kind}-input", **box.options)
            with gr.Row():
                clear = gr.Button("Clear", min_width=80, scale=1, elem_id="clear")
                button = gr.Button("Classify", variant="primary", min_width=120, scale=2, elem_id="classify")
            example_chosen = _examples(served, source, examples, page)
        with gr.Column(scale=1, min_width=300):
            panel = _answer_panel(served, feedback is not None)

    def ask(value: Any) -> list[Any]:
        content = box.read(value)
        prediction = served.predict([content])[0]
        return [Asked(value, prediction), *_answered(served, content, prediction)]

    def explain(last: Asked | None, choice: Any) -> str:
        if last is None:
            raise DataError("Classify something first.")
        content, label = box.read(last.value), choice if choice in labels else last.prediction.label
        try:
            return box.why(served.predictor, content, label)
        except HftlError as error:  # of a model that cannot be explained: no fault of the visitor's
            return piece("line", look="note", text=str(error))

    reasons: dict[str, Any] = {"inputs": [panel.asked, panel.why_label], "outputs": panel.why, **_OWN, **_REASONS}
    for trigger in (button.click, getattr(source, box.asks), example_chosen):
        answered = trigger(with_messages(ask), source, [*panel], show_progress_on=panel.banner, **_OWN, **_ANSWERS)
        answered.success(with_messages(explain), show_progress_on=panel.why, **reasons)
    panel.why_label.input(with_messages(explain), **reasons)
    for trigger in (clear.click, *([getattr(source, box.forgets)] if box.forgets else [])):
        trigger(lambda: _FORGOTTEN, None, [source, *panel], **_OWN)
    if feedback is not None:
        _join_feedback(served, panel, feedback)


def _join_feedback(served: Served, panel: Panel, feedback: Feedback) -> None:
    def save(last: Asked | None, label: Any) -> tuple[str, Any]:
        if last is None:
            raise DataError("Classify something first.")
        if label not in (*served.predictor.labels, NONE_OF_THESE):
            raise DataError("Choose the right label first.")
        if label == last.prediction.label:
            raise DataError("That is the label that was answered: choose another one.")
        feedback.save(served.box.read(last.value), last.prediction, label, served.name)
        return piece("line", look="note", text=f"Saved as {one_line(label)}. Thank you."), gr.Button(interactive=False)

    thanks = [panel.thanks, panel.save]
    panel.save.click(with_messages(save), [panel.asked, panel.right], thanks, **_OWN, concurrency_limit=4)


def _examples(served: Served, source: Any, examples: Future[list[str]], page: gr.Blocks) -> Any:
    """Lay out the examples, shown once they are read; return what happens after one of them was put into the box."""
    shelf = gr.Dataset(
        label="Examples: rows that it was tested on",
        components=[served.component(visible=False)],
        samples=[],
        type="index",
        layout="gallery",
        visible=False,
        elem_id="examples",
    )

    def fill() -> Any:
        inputs, name = examples.result(timeout=120), served.box.example_name
        names = None if name is None else [name(item) for item in inputs]
        return gr.Dataset(samples=[[item] for item in inputs], sample_labels=names, visible=bool(inputs))

    page.load(fill, None, shelf, **_OWN, show_progress="hidden", concurrency_limit=None)
    chosen = shelf.click(lambda index: examples.result()[int(index)], shelf, source, **_OWN, show_progress="hidden")
    return chosen.success


def endpoint(served: Served) -> None:
    """Add /predict: a text or an image in, {label, confidences} of all labels out."""
    output = served.predictor.task.output
    source = served.component(label=served.kind, visible=False)
    answer = getattr(gr, output.widget)(label="answer", visible=False)
    button = gr.Button(visible=False)

    def predict(value: Any) -> Any:
        """Return {label, confidences}: the probability of every label, the highest first."""
        return output.draw(served.predict([served.box.read(value)])[0])

    button.click(with_messages(predict), source, answer, api_name="predict", preprocess=False, **_ANSWERS)
