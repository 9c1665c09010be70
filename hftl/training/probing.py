"""What every run begins with: frozen features of the train and validation rows, and the probe fitted on them."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from hftl.config import RunConfig
from hftl.errors import ModelError
from hftl.methods import FROZEN_BODY
from hftl.methods.plan import Plan
from hftl.models.heads import pool_mean, states_by_token, without_bias
from hftl.models.load import Loaded
from hftl.tasks.task import Encoded, Task
from hftl.training.cache import cache_key, cached_arrays, weights_hash
from hftl.training.features import extract_features
from hftl.training.logistic import Probe, fit_probe
from hftl.training.precision import choose_bf16, runs_on_cpu
from hftl.training.states import state_maker
from hftl.training.world import broadcast_from_main, is_main_process


Features = dict[str, dict[str, np.ndarray]]  # part → pooling → [n, d]


def frozen_features(
    task: Task,
    loaded: Loaded,
    parts: dict[str, Encoded],
    collate: Any,
    config: RunConfig,
    *,
    weights: str | None = None,
    beside: Callable[[Encoded], Any] | None = None,
    check: bool = True,
) -> tuple[Features, str]:
    """Return the frozen features of every part by pooling, and whether they were computed or came from the cache.

    `weights` is the hash of the checkpoint's weights, for a model that adapters have been added to since; `beside`
    what else to do in the forward pass. Raises `ModelError` for weights that put out no numbers, unless `check` is
    False.
    """
    bf16 = choose_bf16(config.training)
    weights = weights or weights_hash(loaded.model)
    mean = averages(task, loaded)
    found, origins = {}, []
    for part, encoded in parts.items():
        key = features_key(loaded, weights, encoded, collate, config)
        make = partial(
            extract_features, loaded.model, loaded.output, encoded, collate,
            mean=mean, bf16=bf16, use_cpu=runs_on_cpu(config.training), title=f"features ({part})",
            beside=beside, averaged=loaded.averaged,
        )  # fmt: skip
        found[part], origin = cached_arrays(key, make)
        origins.append(origin)
    if check and not all(np.isfinite(array).all() for arrays in found.values() for array in arrays.values()):
        raise ModelError(
            f"{loaded.name} puts out features that are not numbers: its weights are broken, or need --bf16 false."
        )
    return found, origins[0]


def averages(task: Task, loaded: Loaded) -> bool:
    """Can a head read the mean of the body's states beside its native input?"""
    return "mean" in task.inputs.poolings and states_by_token(loaded.model, loaded.processor)


def features_key(loaded: Loaded, weights: str, encoded: Encoded, collate: Any, config: RunConfig) -> str:
    """The key under which the frozen features of `encoded` are cached; `weights` is the hash of the model's."""
    return cache_key(
        loaded.model,
        use_cpu=runs_on_cpu(config.training),
        weights=weights,
        rows=encoded.fingerprint(),
        layer="+".join(loaded.outputs),
        bf16=choose_bf16(config.training),
        sample=preprocessing(collate, encoded),
    )


def preprocessing(collate: Any, encoded: Encoded) -> dict[str, float]:
    """What padding and normalisation make of a row, in sums: a part of every cache key. Augmentation is left out."""
    batch = collate([replace(encoded, augment=False)[0]])
    return {k: float(v.double().sum()) for k, v in batch.items() if k != "labels"}


def cache_identity(config: RunConfig, collate: Any, encoded: Encoded) -> dict[str, Any]:
    """What the states of frozen layers depend on beside weights and rows."""
    return {
        "sample": preprocessing(collate, encoded),
        "augment": config.method.augment,
        "no_flip": config.method.no_flip,
    }


def rows_identity(train: Encoded, validation: Encoded) -> dict[str, Any]:
    """Hashes of the rows and labels that a cut-off run was begun with. The test rows are not looked at before the end."""
    parts = {"train": train, "validation": validation}
    labels = {
        f"{k}_labels": hashlib.sha256(np.ascontiguousarray(v.labels).tobytes()).hexdigest() for k, v in parts.items()
    }
    return {**{k: v.fingerprint() for k, v in parts.items()}, **labels}


def states_beside(
    plan: Plan, parts: tuple[Encoded, Encoded], collate: Any, config: RunConfig, identity: dict[str, Any]
) -> Callable[[Encoded], Any] | None:
    """Return what stores the states that the plan will read in the pass that extracts the features, or None.

    A head that may yet become the mean-pooled one is left out: that one reads features. The arguments are `store`'s.
    """
    if not shares_pass(config):
        return None
    maker = state_maker(plan, parts, collate, config, identity)[0]
    return maker.beside if maker else None


def shares_pass(config: RunConfig) -> bool:
    """Does one forward pass give features and states? Not while the probe may still choose another head."""
    return config.method.method not in FROZEN_BODY or config.method.pooling == "native"


def head_pooling(config: RunConfig) -> str:
    """The pooling that the head of the run may read: native, mean, or auto for the better of the two."""
    return config.method.pooling if config.method.method in FROZEN_BODY else "native"


def first_probe(
    loaded: Loaded,
    features: Features,
    labels: np.ndarray,
    num_labels: int,
    config: RunConfig,
    weights: np.ndarray | None,
) -> Probe:
    """Fit the probe for the head of `loaded` on the main process; the others get its solution."""
    no_bias = without_bias(loaded.model, loaded.output)
    fit = partial(
        fit_probe, features["train"], labels, num_labels, head_pooling(config), config.train_seed, weights, no_bias
    )
    return broadcast_from_main(fit() if is_main_process() else None)


def mean_pooled(loaded: Loaded, labels: tuple[str, ...]) -> Loaded:
    """The same encoder under the mean-pooled head, for a probe that reads it much better than the stock head would."""
    model = pool_mean(loaded.model, labels)
    head = ("classifier.weight", "classifier.bias")
    layers = replace(
        loaded.layers,
        stem=tuple(n for n, _ in model.named_parameters() if n not in head),
        blocks=((),),
        head=head,
        modules=(),
        above=("classifier",),
    )
    return replace(loaded, model=model, layers=layers, head=("classifier",), output="classifier")
