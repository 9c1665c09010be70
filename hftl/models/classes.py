"""The class that a checkpoint is loaded into, and what of it must have been loaded.

An image body whose own model type has no class for the task is loaded into another's. What a checkpoint lacks,
`from_pretrained` replaces by random numbers.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, UperNetConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

from hftl.errors import ModelError
from hftl.models import pooled
from hftl.models.decoders import linear_around, reads_pixels
from hftl.models.layers import find_layers, is_under, outer_modules
from hftl.models.pooled import (
    LinearDecoderConfig,
    LinearForSemanticSegmentation,
    PooledForImageClassification,
    PooledImageConfig,
    left_out,
    own_auto_model,
)


# Model types that are a stock body under another name: the type whose classifier reads the same tensors.
_SAME_BODY = {"vit_mae": "vit"}
_TOWERS = {"siglip_vision_model": "siglip", "clip_vision_model": "clip"}  # vision towers saved without the text's
_POOLED = ("dinov3_vit", "dinov3_convnext")  # transformers has no image classifier for them: they get hftl's own
# Parameters that a checkpoint may lack wherever they lie: a classifier does not read them.
_UNREAD = ("mask_token",)
_AROUND = {**_SAME_BODY, **_TOWERS}
WRAPPED = frozenset((*_AROUND, *_POOLED))  # no Auto class of transformers makes a classifier of these


OWN_FILE = f"modeling_{Path(pooled.__file__).name}"  # beside the weights of classes of hftl's own
_FROM = ("revision", "local_files_only", "trust_remote_code")  # which file of a checkpoint is read, and how
_MOST_POSITIONS = 2**24  # tokens that a text may have: more than any published model reads


def check_positions(fields: dict[str, Any], name: str) -> None:
    """Raise `ModelError` for a config with so many positions that a table of them would fill any memory."""
    for known in (fields, fields.get("text_config") or {}):
        for key in ("max_position_embeddings", "n_positions"):
            count = known.get(key)
            if isinstance(count, int | float) and count > _MOST_POSITIONS:
                raise ModelError(
                    f"{name} has a config.json whose {key} is {count:,}: no model reads so many tokens. Correct it."
                )


def classifier_config(config: Any, auto_model: Any, labels: dict[str, Any]) -> Any:
    """Return the config of the classifier around an image body that has none of its own; None for every other one.

    `auto_model` is the task's Auto class, `labels` are `id2label` and `label2id`.
    """
    # to_dict names the dtype of the file, and the folder that the checkpoint was read from.
    fields = {k: v for k, v in config.to_dict().items() if k not in ("_name_or_path", "dtype", "architectures")}
    if config.model_type in _POOLED and own_auto_model(PooledForImageClassification) == auto_model.__name__:
        return PooledImageConfig(encoder=fields, **labels)
    kind: Any = CONFIG_MAPPING[_AROUND[config.model_type]] if config.model_type in _AROUND else None
    if kind is None or kind not in auto_model._model_mapping:
        return None
    if config.model_type in _TOWERS:
        return kind(vision_config=fields, **labels)
    names = set(kind().to_dict()) - {"model_type", *labels}
    return kind(**{k: v for k, v in fields.items() if k in names}, **labels)


def makes_classifier(model_type: str, auto_model: Any) -> bool:
    """Can a checkpoint of this type, by transformers' name, be loaded as the Auto class of a task, or into one?"""
    if model_type not in CONFIG_MAPPING:
        return False
    config: Any = CONFIG_MAPPING[model_type]
    if own_auto_model(LinearForSemanticSegmentation) == auto_model.__name__:
        return config in auto_model._model_mapping or reads_pixels(config)
    wrapped = model_type in WRAPPED and classifier_config(config(), auto_model, {}) is not None
    return wrapped or config in auto_model._model_mapping


def own_class_note(model: Any) -> list[str]:
    """Say which head a backbone was given, and how a run that ends in a class of hftl's own is loaded."""
    if isinstance(model.config, UperNetConfig):
        body: Any = model.config.backbone_config
        return [f"The body ({body.model_type}) answers through the stock UperNet head."]
    if isinstance(model, LinearForSemanticSegmentation):
        return [
            f"The body ({model.config.encoder['model_type']}) answers through one Linear for each place of its last map. "
            "transformers has no such class, so this run is saved as hftl's own LinearForSemanticSegmentation: hftl loads "
            'it as it is, plain transformers with pipeline("image-segmentation", "RUN/final", trust_remote_code=True), '
            "which runs final/modeling_pooled.py."
        ]
    if not isinstance(model, PooledForImageClassification):
        return []
    return [
        f"transformers has no image classifier for {model.config.encoder['model_type']}, so this run is saved as hftl's "
        "own PooledForImageClassification: hftl loads it as it is, plain transformers with "
        'pipeline("image-classification", "RUN/final", trust_remote_code=True), which runs final/modeling_pooled.py.'
    ]


def load_into(
    path: str, config: Any, auto_model: Any, options: dict[str, Any], batch: dict[str, torch.Tensor] | None = None
) -> tuple[Any, dict[str, Any]]:
    """Load the body at `path` into the model of `config`; return it and transformers' loading info.

    `batch` is a smallest one, which a linear decoder needs.
    """
    if config.model_type in _SAME_BODY.values():
        model, info = auto_model.from_pretrained(path, config=config, **options)
        return model, info
    body, info = _load_body(path, config, auto_model, options)
    if isinstance(config, LinearDecoderConfig):
        assert batch is not None
        model = linear_around(body, config, batch)
    elif isinstance(config, PooledImageConfig):
        model = PooledForImageClassification(config)
    else:
        model = auto_model.from_config(config)
    name = next(name for name, child in model.named_children() if type(child) is type(body))
    setattr(model, name, body)
    missing = [f"{name}.{key}" for key in info["missing_keys"]]
    mismatched = [(f"{name}.{key}", *shapes) for key, *shapes in info["mismatched_keys"]]
    return model, {**info, "missing_keys": missing, "mismatched_keys": mismatched}


def _load_body(path: str, config: Any, auto_model: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    linear = isinstance(config, LinearDecoderConfig)
    if isinstance(config, UperNetConfig) or (linear and config.backbone):
        fields = dict(config.encoder) if linear else {}
        inner = AutoConfig.for_model(fields.pop("model_type"), **fields) if linear else config.backbone_config
        whole = AutoConfig.from_pretrained(path, **{k: v for k, v in options.items() if k in _FROM})
        if isinstance(whole, UperNetConfig):  # a finished one, whose body lies inside
            model, info = auto_model.from_pretrained(path, **options)
            missing = [key.removeprefix("backbone.") for key in info["missing_keys"] if key.startswith("backbone.")]
            return model.backbone, {**info, "missing_keys": missing, "mismatched_keys": []}
        kind: Any = MODEL_FOR_BACKBONE_MAPPING[type(inner)]  # type: ignore[index]
        body, info = kind.from_pretrained(path, config=inner, **options)
        return body, info
    more = {}
    if linear:
        more = left_out(AutoConfig.from_pretrained(path, **{k: v for k, v in options.items() if k in _FROM}))
    body, info = AutoModel.from_pretrained(path, **options, **more)
    return body, info


def check_loaded(model: Any, info: dict[str, Any], name: str, batch: dict[str, torch.Tensor] | None) -> None:
    """Raise `ModelError` when weights that were pretrained must be there and are not.

    `info` is the loading info of `from_pretrained`. With a `batch` (the smallest one), what runs outside of the body or
    after its last block may be new: a head, a pooler, a last norm. Without one, everything must have been loaded.
    Nor may the file hold layers that config.json leaves out.
    """
    _check_depth(model, info["unexpected_keys"], name)
    mismatched = {key: shapes for key, *shapes in info["mismatched_keys"]}
    state = model.state_dict()
    lacking = [
        key
        for key in [*info["missing_keys"], *mismatched]
        # Counts and positions are whole numbers, which no model draws at random.
        if not key.endswith(_UNREAD) and (key not in state or state[key].is_floating_point())
    ]
    if not lacking:
        return
    may_be_new: tuple[str, ...] = ()
    if batch is not None:
        may_be_new = find_layers(model, outer_modules(model), batch, least=1).above
    wrong = sorted(key for key in lacking if not is_under(key, may_be_new))
    if not wrong:
        return
    raise ModelError(
        f"{name} does not hold the weights that its config.json describes: {len(wrong)} of {len(state)} tensors would be "
        f"random. {_cause(wrong, mismatched, sorted(info['unexpected_keys']))}"
    )


def _check_depth(model: Any, unexpected: Iterable[str], name: str) -> None:
    """Raise `ModelError` when a list of layers in the body is longer in the file than by config.json."""
    lists = {n: len(m) for n, m in model.base_model.named_modules() if isinstance(m, nn.ModuleList | nn.Sequential)}
    for key in sorted(unexpected):
        parts = key.removeprefix(model.base_model_prefix + ".").split(".")  # a file of the body alone has no prefix
        for i, part in enumerate(parts):
            length = lists.get(".".join(parts[:i]))
            if length is not None and part.isdigit() and int(part) >= length:
                raise ModelError(
                    f"{name} holds more layers than the {length} that its config.json describes: {key} would be left "
                    "out. Set the number of layers in config.json right, or fetch it again."
                )


def _cause(wrong: list[str], mismatched: dict[str, list[Any]], unexpected: list[str]) -> str:
    for key in wrong:
        for other in unexpected:
            if other.endswith("." + key) or other.endswith("." + key.partition(".")[2]):
                prefix = other[: -len(key)] if other.endswith(key) else other.removesuffix(key.partition(".")[2])
                return f"Its tensors are called {prefix}*: save the model without the prefix {prefix[:-1]!r}."
    for key in wrong:
        if key in mismatched:
            of_file, of_config = (list(shape) for shape in mismatched[key])
            return f"{key} is {of_file} in the file and {of_config} by config.json: one of the two is not its own."
    return f"Missing is {', '.join(wrong[:3])}{' and more' if len(wrong) > 3 else ''}: fetch or save it again."
