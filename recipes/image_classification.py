"""Adapt google/vit-base-patch16-224-in21k to AI-Lab-Makerere/beans by `full`.

Python:   from recipes.image_classification import run; run(data="your data", method="probe")
Shell:    python -m recipes.image_classification --data your_data --num_train_epochs 3
Several:  accelerate launch --config_file accelerate_configs/multi_gpu.yaml -m recipes.image_classification

Every flag of `hftl train image-classification` works. Measured results with their commands: recipes/README.md.
"""

from typing import Any

from hftl.adapt import Result, adapt
from hftl.cli import run_recipe


TASK = "image-classification"
DEFAULTS: dict[str, Any] = {
    "data": "AI-Lab-Makerere/beans",
    "model": "google/vit-base-patch16-224-in21k",
    "method": "full",
}


def run(**overrides: Any) -> Result:
    """Run the recipe; keywords are the flags of `hftl train image-classification`."""
    return adapt(TASK, **{**DEFAULTS, **overrides})


def main(argv: list[str] | None = None) -> None:
    """Run the recipe from the command line."""
    run_recipe(TASK, DEFAULTS, argv)


if __name__ == "__main__":
    main()
