"""The class that an image body is loaded into where its checkpoint's own model type has none for the task."""

from typing import Any

from transformers import AutoModel, AutoModelForImageClassification
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hftl.models.pooled import PooledForImageClassification, PooledImageConfig


# Model types that are a stock body under another name: the type whose classifier reads the same tensors.
_SAME_BODY = {"vit_mae": "vit"}
_TOWERS = {"siglip_vision_model": "siglip", "clip_vision_model": "clip"}  # vision towers saved without the text's
_POOLED = ("dinov3_vit", "dinov3_convnext")  # transformers has no image classifier for them: they get hftl's own
WRAPPED = frozenset((*_SAME_BODY, *_TOWERS, *_POOLED))  # no Auto class of transformers makes a classifier of these


def classifier_config(config: Any, auto_model: str, labels: dict[str, Any]) -> Any:
    """Return the config of the classifier around an image body that has none of its own; None for every other one.

    `labels` are `id2label` and `label2id`.
    """
    if auto_model != "AutoModelForImageClassification":
        return None
    # to_dict names the dtype of the file, and the folder that the checkpoint was read from.
    fields = {k: v for k, v in config.to_dict().items() if k not in ("_name_or_path", "dtype", "architectures")}
    if config.model_type in _POOLED:
        return PooledImageConfig(encoder=fields, **labels)
    own: Any
    if config.model_type in _TOWERS:
        own = CONFIG_MAPPING[_TOWERS[config.model_type]]
        return own(vision_config=fields, **labels)
    if config.model_type in _SAME_BODY:
        own = CONFIG_MAPPING[_SAME_BODY[config.model_type]]
        names = set(own().to_dict()) - {"model_type", *labels}
        return own(**{k: v for k, v in fields.items() if k in names}, **labels)
    return None


def own_class_note(model: Any) -> list[str]:
    """Say how a run that ends in a class of hftl's own is loaded."""
    if not isinstance(model, PooledForImageClassification):
        return []
    return [
        f"transformers has no image classifier for {model.config.encoder['model_type']}, so this run is saved as hftl's "
        "own PooledForImageClassification: hftl loads it as it is, plain transformers with "
        'pipeline("image-classification", "RUN/final", trust_remote_code=True), which runs final/modeling_pooled.py.'
    ]


def load_into(path: str, config: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Load the body at `path` into the classifier of `config`; return it and transformers' loading info."""
    if config.model_type in _SAME_BODY.values():
        return AutoModelForImageClassification.from_pretrained(path, config=config, **options)
    body, info = AutoModel.from_pretrained(path, **options)
    model: Any
    if isinstance(config, PooledImageConfig):
        model = PooledForImageClassification(config)
    else:
        model = AutoModelForImageClassification.from_config(config)
    name = next(name for name, child in model.named_children() if type(child) is type(body))
    setattr(model, name, body)
    mismatched = [(f"{name}.{key}", *shapes) for key, *shapes in info["mismatched_keys"]]
    return model, {
        **info,
        "missing_keys": [f"{name}.{key}" for key in info["missing_keys"]],
        "mismatched_keys": mismatched,
    }
