"""Checks whether this processor computes a network of 8-bit integers correctly."""

import numpy as np
import openvino as ov  # type: ignore[import-untyped]  # its stubs lack the marker that PEP 561 asks for
from openvino import opset13

# Processors without VNNI add the products of 8-bit numbers in pairs, in 16 bits, where a larger sum saturates at
# 32,767. Values between layers are at most 255, so with weights up to 64 no pair is larger: 2 * 255 * 64 = 32,640.
_LARGEST_SAFE_WEIGHT = 64
_LARGEST_WEIGHT, _LARGEST_INPUT, _TERMS = 127, 255, 64


def is_quantized(network: ov.Model) -> bool:
    """Return whether a network computes in 8-bit integers; ONNX's QuantizeLinear is read as this operation."""
    return any(operation.get_type_name() == "FakeQuantize" for operation in network.get_ops())


def is_right_here(network: ov.Model, core: ov.Core) -> bool:
    """Return whether no sum inside a network can overflow on this processor."""
    return not is_quantized(network) or _largest_weight(network, core) <= _LARGEST_SAFE_WEIGHT or not _saturates(core)


def _largest_weight(network: ov.Model, core: ov.Core) -> int:
    """Return the largest absolute weight of a quantized network, 0 if it has no 8-bit weights."""
    if not (found := _integers(network)):
        return 0
    weights = core.compile_model(ov.Model(found, []), "CPU")({}).values()
    return max(int(np.abs(_signed(each)).max(initial=0)) for each in weights)


def _signed(weights: np.ndarray) -> np.ndarray:
    # The engine's weights are signed: it shifts unsigned ones.
    return weights.astype(np.int16) - (128 if weights.dtype == np.uint8 else 0)


def _integers(network: ov.Model) -> list[ov.Output]:
    """Return the matrices of 8-bit integers that do not depend on the input: constants, or computed from constants."""
    found, computed = list[ov.Output](), set[str]()
    for node in network.get_ordered_ops():
        sources = {value.get_node().get_friendly_name() for value in node.input_values()}
        if node.get_type_name() == "Parameter" or sources & computed:
            computed.add(node.get_friendly_name())
        elif any(_is_matrix_of_integers(output) for output in node.outputs()):
            found.append(node.output(0))
    return found


def _is_matrix_of_integers(output: ov.Output) -> bool:
    return output.get_element_type() in (ov.Type.i8, ov.Type.u8) and len(output.get_partial_shape()) > 1


def _saturates(core: ov.Core) -> bool:
    """Return whether this processor's sums of 8-bit products saturate when all numbers are the largest."""
    largest = np.float32(_LARGEST_INPUT)
    source = opset13.parameter([1, _TERMS], ov.Type.f32)
    levels = opset13.fake_quantize(source, np.float32(0), largest, np.float32(0), largest, _LARGEST_INPUT + 1)
    weights = opset13.convert(opset13.constant(np.full((_TERMS, 16), _LARGEST_WEIGHT, np.int8)), "f32")
    product = opset13.matmul(levels, opset13.multiply(weights, np.float32(1)), False, False)
    network = core.compile_model(ov.Model([product], [source]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    [[sums]] = network(np.full((1, _TERMS), largest)).values()
    return bool(sums.min() < 0.99 * _TERMS * _LARGEST_INPUT * _LARGEST_WEIGHT)
