"""Runs that are prepared but not trained, and weights that were moved on purpose."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from hftl.config import build_config
from hftl.prepare import Prepared, prepare
from tests.runs import task_of, text_frame
from tests.tiny import TEXT_FAMILIES, build, tiny_images


def retention_data(folder: Path, family: str, rows: int = 60, seed: int = 9) -> Path:
    """Rows of three classes that no run here trains on."""
    if family in TEXT_FAMILIES:
        path = folder / f"retain-{rows}-{seed}.csv"
        text_frame(rows, seed=seed).to_csv(path, index=False)
        return path
    path = folder / f"retain-images-{rows}-{seed}"
    return path if path.is_dir() else tiny_images(path, per_class=rows // 3, seed=seed)


def ready_run(folder: Path, family: str, method: str = "full", model: Path | None = None, **flags: Any) -> Prepared:
    """What a run of the tiny family has in hand before it trains; `retain` is other tiny data unless given."""
    images = folder / "run-images"
    if family in TEXT_FAMILIES:
        data: Any = text_frame(40)
    else:
        data = images if images.is_dir() else tiny_images(images)
    checkpoint = model or folder / f"base-{family}"
    if not checkpoint.is_dir():
        build(family, checkpoint)
    flags.setdefault("retain", str(retention_data(folder, family)))
    values = {"data": data, "model": str(checkpoint), "method": method, "use_cpu": True, "bf16": False, **flags}
    return prepare(build_config(task_of(family), values))


def shake(model: Any, strength: float, seed: int = 0) -> None:
    """Add noise to every weight: `strength` times the deviation of the tensor it is in."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.numel() > 1:
                weight += strength * weight.std() * torch.randn(weight.shape, generator=generator)


def write_texts(path: Path, texts: list[str], **columns: list[Any]) -> Path:
    pd.DataFrame({"text": texts, **columns}).to_csv(path, index=False)
    return path
