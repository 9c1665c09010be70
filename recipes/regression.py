"""Adapt distilbert/distilbert-base-uncased to mteb/stsbenchmark-sts (how much alike two sentences are, 0 to 5) by `full`.

Python:   from recipes.regression import run; run(data="your data", method="probe")
Shell:    python -m recipes.regression --data your.csv --label_column price --num_train_epochs 3
Several:  accelerate launch --config_file accelerate_configs/multi_gpu.yaml -m recipes.regression

Numbers with fractions are found by themselves; whole ones want --problem_type regression (docs/answers.md).
Every flag of `hftl train text-classification` works. Measured results with their commands: recipes/README.md.
"""

import sys
from typing import Any

from hftl.adapt import Result, adapt
from hftl.cli import run_command


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
    words = sys.argv[1:] if argv is None else argv
    defaults = [word for name, value in DEFAULTS.items() for word in (f"--{name}", value)]
    sys.exit(run_command(["train", TASK, *defaults, *words]))


if __name__ == "__main__":
    main()
