"""Images for the benchmark: the digits sample, and a Trainer fed from memory."""

from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments, set_seed

from benchmarks.contenders import timed
from hftl.data.images import decode_image
from hftl.data.samples import load_sample
from hftl.models.find import find_checkpoint
from hftl.tasks.inputs.image import set_image_side


def digits() -> tuple[Any, str]:
    """The digits sample and the folder of EfficientNet-Lite0."""
    return load_sample("digits"), find_checkpoint("efficientnet-lite0", None).path


class _Ready(torch.utils.data.Dataset):
    def __init__(self, pixels: torch.Tensor, labels: torch.Tensor):
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.pixels[index], "labels": self.labels[index]}


def trainer_on_tensors(data: Any, checkpoint: str, side: int, steps: int, bf16: bool) -> float:
    """Images per second of a plain Trainer whose rows are normalised float tensors in memory."""
    set_seed(42)
    processor = AutoImageProcessor.from_pretrained(checkpoint)
    set_image_side(processor, side)
    images = [decode_image(v) for v in data["train"]["image"][:]]
    pixels = torch.tensor(np.stack([np.asarray(processor(i)["pixel_values"][0]) for i in images]))
    labels = torch.tensor([int(label) for label in data["train"]["label"][:]])
    model = AutoModelForImageClassification.from_pretrained(checkpoint, num_labels=10, ignore_mismatched_sizes=True)
    args = TrainingArguments(
        output_dir="unused", max_steps=steps, per_device_train_batch_size=32, bf16=bf16, report_to="none",
        save_strategy="no", disable_tqdm=True, logging_strategy="no", use_cpu=not torch.cuda.is_available(), seed=42,
    )  # fmt: skip
    trainer = Trainer(model=model, args=args, train_dataset=_Ready(pixels, labels))
    seconds, _ = timed(trainer.train)
    return steps * 32 / seconds
