"""Adapt distilbert/distilbert-base-uncased to leondz/wnut_17 (entities in posts of social media) by `lora`.

Python:   from recipes.token_classification import run; run(data="your data", method="full")
Shell:    python -m recipes.token_classification --data your.conll --num_train_epochs 3
Several:  accelerate launch --config_file accelerate_configs/multi_gpu.yaml -m recipes.token_classification

Data are lists of words and tags (`tokens` and `tags`), CoNLL files, or JSONL of texts with marked spans (docs/tags.md).
Every flag of `hftl train token-classification` works. Measured results with their commands: recipes/README.md.
"""

from typing import Any

from hftl.adapt import Result, adapt
from hftl.cli import run_recipe


TASK = "token-classification"
DEFAULTS: dict[str, Any] = {"data": "leondz/wnut_17", "model": "distilbert/distilbert-base-uncased", "method": "lora"}


def run(**overrides: Any) -> Result:
    """Run the recipe; keywords are the flags of `hftl train token-classification`."""
    return adapt(TASK, **{**DEFAULTS, **overrides})


def main(argv: list[str] | None = None) -> None:
    """Run the recipe from the command line."""
    run_recipe(TASK, DEFAULTS, argv)


if __name__ == "__main__":
    main()
