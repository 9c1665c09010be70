"""Runs on real weights and real data whose verdict is known."""

from pathlib import Path
from typing import Any

import pytest

from hftl import adapt
from hftl.models.packaged import is_installed


MINILM, LITE = "sentence-transformers/all-MiniLM-L6-v2", "efficientnet-lite0"
pytestmark = pytest.mark.skipif(
    not (is_installed(MINILM) and is_installed(LITE)), reason="the packaged checkpoints are not installed"
)


def _texts(folder: Path, rows: int | None, method: str = "probe", **flags: Any) -> dict[str, Any]:
    run = adapt(
        "text-classification", data="sample:wikipedia-topics", model=MINILM, method=method, max_seq_length=128,
        max_train_samples=rows, output_dir=folder / "run", use_cpu=True, **flags,
    )  # fmt: skip
    return run.report["evidence"]


def _digits(folder: Path, method: str, **flags: Any) -> dict[str, Any]:
    run = adapt(
        "image-classification", data="sample:digits", model=LITE, method=method, image_size=64, no_flip=True,
        output_dir=folder / "run", use_cpu=True, **flags,
    )  # fmt: skip
    return run.report["evidence"]


@pytest.mark.slow
def test_few_rows_of_a_near_domain_are_positive(tmp_path: Path) -> None:
    evidence = _texts(tmp_path, 300)
    verdict = evidence["verdict"]
    assert verdict["label"] == "POSITIVE"
    assert verdict["macro_f1"]["label"] == "POSITIVE"
    assert 0 < verdict["low"] < verdict["gap"] < verdict["high"]
    assert verdict["p"] < 0.001
    assert not (tmp_path / "run" / "baseline").exists()
    rungs = {rung["name"]: rung for rung in evidence["ladder"]}
    assert rungs["probe, random weights"]["accuracy"]["high"] < rungs["probe on frozen features"]["accuracy"]["low"]
    assert evidence["forgetting"]["kept"] == 1.0


@pytest.mark.slow
def test_digits_are_far_from_photographs(tmp_path: Path) -> None:
    evidence = _digits(tmp_path, "probe")
    verdict = evidence["verdict"]
    assert verdict["label"] == "NEGATIVE"
    assert "raw pixels" in verdict["against"]
    assert verdict["high"] < 0
    assert verdict["advice"]
    assert (tmp_path / "run" / "baseline" / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_rows_of_a_near_domain_are_neutral(tmp_path: Path) -> None:
    verdict = _texts(tmp_path, None)["verdict"]
    assert verdict["label"] == "NEUTRAL"
    assert verdict["low"] < 0 < verdict["high"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fine_tuning_mends_the_far_domain(tmp_path: Path) -> None:
    evidence = _digits(tmp_path, "full", num_train_epochs=6)
    assert evidence["verdict"]["label"] != "NEGATIVE"
    assert 0 < evidence["forgetting"]["kept"] < 1
