"""`--control scratch`: the same architecture from random weights, trained on the same rows for as long."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hftl.config import RunConfig
from hftl.evidence.before import random_weights
from hftl.evidence.ladder import Control
from hftl.methods.full import full
from hftl.prepare import Prepared
from hftl.training.features import Encoded, predict_logits
from hftl.training.logistic import Probe
from hftl.training.stages import fit_plan
from hftl.training.states import StageData


def train_scratch(
    ready: Prepared, test: Encoded, method_defaults: dict[str, Any], probe: Probe, work: Path
) -> Control:
    """Train every layer from random weights by the run's own epochs, batches and rate, and predict the test rows.

    What the user did not type comes from the method's defaults, else from those of `full`. Rates are equal over the
    layers: lower ones towards the input would protect a pretraining that is not there. The folder `work` holds what
    `--resume` needs; all processes call this together.
    """
    start = time.perf_counter()
    config = _config(ready.config)
    loaded = replace(ready.loaded, model=random_weights(ready))
    plan = full(loaded, config.method, len(ready.train))
    epochs = method_defaults.get("num_train_epochs", plan.defaults["num_train_epochs"])
    plan = replace(plan, defaults={**plan.defaults, "num_train_epochs": epochs})
    rows, labels = (ready.rows_to_train_on, ready.validation), len(ready.splits.labels)
    data = StageData(*rows, ready.collate, labels, None, None, ready.weights, ready.task.output)
    work.mkdir(exist_ok=True)
    fit_plan(plan, probe, data, config, ready.task.output.best, work)
    logits = predict_logits(plan.model, test, ready.collate, use_cpu=ready.use_cpu, title="control")
    return Control(
        logits.argmax(-1),
        time.perf_counter() - start,
        f"all layers, {float(ready.config.training.get('num_train_epochs', epochs)):g} epochs",
    )


def _config(config: RunConfig) -> RunConfig:
    method = replace(config.method, method="full", init_head="random", layer_decay=1.0, cache="off")
    method = replace(method, train_top=None, train_norms=False, train_bias=False, thaw_to=None, thaw_every=None)
    return replace(config, method=method)
