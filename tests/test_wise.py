"""`--method wise`: the line between the probe-headed base and the tuned weights, and the point that is taken."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hftl import terminal
from hftl.errors import ConfigError
from hftl.methods import wise
from hftl.methods.wise import ALPHAS, between
from hftl.report.show import show_result
from tests.runs import split_folder, subprocess_env, tiny_run, weights
from tests.tiny import build


FLAGS: dict[str, Any] = {"max_steps": -1, "num_train_epochs": 3, "learning_rate": 5e-3, "augment": "none"}
TEXT = {"pooling": "native"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("wise")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


def _run(family: str, method: str, folder: Path, name: str | None = None, **flags: Any) -> Any:
    pooling = TEXT if family == "bert" else {}
    return tiny_run(family, method, folder, name or f"{family}-{method}", **{**FLAGS, **pooling, **flags})


@pytest.mark.parametrize("family", ["bert", "resnet"])
def test_the_line_runs_from_the_probe_to_full(family: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe, full, run = (_run(family, method, folder) for method in ("probe", "full", "wise"))
    ends = [weights(result.run_dir, family) for result in (probe, full)]
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert [stage["name"] for stage in run.report["stages"]] == ["probe", "full", "interpolation"]
    found = run.report["stages"][-1]["interpolation"]
    assert [point["alpha"] for point in found["curve"]] == list(ALPHAS)
    scores = [point["score"] for point in found["curve"]]
    for result, score in ((probe, scores[0]), (full, scores[-1])):
        assert result.report["metrics"]["validation"]["macro_f1"]["value"] == score
    assert found["metric"] == "macro_f1"
    assert found["alpha"] == ALPHAS[scores.index(max(scores))]  # the first, where several are the best
    low, high = [], []
    for alpha, end in ((0.0, low), (1.0, high)):
        monkeypatch.setattr(wise, "ALPHAS", (alpha,))
        end.append(weights(_run(family, "wise", folder, f"{family}-at-{alpha}").run_dir, family))
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in high[0].items())
    # The head starts from the probe's with smaller weights, which answers alike; below it nothing differs.
    head = [name for name, tensor in low[0].items() if not torch.equal(tensor, ends[0][name])]
    assert all(name.startswith("classifier") for name in head)
    if head:
        first, probed = (end[name].flatten()[0] for end in (low[0], ends[0]) for name in head[:1])
        assert 0 < first / probed < 1
        assert all(torch.allclose(low[0][name], ends[0][name] * first / probed, atol=1e-5) for name in head)
    mixed = between(low[0], ends[1], found["alpha"])
    assert all(torch.equal(tensor, mixed[name]) for name, tensor in weights(run.run_dir, family).items())


def test_every_weight_is_mixed_and_equal_ones_stay() -> None:
    base = {"w": torch.tensor([0.0, 2.0]), "mask": torch.tensor([-torch.inf]), "n": torch.tensor(3)}
    tuned = {**{k: v.clone() for k, v in base.items()}, "w": torch.tensor([1.0, -2.0])}
    mixed = between(base, tuned, 0.25)
    assert torch.equal(mixed["w"], torch.tensor([0.25, 1.0]))
    assert torch.equal(mixed["mask"], base["mask"])
    assert torch.equal(mixed["n"], base["n"])


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_the_metric_is_the_one_of_the_best_checkpoint(metric: str, folder: Path) -> None:
    run = _run("bert", "wise", folder, f"by-{metric}", metric_for_best_model=metric)
    found = run.report["stages"][-1]["interpolation"]
    assert found["metric"] == metric
    validation = run.report["metrics"]["validation"]
    value = -validation["log_loss"] if metric == "loss" else validation["accuracy"]["value"]
    assert max(point["score"] for point in found["curve"]) == pytest.approx(value, abs=1e-6)


def test_a_random_head_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="makes no sense"):
        _run("bert", "wise", folder, "impossible", init_head="random")


@pytest.mark.slow
def test_report_and_page_show_what_was_kept(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    run = _run("bert", "wise", folder, "evidence", evidence=True)
    found = run.report["stages"][-1]["interpolation"]
    kept = {point["alpha"]: point["kept"] for point in found["curve"] if point["kept"] is not None}
    assert set(kept) == {0.0, found["alpha"], 1.0}
    assert kept[0.0] == 1.0 > kept[1.0]
    assert kept[found["alpha"]] == run.report["evidence"]["forgetting"]["kept"]
    monkeypatch.setattr(terminal, "verbose", True)
    show_result(run.report, str(run.run_dir))
    assert "Between base and tuned model" in capsys.readouterr().err
    assert "Between the base and the tuned model" in (run.run_dir / "report.html").read_text()
    assert not list(run.run_dir.glob("stage-*"))


@pytest.mark.slow
def test_two_processes_take_the_same_point(folder: Path) -> None:
    split_folder(folder / "two", 32, other=13)
    build("bert", folder / "still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    flags = {"data": folder / "two", "model": folder / "still", "method": "wise", "use_cpu": "true", "bf16": "false"}
    flags |= {"num_train_epochs": 3, "train_sampling_strategy": "random", "learning_rate": 5e-3}
    flags |= {"evidence": "full", "loss": "logit_adjusted", "keep": 0.93}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    reports = []
    for name, rows, start in (("alone", 8, []), ("pair", 4, launch)):
        more = {**flags, "output_dir": folder / name, "per_device_train_batch_size": rows}
        words = [str(w) for k, v in more.items() for w in (f"--{k}", v)]
        command = [sys.executable, *start, "-m", "hftl", "train", "text-classification", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=subprocess_env(), timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        reports.append(json.loads((folder / name / "report.json").read_text()))
    alone, pair = (report["stages"][-1]["interpolation"] for report in reports)
    assert pair["alpha"] == alone["alpha"]
    assert 0 < alone["alpha"] < 1  # --keep bounds it
    assert [p["kept"] for p in pair["curve"]] == pytest.approx([p["kept"] for p in alone["curve"]], rel=1e-5)
    assert [p["score"] for p in pair["curve"]] == pytest.approx([p["score"] for p in alone["curve"]])
    assert len(reports[1]["stages"][-1]["weights"]) == 16  # equal on both
