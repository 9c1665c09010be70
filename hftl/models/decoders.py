"""Models that answer every pixel: the stock UperNet head on a backbone that has none, and a processor for all of them."""

from typing import Any

from transformers import AutoConfig, UperNetConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from hftl.tasks.inputs.image import affine_map, image_side


_LEVELS = 4  # feature maps that the head reads
_WIDEST = 512  # UperNet's own width; the head of a narrower body is no wider than that
_BYTE = 255.0


def backbone_config(config: Any, auto_model: Any, labels: dict[str, Any]) -> Any:
    """Return the config of UperNet around a backbone; None for a checkpoint with a class of its own for the task.

    Of a body of many blocks the head reads four, as far from each other as can be (Beit and DINOv2 do so). Its second
    head, whose only use is a second loss, is left out: the loss here is of the answers alone.
    """
    if type(config) in auto_model._model_mapping or type(config) not in MODEL_FOR_BACKBONE_MAPPING:
        return None
    fields = {k: v for k, v in config.to_dict().items() if k not in ("_name_or_path", "dtype", "architectures")}
    fields = {k: v for k, v in fields.items() if k not in ("out_features", "out_indices", "id2label", "label2id")}
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
