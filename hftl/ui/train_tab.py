"""Steps 1 to 3 of the page: data, plan, train; the result follows in `hftl.ui.result_step`."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from hftl.config import TASK_KINDS, TASK_NAMES
from hftl.data.samples import SAMPLES
from hftl.demo.looks import html, in_place, piece, with_messages
from hftl.demo.served import refuse_addresses
from hftl.errors import DataError, HftlError, ModelError
from hftl.models.packaged import PACKAGED, is_installed
from hftl.report import statements
from hftl.ui import files, process, steps
from hftl.ui.files import Workspace
from hftl.ui.looks import GOING, data_html, go_to, part, run_html, stepper
from hftl.ui.result_step import result_step
from hftl.ui.verbs import begun


EVERY = 2.0  # seconds between two looks at a run
_RESTS = 2  # times as long while nothing runs
OWN: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = {**OWN, "show_progress": "hidden", "concurrency_limit": None}
# Answered at once, without a place in the queue; no `gr.State` that others listen to may be among its outputs.
DIRECT: dict[str, Any] = {**OWN, "show_progress": "hidden", "queue": False}
_FOUND, _USUAL = "found from the data", "the usual one for the task"
# The run that the page shows is in its address, so that a reload finds it again.
_KEEP = """(name) => {
  const url = new URL(location.href);
  if (name) url.searchParams.set('run', name); else url.searchParams.delete('run');
  history.replaceState(null, '', url);
}"""
_ASKED = "() => new URLSearchParams(location.search).get('run') || ''"


@dataclass
class _Latest:
    """The data that a page asked for last: a plan for others ends, and is not trained."""

    data: steps.DataLook | None = None


class Run(NamedTuple):
    """The run that a page shows: its state, and the hidden box that puts its name into the page's address."""

    folder: Any
    name: Any


def train_tab(workspace: Workspace, page: gr.Blocks, cache: Path, auth: tuple[str, str] | None) -> Run:
    """Lay out the four steps and join their events, inside the `gr.Blocks` of the page; return the run shown."""
    progress = html(stepper(1), "stepper")
    look, run = gr.State(None), Run(gr.State(None), gr.Textbox("", visible="hidden", elem_id="run-name"))
    latest = gr.State(_Latest())
    looked = _data_step(workspace, look, latest, progress)
    started = _plan_step(workspace, look, latest, run, looked)
    finished = _train_step(workspace, page, run, progress)
    result_step(workspace, page, run, finished, cache, auth)
    started(None, js=go_to("step-train"), **OWN)
    return run


def _data_boxes() -> tuple[Any, Any, Any, Any, Any, list[Any]]:
    """Lay out what asks for data: a file, a text, the task, the columns, the button, and one for each sample."""
    hint = "A table of texts, images by class, or images/ and masks/."
    html(part("title", number=1, text="Data", read=hint))
    with gr.Row(equal_height=True):
        label = "Drop a CSV, JSON, parquet or zip of images"
        upload = refuse_addresses(gr.File(label=label, height=180, elem_id="upload", min_width=280))
        with gr.Column(min_width=280):
            text = gr.Textbox(
                label="or name a path in the folder, a sample or a Hub id",
                placeholder="tickets.csv",
                elem_id="data-text",
                max_length=1_000,
            )
            with gr.Row():
                samples = [
                    gr.Button(f"sample:{name}", size="sm", min_width=120)
                    for name, sample in SAMPLES.items()
                    if sample.task.endswith("classification") and not sample.task.startswith("token")
                ]
    with gr.Row():
        task = gr.Dropdown([_FOUND, *TASK_NAMES], value=_FOUND, label="Task", elem_id="task", min_width=200)
        button = gr.Button("Look at the data", variant="primary", elem_id="look", min_width=200)
    with gr.Accordion("Name the columns", open=False, elem_id="name-columns"):
        columns = gr.Textbox(
            label="Where they are not found by themselves",
            placeholder='--text_column title --text_pair_column body --label_column topics --label_separator "|"',
            elem_id="columns",
            max_length=2_000,
        )
    return upload, text, task, columns, button, samples


def _data_step(workspace: Workspace, look: Any, latest: Any, progress: Any) -> Any:
    """Lay out step 1; return what happens after the data were read."""
    with gr.Column(elem_classes="step", elem_id="step-data"):
        upload, text, task, columns, button, samples = _data_boxes()
        panel = html("", "data-panel", min_height=20)
        fix = gr.Button("Fix what the doctor can fix", visible=False, elem_id="fix")
    outputs = [look, panel, fix, progress]
    shown: dict[str, Any] = {**OWN, "show_progress_on": panel, "trigger_mode": "once"}

    def found(new: steps.DataLook, now: _Latest, said: str = "") -> list[Any]:
        now.data = new
        return [new, said + data_html(new), gr.Button(visible=new.fixable), stepper(2)]

    def read(uploaded: str | None, typed: str, chosen: str, named: str | None, now: _Latest) -> list[Any]:
        now.data = None
        if not uploaded and not typed.strip():
            raise DataError("There are no data yet: drop a file, or name a sample.")
        flags = files.take_columns(named or "")  # a box that was never seen holds None
        data = files.take_upload(workspace, Path(uploaded)) if uploaded else files.take_text(workspace, typed.strip())
        return found(steps.look(data, None if chosen == _FOUND else chosen, flags), now)

    def cleaned(old: steps.DataLook, now: _Latest) -> list[Any]:
        now.data = None
        new = steps.fix(workspace, old)
        return found(
            new, now, piece("line", look="note", text="This is a cleaned copy; your own data are as they were.")
        )

    def emptied(said: str) -> list[Any]:
        return [None, said, gr.Button(visible=False), stepper(1)]

    reads = in_place(read, emptied)
    none = gr.State("")
    asks = [upload, text, task, columns, latest]
    events = [trigger(reads, asks, outputs, **shown) for trigger in (upload.upload, button.click, columns.submit)]
    events.append(text.submit(partial(reads, None), asks[1:], outputs, **shown))
    for sample in samples:
        named = sample.click(lambda name: [name, None], sample, [text, upload], **DIRECT)
        events.append(named.then(partial(reads, None), [sample, task, none, latest], outputs, **shown))
    events.append(fix.click(with_messages(cleaned), [look, latest], outputs, **shown))
    text.input(lambda: None, None, upload, **DIRECT)  # what was done last counts
    return [event.success for event in events]


def _at_hand(task: str) -> str | None:
    """Return a packaged model that reads what this task does and is installed: for a machine without a Hub."""
    kind = "image" if TASK_KINDS[task] == "image" else "text"
    return next((p.name for p in PACKAGED.values() if p.input == kind and is_installed(p.name)), None)


def _choice(card: steps.Card) -> tuple[str, str]:
    """Return a card as a choice: its first line is shown large."""
    title = f"{card.method} · recommended" if card.recommended else card.method
    cost = [] if card.seconds is None else [f"About {statements.duration(card.seconds)}"]
    if card.memory is not None:
        size = f"{card.memory / 1e9:.1f} GB" if card.memory >= 1e9 else f"{max(1, round(card.memory / 1e6))} MB"
        cost.append(f"{size} of memory" if card.fits else f"{size} of memory: more than is free")
    blocks = [[title, card.words[:1].upper() + card.words[1:]], [card.expected, ", ".join(cost)], [card.reason]]
    return "\n\n".join(filter(None, ("\n".join(filter(None, block)) for block in blocks))), card.method


def _cards(workspace: Workspace, data: steps.DataLook, named: str, typed: str) -> Iterator[steps.Card | str]:
    """Yield the cards, some of them twice, for what was typed; before other ones a line on the model they are for."""
    extra = files.take_flags(f"{shlex.join(data.flags)} {typed or ''}")
    usual = not named or named == _USUAL
    wanted = None if usual else files.take_model(workspace, named.strip())
    try:
        yield from steps.plan_cards(data.data, data.task, wanted, extra)
    except ModelError as error:
        wanted = _at_hand(data.task) if usual else None
        if wanted is None:
            raise
        yield f"{error} So this is planned with {wanted}; choose another under Advanced."
        yield from steps.plan_cards(data.data, data.task, wanted, extra)


def _plan(
    workspace: Workspace, data: steps.DataLook | None, named: str, typed: str, latest: _Latest
) -> Iterator[list[Any]]:
    """Yield what step 2 shows: cards, its column, a line, the methods; the first of them is chosen until another is."""
    made: dict[str, steps.Card] = {}
    none = gr.Radio(
        [], value=None
    )  # never hidden but by ui.css: where a column opens, the browser loses that a part of it is to show
    if data is None:
        yield [made, gr.Column(visible=False), "", none]
        return
    lines: list[str] = []
    said = piece("line", look="hint", text="Working out what each method would take ...")
    yield [made, gr.Column(visible=True), said, none]
    try:
        for card in _cards(workspace, data, named, typed):
            if latest.data is not data:
                return
            if isinstance(card, str):
                lines.append(card)
                continue
            first, made = not made, {**made, card.method: card}
            usable = [_choice(one) for one in made.values() if not one.problem]
            radio = gr.Radio(usable, value=card.method) if first else gr.Radio(usable)
            yield [made, gr.skip(), said, radio]
    except HftlError as error:
        help_ = " Here the button Fix, above, does that." if data.fixable and isinstance(error, DataError) else ""
        yield [{}, gr.skip(), piece("line", look="problem", text=f"{error}{help_}"), none]
        return
    lines += [f"{one.method}: {one.problem}" for one in made.values() if one.problem]
    yield [made, gr.skip(), part("notes", lines=lines), gr.skip()]


def _advanced() -> tuple[Any, Any, Any]:
    """Lay out what few need: another model, more flags, and the button that plans with them."""
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        model = gr.Dropdown(
            [_USUAL, *filter(is_installed, PACKAGED)],
            value=_USUAL,
            label="Model",
            info="Choose one, or type a Hub id or a folder inside this one.",
            allow_custom_value=True,
            elem_id="model",
        )
        flags = gr.Textbox(
            label="More flags", placeholder="--num_train_epochs 3 --seed 1", elem_id="flags", max_length=2_000
        )
        again = gr.Button("Plan again", size="sm", elem_id="plan-again")
    return model, flags, again


def _plan_step(workspace: Workspace, look: Any, latest: Any, run: Run, looked: list[Any]) -> Any:
    """Lay out step 2; return what happens after a run was started."""
    cards = gr.State({})
    with gr.Column(elem_classes="step", elem_id="step-plan", visible=False) as column:
        read = "What each method would take. A quick cross-validation expects the score of the probe; the others have none before they are trained."
        html(part("title", number=2, text="Plan", read=read))
        note = html("", "plan-note", min_height=20)
        methods = gr.Radio([], label="Method", elem_id="methods", interactive=True)
        model, flags, again = _advanced()
        command = gr.Textbox(
            label="The same in a terminal",
            interactive=False,
            buttons=["copy"],
            elem_id="command",
            max_lines=6,
        )
        train = gr.Button("Train", variant="primary", interactive=False, elem_id="train")

    def usable(card: steps.Card | None, data: steps.DataLook | None) -> bool:
        return card is not None and not card.problem and data is not None and data.data in card.words_of_command

    def chosen(made: dict[str, steps.Card], method: str, data: steps.DataLook | None) -> list[Any]:
        can = usable(made.get(method), data)
        return [made[method].command if can else "", gr.Button(interactive=can)]

    def begin(made: dict[str, steps.Card], method: str, data: steps.DataLook | None) -> list[Any]:
        if not usable(made.get(method), data):
            raise DataError("Choose a method first.")
        return begun(workspace, made[method].words_of_command, method)

    planned: dict[str, Any] = {**OWN, "show_progress": "hidden", "trigger_mode": "always_last"}

    def settled(made: dict[str, steps.Card], method: str | None) -> Any:
        usable = [one for one in made.values() if not one.problem]
        names = [one.method for one in usable]
        return gr.Radio([_choice(one) for one in usable], value=method if method in names else next(iter(names), None))

    for trigger in (*looked, again.click):
        planning = partial(_plan, workspace)
        done = trigger(planning, [look, model, flags, latest], [cards, column, note, methods], **planned)
        # Of values that follow each other fast the browser may lose some, such as the first one, which chose a method.
        done.then(settled, [cards, methods], methods, **DIRECT)
    for trigger in (cards.change, methods.change, look.change):
        trigger(chosen, [cards, methods, look], [command, train], **DIRECT)
    started = train.click(with_messages(begin), [cards, methods, look], [*run], trigger_mode="once", **OWN)
    return started.success


def _train_step(workspace: Workspace, page: gr.Blocks, run: Run, progress: Any) -> Any:
    """Lay out step 3; return the state that holds a finished run's folder."""
    finished, seen, timer = gr.State(None), gr.State(""), gr.Timer(_RESTS * EVERY)
    with gr.Column(elem_classes="step", elem_id="step-train", visible=False) as column:
        read = "The run is a process of its own: close this page, and it goes on."
        html(part("title", number=3, text="Train", read=read))
        panel = html("", "run-panel")
        with gr.Row():
            stop = gr.Button("Stop", visible=False, variant="stop", elem_id="stop")
            resume = gr.Button("Resume", visible=False, variant="primary", elem_id="resume")
    outputs = [run.folder, column, panel, stop, resume, seen, finished, progress, timer]

    def show(folder: Path | None, before: str, state: process.RunState | None = None) -> list[Any]:
        if folder is None:
            others = process.running(workspace.runs)
            if not others:
                return [gr.skip()] * len(outputs)
            folder = others[0].folder  # another page, or an earlier one, started it
        state = state or process.state(folder)
        panel, going = run_html(state, "score"), state.status in GOING
        if panel == before:
            return [gr.skip()] * len(outputs)
        done = state.status == "finished"
        return [
            folder,
            gr.Column(visible=state.status != "none"),
            panel,
            gr.Button(visible=going and not state.held, interactive=state.status != "stopping"),
            gr.Button(visible=state.resumable and not going and not done),
            panel,
            folder if done else None,
            stepper(4 if done else 3),
            gr.Timer(EVERY if going else _RESTS * EVERY),
        ]

    def ask(what: Any, folder: Path | None, before: str) -> list[Any]:
        if folder is None:
            raise DataError("There is no run yet.")
        return show(folder, before, what(folder))

    def asked(name: str) -> tuple[Path | None, str]:
        """Return the run that the page's address names, where there is one."""
        folder = workspace.runs / name
        known = bool(name) and workspace.holds(folder) and process.state(folder).status != "none"
        return (folder, name) if known else (None, "")

    # Where Gradio (6.31) closes the stream of answers just as another is asked for, that one waits until a question opens the
    # next stream (`queue_data_helper` in gradio/routes.py). So each look is asked, also while an earlier one is not answered.
    for trigger, mode in ((timer.tick, "multiple"), (run.folder.change, "once")):
        trigger(show, [run.folder, seen], outputs, trigger_mode=mode, **QUIET)
    stop.click(with_messages(partial(ask, process.stop)), [run.folder, seen], outputs, **OWN)
    resume.click(with_messages(partial(ask, process.resume)), [run.folder, seen], outputs, **OWN)
    page.load(asked, run.name, [*run], js=_ASKED, **QUIET)
    run.name.change(None, run.name, None, js=_KEEP, **OWN)
    return finished
