"""The page of runs: all of them in a table, their curves over each other, and two of them side by side."""

from pathlib import Path
from typing import Any

import gradio as gr

from hftl import runs as listed
from hftl.demo.looks import html, in_place, with_messages
from hftl.errors import RunError
from hftl.report import statements
from hftl.runs import Pair, Run
from hftl.ui.files import Workspace
from hftl.ui.looks import part, plots


_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
_LOOKS = {"POSITIVE": "good", "NEGATIVE": "bad"}


def runs_tab(workspace: Workspace, page: gr.Blocks, tab: Any, tabs: Any, shown: Any) -> None:
    """Lay out the tab and join its events; `shown` is the run that the other tab shows."""
    with gr.Column(elem_classes="step", elem_id="step-runs"):
        html(part("title", number="\u2261", text="Runs", read="Every run in this folder, the newest first."))
        panel = html("", "runs-panel", min_height=60)
        chosen = gr.Dropdown(
            [],
            multiselect=True,
            label="Choose runs",
            info="One to open, two to compare, any number to see their curves.",
            elem_id="chosen",
            interactive=True,
        )
        with gr.Row():
            compare = gr.Button("Compare two", variant="primary", min_width=140, elem_id="compare")
            opened = gr.Button("Open in Train", min_width=140, elem_id="open-run")
            refresh = gr.Button("Refresh", min_width=140, elem_id="refresh")
        said, curves = html("", "compared"), html("", "curves")

    def known() -> dict[str, Run]:
        """Return the runs by their names under the folder: nothing else is opened, whatever a visitor sends."""
        return {_name(workspace, run): run for run in listed.list_runs(workspace.folder)}

    def fill(names: list[str] | None) -> list[Any]:
        found = known()
        head, lines = listed.table(list(found.values()))
        gone = {*(names or [])} - {*found}  # else the value is left alone: one may be chosen at this moment
        kept: dict[str, Any] = {"value": [name for name in names or [] if name in found]} if gone else {}
        lines = [(name, *line[1:]) for name, line in zip(found, lines, strict=True)]
        return [part("runs", head=head, lines=lines), gr.Dropdown([*found], visible=bool(found), **kept)]

    def draw(names: list[str]) -> str:
        found = known()
        points = {name: listed.curve(found[name].folder) for name in names if name in found}
        return part("curves", plots=plots({name: curve for name, curve in points.items() if curve}))

    def pair(names: list[str]) -> str:
        found = known()
        if len(names) != 2 or any(name not in found for name in names):
            raise RunError("Choose two runs to compare.")
        a, b = (found[name] for name in names)
        return _pair_html(names, a, b, listed.compare_two(a.folder, b.folder))

    def go(names: list[str]) -> list[Any]:
        found = known()
        if len(names) != 1 or names[0] not in found:
            raise RunError("Choose one run to open.")
        folder = found[names[0]].folder
        inside = folder.resolve().parent == workspace.runs.resolve()  # the address of the page keeps these alone
        return [folder, folder.name if inside else "", gr.Tabs(selected="train")]

    for trigger in (tab.select, refresh.click, page.load):
        trigger(fill, chosen, [panel, chosen], **_QUIET)
    chosen.change(in_place(draw, lambda line: line), chosen, curves, **_QUIET)
    told: dict[str, Any] = {"api_visibility": "private", "show_progress_on": said, "trigger_mode": "once"}
    compare.click(in_place(pair, lambda line: line), chosen, said, **told)
    opened.click(with_messages(go), chosen, [*shown, tabs], **_QUIET)


def _name(workspace: Workspace, run: Run) -> str:
    try:
        return str(Path(run.folder).resolve().relative_to(workspace.folder.resolve()))
    except ValueError:
        return Path(run.folder).name


def _pair_html(names: list[str], a: Run, b: Run, found: Pair) -> str:
    """Return two runs side by side, and what the paired test says."""
    share = min(found.a, found.b) >= 0 and max(found.a, found.b) <= 1
    scores = [statements.percent(value) if share else statements.number(value) for value in (found.a, found.b)]
    facts = [("data", a.data, b.data), ("model", a.model, b.model), ("method", a.method, b.method)]
    facts += [("time", statements.duration(a.seconds), statements.duration(b.seconds))]
    heads = [name.replace("|", "/") for name in names]
    return part("pair", look=_LOOKS.get(found.label, "neutral"), names=heads, scores=scores, pair=found, facts=facts)
