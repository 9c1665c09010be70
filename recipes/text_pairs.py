"""Adapt distilbert/distilbert-base-uncased to nyu-mll/glue:mrpc (is one sentence a paraphrase of the other?) by `lora`.

Python:   from recipes.text_pairs import run; run(data="your data", method="probe")
Shell:    python -m recipes.text_pairs --data your.csv --text_column a --text_pair_column b --num_train_epochs 3
Several:  accelerate launch --config_file accelerate_configs/multi_gpu.yaml -m recipes.text_pairs

Two usual columns, such as sentence1 and sentence2 or question and answer, are found by themselves (docs/answers.md).
Every flag of `hftl train text-classification` works. Measured results with their commands: recipes/README.md.
"""

from typing import Any

from hftl.adapt import Result, adapt
from hftl.cli import run_recipe


TASK = "text-classification"
DEFAULTS: dict[str, Any] = {
    "data": "nyu-mll/glue:mrpc",
    "model": "distilbert/distilbert-base-uncased",
    "method": "lora",
}


def run(**overrides: Any) -> Result:
    """Run the recipe; keywords are the flags of `hftl train text-classification`."""
    return adapt(TASK, **{**DEFAULTS, **overrides})


def main(argv: list[str] | None = None) -> None:
    """Run the recipe from the command line."""
    run_recipe(TASK, DEFAULTS, argv)


if __name__ == "__main__":
    main()
