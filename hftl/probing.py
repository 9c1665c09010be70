"""What every run begins with: frozen features of the train and validation rows, and the probe fitted on them."""

import hashlib
import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hftl.config import RunConfig
from hftl.errors import ModelError
from hftl.evaluation.logistic import Probe
from hftl.methods import MAY_POOL, get_method
from hftl.methods.plan import Plan
from hftl.methods.probe import PROBE
from hftl.models.decoders import linear_view, with_linear
from hftl.models.heads import pool_mean, states_by_token, without_bias
from hftl.models.load import Loaded
from hftl.prepare import Prepared
from hftl.tasks.ragged import Made, values_of
from hftl.training.cache import cache_key, cached_arrays, preprocessing, weights_hash
from hftl.training.features import Beside, Encoded, Passer
from hftl.training.patches import as_patches, patch_features
from hftl.training.stages import closed_form
from hftl.training.states import StageData, state_maker


Features = dict[str, dict[str, Any]]  # part → pooling → [n, d]; of units by row


@dataclass(frozen=True, eq=False)
class Seen:
    """What the frozen model says of the train and validation rows, and what is to be done with it."""

    loaded: Loaded  # with the head that the run trains
    features: Features
    origin: str  # of the features: "computed", or from the cache
    probe: Any  # a `Probe`; None where the output has none
    plan: Plan

    @property
    def learning_rate(self) -> float | None:
        """The rate that the method proposes; None where nothing is learned by gradient."""
        rate: float | None = self.plan.defaults.get("learning_rate")
        return rate

    def data(self, ready: Prepared) -> StageData:
        """What the stages train and validate on, with the features that the head reads."""
        if self.probe is None:
            return ready.stage_data
        train, validation = (
            self.features.get(part, {}).get(self.probe.pooling) for part in ("train", "validation")
        )  # of maps there are none of validation
        return replace(ready.stage_data, train_features=train, validation_features=validation)


def frozen_features(
    ready: Prepared,
    parts: dict[str, Encoded],
    *,
    random: Loaded | None = None,
    beside: Beside | None = None,
) -> tuple[Features, str]:
    """Return the frozen features of every part by pooling, and whether they were computed or came from the cache.

    They are those of the base as it was loaded, whatever adapters it has by now, or of the same architecture with
    `random` weights. `beside` is what else to do in the forward pass. Raises `ModelError` for a base that puts out no
    numbers.
    """
    loaded, weights = (ready.loaded, ready.identity) if random is None else (random, weights_hash(random.model))
    dense = ready.task.output.keep is not None
    features: Features = {}
    origins = []
    for part, encoded in parts.items():
        bf16 = ready.bf16 and not (random is None and is_answered_by_probe(ready.config, part))
        passer = Passer(ready.collate, ready.use_cpu, bf16)
        key = features_key(ready, encoded, bf16, weights)
        make = partial(extract, ready, loaded, passer, encoded, f"features ({part})", beside)
        arrays, origin = cached_arrays(key, make)
        by_row = {"native": as_patches(arrays)} if dense else {k: encoded.by_row(v) for k, v in arrays.items()}
        features[part] = by_row
        origins.append(origin)
    if random is None and not all_finite(features):
        raise ModelError(
            f"{loaded.name} puts out features that are not numbers: its weights are broken, or need --bf16 false."
        )
    return features, origins[0]


def extract(
    ready: Prepared, loaded: Loaded, passer: Passer, encoded: Encoded, title: str, beside: Beside | None = None
) -> dict[str, np.ndarray]:
    """Return what the head reads of each row by pooling, [n, d]; of maps what `patch_features` does."""
    if ready.task.output.keep is not None:
        view = linear_view(loaded.model, smallest(ready))
        return patch_features(passer, view, encoded, len(ready.splits.labels), title)
    return passer.features(loaded.model, loaded.outputs, encoded, title, mean=averages(ready), beside=beside)


def smallest(ready: Prepared) -> dict[str, Any]:
    """Return the smallest batch that the model of a run reads."""
    batch: dict[str, Any] = ready.task.inputs.smallest(ready.loaded.model, ready.loaded.processor)
    return batch


def all_finite(features: Features) -> bool:
    """Are all features numbers?"""
    return all(np.isfinite(values_of(array)).all() for arrays in features.values() for array in arrays.values())


def averages(ready: Prepared) -> bool:
    """Can a head read the mean of the body's states beside its native input?"""
    return "mean" in ready.task.inputs.poolings and states_by_token(ready.loaded.model, ready.loaded.processor)


def is_answered_by_probe(config: RunConfig, part: str) -> bool:
    """Do the features of this part become the answers of the run's model? They are then in full precision, as it is."""
    return config.method.method == PROBE.name and part != "train"


def features_key(ready: Prepared, encoded: Encoded, bf16: bool, weights: str | None = None) -> str:
    """The key under which the frozen features of `encoded` are cached; `weights` is the hash of other weights."""
    return cache_key(
        ready.loaded.model,
        use_cpu=ready.use_cpu,
        weights=weights or ready.identity,
        rows=encoded.fingerprint(),
        layer="+".join(ready.loaded.outputs),
        **(
            {}
            if ready.task.output.keep is None
            else {"targets": _targets_key(ready, encoded), "window": encoded.window}
        ),
        bf16=bf16,
        sample=preprocessing(ready.collate, encoded),
    )


def _targets_key(ready: Prepared, encoded: Encoded) -> list[Any]:
    """What the targets of patches depend on, which are stored with their features."""
    data = ready.config.data
    return [targets_hash(encoded), *ready.splits.labels, data.mask_values, data.ignore_index]


def rows_identity(train: Encoded, validation: Encoded) -> dict[str, str]:
    """Hashes of the rows and labels that a cut-off run was begun with. The test rows are not looked at before the end."""
    hashes = {}
    for part, encoded in (("train", train), ("validation", validation)):
        hashes[part] = encoded.fingerprint()
        hashes[f"{part}_labels"] = targets_hash(encoded)
    return hashes


def targets_hash(encoded: Encoded) -> str:
    """Hash of the targets of all rows, in order."""
    targets = encoded.targets
    made = isinstance(targets, Made)
    content = b"".join(targets.digests()) if made else np.ascontiguousarray(values_of(targets)).tobytes()
    return hashlib.sha256(content).hexdigest()


def states_beside(plan: Plan, parts: tuple[Encoded, Encoded], collate: Any, config: RunConfig) -> Beside | None:
    """Return what stores the states that the plan will read in the pass that extracts the features, or None.

    A head that may yet become the mean-pooled one is left out: that one reads features. The arguments are
    `state_maker`'s.
    """
    shared = shares_pass(config) and parts[0].keep is None  # the patches of masks have a pass of their own
    maker = state_maker(plan, parts, collate, config)[0] if shared else None
    return maker.beside if maker else None


def shares_pass(config: RunConfig) -> bool:
    """Does one forward pass give features and states? Not while the probe may still choose another head."""
    return head_pooling(config) == "native"


def head_pooling(config: RunConfig) -> str:
    """The pooling that the head of the run may read: native, mean, or auto for the better of the two."""
    return config.method.pooling if config.method.method in MAY_POOL else "native"


def first_probe(ready: Prepared, features: Features) -> Probe:
    """Fit the probe for the head of the model."""
    loaded, config = ready.loaded, ready.config
    no_bias = without_bias(loaded.model, loaded.outputs)
    return closed_form(features["train"], ready.stage_data, head_pooling(config), config.train_seed, no_bias)


def probe_of(features: dict[str, Any], targets: Any, learn: np.ndarray, ready: Prepared) -> Probe:
    """Fit a probe on the rows numbered `learn` alone, with the pooling and the penalty that these choose."""
    known = {pooling: values[learn] for pooling, values in features.items()}
    no_bias, seed = without_bias(ready.loaded.model, ready.loaded.outputs), ready.config.train_seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with few rows
        probe: Probe = ready.task.output.probe(
            known, targets[learn], len(ready.splits.labels), "auto", seed, no_bias=no_bias
        )
    return probe


def plan_on(
    ready: Prepared, features: Features, origin: str, plan: Plan | None = None, probe: Probe | None = None
) -> Seen:
    """Return the plan of the run's method for its model, with the probe that its head starts from.

    `plan` is that for the stock head, and `probe` fitted on the features that this head may read, where they are known.
    """
    loaded, config, build = ready.loaded, ready.config, get_method(str(ready.config.method.method))
    probe = first_probe(ready, features) if probe is None else probe
    headed = under_probe(ready, loaded, probe.pooling)
    if plan is None or headed is not loaded:
        plan = build(headed, config.method, len(ready.train))
    return Seen(headed, features, origin, probe, plan)


def under_probe(ready: Prepared, loaded: Loaded, pooling: str) -> Loaded:
    """Return the model under a head that reads what the probe reads, where its method is made of the probe."""
    if pooling == "mean":
        return mean_pooled(loaded, ready.splits.labels)
    if not loaded.outputs and get_method(str(ready.config.method.method)).needs_probe:
        return with_linear(loaded, smallest(ready))
    return loaded


def by_probe(ready: Prepared, seen: Seen, features: dict[str, np.ndarray]) -> np.ndarray | None:
    """Return what a model whose head is the probe puts out for rows of these `features`, without another pass.

    None where a stage by gradient follows, and where features are not in full precision, as on a GPU.
    """
    if seen.probe is None:
        return None
    closed = all(stage.solve is not None and stage.start is None for stage in seen.plan.stages)
    exact = not ready.bf16 or is_answered_by_probe(ready.config, "test")
    rows = features.get(seen.probe.pooling)
    if not (closed and ready.use_cpu and exact and isinstance(rows, np.ndarray)):
        return None
    logits: np.ndarray = seen.probe.logits(np.asarray(rows)).astype(np.float32)
    return logits


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
    return replace(loaded, model=model, layers=layers, head=("classifier",), outputs=("classifier",))
