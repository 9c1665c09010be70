"""A Hub that fails while a model or data are read: one line says so, and none speaks of pickles or missing files."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from hftl.data.sources import read_source
from hftl.errors import DataError, ModelError
from hftl.predict import load
from tests.command import hftl as command
from tests.command import text_csv
from tests.hub.target import HubTarget, target_fixture
from tests.push import unchecked
from tests.runs import tiny_run


target = target_fixture(real=False)


@pytest.fixture(scope="module")
def served(target: HubTarget, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and data that lie on the Hub."""
    folder, root = tmp_path_factory.mktemp("made"), target.loopback().root
    final = tiny_run("bert", "probe", folder, data=str(text_csv(folder / "rows.csv"))).run_dir / "final"
    shutil.copytree(final, root / "models" / "me" / "model")
    shutil.copytree(folder, root / "datasets" / "me" / "rows", ignore=lambda _, names: {*names} - {"rows.csv"})
    return root


@pytest.fixture
def client(target: HubTarget, served: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as a client with an empty cache, which waits for nothing."""
    shutil.rmtree(target.home, ignore_errors=True)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", target.endpoint)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", target.home / "datasets")
    with target.api(), unchecked():
        yield
    target.loopback().faults.clear()


BROKEN = "The Hub fails while {name} is read (500"
CASES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("{file}", {"status": 500}, BROKEN),
    ("{file}", {"status": 429}, "The Hub asks to slow down (429"),
    ("{file}", {"drop_reply": True}, "The connection to http://127.0.0.1:"),
    (".", {"status": 500}, BROKEN),
    (".", {"status": 401}, "The Hub does not accept this token (401"),
    (".", {"status": 403}, "This token may not read {name} (403"),
)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(("path", "how", "says"), CASES)
@pytest.mark.parametrize("what", ["model", "rows"])
def test_one_line_says_what_the_hub_did(target: HubTarget, what: str, path: str, how: Any, says: str) -> None:
    name, file = f"me/{what}", {"model": "resolve.*safetensors", "rows": "resolve.*csv"}[what]
    for method in ("GET",) if file in path.format(file=file) else ("GET", "HEAD"):
        target.loopback().fail(method, path.format(file=file), times=None, **how)
    with pytest.raises(ModelError if what == "model" else DataError) as caught:
        load(name) if what == "model" else read_source(name, "text")
    line = str(caught.value)
    assert line.startswith(says.format(name=name))
    assert "\n" not in line
    assert "pickle" not in line


@pytest.mark.usefixtures("client")
def test_what_is_whole_is_read() -> None:
    assert load("me/model").labels == ("mood0", "mood1", "mood2")
    assert len(read_source("me/rows", "text").tables["train"]) == 60


@pytest.mark.usefixtures("client")
def test_no_bars_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    datasets.enable_progress_bars()  # another test may have silenced them
    done = command(capsys, "plan", "--data", "me/rows", "--model", "me/nothing")
    assert done.code == 2
    assert "Generating" not in done.err
    assert done.err.splitlines()[-1].startswith("error: There is no model 'me/nothing' on the Hub")
