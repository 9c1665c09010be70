"""The temperature of a trained model: fitted on validation and folded into the head, so that plain `pipeline` has it."""

import numpy as np

from hftl.evaluation.calibration import Temperature, fit_temperature
from hftl.methods.plan import Plan
from hftl.models.heads import fold_temperature
from hftl.prepare import Prepared
from hftl.training.features import predict_logits
from hftl.training.world import broadcast_from_main


def calibrate(plan: Plan, ready: Prepared, *, fit: bool) -> tuple[Temperature, np.ndarray]:
    """Fold a temperature into the head of `plan.model`; return it and the validation logits [n, classes] before it.

    Adapters are not merged yet, so that the adapter folder gets the same head. Without `fit` the temperature is 1.
    """
    logits = predict_logits(plan.model, ready.validation, ready.collate, use_cpu=ready.use_cpu, title="validation")
    if not fit:
        return Temperature(1.0, False, "not asked for", 0), logits
    temperature = broadcast_from_main(fit_temperature(logits, ready.validation.labels))
    if temperature.value != 1.0:
        for output in plan.outputs:
            fold_temperature(plan.model, output, temperature.value)
    return temperature, logits
