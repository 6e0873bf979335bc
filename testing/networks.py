"""Small ONNX networks whose answers can be worked out by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str | None]

# For pixels scaled to -1..1: the rows are R, G and B, the columns score red, green, blue and white.
COLOUR_WEIGHTS = ((6, -6, -6, 6), (-6, 6, -6, 6), (-6, -6, 6, 6))


def save_network(
    path: Path,
    shape: Shape,
    *,
    weights: ArrayLike = COLOUR_WEIGHTS,
    softmax: bool = False,
    function: str = "Identity",
    offset: float = 0.0,
    reshape: Sequence[int] | None = None,
    batch_norm: bool = False,
    inputs: int = 1,
    outputs: int = 1,
    kind: int = TensorProto.FLOAT,
) -> None:
    """Save a network that averages its input's three planes and weighs them into one score per class.

    `shape` is the input's; if its last number is 3 the planes are last, else first. `weights` has shape
    (3, classes). Before weighing, `offset` is added to the averages, `function` is applied, they are reshaped to
    `reshape`, and with `batch_norm` the batch's mean is subtracted. `kind` is the type of the input's numbers.
    """
    axes = [1, 2] if shape[-1] == 3 else [2, 3]
    target = (0, -1) if reshape is None else reshape
    batch_normalisation = [
        helper.make_node("ReduceMean", ["rows"], ["batch mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["rows", "batch mean"], ["centred"]),
    ]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["averages"], axes=axes, keepdims=1),
        helper.make_node("Add", ["averages", "offset"], ["moved"]),
        helper.make_node(function, ["moved"], ["features"]),
        helper.make_node("Reshape", ["features", "target"], ["rows"]),
        *(batch_normalisation if batch_norm else ()),
        helper.make_node("MatMul", ["centred" if batch_norm else "rows", "weights"], ["scores"]),
        *(helper.make_node("Softmax" if softmax else "Identity", ["scores"], [f"answer{i}"]) for i in range(outputs)),
    ]
    constants: dict[str, NDArray[Any]] = {
        "offset": np.array([offset], np.float32),
        "target": np.array(target, np.int64),
        "weights": np.asarray(weights, np.float32),
    }
    unused = [helper.make_tensor_value_info(f"unused{i}", TensorProto.FLOAT, [1]) for i in range(1, inputs)]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pixels", kind, shape), *unused],
        [helper.make_tensor_value_info(f"answer{i}", TensorProto.FLOAT, None) for i in range(outputs)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def extend(path: Path, *functions: str | tuple[str, float]) -> None:
    """Append functions to a saved network's outputs, one after another, each with or without a second operand."""
    network = onnx.load(path)
    output = network.graph.output[0]
    for step, function in enumerate(functions):
        name, *numbers = (function,) if isinstance(function, str) else function
        constants = [numpy_helper.from_array(np.array(each, np.float32), f"number {step}") for each in numbers]
        network.graph.initializer.extend(constants)
        inputs = [output.name, *(each.name for each in constants)]
        network.graph.node.append(helper.make_node(str(name), inputs, [f"step {step}"]))
        output.name = f"step {step}"
    onnx.save(network, path)


def move_weights(path: Path, name: str) -> Path:
    """Move the weights of a network to a file beside it, as PyTorch's exporter does; return that file."""
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location=name, size_threshold=0)
    return path.with_name(name)


def save_int8_network(path: Path, weights: ArrayLike, *, written: str = "int8") -> None:
    """Save a network that averages planes of 24 x 32 pixels in 0..255 and weighs the rounded averages, all in integers.

    `weights` are whole numbers of shape (3, classes) from -127 to 127. They are `written` as "int8", as "uint8" with
    128 for 0, or as "floats" that the network itself makes integers.
    """
    integers = np.asarray(weights)
    zero = np.array(128 if written == "uint8" else 0, np.uint8 if written == "uint8" else np.int8)
    constants: dict[str, NDArray[Any]] = {
        "target": np.array((0, -1), np.int64),
        "one": np.array(1, np.float32),
        "no level": np.array(0, np.uint8),
        "zero": zero,
        "weights": integers.astype(np.float32) if written == "floats" else (integers + zero).astype(zero.dtype),
    }
    made = [helper.make_node("QuantizeLinear", ["weights", "one", "zero"], ["integers"])] if written == "floats" else []
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["averages"], axes=[2, 3], keepdims=1),
        helper.make_node("Reshape", ["averages", "target"], ["rows"]),
        helper.make_node("QuantizeLinear", ["rows", "one", "no level"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "one", "no level"], ["rounded"]),
        *made,
        helper.make_node("DequantizeLinear", ["integers" if made else "weights", "one", "zero"], ["factors"]),
        helper.make_node("MatMul", ["rounded", "factors"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "integers",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 24, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
