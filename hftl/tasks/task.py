"""What a task is: values and functions, no subclasses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Task:
    """What is learned and how it is scored; `name` is the Hub's pipeline tag."""

    name: str
    summary: str
    input_column: Literal["text", "image"]
    auto_model: str  # name of the transformers Auto class, so that listing tasks imports nothing heavy
    auto_processor: str
    default_model: str
    default_method: str
    best_metric: str  # key of `hftl.evaluation.metrics.compute_metrics`
    fit_processor: Callable[..., Any]  # (loaded, datasets, ModelConfig) -> warnings; fixes lengths or sizes in place
    encode: Callable[..., Any]  # (dataset, processor, augment) -> Encoded
    collator: Callable[..., Any]  # (processor, flip, augment) -> list of items -> batch of tensors
    default_model_inputs: Callable[..., Any]  # (loaded model, processor) -> a smallest batch, to trace the modules
