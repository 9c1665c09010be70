"""Data of odd sizes: the evidence is right, or one line says why there is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hftl.errors import DataError
from tests.runs import text_frame, tiny_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("sizes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


def _split(folder: Path, name: str, train: pd.DataFrame, test: pd.DataFrame) -> str:
    place = folder / name
    place.mkdir()
    train.to_csv(place / "train.csv", index=False)
    test.to_csv(place / "test.csv", index=False)
    return str(place)


def _run(folder: Path, name: str, method: str, data: Any, **flags: Any) -> tuple[dict[str, Any], str]:
    run = tiny_run("bert", method, folder, f"run-{name}", data=data, evidence=True, **flags)
    return run.report["evidence"], (run.run_dir / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("method", ["probe", pytest.param("full", marks=pytest.mark.slow)])
def test_two_test_rows(method: str, folder: Path) -> None:
    data = _split(folder, f"two-{method}", text_frame(60), text_frame(8, seed=1).groupby("label").head(1)[:2])
    evidence, page = _run(folder, f"two-{method}", method, data)
    assert evidence["verdict"]["label"] == "NEUTRAL"  # two rows show nothing
    assert evidence["verdict"]["low"] <= 0 <= evidence["verdict"]["high"]
    assert "Undecided: too few test rows to tell" in page


def test_one_class_in_test(folder: Path) -> None:
    test = text_frame(60, seed=1)
    data = _split(folder, "one-class", text_frame(60), test[test["label"] == "class_1"])
    evidence, _ = _run(folder, "one-class", "probe", data)
    assert {true for true, _, _ in evidence["confusion"]} == {1}
    assert any(f["check"] == "missing_classes" and f["level"] != "PASS" for f in evidence["doctor"])


@pytest.mark.slow
def test_a_thousand_classes(folder: Path) -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(1000)]
    rows = [(f"{words[i]} {rng.choice(words)}", f"c{i:04d}") for i in range(1000) for _ in range(3)]
    evidence, page = _run(folder, "thousand", "probe", pd.DataFrame(rows, columns=["text", "label"]))
    assert len(evidence["ladder"]) >= 5
    assert len(page) < 5_000_000
    assert all(0 <= cell[0] < 1000 and 0 <= cell[1] < 1000 for cell in evidence["confusion"])


def test_texts_of_megabytes(folder: Path) -> None:
    frame = text_frame(60)
    frame.loc[0, "text"] = frame.loc[0, "text"] + " happy" * 400_000
    evidence, page = _run(folder, "long", "probe", frame)
    assert len(page) < 3_000_000
    assert evidence["ladder"]


@pytest.mark.parametrize("shots", [1, 2])
def test_a_row_or_two_of_each_class(shots: int, folder: Path) -> None:
    evidence, _ = _run(folder, f"shots-{shots}", "probe", text_frame(80), shots=shots)
    assert evidence["ladder"][-1]["accuracy"]["value"] > 0
    assert evidence["suspects"] == []


@pytest.mark.parametrize(
    ("retain", "says"), [("sample:digits", "it holds images"), ("nowhere.csv", "nowhere.csv"), ("few", "at least 30")]
)
def test_a_retention_set_that_does_not_fit(retain: str, says: str, folder: Path) -> None:
    if retain == "few":
        retain = str(folder / "few.csv")
        text_frame(5, seed=9).to_csv(retain, index=False)
    with pytest.raises(DataError, match=says) as caught:
        _run(folder, f"retain-{says[:3]}", "full", text_frame(60), retain=retain)
    assert "\n" not in str(caught.value)
    assert not list(folder.glob("run-retain-*"))
