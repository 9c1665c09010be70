"""Tiny random checkpoints that answer every pixel, and backbones that get a head for it."""

from pathlib import Path
from typing import Any

import torch
import transformers


SIDE = 64
_VIT: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": SIDE, "initializer_range": 0.15,
}  # fmt: skip
_BEIT = {**_VIT, "intermediate_size": 32, "patch_size": 16, "use_relative_position_bias": True}
_READ = {"out_indices": [1, 2, 3, 4]}
_FOUR = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
_SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "image_size": SIDE, "window_size": 4}
_STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
_NECK = {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32], "num_attention_heads": 2}
_DPT = {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}
_UPERNET = {"hidden_size": 16, "auxiliary_channels": 8}

# name → (prefix of its classes in transformers, ending of the class saved, fields of its config)
OWN_HEAD: dict[str, tuple[str, str, dict[str, Any]]] = {
    "segformer": ("Segformer", "ForSemanticSegmentation", {**_FOUR, "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16}),
    "mit": ("Segformer", "ForImageClassification", {**_FOUR, "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16}),
    "beit": ("Beit", "ForSemanticSegmentation", {**_BEIT, **_READ}),
    "beit-body": ("Beit", "Model", _BEIT),
    "data2vec-vision": ("Data2VecVision", "ForSemanticSegmentation", {**_BEIT, **_READ}),
    "dpt": ("DPT", "ForSemanticSegmentation", {**_VIT, "intermediate_size": 32, "patch_size": 16, **_DPT}),
    "mobilenet-v2": ("MobileNetV2", "ForSemanticSegmentation", {"depth_multiplier": 0.35, "image_size": SIDE}),
    "mobilevit": ("MobileViT", "ForSemanticSegmentation", {**_NECK, "image_size": SIDE}),
    "upernet-convnext": ("UperNet", "ForSemanticSegmentation", {**_UPERNET, "auxiliary_in_channels": 24}),
    "upernet-swin": ("UperNet", "ForSemanticSegmentation", {**_UPERNET, "auxiliary_in_channels": 32}),
}  # fmt: skip
BACKBONES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dinov2": ("Dinov2", "Model", {**_VIT, "mlp_ratio": 2, "image_size": 56}),
    "dinov2-with-registers": ("Dinov2WithRegisters", "Model", {**_VIT, "mlp_ratio": 2, "image_size": 56}),
    "dinov3-vit": ("DINOv3ViT", "Model", {**_VIT, "intermediate_size": 32}),
    "dinov3-convnext": ("DINOv3ConvNext", "Model", {**_FOUR, "image_size": SIDE}),
    "swin": ("Swin", "Model", _SWIN),
    "swin-of-classes": ("Swin", "ForImageClassification", {**_SWIN, "num_labels": 7}),
    "swinv2": ("Swinv2", "Model", _SWIN),
    "convnext": ("ConvNext", "Model", _FOUR),
    "convnextv2": ("ConvNextV2", "ForImageClassification", _FOUR),
    "resnet": ("ResNet", "ForImageClassification", {**_FOUR, "embedding_size": 8}),
    "pvt-v2": ("PvtV2", "ForImageClassification", {**_FOUR, "num_attention_heads": [1, 1, 2, 2], "mlp_ratios": [2] * 4}),
}  # fmt: skip
MODELS = {**OWN_HEAD, **BACKBONES}


def build(name: str, folder: Path) -> Path:
    """Save a random model of this kind, and a processor that cuts where those of such bodies do."""
    prefix, ending, fields = MODELS[name]
    torch.manual_seed(0)
    body: dict[str, Any] = {}
    if name == "upernet-convnext":
        body = {"backbone_config": transformers.ConvNextConfig(**_FOUR, **_STAGES)}
    if name == "upernet-swin":
        body = {"backbone_config": transformers.SwinConfig(**_SWIN, **_STAGES)}
    config = getattr(transformers, f"{prefix}Config")(**fields, **body)
    getattr(transformers, prefix + ending)(config).save_pretrained(folder)
    cut = {"size": {"shortest_edge": 73}, "crop_size": {"height": SIDE, "width": SIDE}}
    whole = {"size": {"height": SIDE, "width": SIDE}}
    make: Any = transformers.BitImageProcessor if name in BACKBONES else transformers.SegformerImageProcessor
    make(**(cut if name in BACKBONES else whole)).save_pretrained(folder)
    return folder
