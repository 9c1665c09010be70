"""How the training page looks: pieces of HTML in the demo's style, and curves that are cheap enough to draw live."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hftl.demo.looks import style, templates
from hftl.report import statements, views
from hftl.report.rows import page_content
from hftl.runs import Point
from hftl.ui.process import STEPS, RunState
from hftl.ui.steps import DataLook, ResultView


STEP_NAMES = ("Data", "Plan", "Train", "Result")
GOING = ("starting", "running", "stopping")  # states of a run that change by themselves
_WORDS = {  # status -> how it is said, its look
    "starting": ("Starting", "neutral"),
    "running": ("Training", "neutral"),
    "stopping": ("Stopping, after a checkpoint is written:", "even"),
    "stopped": ("Stopped. What is done is kept:", "even"),
    "failed": ("Failed:", "bad"),
    "finished": ("Finished:", "good"),
    "none": ("There is no such run:", "even"),
}


def part(name: str, **values: Any) -> str:
    """Return a macro of steps.html as HTML; every string that is not markup of our own is escaped."""
    return str(getattr(templates("hftl.ui").get_template("steps.html").module, name)(**values))


def header(folder: Path) -> str:
    """Return the head of the page, which brings the styles of all of it."""
    sheet = files("hftl.ui").joinpath("templates/ui.css").read_text(encoding="utf-8")
    return part("header", style=style(sheet), folder=folder.resolve().name)


def stepper(now: int) -> str:
    """Return the four steps, with the one that is next."""
    return part("stepper", now=now, steps=STEP_NAMES)


def go_to(place: str) -> str:
    """Return the script that brings a step into sight."""
    return f"() => setTimeout(() => document.querySelector('#{place}')?.scrollIntoView({{block: 'start'}}), 150)"


def shown(content: Any) -> dict[str, Any]:
    """Return what the page shows of a text or an image."""
    return page_content(lambda _: content, 0)


def data_html(look: DataLook) -> str:
    """Return step 1: what the data are, their first rows, and the doctor's findings."""
    problems = [(problem, [(row, shown(row.content)) for row in problem.rows]) for problem in look.problems]
    first = [(row, shown(row.content)) for row in look.rows]
    task = look.task.replace("-", " ")
    most = max(look.classes.values(), default=1)
    return part("data", look=look, task=task, first=first, problems=problems, most=most)


def run_html(state: RunState, metric: str) -> str:
    """Return step 3: the steps of a run, its curve, what is left."""
    words, look = _WORDS[state.status]
    known = {step.name: step for step in state.steps}
    steps = []
    for name in dict.fromkeys([*known, *STEPS]) if state.status in GOING else known:
        step = known.get(name)
        kind = "later" if step is None else "done" if step.done else "now"
        detail = "" if step is None else statements.duration(step.seconds) if step.done else step.detail
        steps.append((name, kind, detail))
    steps.sort(key=lambda one: STEPS.index(one[0]) if one[0] in STEPS else len(STEPS))
    return part(
        "training",
        state=state,
        title=state.folder.name,
        words=words,
        look=look,
        took=statements.duration(state.seconds) if state.seconds else "",
        left=statements.duration(state.left) if state.left and state.status == "running" else "",
        steps=steps,
        plots=plots({state.folder.name: state.points}, metric),
    )


def plots(curves: dict[str, Sequence[Point]], metric: str = "score") -> list[dict[str, Any]]:
    """Return the plots of the curves of one or more runs: the loss, and the score on the validation rows.

    Vega's charts, as in the report, take a process and a second each: too much for a curve that grows every two seconds.
    """
    made = []
    for title, key in ((f"{metric} on validation rows", "score"), ("Loss on training rows", "loss")):
        lines = {name: _placed(points, key) for name, points in curves.items()}
        lines = {name: line for name, line in lines.items() if line}
        values = [value for line in lines.values() for _, value in line]
        if values:
            made.append(_plot(title, lines, values, key))
    return made


def _placed(points: Sequence[Point], key: str) -> list[tuple[float, float]]:
    """Return (epochs since the beginning of the run, value): stages and trials follow each other."""
    placed, before, last = [], 0.0, None
    for point in points:
        if last is not None and (point.stage != last.stage or point.step < last.step):
            before += last.epoch
        last, value = point, getattr(point, key)
        if value is not None:
            placed.append((before + point.epoch, float(value)))
    return placed


def _plot(title: str, lines: dict[str, Any], values: list[float], key: str) -> dict[str, Any]:
    low, high, most = min(values), max(values), max(x for line in lines.values() for x, _ in line) or 1.0
    spread, base = (high - low, low) if high > low else (1.0, low - 0.5)  # a flat line lies in the middle
    series = []
    for name, line in lines.items():
        places = [f"{100 * x / most:.2f} {95 - 90 * (y - base) / spread:.2f}" for x, y in line]
        path, dots = "M" + "L".join(places), "".join(f"M{place}h0" for place in places)
        series.append({"name": name, "path": path, "dots": dots if key == "score" or len(places) == 1 else ""})
    share = key == "score" and low >= 0 and high <= 1
    said = [statements.percent(value) if share else statements.number(value) for value in (low, high)]
    ends = ("0", f"{most:.3g} epochs")
    lowest = "" if high == low else said[0]
    return {"title": title[0].upper() + title[1:], "series": series, "low": lowest, "high": said[1], "ends": ends}


def result_html(view: ResultView) -> str:
    """Return step 4, as the report begins: the score, the ladder, the verdict."""
    evidence = view.report.get("evidence") or {}
    page = templates("hftl.ui").get_template("result.html")
    return page.render(
        verdict=statements.banner(view.report, evidence),
        hero=views.hero(view.report, evidence),
        cards=views.cards(view.report, evidence),
    )
