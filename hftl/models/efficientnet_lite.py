"""ImageNet EfficientNet-Lite0 as transformers' own EfficientNet, exactly.

Lite networks have no squeeze-and-excitation. transformers' blocks always have it, so it is made an exact identity:
zero weights and a bias of 30, whose sigmoid is 1.0 in fp32 and bf16 and passes no gradient.
"""

from pathlib import Path

import torch
from transformers import EfficientNetConfig, EfficientNetForImageClassification, EfficientNetImageProcessorPil

from hftl.paths import usual_modes


CONVERSION_VERSION = 1  # in the name of the cached folder: raise it when the conversion changes
_OPEN_GATE = 30.0

# Parts of the weights' names and what transformers calls them, replaced in this order: those inside of a block first.
_NAMES = {
    "_blocks.": "efficientnet.encoder.blocks.",
    "._expand_conv.": ".expansion.expand_conv.",
    "._bn0.": ".expansion.expand_bn.",
    "._depthwise_conv.": ".depthwise_conv.depthwise_conv.",
    "._bn1.": ".depthwise_conv.depthwise_norm.",
    "._project_conv.": ".projection.project_conv.",
    "._bn2.": ".projection.project_bn.",
    "_conv_stem.": "efficientnet.embeddings.convolution.",
    "_bn0.": "efficientnet.embeddings.batchnorm.",
    "_conv_head.": "efficientnet.encoder.top_conv.",
    "_bn1.": "efficientnet.encoder.top_bn.",
    "_fc.": "classifier.",
}


def convert(weights: Path, class_names: list[str], folder: Path) -> None:
    """Write the checkpoint and its image processor to `folder`, safetensors only."""
    config = EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        image_size=224,
        hidden_act="relu6",
        batch_norm_eps=1e-3,
        batch_norm_momentum=0.01,  # transformers' default of 0.99 is TensorFlow's convention, the opposite of torch's
        dropout_rate=0.2,
        drop_connect_rate=0.0,  # transformers' "drop connect" is plain dropout of elements
        squeeze_expansion_ratio=1e-6,  # one channel, the least that the class allows
        id2label=dict(enumerate(class_names)),
        label2id={name: i for i, name in enumerate(class_names)},
    )
    model = EfficientNetForImageClassification(config)
    state = model.state_dict()
    for name, tensor in torch.load(weights, map_location="cpu", weights_only=True).items():
        for old, new in _NAMES.items():
            name = name.replace(old, new)
        state[name] = tensor
    for name in state:
        if ".squeeze_excite." in name:
            state[name] = torch.full_like(state[name], _OPEN_GATE if name.endswith("expand.bias") else 0.0)
    model.load_state_dict(state)
    model.save_pretrained(folder)
    # (pixel - 127) / 128, as the weights were trained with; include_top would divide by the deviation once more.
    EfficientNetImageProcessorPil(
        size={"height": 224, "width": 224},
        resample=3,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
        include_top=False,
        rescale_offset=False,
    ).save_pretrained(folder)
    usual_modes(folder)
