"""What a run's evidence holds, on tiny models: every part there, the artifacts agreeing with it, two processes alike."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from hftl.predict import load
from tests.command import hftl
from tests.runs import stock_model, text_frame, tiny_data, tiny_run


PARTS = {
    "ladder", "verdict", "forgetting", "calibration", "abstain", "slices", "confusion", "worst_rows", "suspects",
    "doctor", "seconds",
}  # fmt: skip
ON: dict[str, Any] = {"evidence": True, "retain": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("evidence")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


def _data(n: int = 160) -> pd.DataFrame:
    frame = text_frame(n)
    return frame.assign(source=["mail" if i % 3 else "phone" for i in range(n)])


@pytest.mark.parametrize(
    ("family", "method"),
    [
        pytest.param("bert", "lora", marks=pytest.mark.slow),
        ("resnet", "full"),
        pytest.param("bert", "probe", marks=pytest.mark.slow),
        pytest.param("bert", "full", marks=pytest.mark.slow),
        pytest.param("distilbert", "gradual", marks=pytest.mark.slow),
        pytest.param("vit", "head", marks=pytest.mark.slow),
    ],
)
def test_every_part_is_there(family: str, method: str, folder: Path) -> None:
    data = {"data": _data(), "slice_column": "source"} if family in ("bert", "distilbert") else {}
    steps = {"max_steps": 12} if method == "gradual" else {}  # the first step of a warmup has no rate
    run = tiny_run(family, method, folder, **ON, **data, **steps)
    report = json.loads((run.run_dir / "report.json").read_text())
    evidence = report["evidence"]
    assert set(evidence) == PARTS
    assert all(set(step) == {"advice", "reason", "flags"} for step in evidence["verdict"]["advice"])
    kinds = [rung["kind"] for rung in evidence["ladder"]]
    assert kinds[0] == "majority"
    assert kinds[-1] == "method"
    assert {"no-pretraining", "features", "control"} <= set(kinds)
    own = evidence["ladder"][-1]
    assert own["accuracy"] == report["metrics"]["test"]["accuracy"]
    assert sum(n for _, _, n in evidence["confusion"]) == report["data"]["rows"]["test"]
    right = sum(n for true, predicted, n in evidence["confusion"] if true == predicted)
    assert right / report["data"]["rows"]["test"] == pytest.approx(own["accuracy"]["value"])
    assert ("No weight below the head changed" in evidence["forgetting"]["note"]) == (method in ("probe", "head"))
    assert 0 < evidence["forgetting"]["kept"] <= 1
    if data:
        assert {s["slice"] for s in evidence["slices"] if s["by"] == "source"} == {"mail", "phone"}
    assert (run.run_dir / "report.html").stat().st_size > 10_000
    assert not (run.run_dir / "control").exists()


def test_no_row_stands_in_the_report(folder: Path) -> None:
    frame = _data()
    text = (tiny_run("bert", "full", folder, "private", data=frame, **ON).run_dir / "report.json").read_text()
    assert not [row for row in frame["text"] if row in text]


def test_evidence_off_leaves_it_all_out(folder: Path) -> None:
    run = tiny_run("bert", "full", folder, "off", evidence=False)
    assert run.report["evidence"] is None
    assert run.report["baselines"] == []
    assert not (run.run_dir / "report.html").exists()


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("bert", "lora"),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (("bert", "full"), ("bert", "probe"), ("resnet", "full"))
        ),
    ],
)
def test_the_temperature_is_in_the_saved_head(family: str, method: str, folder: Path) -> None:
    """Evidence changes nothing but the scale of the logits, and the saved model has that scale."""
    data = {"data": _data()} if family == "bert" else {}
    plain = tiny_run(family, method, folder, f"t-plain-{family}-{method}", evidence=False, **data)
    run = tiny_run(family, method, folder, f"t-{family}-{method}", evidence=True, validation_size=0.3, **data)
    again = tiny_run(family, method, folder, f"t-again-{family}-{method}", evidence=False, validation_size=0.3, **data)
    temperature = run.report["evidence"]["calibration"]["temperature"]
    rows = list(_data()["text"][:8]) if family == "bert" else _pictures(folder)
    predictors = [load(r.run_dir) for r in (run, again)]
    scaled = [predictor.logits(predictor.task.inputs.table(rows)) for predictor in predictors]
    assert np.allclose(scaled[0] * temperature, scaled[1], atol=1e-4)
    assert plain.report["evidence"] is None


def _pictures(folder: Path) -> list[Path]:
    return sorted(Path(tiny_data("resnet", folder)).rglob("*.png"))[:8]


@pytest.mark.slow
def test_the_control_is_trained_from_random_weights(folder: Path) -> None:
    run = tiny_run("bert", "full", folder, "scratch", control="scratch", data=_data(), **ON)
    rungs = {rung["name"]: rung for rung in run.report["evidence"]["ladder"]}
    assert rungs["trained from random weights"]["kind"] == "control"
    assert re.search(
        r"epochs; the run against it: (POSITIVE|NEUTRAL|NEGATIVE), .* points, 95% ",
        rungs["trained from random weights"]["note"],
    )
    plain = tiny_run("bert", "full", folder, "no-scratch", data=_data(), **ON)
    a, b = (stock_model("bert", r.run_dir / "final")[0].state_dict() for r in (run, plain))
    assert all(torch.equal(a[k], b[k]) for k in a)  # the control changes nothing in the run itself


def test_wrong_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    _data().to_csv(tmp_path / "t.csv", index=False)
    words = ["train", "text-classification", "--data", "t.csv", "--model", "all-MiniLM-L6-v2"]
    for flags, says in (
        (["--control", "scrath"], "--control is one of none, scratch"),
        (["--target_precision", "1"], "--target_precision"),
        (["--control", "scratch", "--evidence", "off"], "--control is a part of the evidence"),
        (["--retain", "t.csv", "--evidence", "off"], "--retain is a part of the evidence"),
        (["--slice_column", "sauce"], "slice_column: there is no column 'sauce'"),
    ):
        done = hftl(capsys, *words, *flags)
        assert done.code == 2
        (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert says in line
