"""A baseline as two files without any pickle, for those who should not transfer."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hftl.errors import DataError, ModelError
from hftl.evaluation.baselines import Baseline, LinearModel, no_features
from hftl.evaluation.linear_baselines import histogram_features, raw_pixel_features
from hftl.evaluation.pixel_baseline import KIND, as_they_are
from hftl.evaluation.text_features import pair_features, text_features
from hftl.evaluation.word_tags import WordTags
from hftl.paths import typed_path, usual_modes


FORMAT = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"
# kind → (arrays, settings) → the function inputs → features
_FEATURES: dict[str, Callable[[dict[str, np.ndarray], dict[str, Any]], Callable[[Any], Any]]] = {
    "majority": lambda arrays, settings: no_features,
    "tfidf": text_features,
    "tfidf_pair": pair_features,
    "raw_pixels": raw_pixel_features,
    "colour_histogram": histogram_features,
    KIND: lambda arrays, settings: as_they_are,
}


def save_baseline(baseline: Baseline, folder: str | Path, labels: Sequence[str]) -> None:
    """Write `config.json` and, but for tags of words, `model.safetensors` into `folder`, which is made where it is missing.

    A text baseline's config holds the words and groups of characters that it counts, or whose tags it knows: they come
    from the training texts, so publishing it publishes those. Raises `DataError` when a class id has no label.
    """
    path, model = Path(folder), baseline.model
    _check_classes(_classes_of(model.settings, model.arrays), len(labels))
    path.mkdir(parents=True, exist_ok=True)
    if not isinstance(model, WordTags):
        arrays = {name: np.ascontiguousarray(array) for name, array in model.arrays.items()}
        save_file({**arrays, "classes": arrays["classes"].astype(np.int64)}, path / WEIGHTS)
    config = {
        "format": FORMAT,
        "kind": model.kind,
        "name": baseline.name,
        "labels": [str(label) for label in labels],
        "settings": model.settings,
    }
    (path / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    usual_modes(path)


def _classes_of(settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return the class ids that a model may answer with; without arrays it is that of words."""
    if arrays:
        return arrays["classes"]
    return np.array([settings["default"], *settings["words"].values(), *settings["lower"].values()])


def _check_classes(classes: np.ndarray, labels: int) -> None:
    if len(classes) == 0 or classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= labels:
        raise DataError(f"The baseline's class ids go from {min(classes)} to {max(classes)}, but labels are {labels}.")


def is_baseline(folder: str | Path) -> bool:
    """Is this a folder that `save_baseline` wrote? Its files need not be whole."""
    try:
        config = json.loads((typed_path(folder) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and {"format", "kind", "settings"} <= set(config)


def load_baseline(folder: str | Path) -> LinearModel | WordTags:
    """Read what `save_baseline` wrote; its predictions are those of the baseline that was saved.

    Raises `ModelError` when the folder holds no such baseline, or files that do not fit together.
    """
    path = Path(folder)
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        of_words = isinstance(config, dict) and "lower" in dict(config.get("settings") or {})
        arrays = {} if of_words else load_file(path / WEIGHTS)
    except FileNotFoundError:
        missing = next((name for name in (CONFIG, WEIGHTS) if not (path / name).is_file()), CONFIG)
        raise ModelError(f"There is no baseline in {str(path)!r}: {missing} is missing.") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"The baseline in {str(path)!r} cannot be read, train again: {str(error)!r}") from None
    try:
        return _assemble(config, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        raise ModelError(f"The baseline in {str(path)!r} is damaged, train again: {str(error)!r}") from None


def _assemble(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> LinearModel | WordTags:
    kind, settings, of_words = config["kind"], config["settings"], not arrays
    if config["format"] != FORMAT or not (of_words or kind in _FEATURES):
        raise ValueError(f"format {config['format']} of kind {kind} is not known to this version")
    name, labels = str(config["name"]), tuple(str(label) for label in config["labels"])
    _check_classes(_classes_of(settings, arrays), len(labels))
    if of_words:
        return WordTags(str(kind), settings, name, labels)
    weight, bias, classes = arrays["weight"], arrays["bias"], arrays["classes"]
    if weight.ndim != 2 or bias.shape != classes.shape or classes.shape != weight.shape[:1]:
        raise ValueError(f"weights of {weight.shape}, {bias.shape} and {classes.shape} do not fit together")
    if settings.get("link", "softmax") not in ("softmax", "sigmoid", "none"):
        raise ValueError(f"the link {settings['link']} is not known to this version")
    if kind == "tfidf" and not (
        sum(len(block["terms"]) for block in settings["blocks"]) == len(arrays["idf"]) == weight.shape[1]
    ):
        raise ValueError("the terms do not pair up with their weights")
    return LinearModel(kind, arrays, settings, _FEATURES[kind](arrays, settings), name, labels)
