"""A race that is killed or stopped at any moment goes on to the bits of one that nobody disturbed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.commands import Server, assert_same_run, assert_whole, killed, report_of
from tests.faults.test_preempted import STEP, resume_words, stopped


LOOK, FIT = "hftl.selection.race:write_new", "hftl.selection.race:fit_plan"


WON = "tests.faults.setups:any_winner"


@pytest.fixture(scope="module")
def alone(server: Server) -> Path:
    """A race that ran through."""
    folder = server.place / "race"
    folder.mkdir()
    done = server.train(folder, "auto", setup=WON)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture
def table(alone: Path) -> list[str]:
    """The words that give another race the rungs of that one: step times are never twice the same."""
    return ["--race", yaml.safe_load((alone / "config.yaml").read_text())["race"]]


@pytest.mark.parametrize(
    "moment",
    [
        killed(STEP, 3, "after", FIT),
        killed(LOOK, 2),
        killed(LOOK, 3, "after"),
        killed("hftl.selection.race:save_file", 1),
    ],
    ids=["within a rung", "a look is not written", "a look is written", "weights are not written"],
)
def test_killed(moment: Any, server: Server, alone: Path, table: list[str], tmp_path: Path) -> None:
    done = server.train(tmp_path, "auto", *table, moments=[moment], setup=WON)
    assert done.code == -9, done.err
    again = server.train(tmp_path, "auto", "--resume", setup=WON)  # without the table, which lies in the run's folder
    assert again.code == 0, again.err
    assert_same_run(tmp_path / "run", alone)
    assert_whole(tmp_path)
    ours, theirs = (report_of(run)["selection"] for run in (tmp_path / "run", alone))
    told = [[{**trial, "seconds": 0} for trial in one["trials"]] for one in (ours, theirs)]
    assert told[0] == told[1]
    assert ours["winner"] == theirs["winner"]


def test_stopped(server: Server, alone: Path, table: list[str], tmp_path: Path) -> None:
    done = server.train(tmp_path, "auto", *table, moments=[stopped(STEP, 5, within=FIT)], setup=WON)
    assert done.code == 143, done.err
    again = server.command(tmp_path, *resume_words(done), setup=WON)
    assert again.code == 0, again.err
    assert_same_run(tmp_path / "run", alone)


def test_finished(server: Server, alone: Path, tmp_path: Path) -> None:
    """A finished race is not run again by --resume, though its table was never typed."""
    again = server.train(alone.parent, "auto", "--resume", moments=[killed(STEP)])
    assert again.code == 0, again.err
    assert "finished already" in again.err
    assert report_of(alone)["selection"]["trials"]
