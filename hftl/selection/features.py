"""What the frozen features of one model say of the data, in one forward pass, and what the model costs."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hftl.config import RunConfig
from hftl.data.splits import Splits
from hftl.errors import DataError, ModelError
from hftl.evaluation.folds import held_out_folds
from hftl.export.timing import time_batches
from hftl.planning.costs import ROOM, free_memory, look_at_machine
from hftl.prepare import Prepared, prepare_on
from hftl.probing import frozen_features, probe_of
from hftl.selection.scores import log_evidence
from hftl.selection.shortlist import Candidate, Wanted
from hftl.tasks.ragged import in_memory, in_order, values_of
from hftl.tasks.scores import measure
from hftl.tasks.task import Task
from hftl.training.precision import runs_on_cpu


_SECONDS = 2.0  # of timing per batch size


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of one model."""

    facts: dict[str, Any]
    answers: Any  # the probe's, to rows that it had not learned from, in the form of targets
    targets: Any


def look_at(one: Candidate, wanted: Wanted, config: RunConfig, task: Task, splits: Splits) -> Seen:
    """See what the frozen features of one model say, in one forward pass, and what the model costs.

    Raises `ModelError` and `DataError` for a model that cannot be used.
    """
    needed, free = 4 * (one.parameters or 0), free_memory(look_at_machine(runs_on_cpu(config.training)))
    if needed > ROOM * free:
        raise ModelError(f"the weights need {needed / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} GB are free")
    ready = prepare_on(replace(config, model=replace(config.model, model=one.name)), task, splits)
    weights = list(ready.loaded.model.parameters())
    one = replace(one, parameters=sum(p.numel() for p in weights))
    if wanted.refusal(one):
        raise ModelError(wanted.refusal(one))
    computed, _ = frozen_features(ready, {"train": ready.train})
    features = {pooling: in_memory(array) for pooling, array in computed["train"].items()}
    probe, near = _held_out(ready, features)
    output, targets, labels = task.output, ready.train.targets, splits.labels
    evidence = max(log_evidence(values_of(a), output.columns(targets, labels, a)) for a in features.values())
    facts = {
        "name": one.name,
        "parameters": one.parameters,
        "licence": one.licence,
        "context": one.context,
        "knn": measure(output, near, targets, labels)[output.headline],
        "logme": evidence if math.isfinite(evidence) else None,
        "prior": one.prior,
        "prior_source": one.source,
        **_latency(ready),
        "memory_mb": round(sum(p.nbytes for p in weights) / 1e6, 1),
        "family": one.family or ready.loaded.model.config.model_type,
    }
    return Seen(facts, probe, targets)


def _held_out(ready: Prepared, features: dict[str, Any]) -> tuple[Any, Any]:
    """Return what probe and nearest neighbours answer to rows of three folds, each fitted on the other two."""
    output, targets = ready.task.output, ready.train.targets
    strata = None if output.strata is None else ready.strata[0]
    folds = held_out_folds(len(targets), ready.config.train_seed, strata)
    if not folds:
        raise DataError("too few rows: no two of them speak for one class, so that none can be held out")
    by_probe, by_neighbours = [], []
    for learn, held in folds:
        probe = probe_of(features, targets, learn, ready)
        read = features[probe.pooling]
        by_probe.append(output.decode(probe.logits(read[held])))
        by_neighbours.append(output.neighbours(read[learn], targets[learn], read[held]))
    places = [held for _, held in folds]
    return in_order(by_probe, places), in_order(by_neighbours, places)


def _latency(ready: Prepared) -> dict[str, float]:
    """Return the median milliseconds of a forward pass in fp32: of one row of median length, and of 32 of all lengths."""
    model, rows = ready.loaded.model, ready.train if ready.train.window is None else ready.rows_to_train_on
    order = np.argsort(rows.lengths, kind="stable")
    device = next(model.parameters()).device
    batches = {}
    for size, numbers in ((1, order[[len(order) // 2]]), (32, order[np.linspace(0, len(order) - 1, 32).astype(int)])):
        batch = ready.collate([rows[int(i)] for i in numbers])  # of images of any size, windows
        batches[size] = [{name: values.to(device) for name, values in batch.items() if name != "labels"}]
    with torch.inference_mode():
        times = time_batches(lambda feed: model(**feed).logits.cpu(), batches, ready.loaded.name, _SECONDS)
    return {"latency_ms": times["1"]["p50_ms"], "latency_ms_32": times["32"]["p50_ms"]}
