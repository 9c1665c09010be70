"""Tiny models, flags and rows, made ready for one trap."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from hftl.config import ModelConfig, build_config
from hftl.models.load import Loaded, load_model
from hftl.tasks import get_task
from hftl.training.states import StageData
from tests.runs import CLASSES, checkpoint, task_of, text_frame
from tests.tiny import IMAGE_FAMILIES, TEXT_FAMILIES


FAMILIES = TEXT_FAMILIES + IMAGE_FAMILIES


def load(family: str, folder: Path) -> Loaded:
    torch.manual_seed(0)
    return load_model(get_task(task_of(family)), ModelConfig(model=str(checkpoint(family, folder))), CLASSES)


def config_of(folder: Path, **flags: Any) -> Any:
    flags = {"use_cpu": True, "bf16": False, "max_steps": 4, "per_device_train_batch_size": 4, **flags}
    return build_config("text-classification", {"data": "x", "model": "x", "method": "full", **flags})


def text_data(loaded: Loaded, n: int = 16) -> StageData:
    task = get_task("text-classification")
    frame = text_frame(n)
    labels = [CLASSES.index(x) for x in frame["label"]]
    encoded = task.encode(Dataset.from_dict({"text": list(frame["text"]), "label": labels}), loaded.processor)
    return StageData(encoded, encoded, task.collator(loaded.processor), tuple(CLASSES))
