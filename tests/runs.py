"""Tiny runs, for the tests that look at what a finished run holds."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers

from hftl.adapt import Result, adapt
from tests.tiny import TEXT_FAMILIES, build, tiny_images, tiny_text_rows


CLASSES = ("class_0", "class_1", "class_2")
SMALL: dict[str, Any] = {"use_cpu": True, "bf16": False, "evidence": False, "per_device_train_batch_size": 8}


def task_of(family: str) -> str:
    return "text-classification" if family in TEXT_FAMILIES else "image-classification"


def text_frame(n: int, seed: int = 0, classes: int = 3) -> pd.DataFrame:
    rows = [(text, f"class_{label}") for text, label in tiny_text_rows(n, classes, seed)]
    return pd.DataFrame(rows, columns=["text", "label"])


def split_folder(folder: Path, train: int, other: int = 12) -> Path:
    """A folder with train.csv, validation.csv and test.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = text_frame(train + 2 * other)
    frame[:train].to_csv(folder / "train.csv", index=False)
    frame[train : train + other].to_csv(folder / "validation.csv", index=False)
    frame[train + other :].to_csv(folder / "test.csv", index=False)
    return folder


def checkpoint(family: str, folder: Path, **overrides: Any) -> Path:
    path = folder / f"base-{family}"
    return path if path.is_dir() else build(family, path, **overrides)


def tiny_data(family: str, folder: Path) -> Any:
    if family in TEXT_FAMILIES:
        return text_frame(40)
    images = folder / "images"
    return images if images.is_dir() else tiny_images(images)


def tiny_run(family: str, method: str, folder: Path, name: str | None = None, **flags: Any) -> Result:
    """Adapt the family's tiny checkpoint to tiny data by two steps, everything under `folder`."""
    flags = {**SMALL, "max_steps": 2, **flags}
    data = flags.pop("data", None)
    return adapt(
        task_of(family),
        data=tiny_data(family, folder) if data is None else data,
        model=str(checkpoint(family, folder)),
        method=method,
        output_dir=folder / (name or f"{family}-{method}"),
        **flags,
    )


def stock_model(family: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The checkpoint with a new stock head for three labels, and the loading info."""
    kind = "SequenceClassification" if family in TEXT_FAMILIES else "ImageClassification"
    auto = getattr(transformers, f"AutoModelFor{kind}")
    return auto.from_pretrained(folder, num_labels=3, output_loading_info=True)


def weights(run: Path, family: str) -> dict[str, torch.Tensor]:
    """State of the final model, as transformers reads it (ViT's files keep the key names of older versions)."""
    return dict(stock_model(family, run / "final")[0].state_dict())


def subprocess_env(**extra: str) -> dict[str, str]:
    """The environment of a child process: one thread, no Hub, nothing of a launcher."""
    dropped = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    env = {k: v for k, v in os.environ.items() if k not in dropped}
    return {**env, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **extra}
