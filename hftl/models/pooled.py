"""Models that transformers lacks: one Linear on the mean of a text's token states, or on an image body's pooling or map.

This file needs transformers and torch alone. It is saved beside the weights of every model of these classes, so that
`pipeline(task, folder, trust_remote_code=True)` serves the model without hftl. Mean pooling is what sentence encoders
are trained for (Reimers & Gurevych 2019, Sentence-BERT); the stock classes read one token. For some image bodies, such
as DINOv3 (Simeoni et al. 2025), transformers has no class with a classifier; it has none with one Linear for every pixel.
"""

import inspect
from typing import Any

import torch
from torch import nn
from transformers import AutoBackbone, AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput, SemanticSegmenterOutput, SequenceClassifierOutput


def left_out(config: PretrainedConfig) -> dict[str, bool]:
    """Return what the body's class is told so that it ends in its last states: no pooler, and no layer before one."""
    body_class: Any = AutoModel._model_mapping[type(config)]
    takes = inspect.signature(body_class).parameters
    return {name: False for name in ("add_pooling_layer", "expand_output") if name in takes}


class MeanPooledConfig(PretrainedConfig):
    """The encoder's own config under `encoder`. A model type of its own makes a load without this file fail loudly."""

    model_type = "hftl_mean_pooled"

    def __init__(self, encoder: dict | None = None, **kwargs):
        self.encoder = encoder or {}
        super().__init__(**kwargs)


class MeanPooledForSequenceClassification(PreTrainedModel):
    """encoder → mean over the tokens that are not padding → Linear."""

    config_class = MeanPooledConfig
    base_model_prefix = "encoder"
    accepts_loss_kwargs = False

    def __init__(self, config: MeanPooledConfig):
        super().__init__(config)
        fields = dict(config.encoder)
        encoder_config = AutoConfig.for_model(fields.pop("model_type"), **fields)
        self.num_labels = config.num_labels
        # The pooler of BERT's kin is not used here, and some checkpoints (RoBERTa's classifier) have none to load.
        self.encoder = AutoModel.from_config(encoder_config, **left_out(encoder_config))
        self.classifier = nn.Linear(encoder_config.hidden_size, len(config.id2label or {}))
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, labels=None, **inputs):
        """Return logits [batch, labels], and the loss when `labels` [batch] are given."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **inputs)[0]
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        logits = self.classifier((states * weights).sum(1) / weights.sum(1).clamp(min=1e-9))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class PooledImageConfig(PretrainedConfig):
    """The image body's own config under `encoder`."""

    model_type = "hftl_pooled_image"

    def __init__(self, encoder: dict | None = None, **kwargs):
        self.encoder = encoder or {}
        super().__init__(**kwargs)


class PooledForImageClassification(PreTrainedModel):
    """encoder → its own pooling (the normalised CLS token of a transformer, the mean of a convnet's map) → Linear."""

    config_class = PooledImageConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    accepts_loss_kwargs = False

    def __init__(self, config: PooledImageConfig):
        super().__init__(config)
        fields = dict(config.encoder)
        encoder_config = AutoConfig.for_model(fields.pop("model_type"), **fields)
        self.num_labels = config.num_labels
        self.encoder = AutoModel.from_config(encoder_config)
        is_staged = hasattr(encoder_config, "hidden_sizes")  # a convnet's widths, stage by stage
        width = encoder_config.hidden_sizes[-1] if is_staged else encoder_config.hidden_size
        self.classifier = nn.Linear(width, len(config.id2label or {}))
        self.post_init()

    def forward(self, pixel_values=None, labels=None, **inputs):
        """Return logits [batch, labels], and the loss when `labels` [batch] are given."""
        logits = self.classifier(self.encoder(pixel_values=pixel_values, **inputs).pooler_output)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


class LinearDecoderConfig(PretrainedConfig):
    """The image body's own config under `encoder`; `width` numbers for each place of its map, of its backbone class or not."""

    model_type = "hftl_linear_decoder"

    def __init__(self, encoder: dict | None = None, width: int = 0, backbone: bool = True, **kwargs):
        self.encoder, self.width, self.backbone = encoder or {}, width, backbone
        super().__init__(**kwargs)


class LinearForSemanticSegmentation(PreTrainedModel):
    """encoder → its last map (of a transformer the states of the last block's patches) → the same Linear for each place.

    The logits have the size of that map, as those of the stock classes; who asks for pixels enlarges them.
    """

    config_class = LinearDecoderConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    accepts_loss_kwargs = False

    def __init__(self, config: LinearDecoderConfig):
        super().__init__(config)
        fields = dict(config.encoder)
        encoder_config = AutoConfig.for_model(fields.pop("model_type"), **fields)
        self.num_labels = config.num_labels
        if config.backbone:
            self.encoder = AutoBackbone.from_config(encoder_config)
        else:
            self.encoder = AutoModel.from_config(encoder_config, **left_out(encoder_config))
        self.classifier = nn.Linear(config.width, len(config.id2label or {}))
        self.post_init()

    def feature_map(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return what the Linear reads, [batch, height, width, numbers]."""
        out = self.encoder(pixel_values=pixel_values)
        states = out.feature_maps[-1] if "feature_maps" in out else out.last_hidden_state
        if states.dim() == 4:
            return states.permute(0, 2, 3, 1)
        patch = getattr(self.encoder.config, "patch_size", None)
        height, width = (side // patch if isinstance(patch, int) else 0 for side in pixel_values.shape[-2:])
        if not 0 < height * width <= states.shape[1]:
            raise ValueError(
                f"{type(self.encoder).__name__} puts out no state for each patch, which a decoder could read"
            )
        return states[:, -height * width :].unflatten(1, (height, width))  # patches come after a class token

    def forward(self, pixel_values=None, labels=None, **inputs):
        """Return logits [batch, labels, height, width] of the map, and the loss when `labels` [batch, ...] are given."""
        logits = self.classifier(self.feature_map(pixel_values)).permute(0, 3, 1, 2)
        loss = None
        if labels is not None:
            large = nn.functional.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear")
            loss = nn.functional.cross_entropy(large, labels, ignore_index=-100)
        return SemanticSegmenterOutput(loss=loss, logits=logits)


# By the model type in config.json. Every class that a run may end in and transformers does not have.
OWN_CLASSES: dict[str, Any] = {
    MeanPooledConfig.model_type: MeanPooledForSequenceClassification,
    PooledImageConfig.model_type: PooledForImageClassification,
    LinearDecoderConfig.model_type: LinearForSemanticSegmentation,
}


def own_auto_model(own: Any) -> str:
    """Return the name of the Auto class that loads one of them, with `trust_remote_code`."""
    return "AutoModelFor" + own.__name__.partition("For")[2]
