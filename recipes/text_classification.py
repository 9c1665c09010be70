"""Adapt distilbert/distilbert-base-uncased to dair-ai/emotion by `lora`.

Python:   from recipes.text_classification import run; run(data="your data", method="probe")
Shell:    python -m recipes.text_classification --data your_data --num_train_epochs 3
Several:  accelerate launch --config_file accelerate_configs/multi_gpu.yaml -m recipes.text_classification

Every flag of `hftl train text-classification` works. Measured results with their commands: recipes/README.md.
"""

from typing import Any

from hftl.adapt import Result, adapt
from hftl.cli import run_recipe


TASK = "text-classification"
DEFAULTS: dict[str, Any] = {"data": "dair-ai/emotion", "model": "distilbert/distilbert-base-uncased", "method": "lora"}


def run(**overrides: Any) -> Result:
    """Run the recipe; keywords are the flags of `hftl train text-classification`."""
    return adapt(TASK, **{**DEFAULTS, **overrides})


def main(argv: list[str] | None = None) -> None:
    """Run the recipe from the command line."""
    run_recipe(TASK, DEFAULTS, argv)


if __name__ == "__main__":
    main()
