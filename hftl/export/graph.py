"""From a PyTorch classifier to an ONNX graph: dynamic batch, sequence and image sizes, checked on other sizes."""

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hftl.errors import ModelError
from hftl.publishing.parity import TOLERANCE


OPSET = 18
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_PROTOBUF_LIMIT = 2_000_000_000  # bytes; larger weights cannot lie in the .onnx file itself


def check_packages() -> None:
    """Raise `ModelError` when a package that the export needs is missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ModelError(f'hftl export needs {", ".join(missing)}: pip install "hftl[export]"')


@contextmanager
def quiet() -> Iterator[None]:
    """Silence notices and warnings inside: torch.onnx logs each torchvision operator that it does not find."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def session(path: Path, threads: int = 0) -> Any:
    """Return an ONNX Runtime session on the CPU, silent; 0 threads: as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised as well
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Graph:
    """What was exported."""

    inputs: tuple[str, ...]
    dynamic: tuple[str, ...]  # names of the dimensions that may vary
    image_size: int | None  # the one side that the graph reads, where height and width are fixed


class _Text(nn.Module):
    """Tokens to logits and probabilities; the order of the arguments is that of the graph's inputs."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits, logits.softmax(-1)


class _Image(nn.Module):
    """Pixels to logits and probabilities."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.model(pixel_values=pixel_values).logits
        return logits, logits.softmax(-1)


def export_text(model: Any, path: Path, longest: int) -> Graph:
    """Write the graph of a text classifier, which reads up to `longest` tokens. Raises `ModelError` when it cannot be."""
    wrapped = _Text(model).eval()
    inputs = ("input_ids", "attention_mask")
    _write(wrapped, _tokens(model.config, 2, min(11, longest)), inputs, ({0: "batch", 1: "sequence"},) * 2, path)
    shapes = [(1, min(4, longest)), (3, min(7, longest)), (2, longest)]
    wrong = _differences(wrapped, path, inputs, [_tokens(model.config, *shape) for shape in shapes])
    if wrong:
        raise ModelError(
            f"The exported graph of {type(model).__name__} does not compute what the model does: {wrong}."
        )
    return Graph(inputs, ("batch", "sequence"), None)


def export_image(model: Any, path: Path, side: int) -> Graph:
    """Write the graph of an image classifier, with free height and width where the model itself reads other sizes.

    Raises `ModelError` when it cannot be exported.
    """
    wrapped = _Image(_without_idle_gates(model)).eval()
    inputs = ("pixel_values",)
    channels = getattr(model.config, "num_channels", 3)  # some configs leave it out
    other = [(2, side + 32, side), (1, side, side + 64), (3, side, side)]
    probes = [(torch.randn(n, channels, *size, generator=torch.Generator().manual_seed(n)),) for n, *size in other]
    if all(_reads(wrapped, probe[0]) for probe in probes):
        # Sides that differ, else torch.export takes height and width for one number.
        example = (torch.randn(2, channels, side + 32, side + 64),)
        try:
            _write(wrapped, example, inputs, ({0: "batch", 2: "height", 3: "width"},), path)
            if not _differences(wrapped, path, inputs, probes):
                return Graph(inputs, ("batch", "height", "width"), None)
        except ModelError:
            pass  # code of the model that depends on the size, such as Swin's padding: export for its own size
    _write(wrapped, (torch.randn(2, channels, side, side),), inputs, ({0: "batch"},), path)
    return Graph(inputs, ("batch",), side)


def _without_idle_gates(model: nn.Module) -> nn.Module:
    """Return a copy without the squeeze-and-excitation gates that are open for every input (EfficientNet-Lite).

    Such a gate has zero weights and a bias whose sigmoid is 1.0 in fp32, so it multiplies by exactly 1.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        expand = getattr(getattr(module, "squeeze_excite", None), "expand", None)
        if not isinstance(expand, nn.Conv2d) or expand.bias is None or bool(expand.weight.any()):
            continue
        if bool((expand.bias.sigmoid() == 1).all()):
            module.squeeze_excite = nn.Identity()
    return model


def _write(wrapped: nn.Module, example: tuple[torch.Tensor, ...], inputs: Any, shapes: Any, path: Path) -> None:
    size = sum(p.numel() * p.element_size() for p in wrapped.parameters())
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                wrapped,
                example,
                dynamo=True,
                input_names=list(inputs),
                output_names=["logits", "probabilities"],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                verbose=False,
            )
            assert program is not None  # without a path, dynamo=True returns the program
            program.save(str(path), external_data=size > _PROTOBUF_LIMIT)
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise ModelError(f"{_name(wrapped)} cannot be exported to ONNX: {reason}") from error


def _name(wrapped: Any) -> str:
    return type(wrapped.model).__name__


def _tokens(config: Any, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Any words and one end mark in each row, and a mask that pads the first row where there is more than one.

    BART and T5 read the state of the end mark, and want as many in each row; decoders read the last that is no padding.
    """
    generator = torch.Generator().manual_seed(rows * 1000 + length)
    text = (
        getattr(config, "encoder", None) or config.get_text_config().to_dict()
    )  # the pooled class keeps it as a dict
    pad, eos = text.get("pad_token_id"), text.get("eos_token_id")
    marks = {pad, *(eos if isinstance(eos, list) else [eos])}
    words = torch.tensor([i for i in range(3, 30 + len(marks)) if i not in marks])
    ids = words[torch.randint(len(words), (rows, length), generator=generator)]
    mask = torch.ones(rows, length, dtype=torch.int64)
    if rows > 1:
        mask[0, (length + 1) // 2 :] = 0
    if pad is not None:
        ids[mask == 0] = pad
    if isinstance(eos, int):
        ids[torch.arange(rows), mask.sum(1) - 1] = eos
    return ids, mask


def _reads(wrapped: nn.Module, pixels: torch.Tensor) -> bool:
    try:
        with torch.no_grad():
            wrapped(pixels)
    except (ValueError, RuntimeError):  # how a model with fixed positions says no
        return False
    return True


def _differences(wrapped: nn.Module, path: Path, inputs: Any, probes: Sequence[tuple[torch.Tensor, ...]]) -> str:
    """Return "" when graph and model agree on all probes, else what differs."""
    runtime = session(path)
    for probe in probes:
        with torch.no_grad():
            wanted = wrapped(*probe)[1].numpy()
        try:
            got = runtime.run(["probabilities"], {k: v.numpy() for k, v in zip(inputs, probe, strict=True)})[0]
        except Exception as error:  # onnxruntime's errors have no common class of their own
            return f"at {tuple(probe[0].shape)} {' '.join(str(error).split())[:150]}"
        gap = float(np.abs(wanted - got).max())
        if not gap <= TOLERANCE:
            return f"at {tuple(probe[0].shape)} probabilities differ by {gap:.2g}"
    return ""
