"""Adapt distilbert/distilbert-base-uncased to google-research-datasets/go_emotions:simplified (emotions in comments: several, one or none) by `full`.

Python:   from recipes.multi_label import run; run(data="your data", method="probe")
Shell:    python -m recipes.multi_label --data your.csv --label_separator '|' --num_train_epochs 3
Several:  accelerate launch --config_file accelerate_configs/multi_gpu.yaml -m recipes.multi_label

Labels are lists, text with a separator between them (--label_separator), or a column of 0 and 1 for each
(--label_columns); docs/answers.md.
Every flag of `hftl train text-classification` works. Measured results with their commands: recipes/README.md.
"""

from typing import Any

from hftl.adapt import Result, adapt
from hftl.cli import run_recipe


TASK = "text-classification"
DEFAULTS: dict[str, Any] = {
    "data": "google-research-datasets/go_emotions:simplified",
    "model": "distilbert/distilbert-base-uncased",
    "method": "full",
    "thresholds": "auto",
}


def run(**overrides: Any) -> Result:
    """Run the recipe; keywords are the flags of `hftl train text-classification`."""
    return adapt(TASK, **{**DEFAULTS, **overrides})


def main(argv: list[str] | None = None) -> None:
    """Run the recipe from the command line."""
    run_recipe(TASK, DEFAULTS, argv)


if __name__ == "__main__":
    main()
