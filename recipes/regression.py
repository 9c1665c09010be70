"""Adapt distilbert/distilbert-base-uncased to mteb/stsbenchmark-sts (how much alike two sentences are, 0 to 5) by `full`.

Python:   from recipes.regression import run; run(data="your data", method="probe")
Shell:    python -m recipes.regression --data your.csv --label_column price --num_train_epochs 3
Several:  accelerate launch --config_file accelerate_configs/multi_gpu.yaml -m recipes.regression

Numbers with fractions are found by themselves; whole ones want --problem_type regression (docs/answers.md).
Every flag of `hftl train text-classification` works. Measured results with their commands: recipes/README.md.
"""

from typing import Any

from hftl.adapt import Result, adapt
from hftl.cli import run_recipe


TASK = "text-classification"
DEFAULTS: dict[str, Any] = {
    "data": "mteb/stsbenchmark-sts",
    "model": "distilbert/distilbert-base-uncased",
    "method": "full",
    "label_column": "score",
    "problem_type": "regression",
}


def run(**overrides: Any) -> Result:
    """Run the recipe; keywords are the flags of `hftl train text-classification`."""
    return adapt(TASK, **{**DEFAULTS, **overrides})


def main(argv: list[str] | None = None) -> None:
    """Run the recipe from the command line."""
    run_recipe(TASK, DEFAULTS, argv)


if __name__ == "__main__":
    main()
