"""`hftl runs`: every run under a folder, whatever became of it, read from the disk without torch."""

import json
from pathlib import Path

import pytest

from hftl.errors import RunError
from hftl.evaluation.scale import FIGURES, HEADLINES
from hftl.run_folder import claim, release
from hftl.runs import Point, compare_two, curve, curve_of, list_runs, process_folder, table
from hftl.tasks import TASKS, combinations
from tests.command import environment, hftl, shell, text_csv
from tests.runs import split_folder, tiny_run


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two runs on the same rows, one on others."""
    folder = tmp_path_factory.mktemp("made")
    data = str(split_folder(folder / "data", 40, 30))
    tiny_run("bert", "probe", folder, "runs/probe", data=data, evidence="quick")
    tiny_run(
        "bert", "full", folder, "runs/deeper/full", data=data, max_steps=4, logging_steps=2, eval_strategy="epoch"
    )
    tiny_run("bert", "probe", folder, "runs/other", data=str(text_csv(folder / "moods.csv")))
    return folder / "runs"


def partial(folder: Path, config: str = "task: text-classification\ndata: x.csv\nmethod: full\n") -> Path:
    """What a run that was cut off leaves."""
    work = folder.with_name(f"{folder.name}.partial")
    work.mkdir(parents=True)
    (work / "rows.json").write_text("{}")
    (work / "config.yaml").write_text(config)
    return work


def test_headlines_are_those_of_the_outputs():
    outputs = {task.output.problem_type: task.output for name in TASKS for task in combinations(name)}
    assert {name: output.headline for name, output in outputs.items()} == HEADLINES
    for output in outputs.values():
        assert [score for score in output.compared if not output.written(score).share] == [
            score for score in output.compared if score in FIGURES
        ]


def test_finished_runs_say_what_their_reports_say(made):
    runs = {run.folder.name: run for run in list_runs(made)}
    assert set(runs) == {"probe", "full", "other"}
    for run in runs.values():
        report = json.loads((run.folder / "report.json").read_text())
        score = report["metrics"]["test"]["accuracy"]
        assert (run.status, run.metric, run.value, run.low, run.high) == ("finished", "accuracy", *score.values())
        assert (run.method, run.data, run.date) == (report["method"], report["data"]["name"], report["date"])
    assert runs["probe"].verdict in ("POSITIVE", "NEGATIVE", "EQUIVALENT", "UNDECIDED")
    assert runs["full"].verdict is None
    assert [run.date for run in list_runs(made)] == sorted((run.date for run in runs.values()), reverse=True)


def test_the_verb_prints_the_same_table_and_json(capsys, made):
    runs = list_runs(made)
    header, rows = table(runs)
    said = hftl(capsys, "runs", made)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == f"3 runs under {made}"
    assert all(name in lines[1] for name in header)
    for row, line in zip(rows, lines[2:], strict=False):
        assert all(cell in line for cell in row)
    printed = hftl(capsys, "runs", made, "--json").json
    assert [one["folder"] for one in printed] == [str(run.folder) for run in runs]
    assert [one["value"] for one in printed] == [run.value for run in runs]
    assert [run.folder for run in list_runs(made / "probe")] == [made / "probe"], "a run is a folder of runs of one"
    nothing = hftl(capsys, "runs", made / "nosuch")
    assert (nothing.code, nothing.out) == (2, "")
    assert nothing.err.startswith("error: There is no folder")


def test_the_verb_needs_no_torch(made):
    code = f"import sys; from hftl.cli import run_command; run_command(['runs', {str(made)!r}]); print({{'torch', 'scipy', 'pandas'}} & {{*sys.modules}})"
    assert shell(["-c", code], made, environment()).out.splitlines()[-1] == "set()"


def test_runs_that_are_not_finished_and_folders_that_are_damaged(tmp_path):
    runs = tmp_path / "runs"
    partial(runs / "stopped")
    partial(runs / "held")
    partial(runs / "odd", "task: [")
    (runs / "torn").mkdir()
    (runs / "torn" / "config.yaml").write_text("task: text-classification\n")
    (runs / "torn" / "report.json").write_text('{"schema_version": 1, "met')
    (runs / "bare").mkdir()
    (runs / "bare" / "config.yaml").write_text("task: text-classification\n")
    (runs / "bare" / "report.json").write_text('{"metrics": 3}')
    (runs / "many.seeds" / "seed-42").mkdir(parents=True)
    (runs / "no run").mkdir()
    (runs / "no run" / "config.yaml").write_text("x: 1")
    home = process_folder(runs / "failed")
    home.mkdir()
    words = ["text-classification", "--data", "rows.csv", "--method", "lora"]
    (home / "start.json").write_text(json.dumps({"words": words, "pid": 0, "created": 0.0}))
    lines = [{"time": 1.0, "started": True}, {"time": 4.0, "error": "the data are gone."}]
    (home / "progress.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    claim(runs / "held")
    try:
        found = {run.folder.name: run for run in list_runs(runs)}
    finally:
        release(runs / "held")
    assert {name: run.status for name, run in found.items()} == {
        **{"stopped": "stopped", "held": "running", "odd": "damaged", "torn": "damaged", "bare": "damaged"},
        **{"many": "stopped", "failed": "failed"},
    }
    assert (found["stopped"].method, found["stopped"].data) == ("full", "x.csv")
    failed = found["failed"]
    assert (failed.problem, failed.method, failed.data, failed.seconds) == (
        "the data are gone.",
        "lora",
        "rows.csv",
        3.0,
    )
    assert "report.json is damaged" in found["torn"].problem
    assert len(table([*found.values()])[1]) == 7


def test_curves(made, tmp_path):
    points = curve(made / "deeper" / "full")
    assert [p.step for p in points if p.loss is not None] == [2, 4]
    assert [p for p in points if p.score is not None]
    assert curve(made / "probe") == []
    work = partial(tmp_path / "cut")
    state = work / "checkpoints" / "stage-1" / "checkpoint-6"
    state.mkdir(parents=True)
    history = [{"loss": 0.5, "epoch": 0.5, "step": 3}, {"eval_f1": 0.4, "eval_loss": 2.0, "epoch": 1.0, "step": 6}]
    (state / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    assert curve(tmp_path / "cut") == [Point("training", 3, 0.5, loss=0.5), Point("training", 6, 1.0, score=0.4)]


def test_steps_that_were_done_twice_count_once():
    mark = {"stage": "full", "epoch": 1.0}
    lines = [{**mark, "at_step": 5, "loss": 1.0}, {**mark, "at_step": 5, "score": 0.5}, {"started": True}]
    assert curve_of([*lines, {**mark, "at_step": 5, "loss": 0.9}]) == [Point("full", 5, 1.0, loss=0.9, score=0.5)]


def test_two_runs_are_compared_on_the_same_test_rows(made):
    pair = compare_two(made / "probe", made / "deeper" / "full")
    values = {run.folder.name: run.value for run in list_runs(made)}
    assert (pair.a, pair.b) == (pytest.approx(values["probe"]), pytest.approx(values["full"]))
    assert pair.rows == 30
    assert pair.gap == pytest.approx(pair.a - pair.b)
    assert pair.low <= pair.gap <= pair.high
    back = compare_two(made / "deeper" / "full", made / "probe")
    assert back.gap == pytest.approx(-pair.gap)
    same = compare_two(made / "probe", made / "probe")
    assert (same.gap, same.label) == (0.0, "NEUTRAL")
    assert "No difference is shown" in same.sentence


def test_runs_on_other_rows_are_not_compared(made, tmp_path):
    with pytest.raises(RunError, match="not tested on the same rows"):
        compare_two(made / "probe", made / "other")
    partial(tmp_path / "cut")
    with pytest.raises(RunError, match="is not finished"):
        compare_two(made / "probe", tmp_path / "cut")
