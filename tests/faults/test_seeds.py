"""`--seeds` that is cut off keeps its finished seeds, and takes them up again for the same run only."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.commands import KILL, Moment, Server, assert_same_run, assert_whole, killed, report_of
from tests.faults.test_resume import contents, error_of


SEEDS = ("--seeds", 2)


@pytest.fixture(scope="module")
def both(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    assert server.train(folder, "full", *SEEDS).code == 0
    return folder / "run"


@pytest.mark.parametrize(
    "moment",
    [
        killed("transformers.trainer:Trainer.training_step", 18 + 9),
        killed("hftl.adapt:close_partial", 2, "after"),
        killed("hftl.seeds:put_in_place"),
    ],
    ids=lambda moment: moment[0],
)
def test_killed_and_resumed(moment: Moment, server: Server, both: Path, tmp_path: Path) -> None:
    done = server.train(tmp_path, "full", *SEEDS, moments=[moment])
    assert done.code == -KILL, done.err
    assert (tmp_path / "run.seeds" / "seed-42" / "report.json").is_file()
    more_than_one = [killed("transformers.trainer:Trainer.training_step", 18 + 1)]  # the first seed is not run again
    done = server.train(tmp_path, "full", *SEEDS, "--resume", moments=more_than_one)
    assert done.code == 0, done.err
    assert_same_run(tmp_path / "run", both)
    assert report_of(tmp_path / "run")["seeds"] == report_of(both)["seeds"]
    assert_whole(tmp_path)


@pytest.mark.parametrize(
    ("flags", "says"), [(["--resume", "--learning_rate", "1e-4"], "other flags"), ([], "holds seeds of a run")]
)
def test_refused(flags: list[Any], says: str, server: Server, tmp_path: Path) -> None:
    moments = [killed("transformers.trainer:Trainer.training_step", 18 + 9)]
    assert server.train(tmp_path, "full", *SEEDS, moments=moments).code == -KILL
    before = contents(tmp_path / "run.seeds")
    assert says in error_of(server.train(tmp_path, "full", *SEEDS, *flags))
    assert contents(tmp_path / "run.seeds") == before
    assert server.train(tmp_path, "full", *SEEDS, "--overwrite").code == 0
    assert_whole(tmp_path)
