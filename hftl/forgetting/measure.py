"""Before and after training, on the same rows: what the tuned model kept of the base."""

import hashlib
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from hftl.errors import DataError, ModelError, TrainingError
from hftl.evaluation.bootstrap import ends, resampled_sums
from hftl.evaluation.similarity import FOLDS, kept_share, knn_agreement, linear_cka
from hftl.forgetting.original_head import original_losses
from hftl.forgetting.retention import UNLABELLED, Retention, choose_retention
from hftl.methods import FROZEN_BODY
from hftl.models.layers import is_under
from hftl.models.load import Loaded
from hftl.prepare import Prepared
from hftl.training.cache import cache_key, cached_arrays, preprocessing, weights_hash
from hftl.training.features import Encoded, Passer
from hftl.training.replay import first_tensor
from hftl.training.stages import Fitted
from hftl.training.world import broadcast_from_main, is_main_process


DEFINITION = (
    "Share of the variance of the base's features that a linear model can still read from the tuned model's: "
    "cross-fitted ridge regression on the retention rows, relative to what the base's features tell of themselves."
)
NEIGHBOURS = 10
PROBE_C = 0.1  # on standardised features; of .001, .01 and .1 the best on 400 Wikipedia summaries and MiniLM
FINAL = "final"
_NUMBERS = ("kept", "low", "high", "probe", "knn_agreement", "knn_chance", "original_head")


@dataclass(frozen=True, eq=False)
class Before:
    """What there is to know of the base before it changes."""

    retention: Retention | str  # the rows, or why there are none
    body: dict[str, str]  # hash of every tensor below the head
    states: dict[str, np.ndarray] | None  # None: not asked for, since the method leaves the body as it is
    seconds: float


def look_at_base(ready: Prepared) -> Before:
    """Choose the retention rows and run them through the model as loaded. Call it before anything changes the model.

    All processes call this together. The states are kept in the cache of features, for the next run from this base.
    Raises `DataError` for a `--retain` that cannot be used.
    """
    start = time.perf_counter()
    retention = choose_retention(ready)
    body = body_hashes(ready.loaded.model, ready.loaded.head)
    states = None
    if isinstance(retention, Retention) and ready.config.method.method not in FROZEN_BODY:
        make = partial(block_states, ready.loaded.model, ready.loaded, retention.encoded, _passer(ready))
        states, _ = cached_arrays(_states_key(ready, retention.encoded), make)
    return Before(retention, body, states, time.perf_counter() - start)


def _passer(ready: Prepared) -> Passer:
    return Passer(ready.collate, ready.use_cpu, ready.bf16)


def _states_key(ready: Prepared, rows: Encoded) -> str:
    """The last Linear is left out: it is drawn anew for every seed, and nothing here reads what it puts out."""
    model = ready.loaded.model
    names = [name for name in model.state_dict() if name.rpartition(".")[0] not in ready.loaded.outputs]
    return cache_key(
        model,
        use_cpu=ready.use_cpu,
        use="retention",
        weights=weights_hash(model, names),
        blocks=ready.loaded.layers.modules,
        rows=rows.fingerprint(),
        sample=preprocessing(ready.collate, rows),
        bf16=ready.bf16,
    )


def block_states(model: Any, loaded: Loaded, encoded: Encoded, passer: Passer) -> dict[str, np.ndarray]:
    """Return {"block 1": [n, d], ..., "final": [n, d]} in fp32: every block's output and the final features.

    Token states are averaged over the tokens that are not padding, maps over their places. The final features are for
    texts the mean of the body's last states, for images what the last Linear reads. `model` is `loaded.model`, before
    or after training, or another model around the same body. Blocks whose output has no row per input are left out.
    """
    seen: dict[str, torch.Tensor] = {}
    body, prefix = model.base_model, _body_prefix(loaded.model)

    def note(key: str) -> Any:
        return lambda _, __, out: seen.update({key: first_tensor(out)})

    def read(_: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        rows = len(batch["labels"])
        per_row = {k: v for k, v in seen.items() if isinstance(v, torch.Tensor) and len(v) == rows}
        return {key: pool(value, batch.get("attention_mask")) for key, value in per_row.items()}

    with ExitStack() as hooks:
        for i, name in enumerate(loaded.layers.modules, start=1):
            block = body.get_submodule(name.removeprefix(prefix))
            hooks.enter_context(block.register_forward_hook(note(f"block {i}")))
        if loaded.model.main_input_name == "pixel_values" or body is model:
            output = model.get_submodule(loaded.output)
            hooks.enter_context(output.register_forward_pre_hook(lambda _, args: seen.update({FINAL: args[0]})))
        else:
            hooks.enter_context(body.register_forward_hook(lambda _, __, out: seen.update({FINAL: out[0]})))
        return passer.outputs(model, encoded, read, "retention rows")


def pool(value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return [n, d] of token states [n, tokens, d], averaged where `mask` [n, tokens] is 1, or maps [n, d, h, w]."""
    if value.dim() == 4:
        return value.float().mean((2, 3))
    if value.dim() == 3 and mask is not None and mask.shape == value.shape[:2]:
        weights = mask.unsqueeze(-1).float()
        return (value.float() * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    return value.float().mean(1) if value.dim() == 3 else value.flatten(1)


def _body_prefix(model: Any) -> str:
    """What stands before the names of the body's modules in those of the model; "" where the model is its own body."""
    return next((f"{name}." for name, m in model.named_modules() if name and m is model.base_model), "")


def body_hashes(model: Any, head: tuple[str, ...]) -> dict[str, str]:
    """Return the sha256 of every parameter and buffer of the body, by its name there, without those of the head."""
    prefix = _body_prefix(model)
    return {
        name: hashlib.sha256(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()).hexdigest()
        for name, tensor in model.base_model.state_dict().items()
        if not is_under(prefix + name, head)
    }


def forgetting(before: Before, model: Any, ready: Prepared) -> dict[str, Any]:
    """Return what `model`, the plain trained one, kept of the base, ready for report.json, on every process.

    `kept` is 1.0, and `unchanged` true, for a body whose weights did not change, and None, with the reason in `note`,
    where it cannot be told. All processes call this together. Raises `TrainingError` when a method that freezes the body changed it.
    """
    start = time.perf_counter()
    retention = before.retention
    unchanged = _same_body(before.body, model)
    if isinstance(retention, str):
        result = {"kept": 1.0 if unchanged else None, "unchanged": unchanged, "note": retention}
    elif unchanged:
        result = _untouched(before, ready)
    elif before.states is None:
        raise TrainingError(f"--method {ready.config.method.method} changed the frozen body: this is a bug of hftl.")
    else:
        result = _compare(before, model, ready, retention)
    document = _document(result, retention, before.seconds, time.perf_counter() - start)
    return dict(broadcast_from_main(document))


def keeps(before: Before, ready: Prepared) -> Callable[[Any], float]:
    """Return what tells `kept` of `forgetting`, and no more, of a model. Raises `DataError` without rows, or for few."""
    rows = before.retention
    if isinstance(rows, str) or before.states is None:
        raise DataError(f"--keep needs retention rows, by --retain: {rows}")
    base = np.asarray(before.states[FINAL])
    kept_share(base, base)  # before training: it raises for few rows

    def kept(model: Any) -> float:
        if _same_body(before.body, model):
            return 1.0
        after = block_states(model, ready.loaded, rows.encoded, _passer(ready))
        return float(broadcast_from_main(kept_share(base, after[FINAL]).value.value))

    return kept


def _document(result: dict[str, Any], retention: Retention | str, before: float, after: float) -> dict[str, Any]:
    rows = retention if isinstance(retention, Retention) else None
    notes = [result.pop("note", ""), *(rows.notes if rows else ())]
    return {
        **dict.fromkeys(_NUMBERS),
        "unchanged": False,
        "definition": DEFINITION,
        "rows": len(rows.encoded) if rows else 0,
        "left_out": rows.left_out if rows else 0,
        "retention": rows.name if rows else None,
        "retention_kind": rows.kind if rows else None,
        "note": " ".join(note for note in notes if note),
        "cka": [],
        **result,
        "seconds": round(before + after, 3),
        "seconds_after": round(after, 3),
    }


def with_kept(fitted: Fitted, before: Before, kept: dict[str, Any], model: Any, ready: Prepared, work: Path) -> Fitted:
    """Return `fitted` with `kept` at alpha 0, at the chosen alpha and at 1 in the curve of an interpolation.

    `kept` is what `forgetting` said of `model`, which is the same afterwards. Costs one pass over the retention rows.
    All processes call this together; stages that trained are left alone.
    """
    *earlier, last = fitted.stages
    mixture = last.interpolation
    if mixture is None or kept["kept"] is None or "kept" in mixture["curve"][0]:
        return fitted
    shares = {0.0: 1.0, mixture["alpha"]: kept["kept"]}
    if 1.0 not in shares:
        state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(load_file(work / f"stage-{len(earlier) - 1}.safetensors"))
        shares[1.0] = forgetting(before, model, ready)["kept"]
        model.load_state_dict(state)
    curve = [{**point, "kept": shares.get(point["alpha"])} for point in mixture["curve"]]
    return replace(fitted, stages=[*earlier, replace(last, interpolation={**mixture, "curve": curve})])


def _same_body(before: dict[str, str], model: Any) -> bool:
    """Are all weights and statistics those of the base? Pooled models leave out modules that they do not use."""
    after = body_hashes(model, ())
    return all(after.get(name, digest) == digest for name, digest in before.items())


def _untouched(before: Before, ready: Prepared) -> dict[str, Any]:
    names = before.states or [*(f"block {i + 1}" for i in range(len(ready.loaded.layers.modules))), FINAL]
    return {
        **dict.fromkeys(("kept", "low", "high", "knn_agreement"), 1.0),
        "unchanged": True,
        "cka": [{"block": name, "value": 1.0} for name in sorted(names, key=_place)],
        "note": "No weight below the head changed: all is kept, and nothing was measured.",
    }


def _compare(before: Before, model: Any, ready: Prepared, retention: Retention) -> dict[str, Any]:
    after = block_states(model, ready.loaded, retention.encoded, _passer(ready))
    head, notes = None, []
    try:
        head = original_losses(ready, model, retention.encoded)
    except ModelError as error:  # the run is done, and its model is worth more than this figure
        notes.append(f"The original head was not measured: {error}")
    numbers: dict[str, Any] = {}
    if is_main_process():
        base = {name: np.asarray(states) for name, states in (before.states or {}).items()}
        try:
            # Matrices of a few hundred rows: more threads would only wait for each other.
            with threadpool_limits(1, user_api="blas"):
                numbers = compare_states(base, after, retention.encoded.targets)
        except DataError as error:  # features that are not numbers, or the same for all rows
            notes.append(f"What was kept cannot be told: {error}")
    return {**numbers, "original_head": head, "note": " ".join(notes)}


def compare_states(base: dict[str, np.ndarray], tuned: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    """Return kept, low, high, probe, knn_agreement, knn_chance and cka of the states of the same rows.

    Both map block names and "final" to [n, d]; `labels` [n] are -1 where a row has none. Raises `DataError` for
    states that cannot be compared.
    """
    share = kept_share(base[FINAL], tuned[FINAL])
    agreement, chance = knn_agreement(base[FINAL], tuned[FINAL], NEIGHBOURS)
    names = sorted((name for name in base if name in tuned), key=_place)
    return {
        "kept": share.value.value,
        "low": share.value.low,
        "high": share.value.high,
        "probe": probe_accuracy(base[FINAL], tuned[FINAL], labels),
        "knn_agreement": agreement,
        "knn_chance": chance,
        "cka": [{"block": name, "value": round(linear_cka(base[name], tuned[name]), 5)} for name in names],
    }


def _place(name: str) -> float:
    return np.inf if name == FINAL else float(name.rpartition(" ")[2])


def probe_accuracy(base: np.ndarray, tuned: np.ndarray, labels: np.ndarray, seed: int = 0) -> dict[str, float] | None:
    """Return before and after: accuracy of logistic regression on the retention labels, by 5-fold cross-validation.

    The folds are the same for both, and `low` and `high` the 95% interval of after minus before, a percentile
    bootstrap over the rows. Classes of fewer than 5 rows are left out; None where fewer than two classes remain.
    """
    classes, counts = np.unique(labels[labels != UNLABELLED], return_counts=True)
    rows = np.isin(labels, classes[counts >= FOLDS])
    if len(classes[counts >= FOLDS]) < 2:
        return None
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(base[rows], labels[rows]))
    right = [_right(features[rows].astype(np.float64), labels[rows], folds) for features in (base, tuned)]
    change = right[1].astype(int) - right[0]
    per_change = [(change == value).sum() for value in (-1, 0, 1)]
    low, high = ends(resampled_sums([-1, 0, 1], per_change, np.random.default_rng(seed)) / len(change))
    return {"before": float(right[0].mean()), "after": float(right[1].mean()), "low": low, "high": high}


def _right(features: np.ndarray, labels: np.ndarray, folds: list[Any]) -> np.ndarray:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, max_iter=300, tol=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # accuracies need no last digit
        return np.asarray(cross_val_predict(model, features, labels, cv=folds) == labels)
