"""`--control scratch`: the same architecture from random weights, trained on the same rows for as long."""

import time
from dataclasses import replace

from hftl.config import RunConfig
from hftl.evidence.before import Base, random_weights
from hftl.evidence.scene import Control, Seen
from hftl.methods.full import full
from hftl.prepare import Prepared
from hftl.run import Run
from hftl.run_folder import CONTROL
from hftl.training.features import predict_logits
from hftl.training.stages import fit_plan


def train_scratch(run: Run, ready: Prepared, seen: Seen, base: Base) -> Control:
    """Train every layer from random weights by the run's own epochs, batches and rate, and predict the test rows.

    What the user did not type comes from the method's defaults, else from those of `full`. Rates are equal over the
    layers: lower ones towards the input would protect a pretraining that is not there. What `--resume` needs lies in
    the run's folder; all processes call this together.
    """
    start = time.perf_counter()
    config, output = _config(ready.config), ready.task.output
    loaded = replace(ready.loaded, model=random_weights(ready))
    plan = full(loaded, config.method, len(ready.train))
    epochs = seen.plan.defaults.get("num_train_epochs", plan.defaults["num_train_epochs"])
    plan = replace(plan, defaults={**plan.defaults, "num_train_epochs": epochs})
    work = run.work / CONTROL
    work.mkdir(exist_ok=True)
    fit_plan(plan, seen.probe, ready.stage_data, config, work)
    logits = predict_logits(plan.model, base.test, ready.collate, use_cpu=ready.use_cpu, title="control")
    return Control(
        output.decode(logits),
        time.perf_counter() - start,
        f"all layers, {float(ready.config.training.get('num_train_epochs', epochs)):g} epochs",
    )


def _config(config: RunConfig) -> RunConfig:
    method = replace(config.method, method="full", init_head="random", layer_decay=1.0, cache="off")
    method = replace(method, train_top=None, train_norms=False, train_bias=False, thaw_to=None, thaw_every=None)
    return replace(config, method=method)
