"""Every text architecture with every method: the contract, or one line before anything is computed."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from peft import PeftModel

from hftl.adapt import adapt, complete
from hftl.config import build_config
from hftl.errors import ConfigError, DataError, ModelError
from hftl.evaluation.logistic import fit_logistic, fit_probe
from hftl.evidence import ladder
from hftl.models.heads import fold_temperature, states_by_token
from hftl.planning.plan_report import plan_report
from tests.architectures.contract import FLAGS, METHODS, check_contract
from tests.architectures.text_models import BIASLESS, FAMILIES, RECIPES, build_text
from tests.runs import split_folder, text_frame
from tests.thin import thin


TASK = "text-classification"
ROWS = ("i feel happy today", "sad", "angry furious day night morning we they it the house")  # none is cut
Checkpoints = Callable[[str], Path]

# A head without bias, layers that are no Linear, padding on the left, an encoder-decoder, a shortened sequence.
THIN = {("gpt2", "lora"), ("mistral", "gradual"), ("t5", "full"), ("funnel", "head")}
PADDED_READS = ("convbert",)  # answers depend on padding: refused
TABLE = [
    pytest.param(family, method, marks=() if (family, method) in THIN else pytest.mark.slow)
    for family in FAMILIES
    if family not in PADDED_READS
    for method in METHODS
]


@pytest.mark.parametrize(("family", "method"), TABLE)
def test_contract(family: str, method: str, text_checkpoint: Checkpoints, tmp_path: Path) -> None:
    run = check_contract(text_checkpoint(family), TASK, text_frame(40), method, tmp_path / "run", ROWS)
    if family in ("t5", "mt5", "bart", "funnel"):
        assert run.report["pooling"] == "native"
    if family in BIASLESS and run.report["pooling"] == "native":
        assert run.report["stages"][0]["trainable_parameters"] == 3 * 32


def test_a_text_that_holds_the_end_mark_is_refused_in_one_line(text_checkpoint: Checkpoints, tmp_path: Path) -> None:
    rows = text_frame(40)
    rows.loc[3, "text"] = "happy </s> sad"
    with pytest.raises(DataError, match="end mark"):
        adapt(TASK, data=rows, model=str(text_checkpoint("t5")), method="probe", output_dir=tmp_path / "run", **FLAGS)
    assert not list(tmp_path.glob("run*"))


@pytest.mark.parametrize(("family", "marks", "scored"), [("gpt2", ("", ""), -1), ("llama", ("<s>", "</s>"), -2)])
def test_a_decoder_holds_the_whole_solution_in_its_weight(
    family: str, marks: tuple[str, str], scored: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The saved weight is the regression on the states that are scored: not on an end mark that is padding too."""
    monkeypatch.setitem(RECIPES, family, replace(RECIPES[family], marks=marks))
    folder = build_text(family, tmp_path / family)
    data = split_folder(tmp_path / "data", train=30)
    run = adapt(TASK, str(data), str(folder), "probe", tmp_path / "run", pooling="native", **FLAGS)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(run.run_dir / "final")
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.run_dir / "final")
    assert model.score.bias is None
    train = pd.read_csv(data / "train.csv")
    with torch.no_grad():
        states = [model.base_model(**tokenizer(text, return_tensors="pt"))[0][0, scored] for text in train["text"]]
    labels = train["label"].str.removeprefix("class_").astype(int).to_numpy()
    weight, _ = fit_logistic(torch.stack(states).numpy(), labels, 3, run.report["probe"]["C"], intercept=False)
    np.testing.assert_allclose(model.score.weight.detach().numpy(), weight, atol=1e-3 * np.abs(weight).max())


# Padding


@pytest.mark.parametrize("method", thin(METHODS, ("probe",)))
def test_answers_that_depend_on_padding_are_refused_before_anything(
    method: str, text_checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys.modules["hftl.adapt"], "frozen_features", None
    )  # would be called to compute the first thing
    with pytest.raises(ModelError, match="padded beside a longer one") as refused:
        adapt(TASK, text_frame(40), str(text_checkpoint("convbert")), method, tmp_path / "run", **FLAGS)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_positions_that_count_padding_are_padded_on_the_right(tmp_path: Path) -> None:
    folder = build_text("gpt2", tmp_path / "gpt2", side="left")
    run = check_contract(folder, TASK, text_frame(40), "probe", tmp_path / "run", ROWS, pooling="native")
    assert transformers.AutoTokenizer.from_pretrained(run.run_dir / "final").padding_side == "right"
    assert "pads on the right" in " ".join(run.report["warnings"])


def test_a_config_with_another_padding_token_gets_the_tokenizers(tmp_path: Path) -> None:
    folder = build_text("mistral", tmp_path / "mistral", side="right", pad_token_id=9)
    run = check_contract(folder, TASK, text_frame(40), "probe", tmp_path / "run", ROWS, pooling="native")
    assert transformers.AutoConfig.from_pretrained(run.run_dir / "final").pad_token_id == 0
    assert "they differed" in " ".join(run.report["warnings"])


# Pooling


@pytest.mark.parametrize(
    ("family", "whole"), [("bert", True), ("gpt2", True), ("funnel", False), ("t5", False), ("bart", False)]
)
def test_bodies_with_a_state_for_each_token(family: str, whole: bool, text_checkpoint: Checkpoints) -> None:
    folder = text_checkpoint(family)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert states_by_token(model, transformers.AutoTokenizer.from_pretrained(folder)) is whole


@pytest.mark.parametrize("family", thin(("t5", "funnel"), ("t5",)))
def test_a_mean_that_there_is_not_is_refused_before_anything(
    family: str, text_checkpoint: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["hftl.adapt"], "frozen_features", None)
    with pytest.raises(ConfigError, match="--pooling mean"):
        adapt(TASK, text_frame(40), str(text_checkpoint(family)), "head", tmp_path / "run", pooling="mean", **FLAGS)
    assert list(tmp_path.iterdir()) == []


# The probe without a bias


def _shifted(n: int = 300, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Features with means far from zero, and labels that a linear model can learn."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) * rng.uniform(0.5, 2, d) + rng.normal(size=d) * 5
    y = ((x - x.mean(0)) @ rng.normal(size=(d, 3)) + 0.3 * rng.gumbel(size=(n, 3))).argmax(1)
    return x.astype(np.float32), y


def test_without_intercept_it_is_the_optimum_of_its_objective() -> None:
    x, y = _shifted()
    weight, bias = fit_logistic(x, y, 3, c=0.5, intercept=False)
    assert not bias.any()
    scale = x.astype(np.float64).std(0)
    w = torch.tensor(weight * scale, dtype=torch.float64, requires_grad=True)
    logits = torch.tensor(x / scale) @ w.T
    loss = 0.5 * torch.nn.functional.cross_entropy(logits, torch.tensor(y), reduction="sum") + 0.5 * (w**2).sum()
    (gradient,) = torch.autograd.grad(loss, w)
    assert float(gradient.abs().max()) < 1e-3  # fp32 weights; far from the optimum it is in the hundreds
    assert float(loss.detach()) < 0.5 * 300 * np.log(3)  # that of no weights


def test_without_intercept_it_is_nearly_as_good() -> None:
    x, y = _shifted(1200, 64)  # of few columns, the one direction that serves as an intercept would be missed
    plain, bare = (fit_probe({"native": x[:600]}, y[:600], 3, "auto", 0, None, no) for no in ((), ("native",)))
    right = [(p.logits(x[600:]).argmax(1) == y[600:]).mean() for p in (plain, bare)]
    assert not bare.bias.any()
    assert plain.bias.any()
    assert right[1] > right[0] - 0.03


def test_two_classes_without_intercept() -> None:
    x, y = _shifted()
    weight, bias = fit_logistic(x, (y > 0).astype(int), 2, c=1.0, intercept=False)
    np.testing.assert_allclose(weight[0], -weight[1])
    assert not bias.any()


def test_the_ladder_scores_the_probe_that_the_head_can_hold(text_checkpoint: Checkpoints, tmp_path: Path) -> None:
    given: list[Any] = []
    model = transformers.AutoModelForSequenceClassification.from_pretrained(text_checkpoint("gpt2"))
    ready = SimpleNamespace(
        loaded=SimpleNamespace(model=model, output="score", outputs=("score",)), splits=SimpleNamespace(labels="abc"), weights=None,
        config=SimpleNamespace(train_seed=0),
        task=SimpleNamespace(output=SimpleNamespace(probe=lambda *args: given.append(args))),
    )  # fmt: skip
    ladder._fit_best({}, np.zeros(3), ready)  # type: ignore[arg-type]
    assert given[0][-1] == ("native",)


def test_a_temperature_folds_into_a_head_without_bias(text_checkpoint: Checkpoints) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(text_checkpoint("gpt2"))
    before = model.score.weight.detach().clone()
    fold_temperature(model, "score", 2.0)
    torch.testing.assert_close(model.score.weight, before / 2)


def test_a_plan_for_a_decoder(text_checkpoint: Checkpoints, tmp_path: Path) -> None:
    flags = {"data": text_frame(60), "model": str(text_checkpoint("gpt2")), "method": "lora", **FLAGS}
    plan = plan_report(complete(build_config(TASK, {**flags, "output_dir": tmp_path / "run"})))
    assert [stage["name"] for stage in plan["stages"]] == ["probe", "lora"]
    assert plan["stages"][0]["trainable_parameters"] == 3 * 32


# LoRA and training


def test_lora_on_conv1d_merges_to_what_the_adapter_answers(text_checkpoint: Checkpoints, tmp_path: Path) -> None:
    base = text_checkpoint("gpt2")
    run = adapt(TASK, text_frame(40), str(base), "lora", tmp_path / "run", **{**FLAGS, "num_train_epochs": 3})
    auto = transformers.AutoModelForSequenceClassification
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.run_dir / "final")
    stock = auto.from_pretrained(base, num_labels=3, pad_token_id=tokenizer.pad_token_id)
    adapted = PeftModel.from_pretrained(stock, run.run_dir / "adapter").eval()
    merged = auto.from_pretrained(run.run_dir / "final").eval()
    batch = tokenizer(list(ROWS), padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(merged(**batch).logits, adapted(**batch).logits, atol=1e-5, rtol=1e-4)
    kinds = {type(module).__name__ for module in adapted.modules() if hasattr(module, "lora_A")}
    assert kinds == {"Linear"}  # peft's LoRA layer, which wraps Conv1D too
    fields = json.loads((run.run_dir / "adapter" / "adapter_config.json").read_text())
    assert fields["fan_in_fan_out"] is True


@pytest.mark.parametrize(
    ("family", "still"), [("llama", {}), pytest.param("t5", {"dropout_rate": 0.0}, marks=pytest.mark.slow)]
)
def test_accumulation_does_not_change_the_gradient(family: str, still: dict[str, Any], tmp_path: Path) -> None:
    folder = build_text(family, tmp_path / family, **still)
    data = split_folder(tmp_path / "data", train=16)
    norms = []
    for batch, steps in ((16, 1), (4, 4)):
        flags = {**FLAGS, "per_device_train_batch_size": batch, "gradient_accumulation_steps": steps, "max_steps": 1}
        run = adapt(
            TASK, str(data), str(folder), "full", tmp_path / f"run-{steps}",
            logging_steps=1, **flags,
        )  # fmt: skip
        history = run.report["stages"][-1]["history"]
        norms.append(next(entry["grad_norm"] for entry in history if "grad_norm" in entry))
    assert norms[0] > 0
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
