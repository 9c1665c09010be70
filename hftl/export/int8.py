"""Eight-bit weights and activations, by ONNX Runtime's own tools.

Dynamic quantisation for what is made of matrix products: weights per channel, activation ranges taken at run time.
Static quantisation for convolutional networks, where dynamic quantisation was slower than fp32 and far less accurate:
activation ranges come from calibration rows. docs/edge.md says what was tried.
"""

from pathlib import Path
from types import SimpleNamespace

from torch import nn

from hftl.export.graph import quiet
from hftl.export.rows import Feed


CALIBRATION_ROWS = 128
CALIBRATION_BATCH = 16
# The head stays in fp32: ONNX Runtime 1.32 computes the quantised Gemm that follows a pooled map wrongly, and it is
# small. So do the first convolutions: three channels of pixels have few values to lose, and they cost no time.
_STATIC_OPS = ["Conv", "Clip", "Relu", "Add"]
_FIRST = 3


def is_convolutional(model: nn.Module) -> bool:
    """True when more than half of the weights are those of convolutions."""
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return 2 * sum(c.weight.numel() for c in convolutions) > sum(p.numel() for p in model.parameters())


def quantise_dynamic(source: Path, target: Path) -> str:
    """Write `target` with int8 weights, embeddings included; return how, in a few words."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        # Seven bits (reduce_range): with eight, processors without VNNI overflow their 16-bit sums.
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    return "dynamic, weights per channel, 7 bits"


def quantise_static(source: Path, target: Path, batches: list[Feed]) -> str:
    """Write `target` with int8 weights and activations, whose ranges are those of the `batches` of pixels; return how."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_name(target.name + ".prepared")
    rest = iter(batches)
    try:
        with quiet():
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            nodes = onnx.load(str(prepared)).graph.node
            quantize_static(
                prepared,
                target,
                SimpleNamespace(get_next=lambda: next(rest, None)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_STATIC_OPS,
                nodes_to_exclude=[node.name for node in nodes if node.op_type == "Conv"][:_FIRST],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
    finally:
        prepared.unlink(missing_ok=True)
    return "static, convolutions per channel, ranges by MinMax; the first three convolutions and the head in fp32"
