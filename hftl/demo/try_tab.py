"""The tab where one input is classified: the answer first, then why, and a place to say that it is wrong."""

import math
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from hftl.demo.feedback import NONE_OF_THESE, Feedback, as_text
from hftl.demo.looks import html, in_place, piece, with_messages
from hftl.demo.served import Served, length_note
from hftl.errors import DataError, HftlError
from hftl.report.visible import one_line
from hftl.tasks.task import Answer


_TOP, _MAX_LISTED = 5, 2_000  # labels under the answer, and in a list below; /predict returns every one
# Options of what `Output.widget` names.
_WIDGETS: dict[str, dict[str, Any]] = {
    "Label": {"num_top_classes": _TOP},
    "Number": {"interactive": False},
    "HighlightedText": {"combine_adjacent": False, "show_legend": True},
    "AnnotatedImage": {"buttons": ["fullscreen"]},
}
_OPACITY = 0.6  # of what lies over an image, at first
_FADE = "(share) => document.querySelector('#label').style.setProperty('--opacity', share)"
# Private: not in the page's API, which has /predict alone. Not preprocessed: see `hftl.demo.served.read_image`.
_NOT_SAVED = [None, "", gr.update(interactive=True)]  # right label, thanks and button
_INVITATION = piece("line", look="empty", text="The answer appears here.")
_FORGOTTEN = [None, _INVITATION, gr.update(visible=False), None, "", "", None, *_NOT_SAVED]  # of `Panel`
_IN_SIGHT = "() => document.querySelector('#label')?.scrollIntoView({block: 'nearest', behavior: 'smooth'})"
_OWN: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
_ANSWERS: dict[str, Any] = {"concurrency_id": "answers", "concurrency_limit": 2}
_REASONS: dict[str, Any] = {"concurrency_id": "reasons", "concurrency_limit": 1}


class Asked(NamedTuple):
    """What was last answered to a visitor: explanations and corrections are about this, whatever is typed since."""

    values: tuple[Any, ...]  # as the boxes handed them over; an upload is removed after a while
    answer: Answer


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
    labels, given = list(served.predictor.labels), served.output.words["given"]
    banner = html(_INVITATION, "answer")
    with gr.Column(visible=False) as result:
        widget = served.output.widget
        # the likeliest label need not be the answer, where there are several
        unsaid = {"show_heading": False} if served.output.link == "sigmoid" else {}
        options = {**_WIDGETS[widget], **_colours(served), **unsaid}
        label = getattr(gr, widget)(label="Answer", show_label=False, elem_id="label", **options)
        if served.output.colours is not None:
            ends: dict[str, Any] = {"minimum": 0.1, "maximum": 1.0, "step": 0.05, "value": _OPACITY, "buttons": []}
            opacity = gr.Slider(**ends, label=f"Opacity of the {served.output.words['given']}", elem_id="opacity")
            opacity.input(None, opacity, None, js=_FADE, **_OWN)
        every_label = html("", "all-labels")
        with gr.Accordion("Why?", elem_id="why-panel", visible=served.output.explained):
            why = html("", "why", min_height=80)
            asked: dict[str, Any] = {"elem_id": "why-label", "visible": len(labels) > 1}
            why_label = gr.Dropdown(labels, label="Why another label?", value=None, **asked)
        with gr.Group(visible=with_feedback, elem_id="feedback"):
            several = served.output.link == "sigmoid"
            choices: dict[str, Any] = {"choices": [*labels, NONE_OF_THESE], "multiselect": several}
            chooser = gr.Number if served.output.link == "none" else partial(gr.Dropdown, **choices)
            right = chooser(
                value=None,
                label=f"Is this wrong? Choose the right {given}",
                info="Saved on the machine that serves this page, with the input, to train on later.",
                elem_id="right-label",
            )
            thanks = html("", "thanks")
            save = gr.Button("This is wrong", size="sm", elem_id="save-feedback")
    return Panel(gr.State(None), banner, result, label, every_label, why, why_label, right, thanks, save)


def _colours(served: Served) -> dict[str, Any]:
    """Return the option of the widget that names the colours of the classes, where they have such."""
    if served.output.colours is None:
        return {}
    colours = served.output.colours(served.predictor.model.config, len(served.predictor.labels))
    named = zip(served.predictor.labels, colours, strict=True)
    return {"color_map": {label: "#{:02x}{:02x}{:02x}".format(*colour) for label, colour in named}}


def _answered(served: Served, content: Any, answer: Answer) -> list[Any]:
    """Return the values of all of a `Panel` but the first."""
    sure = answer.confidence if served.output.colours is None else math.nan  # of a mean over pixels nothing follows
    values = {"probability": sure, "threshold": served.threshold, "abstain": served.abstain}
    note = None if served.inputs.overlap else length_note(served.predictor.processor, content)
    banner = piece("answer", said=served.output.tell(answer), note=note, **values)
    ranked = _ranked(served, answer)
    every_label = piece("labels", rows=ranked[:_MAX_LISTED], count=len(ranked), top=_TOP)
    value = served.output.draw(answer, content, served.predictor.model.config)
    likeliest = _label_to_explain(served, answer) if ranked else None
    return [banner, gr.Column(visible=True), value, every_label, "", likeliest, *_NOT_SAVED]


def _label_to_explain(served: Served, answer: Answer) -> str:
    """Return the likeliest of the labels that are answered, else the likeliest of all; of a number its name."""
    given = served.output.cells(answer)["prediction"]
    ranked = [label for label, _ in _ranked(served, answer)] or list(served.predictor.labels)
    return next((label for label in ranked if isinstance(given, list) and label in given), ranked[0])


def _ranked(served: Served, answer: Answer) -> list[tuple[str, float]]:
    """Return the labels with their probabilities, the highest first; none where a number is answered."""
    return sorted(served.output.cells(answer).get("probabilities", {}).items(), key=lambda item: -item[1])


def try_tab(served: Served, examples: Future[list[Any]], feedback: Feedback | None, page: gr.Blocks) -> None:
    """Lay out the tab and join its events, inside the `gr.Blocks` of the page."""
    box, labels = served.box, served.predictor.labels
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300, elem_id="asks"):
            sources = served.components()
            with gr.Row():
                clear = gr.Button("Clear", min_width=80, scale=1, elem_id="clear")
                ask_words = served.output.words["ask"]
                button = gr.Button(ask_words, variant="primary", min_width=120, scale=2, elem_id="classify")
            example_chosen = _examples(served, sources, examples, page)
        with gr.Column(scale=1, min_width=300):
            panel = _answer_panel(served, feedback is not None)

    def ask(*values: Any) -> list[Any]:
        content = served.read(values)
        answer = served.predict([content])[0]
        return [Asked(values, answer), *_answered(served, content, answer)]

    def explain(last: Asked | None, choice: Any) -> str:
        if last is None or not served.output.explained:
            return ""
        content, label = (
            served.read(last.values),
            choice if choice in labels else _label_to_explain(served, last.answer),
        )
        try:
            return box.why(served.predictor, content, label)
        except HftlError as error:  # of a model that cannot be explained: no fault of the visitor's
            return piece("line", look="note", text=str(error))

    reasons: dict[str, Any] = {"inputs": [panel.asked, panel.why_label], "outputs": panel.why, **_OWN, **_REASONS}
    told = in_place(ask, lambda said: [None, said, *_FORGOTTEN[2:]])
    shown: dict[str, Any] = {"outputs": [*panel], "show_progress_on": panel.banner, "trigger_mode": "always_last"}
    for trigger in (button.click, *(getattr(source, box.asks) for source in sources), example_chosen):
        answered = trigger(told, sources, **shown, **_OWN, **_ANSWERS)
        answered.success(None, js=_IN_SIGHT, **_OWN)
        answered.success(with_messages(explain), show_progress_on=panel.why, **reasons)
    panel.why_label.input(with_messages(explain), **reasons)
    for trigger in (clear.click, *(getattr(source, box.forgets) for source in sources if box.forgets)):
        trigger(lambda: [*(None for _ in sources), *_FORGOTTEN], None, [*sources, *panel], **_OWN)
    if feedback is not None:
        _join_feedback(served, panel, feedback)


def _join_feedback(served: Served, panel: Panel, feedback: Feedback) -> None:
    def save(last: Asked | None, right: Any) -> tuple[str, Any]:
        if last is None:
            raise DataError("Classify something first.")
        right = _checked(served, right)
        if right == (sorted(last.answer.value) if isinstance(right, list) else last.answer.value):
            raise DataError(f"That is the {served.output.words['given']} that was answered: choose another one.")
        feedback.save(served.read(last.values), last.answer, right, served.name)
        said = one_line(as_text(right) or NONE_OF_THESE)
        return piece("line", look="note", text=f"Saved as {said}. Thank you."), gr.Button(interactive=False)

    thanks = [panel.thanks, panel.save]
    panel.save.click(
        in_place(save, lambda said: [said, gr.Button()]),
        [panel.asked, panel.right],
        thanks,
        **_OWN,
        concurrency_limit=4,
    )


def _checked(served: Served, right: Any) -> Any:
    """Return what a visitor says is right: a label, a sorted list of them, or a number. Raises `DataError`."""
    fault = DataError(f"Choose the right {served.output.words['given']} first.")
    if served.output.link == "none":
        if isinstance(right, bool) or not isinstance(right, int | float) or not math.isfinite(right):
            raise fault
        return float(right)
    several = served.output.link == "sigmoid"
    chosen = right if several and isinstance(right, list) else [right]
    known = (*served.predictor.labels, NONE_OF_THESE)
    if not chosen or any(label not in known for label in chosen) or (len(chosen) > 1 and NONE_OF_THESE in chosen):
        raise fault
    if not several:
        return chosen[0]
    return [] if chosen == [NONE_OF_THESE] else sorted(chosen)


def _examples(served: Served, sources: list[Any], examples: Future[list[Any]], page: gr.Blocks) -> Any:
    """Lay out the examples, shown once they are read; return what happens after one of them was put into the box."""
    shelf = gr.Dataset(
        label="Examples: rows that it was tested on",
        components=served.components(plain=True, visible=False),
        samples=[],
        type="index",
        layout="gallery",
        visible=False,
        elem_id="examples",
    )

    def fill() -> Any:
        inputs, name = examples.result(timeout=120), served.box.example_name
        names = None if name is None else [name(" | ".join(served.parts(item))) for item in inputs]
        return gr.Dataset(samples=list(map(served.parts, inputs)), sample_labels=names, visible=bool(inputs))

    def chosen_parts(index: Any) -> Any:
        parts = served.parts(examples.result()[int(index)])
        return parts[0] if len(parts) == 1 else parts

    page.load(fill, None, shelf, **_OWN, show_progress="hidden", concurrency_limit=None)
    chosen = shelf.click(chosen_parts, shelf, sources, **_OWN, show_progress="hidden")
    return chosen.success


def endpoint(served: Served) -> None:
    """Add /predict: a text, two of them or an image in, {label, confidences} of all labels or a number out."""
    output = served.output
    sources = served.components(plain=True, visible=False, label=served.inputs.kind)
    answer = getattr(gr, output.widget)(label="answer", visible=False, **_colours(served))
    button = gr.Button(visible=False)

    def predict(value: Any, *more: Any) -> Any:
        """Return {label, confidences}: the probability of every label, the highest first; or the number; or the masks."""
        content = served.read([value, *more])
        return output.draw(served.predict([content])[0], content, served.predictor.model.config)

    button.click(with_messages(predict), sources, answer, api_name="predict", preprocess=False, **_ANSWERS)
