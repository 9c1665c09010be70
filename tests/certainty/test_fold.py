"""A temperature in the head divides the logits of every family, and what is saved says the same."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import pipeline

from hftl.config import MethodConfig, ModelConfig
from hftl.errors import ModelError
from hftl.evaluation.calibration import ece_with_interval, fit_temperature
from hftl.evaluation.row_scores import row_scores
from hftl.methods.lora import lora
from hftl.models.heads import fold_temperature, pool_mean
from hftl.models.load import Loaded, load_model
from hftl.predict import load
from hftl.publishing.save import merge_adapter, save_final
from hftl.tasks import get_task
from tests.runs import CLASSES, checkpoint, stock_model, task_of, text_frame
from tests.tiny import IMAGE_FAMILIES, TEXT_FAMILIES


T = 1.7
FAMILIES = TEXT_FAMILIES + IMAGE_FAMILIES
TEXTS = list(text_frame(8, seed=4)["text"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fold")


def loaded_model(family: str, folder: Path) -> Loaded:
    torch.manual_seed(0)
    loaded = load_model(get_task(task_of(family)), ModelConfig(model=str(checkpoint(family, folder))), CLASSES)
    with torch.no_grad():  # a head that says something, with a bias
        head = loaded.model.get_submodule(loaded.output)
        head.weight.normal_(0, 0.5)
        head.bias.normal_(0, 0.5)
    return loaded


def logits_of(model: Any, family: str, loaded: Loaded) -> torch.Tensor:
    if family in TEXT_FAMILIES:
        batch = loaded.processor(TEXTS, padding=True, truncation=True, return_tensors="pt")
    else:
        batch = {"pixel_values": torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))}
    with torch.no_grad():
        return model.eval()(**batch).logits


def assert_divided(after: torch.Tensor, before: torch.Tensor) -> None:
    assert float(before.std()) > 1e-2
    torch.testing.assert_close(after, before / T, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after.softmax(-1), (before.double() / T).softmax(-1).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_divided_and_stay_so_on_disk(family: str, folder: Path) -> None:
    loaded = loaded_model(family, folder)
    before = logits_of(loaded.model, family, loaded)
    body = {k: v.clone() for k, v in loaded.model.state_dict().items() if not k.startswith(loaded.output + ".")}
    fold_temperature(loaded.model, loaded.output, T)
    assert_divided(logits_of(loaded.model, family, loaded), before)
    assert all(torch.equal(loaded.model.state_dict()[k], v) for k, v in body.items())
    assert all(p.requires_grad for p in loaded.model.parameters())
    save_final(loaded.model, loaded, folder / f"{family}-final")
    assert_divided(logits_of(stock_model(family, folder / f"{family}-final")[0], family, loaded), before)


def test_plain_pipeline_is_calibrated(folder: Path) -> None:
    loaded = loaded_model("bert", folder)
    before = logits_of(loaded.model, "bert", loaded).double()
    fold_temperature(loaded.model, loaded.output, T)
    save_final(loaded.model, loaded, folder / "piped")
    answers = pipeline("text-classification", str(folder / "piped"), device="cpu")(TEXTS, top_k=None)
    for answer, row in zip(answers, (before / T).softmax(-1).tolist(), strict=True):
        assert {e["label"]: e["score"] for e in answer} == pytest.approx(
            dict(zip(CLASSES, row, strict=True)), abs=1e-5
        )


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_mean_pooled_model(family: str, folder: Path) -> None:
    loaded = loaded_model(family, folder)
    model = pool_mean(loaded.model, CLASSES)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 0.5)
    before = logits_of(model, family, loaded)
    fold_temperature(model, "classifier", T)
    assert_divided(logits_of(model, family, loaded), before)
    save_final(model, loaded, folder / f"{family}-pooled")
    reloaded = load(folder / f"{family}-pooled").logits(Dataset.from_dict({"text": TEXTS}))
    assert_divided(torch.from_numpy(reloaded), before)


def adapted(family: str, folder: Path) -> tuple[Loaded, Any]:
    """A model with LoRA adapters that change its answers, and its plan."""
    loaded = loaded_model(family, folder)
    plan = lora(loaded, MethodConfig(method="lora"), 100)
    with torch.no_grad():
        for name, parameter in plan.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    return loaded, plan


@pytest.mark.parametrize("family", ["bert", "distilbert", "resnet", "vit"])
def test_merged_lora_model(family: str, folder: Path) -> None:
    loaded, plan = adapted(family, folder)
    output = loaded.output
    model = merge_adapter(plan.model, folder / f"{family}-adapter-1", loaded)
    before = logits_of(model, family, loaded)
    fold_temperature(model, output, T)
    save_final(model, loaded, folder / f"{family}-merged")
    assert_divided(logits_of(stock_model(family, folder / f"{family}-merged")[0], family, loaded), before)


@pytest.mark.parametrize("family", ["bert", "distilbert", "resnet", "vit"])
def test_folding_before_the_merge_is_in_the_adapter_too(family: str, folder: Path) -> None:
    loaded, plan = adapted(family, folder)
    before = logits_of(plan.model, family, loaded)
    fold_temperature(plan.model, plan.output, T)
    merged = merge_adapter(plan.model, folder / f"{family}-adapter-2", loaded)
    torch.testing.assert_close(logits_of(merged, family, loaded), before / T, rtol=1e-4, atol=1e-5)
    base = stock_model(family, checkpoint(family, folder))[0]
    adapter = PeftModel.from_pretrained(base, str(folder / f"{family}-adapter-2"))
    torch.testing.assert_close(logits_of(adapter, family, loaded), before / T, rtol=1e-4, atol=1e-5)
    shutil.rmtree(folder / f"{family}-adapter-2")


def test_a_fitted_temperature_calibrates_the_model_that_it_is_folded_into() -> None:
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(3000, 6)).astype(np.float32))
    model = nn.Sequential(nn.Linear(6, 4))
    with torch.no_grad():
        model[0].weight.normal_(0, 3, generator=torch.Generator().manual_seed(0))
        logits = model(inputs).double().numpy()
        labels = (logits / 2.5 + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from softmax(logits / 2.5)
        temperature = fit_temperature(logits[:1500], labels[:1500])
        fold_temperature(model, "0", temperature.value)
        cooled = model(inputs).numpy()
    assert temperature.value == pytest.approx(2.5, rel=0.1)
    assert ece_with_interval(row_scores(cooled[1500:], labels[1500:]))[0].value < 0.04
    assert ece_with_interval(row_scores(logits[1500:], labels[1500:]))[0].value > 0.1
    loss = row_scores(cooled[1500:], labels[1500:]).loss.mean()
    assert loss == pytest.approx(row_scores(logits[1500:], labels[1500:], temperature.value).loss.mean(), abs=1e-5)


def test_no_bias_is_fine() -> None:
    model = nn.Sequential(nn.Linear(2, 3, bias=False))
    before = model(torch.ones(1, 2))
    fold_temperature(model, "0", 2.0)
    torch.testing.assert_close(model(torch.ones(1, 2)), before / 2)


def test_only_a_linear_of_its_own_is_changed() -> None:
    tied = nn.ModuleDict({"embed": nn.Embedding(3, 2), "head": nn.Linear(2, 3)})
    with pytest.raises(ModelError, match="no Linear layer 'embed'"):
        fold_temperature(tied, "embed", 2.0)
    tied["head"].weight = tied["embed"].weight
    before = tied["embed"].weight.clone()
    with pytest.raises(ModelError, match="shares its weight with embed"):
        fold_temperature(tied, "head", 2.0)
    assert torch.equal(tied["embed"].weight, before)


def test_of_an_adapted_head_only_the_trained_copy_or_the_merged_one_will_do(folder: Path) -> None:
    loaded, plan = adapted("bert", folder)
    with pytest.raises(ModelError, match="no Linear layer"):
        fold_temperature(plan.model, "base_model.model.classifier", T)
    fold_temperature(plan.model.merge_and_unload(), loaded.output, T)
