"""Models that answer every pixel: the stock UperNet head or one Linear on a body, and a processor for all of them."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, UperNetConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_BACKBONE_MAPPING,
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING,
)
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from hftl.errors import ConfigError
from hftl.models.layers import body_of, find_layers, outer_modules
from hftl.models.pooled import LinearDecoderConfig, LinearForSemanticSegmentation
from hftl.tasks.inputs.image import affine_map, image_side


_LEVELS = 4  # feature maps that the head reads
_WIDEST = 512  # UperNet's own width; the head of a narrower body is no wider than that
_BYTE = 255.0


_OUTSIDE = ("_name_or_path", "dtype", "architectures")  # what `to_dict` tells of the file and not of the model
_LEVELS_OF = ("out_features", "out_indices")
LINEAR, UPERNET = "linear", "upernet"


def decoder_config(config: Any, auto_model: Any, labels: dict[str, Any], decoder: str | None) -> Any:
    """Return the config of the decoder around a body; None for a checkpoint with a class of its own for the task.

    By default that class is taken, else UperNet, else the linear decoder for an image body that UperNet does not read.
    None too for what is no image body. Raises `ConfigError` for a UperNet on a body that has no maps of several depths.
    """
    stock, backbone = type(config) in auto_model._model_mapping, type(config) in MODEL_FOR_BACKBONE_MAPPING
    if stock and (decoder is None or (decoder == UPERNET and isinstance(config, UperNetConfig))):
        return None
    if decoder == UPERNET and not backbone:
        own = "it keeps the head of its own" if stock else "use --decoder linear"
        raise ConfigError(f"--decoder upernet reads maps of several depths, and {config.model_type} has none: {own}.")
    if decoder != LINEAR and backbone:
        return _upernet_config(config, labels)
    pixels = reads_pixels(type(config)) or isinstance(config, UperNetConfig)
    return _linear_config(config, backbone and not stock, labels) if pixels else None


def check_own_decoder(own: Any, decoder: str | None) -> None:
    """Raise `ConfigError` where a model of the linear decoder is asked to answer through another one."""
    if own is LinearForSemanticSegmentation and decoder == UPERNET:
        raise ConfigError(
            "--decoder upernet: this model has the linear decoder. Leave it out, or name its base model."
        )


def reads_pixels(kind: Any) -> bool:
    """Is a config of this class that of an image body?"""
    if kind in MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING or kind in MODEL_FOR_OBJECT_DETECTION_MAPPING:
        return False  # their bodies end in queries, not in a map
    body: Any = AutoModel._model_mapping.get(kind, None)
    return getattr(body, "main_input_name", "") == "pixel_values" or kind in MODEL_FOR_BACKBONE_MAPPING


def _upernet_config(config: Any, labels: dict[str, Any]) -> UperNetConfig:
    """Return the config of UperNet around a backbone.

    Of a body of many blocks the head reads four, as far from each other as can be (Beit and DINOv2 do so). Its second
    head, whose only use is a second loss, is left out: the loss here is of the answers alone.
    """
    fields = {k: v for k, v in config.to_dict().items() if k not in (*_OUTSIDE, *_LEVELS_OF, "id2label", "label2id")}
    kind = fields.pop("model_type")
    stages = len(AutoConfig.for_model(kind, **fields).stage_names) - 1
    body = AutoConfig.for_model(kind, **fields, out_indices=_levels(stages))
    width = max(getattr(body, "hidden_sizes", None) or [body.hidden_size])
    return UperNetConfig(backbone_config=body, use_auxiliary_head=False, hidden_size=min(_WIDEST, width), **labels)


def _levels(stages: int) -> list[int]:
    return sorted({max(1, round(stages * (i + 1) / _LEVELS)) for i in range(_LEVELS)})


def levels_read(config: Any, around: Any) -> dict[str, Any]:
    """Return which blocks the class's own head reads, where the checkpoint of a body does not say (Beit, Data2Vec)."""
    indices = None if around is not None else getattr(config, "out_indices", None)
    return {} if indices is None or len(indices) == _LEVELS else {"out_indices": _levels(config.num_hidden_layers)}


def _linear_config(config: Any, backbone: bool, labels: dict[str, Any]) -> LinearDecoderConfig:
    """Return the config of the linear decoder on the last map of a body. Its width is set once the body has run."""
    inner = getattr(config, "backbone_config", None)
    config, backbone = (config, backbone) if inner is None else (inner, True)
    fields = {k: v for k, v in config.to_dict().items() if k not in (*_OUTSIDE, "id2label", "label2id")}
    if backbone:
        fields = {k: v for k, v in fields.items() if k not in _LEVELS_OF}
    return LinearDecoderConfig(encoder=fields, backbone=backbone, **labels)


def linear_around(body: nn.Module, config: LinearDecoderConfig, batch: dict[str, torch.Tensor]) -> Any:
    """Return the linear decoder around a loaded body, which it shares, with a new Linear; `batch` tells its width."""
    config.width = 1
    with torch.device("meta"):
        model = LinearForSemanticSegmentation(config)
    model.encoder = body
    training, device = body.training, next(body.parameters()).device
    with torch.no_grad():
        config.width = model.eval().feature_map(batch["pixel_values"].to(device)).shape[-1]
    model.classifier = nn.Linear(config.width, len(config.id2label or {})).to(device)
    nn.init.normal_(model.classifier.weight, std=0.02)
    nn.init.zeros_(model.classifier.bias)
    body.train(training)
    return model.eval()


def linear_view(model: Any, batch: dict[str, torch.Tensor]) -> Any:
    """Return the linear decoder on the body of a model that answers pixels, which it shares: itself, where it is one."""
    if isinstance(model, LinearForSemanticSegmentation):
        return model
    body, labels = body_of(model), {"id2label": model.config.id2label, "label2id": model.config.label2id}
    config = _linear_config(body.config, body is not model.base_model, labels)
    config.problem_type = model.config.problem_type
    if config.backbone:
        config.encoder |= {name: getattr(body.config, name) for name in _LEVELS_OF[1:]}
    with torch.random.fork_rng(devices=[]):  # a look at the base must not change what the run draws
        return linear_around(body, config, batch)


def with_linear(loaded: Any, batch: dict[str, torch.Tensor]) -> Any:
    """Return the same body under the linear decoder, for a head that is fitted in closed form."""
    model = linear_view(loaded.model, batch)
    if model is loaded.model:
        return loaded
    head = tuple(outer_modules(model))
    return replace(
        loaded, model=model, head=head, outputs=("classifier",), layers=find_layers(model, head, batch, least=1)
    )


def whole_images(processor: Any) -> SegformerImageProcessorPil:
    """Return a processor that resizes an image as a whole, with the colours that `processor` makes.

    One that crops would leave pixels without an answer, and those of bodies cannot enlarge the answer again.
    """
    side = image_side(processor)
    scale, offset = (values.flatten().tolist() for values in affine_map(processor))
    mean = [-o / (s * _BYTE) for s, o in zip(scale, offset, strict=True)]
    deviation = [1 / (s * _BYTE) for s in scale]
    return SegformerImageProcessorPil(
        size={"height": side, "width": side},
        image_mean=mean,
        image_std=deviation,
        do_reduce_labels=False,
        rescale_factor=1 / _BYTE,
    )
