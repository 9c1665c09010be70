"""Tiny random checkpoints of every image architecture, in the class and with the processor that the Hub's have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers


SIDE = 64
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_VIT: dict[str, Any] = {
    "image_size": SIDE,
    "patch_size": 16,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.15,  # at this width, the usual 0.02 leaves the layers with next to no effect
}
_DINO = {k: v for k, v in _VIT.items() if k != "intermediate_size"} | {"mlp_ratio": 2, "layerscale_value": 0.5}
_SWIN: dict[str, Any] = {
    "image_size": SIDE, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4,
    "initializer_range": 0.15,
}  # fmt: skip
_FOUR = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
_DECODER = {
    "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}  # fmt: skip
_TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 40,
}
_MOBILE = {
    "image_size": SIDE, "hidden_sizes": [24, 32, 40], "neck_hidden_sizes": [8, 12, 16, 20, 24, 28, 40],
    "num_attention_heads": 2, "last_hidden_size": 40, "initializer_range": 0.15,
}  # fmt: skip

# architecture → (prefix of its classes in transformers, ending of the class saved, fields of its config)
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("ViT", "Model", _VIT),
    "vit-mim": ("ViT", "ForMaskedImageModeling", {**_VIT, "encoder_stride": 16}),
    "beit": ("Beit", "ForImageClassification", {**_VIT, "num_labels": 5}),
    "deit": ("DeiT", "Model", _VIT),
    "deit-with-teacher": ("DeiT", "ForImageClassificationWithTeacher", {**_VIT, "num_labels": 5}),
    "dinov2": ("Dinov2", "Model", _DINO),
    "dinov2-with-registers": ("Dinov2WithRegisters", "Model", {**_DINO, "num_register_tokens": 2}),
    "vit-msn": ("ViTMSN", "Model", _VIT),
    "data2vec-vision": ("Data2VecVision", "Model", _VIT),
    "swin": ("Swin", "Model", _SWIN),
    "swinv2": ("Swinv2", "Model", _SWIN),
    "hiera": (
        "Hiera",
        "Model",
        {
            "image_size": [SIDE, SIDE],
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "num_query_pool": 1,
            "masked_unit_size": [4, 4],
        },
    ),
    "pvt": (
        "Pvt",
        "Model",
        {"image_size": SIDE, "num_encoder_blocks": 4, **_FOUR, "num_attention_heads": [1, 1, 2, 2]},
    ),
    "pvt-v2": ("PvtV2", "Model", {"image_size": SIDE, **_FOUR, "num_attention_heads": [1, 1, 2, 2]}),
    "levit": (
        "Levit",
        "Model",
        {
            "image_size": SIDE,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [2, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
        },
    ),
    "levit-with-teacher": (
        "Levit",
        "ForImageClassificationWithTeacher",
        {
            "image_size": SIDE,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [2, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
            "num_labels": 5,
        },
    ),
    "focalnet": (
        "FocalNet",
        "Model",
        {
            "image_size": SIDE,
            "embed_dim": 16,
            "depths": [1, 1],
            "hidden_sizes": [16, 32],
            "focal_levels": [2, 2],
            "focal_windows": [3, 3],
        },
    ),
    "poolformer": ("PoolFormer", "Model", _FOUR),
    "segformer": ("Segformer", "Model", {**_FOUR, "num_attention_heads": [1, 1, 2, 2]}),
    "siglip": ("Siglip", "Model", {"vision_config": _VIT, "text_config": _TEXT}),
    "siglip-vision": ("SiglipVision", "Model", _VIT),
    "clip": ("CLIP", "Model", {"vision_config": _VIT, "text_config": _TEXT}),
    "clip-vision": ("CLIPVision", "Model", _VIT),
    "resnet": ("ResNet", "Model", {"embedding_size": 8, "layer_type": "basic", **_FOUR}),
    "convnext": ("ConvNext", "Model", {"image_size": SIDE, "num_stages": 4, **_FOUR, "layer_scale_init_value": 0.5}),
    "convnextv2": ("ConvNextV2", "Model", {"image_size": SIDE, "num_stages": 4, **_FOUR}),
    "regnet": ("RegNet", "Model", {"embedding_size": 8, "groups_width": 8, **_FOUR}),
    "bit": ("Bit", "Model", {"embedding_size": 8, **{**_FOUR, "hidden_sizes": [32, 64, 96, 128]}, "num_groups": 4}),
    "efficientnet": (
        "EfficientNet",
        "Model",
        {
            "image_size": SIDE,
            "width_coefficient": 0.1,
            "depth_coefficient": 1.0,
            "kernel_sizes": [3, 5],
            "in_channels": [80, 80],
            "out_channels": [80, 160],
            "strides": [1, 2],
            "num_block_repeats": [1, 2],
            "expand_ratios": [1, 4],
            "hidden_dim": 128,
            "initializer_range": 0.3,
        },
    ),
    "mobilevit": ("MobileViT", "Model", _MOBILE),
    "mobilevitv2": ("MobileViTV2", "Model", {"image_size": SIDE, "width_multiplier": 0.25, "initializer_range": 0.15}),
    "mobilenet-v1": ("MobileNetV1", "Model", {"image_size": SIDE, "depth_multiplier": 0.25}),
    "mobilenet-v2": ("MobileNetV2", "Model", {"image_size": SIDE, "depth_multiplier": 0.25}),
    "swiftformer": (
        "SwiftFormer",
        "ForImageClassification",
        {"image_size": SIDE, "depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32], "num_labels": 5},
    ),
    "vit-mae": ("ViTMAE", "ForPreTraining", {**_VIT, **_DECODER}),
    "dinov3-vit": ("DINOv3ViT", "Model", {**_VIT, "num_register_tokens": 2, "layerscale_value": 0.5}),
    "dinov3-convnext": ("DINOv3ConvNext", "Model", {"image_size": SIDE, **_FOUR, "layer_scale_init_value": 0.5}),
}


def _settle(model: Any) -> None:
    """Give batch norms the statistics of one noisy batch: with fresh ones the signal dies out on its way."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    if norms:
        with torch.no_grad():
            model(pixel_values=torch.randn(16, 3, 1, 1) + 0.5 * torch.randn(16, 3, SIDE, SIDE))
        for norm in norms:
            norm.momentum = 0.1


def build_vision(name: str, folder: Path, **fields: Any) -> Path:
    """Write the tiny checkpoint called `name` with an image processor, and return its folder."""
    prefix, ending, own = MODELS[name]
    config = getattr(transformers, f"{prefix}Config")(**{**own, **fields})
    make: Callable[[Any], Any] = getattr(transformers, prefix + ending)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make(config).eval()
        _settle(model)
    model.save_pretrained(folder)
    side = {"height": SIDE, "width": SIDE}
    transformers.ViTImageProcessorPil(size=side, image_mean=_MEAN, image_std=_STD).save_pretrained(folder)
    return folder
