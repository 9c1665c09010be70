"""What a Python caller adds to a training, as `transformers.Trainer` takes it. config.yaml cannot name such objects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import EarlyStoppingCallback, EvalPrediction, TrainerCallback

from hftl.errors import ConfigError
from hftl.methods.auto import AUTO
from hftl.methods.probe import PROBE
from hftl.tasks.task import Made, Ragged


Compute = Callable[[EvalPrediction], dict[str, float]]
_NO_TRAINER = {
    AUTO.name: "it trains several candidates, a piece of each at a time",
    PROBE.name: "it solves for the head and trains nothing",
}


@dataclass(frozen=True)
class Hooks:
    """Callbacks of every stage that learns by gradient, and scores beside hftl's own."""

    callbacks: tuple[TrainerCallback, ...] = ()
    compute_metrics: Compute | None = None

    def metrics(self, outputs: Any, targets: Any) -> dict[str, float]:
        """Return what the user's function says of outputs [n, ...], as the model puts them out, and targets [n, ...].

        Raises `ConfigError` when it fails, or returns anything but numbers by name.
        """
        if self.compute_metrics is None:
            return {}
        if isinstance(targets, Ragged | Made):
            raise ConfigError(
                "compute_metrics is not taken where words or pixels are answered: `hftl eval` scores them."
            )
        rows = (np.asarray(outputs), np.asarray(targets))
        try:
            named = self.compute_metrics(EvalPrediction(*rows))
            return {str(name).removeprefix("eval_"): float(value) for name, value in named.items()}
        except Exception as error:  # whatever it is, it is in the user's function
            shapes = "predictions {} and label_ids {}".format(*(part.shape for part in rows))
            raise ConfigError(
                f"compute_metrics failed on {shapes} ({type(error).__name__}: {error}). It takes an EvalPrediction of "
                "these and returns a dict of numbers."
            ) from error


NO_HOOKS = Hooks()


def hooks_for(
    method: str, callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None, compute_metrics: Compute | None
) -> Hooks:
    """Return what a run of `method` is given. Raises `ConfigError` for what Trainer could not call, or nothing would."""
    if compute_metrics is not None and not callable(compute_metrics):
        raise ConfigError(f"compute_metrics is a function of an EvalPrediction, not {compute_metrics!r:.60}.")
    if callbacks is not None and not isinstance(callbacks, list | tuple):
        raise ConfigError(f"callbacks is a list of TrainerCallback, not {callbacks!r:.60}.")
    made = tuple(one() if isinstance(one, type) else one for one in callbacks or ())
    for one in made:
        if not isinstance(one, TrainerCallback):
            raise ConfigError(f"callbacks holds {one!r:.60}, which is no TrainerCallback of transformers.")
        if isinstance(one, EarlyStoppingCallback):
            raise ConfigError(
                "For EarlyStoppingCallback use early_stopping_patience=n: it keeps the best weights too."
            )
    if made and method in _NO_TRAINER:
        raise ConfigError(f"Nothing calls callbacks with method {method!r}: {_NO_TRAINER[method]}. Use lora or full.")
    return Hooks(made, compute_metrics)
