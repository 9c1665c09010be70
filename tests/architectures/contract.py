"""What every architecture owes with every method: a run that plain transformers answers alike, and frozen weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

import hftl
from hftl.adapt import Result, adapt
from hftl.config import ModelConfig
from hftl.models.layers import is_under
from hftl.models.load import load_model
from hftl.tasks import get_task


METHODS = ("probe", "head", "lora", "full", "gradual")
FROZEN_BODY = ("probe", "head")  # nothing of the body may move
TOLERANCE = 1e-4  # in probabilities: rounding of fp32 on other batches stays two orders below
OWN = ("MeanPooledForSequenceClassification", "PooledForImageClassification")
FLAGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "evidence": False,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 8,
    "warmup_steps": 0,  # the first step of a warmup has rate 0, and some stages here have no other
}


def check_contract(
    checkpoint: Path, task: str, data: Any, method: str, output_dir: Path, rows: Sequence[Any], **flags: Any
) -> Result:
    """Adapt the tiny `checkpoint` and assert what the contract promises; return the run for further looks.

    `rows` are inputs of different lengths or sizes (texts, or image paths) that the saved model is asked for twice:
    by `hftl.load`, and one by one by plain `transformers.pipeline`, which may run code of the folder only where the
    model is hftl's own pooled class. `flags` go to `adapt` over `FLAGS`.
    """
    run = adapt(task, data=data, model=str(checkpoint), method=method, output_dir=output_dir, **{**FLAGS, **flags})
    final = run.run_dir / "final"
    assert [stage["name"] for stage in run.report["stages"]]
    served = _pipeline(task, final)
    _check_answers(final.parent, served, rows)
    mixed = run.report["stages"][-1].get("interpolation")
    stays = method in FROZEN_BODY or (
        mixed is not None and mixed["alpha"] == 0
    )  # `wise` may choose the base's weights
    _check_weights(checkpoint, task, method, served.model, stays=stays)
    if method == "lora":
        _check_adapter(run.run_dir / "adapter")
    return run


def _pipeline(task: str, final: Path) -> Any:
    """The saved model as a user without hftl loads it. Stock classes never get to run code of the folder."""
    fields, _ = transformers.PretrainedConfig.get_config_dict(final)
    own = fields["architectures"][0] in OWN
    make: Any = transformers.pipeline  # its annotation knows literal task names only
    return make(task, str(final), device="cpu", trust_remote_code=own)


def _check_answers(run_dir: Path, served: Any, rows: Sequence[Any]) -> None:
    answers = hftl.load(run_dir).predict(list(rows))
    assert len(answers) == len(rows)
    for row, answer in zip(rows, answers, strict=True):
        alone = {entry["label"]: entry["score"] for entry in served(str(row), top_k=None)}
        assert alone.keys() == answer.probabilities.keys()
        gap = max(abs(alone[label] - p) for label, p in answer.probabilities.items())
        assert gap < TOLERANCE, f"pipeline and hftl.predict differ by {gap:.2g} on {row!r}"


def _check_weights(checkpoint: Path, task: str, method: str, final: Any, *, stays: bool) -> None:
    """Of the body's tensors that the checkpoint brought, compare what must stay, or must not all stay."""
    labels = tuple(final.config.id2label.values())
    loaded = load_model(get_task(task), ModelConfig(model=str(checkpoint)), labels)
    base = loaded.model  # what it had to draw anew would differ from run to run, and is the head
    prefix = base.base_model_prefix + "." if base.base_model is not base else ""
    before = {k: v for k, v in base.base_model.state_dict().items() if not is_under(prefix + k, loaded.head)}
    after = final.base_model.state_dict()
    both = sorted(before.keys() & after.keys())
    assert both
    moved = [k for k in both if not torch.equal(before[k].float(), after[k].float())]
    assert not (stays and moved), f"moved {moved[:5]}"
    assert stays or moved, "nothing of the body moved"
    if method == "lora":  # adapters sit on matrices and kernels; biases, norms and their statistics are frozen
        flat = [k for k in moved if before[k].dim() < 2]
        assert not flat, f"lora moved {flat[:5]}"


def _check_adapter(folder: Path) -> None:
    assert (folder / "adapter_config.json").is_file()
    assert (folder / "adapter_model.safetensors").is_file()
