"""From a PyTorch classifier to an ONNX graph: dynamic batch, sequence and image sizes, checked on other sizes."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import torch
from torch import nn

from hftl.errors import ModelError, install_extra
from hftl.predict import Predictor
from hftl.publishing.parity import TOLERANCE


OPSET = 18
OUTPUTS = ("logits", "probabilities")
# `Output.link`: from what a model puts out to probabilities.
LINKS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda logits: logits.softmax(1 if logits.dim() > 3 else -1),  # classes come first in maps
    "sigmoid": torch.sigmoid,
    "none": torch.clone,
}
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_PROTOBUF_LIMIT = 2_000_000_000  # bytes; larger weights cannot lie in the .onnx file itself

Batch = dict[str, torch.Tensor]


def check_packages() -> None:
    """Raise `ModelError` when a package that the export needs is missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ModelError(f"hftl export needs {', '.join(missing)}: {install_extra('export')}")


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


class _Wrapped(nn.Module):
    """The inputs called `names`, in that order, to logits and probabilities."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], link: str):
        super().__init__()
        self.model, self.names, self.link = model, names, LINKS[link]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits, self.link(logits)


@dataclass(frozen=True)
class _Trace:
    """One way to trace a model: on which batch, which dimensions may vary, and batches of other sizes to try then."""

    batch: Batch
    free: dict[int, str]
    others: list[Batch]
    image_size: int | None = None  # the one side that the graph reads, where height and width are fixed


def export_graph(predictor: Predictor, path: Path) -> dict[str, Any]:
    """Write the graph; return its inputs, outputs and dynamic dimensions, and the one image size that it reads, or None.

    Texts may have any length up to the tokenizer's; images any size where the model itself reads other sizes. Raises
    `ModelError` when the model cannot be exported.
    """
    model, processor, inputs = predictor.model, predictor.processor, predictor.task.inputs
    traces = _of_texts(predictor) if inputs.padded else _of_images(model, inputs.smallest(model, processor))
    names = tuple(traces[0].batch)
    wrapped = _Wrapped(_without_idle_gates(model), names, predictor.task.output.link).eval()
    for trace in traces:
        try:
            _write(wrapped, trace, path)
            _check(wrapped, trace, path)
            break
        except ModelError:  # code of the model that depends on the size, such as Swin's padding
            if trace is traces[-1]:
                raise
    dynamic = list(trace.free.values())
    return {"inputs": list(names), "outputs": [*OUTPUTS], "dynamic": dynamic, "image_size": trace.image_size}


def _of_texts(predictor: Predictor) -> list[_Trace]:
    tokenizer, sides = predictor.processor, len(predictor.task.inputs.columns)

    def texts(*words: int) -> Batch:
        sentences = [" ".join(ascii_lowercase[i % 26] for i in range(count)) for count in words]
        parts = tokenizer(*[sentences] * sides, truncation=True)
        names = ["input_ids", *(n for n in ("token_type_ids",) if sides > 1 and n in parts)]
        padded = tokenizer.pad({name: parts[name] for name in names}, return_tensors="pt")
        return {name: padded[name] for name in ("input_ids", "attention_mask", *names[1:])}

    others = [texts(2), texts(5, 1, 3), texts(int(tokenizer.model_max_length), 2)]
    return [_Trace(texts(4, 9), {0: "batch", 1: "sequence"}, others)]


def _of_images(model: Any, smallest: Batch) -> list[_Trace]:
    """Free height and width first, where the model reads other sizes; then its own size alone."""
    _, channels, side, _ = smallest["pixel_values"].shape

    def images(count: int, height: int, width: int) -> Batch:
        generator = torch.Generator().manual_seed(count)
        return {"pixel_values": torch.randn(count, channels, height, width, generator=generator)}

    fixed = _Trace(images(2, side, side), {0: "batch"}, [], side)
    others = [images(2, side + 32, side), images(1, side, side + 64), images(3, side, side)]
    try:
        with torch.no_grad():
            for batch in others:
                model(**batch)
    except (ValueError, RuntimeError):  # how a model with fixed positions says no
        return [fixed]
    # Sides that differ, else torch.export takes height and width for one number.
    return [_Trace(images(2, side + 32, side + 64), {0: "batch", 2: "height", 3: "width"}, others), fixed]


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


def _write(wrapped: _Wrapped, trace: _Trace, path: Path) -> None:
    size = sum(p.numel() * p.element_size() for p in wrapped.parameters())
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                wrapped,
                tuple(trace.batch.values()),
                dynamo=True,
                input_names=list(wrapped.names),
                output_names=list(OUTPUTS),
                dynamic_shapes=((trace.free,) * len(wrapped.names),),
                opset_version=OPSET,
                verbose=False,
            )
            assert program is not None  # without a path, dynamo=True returns the program
            program.save(str(path), external_data=size > _PROTOBUF_LIMIT)
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise ModelError(f"{type(wrapped.model).__name__} cannot be exported to ONNX: {reason}") from error


def _check(wrapped: _Wrapped, trace: _Trace, path: Path) -> None:
    """Raise `ModelError` unless graph and model agree on batches of other sizes."""
    runtime = session(path)
    for batch in trace.others:
        with torch.no_grad():
            expected = wrapped(*batch.values())[1].numpy()
        try:
            answers = runtime.run(["probabilities"], {name: tensor.numpy() for name, tensor in batch.items()})[0]
            gaps = np.abs(expected - answers)
            if gaps.ndim == 3:  # of tokens: not of padding
                gaps = gaps[batch["attention_mask"].numpy() == 1]
            gap = float(gaps.max())
            problem = "" if gap <= TOLERANCE else f"probabilities differ by {gap:.2g}"
        except Exception as error:  # onnxruntime's errors have no common class of their own
            problem = " ".join(str(error).split())[:150]
        if problem:
            shape = tuple(batch[wrapped.names[0]].shape)
            model = type(wrapped.model).__name__
            raise ModelError(
                f"The exported graph of {model} does not compute what the model does: at {shape} {problem}."
            )
