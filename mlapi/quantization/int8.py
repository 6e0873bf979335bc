"""Quantizes a float network to 8-bit integers. Only this file uses ONNX Runtime, which does it."""

import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.manifest import ModelManifest
from runtime.errors import SetupError

if TYPE_CHECKING:
    import onnx

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

# In older files, a scale is for a whole tensor. Each channel must have its own: with one for all, EfficientNet-Lite0
# changed the class of 17 % of the pictures that are clear to it, instead of 1 %.
_LEAST_OPSET = 13

# The first layers see the picture itself through few channels, so rounding costs most there, and they have few of all
# the multiplications. With three left in floats, EfficientNet-Lite0 agreed with the original on 92 % of hard pictures
# instead of 87 %, and was 4 % slower; six or nine made it no better.
_LEFT_IN_FLOATS = 3

# Weights of 7 bits, whose sums fit everywhere: with all 8, processors without VNNI cut sums off (model/int8.py).
_REDUCED_RANGE = True


class QuantizationError(SetupError):
    """The network cannot be quantized; the message says why, or what to do."""


def check_installed() -> None:
    """Raise `QuantizationError` if a package is missing."""
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            raise QuantizationError(f"to quantize, {package} is missing: run `pip install 'flask-ml-api[quantize]'`")


def quantize(manifest: ModelManifest, pictures: Iterable[Pixels], file: Path) -> None:
    """Write the manifest's network to `file` with INT8 arithmetic, its scales chosen for these pictures.

    `pictures` are uint8 RGB of shape (height, width, 3), as `preprocess` returns them. Raises `QuantizationError`.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at its import; it would report its use to Microsoft
    import onnx

    path = manifest.network_path
    try:
        network = onnx.load(path)
        _check(network, path)
        _quantize(network, _inputs(network, pictures, manifest), file)
    except QuantizationError:
        raise
    except Exception as err:  # what ONNX Runtime raises has no common type
        raise QuantizationError(f"{path}: cannot be quantized: {err}") from err


def _check(network: "onnx.ModelProto", path: Path) -> None:
    if any(node.op_type == "QuantizeLinear" for node in network.graph.node):
        raise QuantizationError(f"{path}: is quantized already; name the model that it was made of")
    opset = next(each.version for each in network.opset_import if each.domain in ("", "ai.onnx"))
    if opset < _LEAST_OPSET:
        raise QuantizationError(f"{path}: is of ONNX opset {opset}; export it with opset {_LEAST_OPSET} or newer")


def _quantize(network: "onnx.ModelProto", inputs: Iterator[dict[str, Floats]], file: Path) -> None:
    import onnx
    from onnxruntime import quantization  # type: ignore[import-untyped,import-not-found,unused-ignore]
    from onnxruntime.quantization.shape_inference import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
        quant_pre_process,
    )

    with TemporaryDirectory() as work:
        whole, folded = Path(work) / "whole.onnx", Path(work) / "folded.onnx"
        # Include the weights, which may be in another file, where the intermediate files would not find them.
        onnx.save(network, whole)
        # Fold batch normalisation into the convolution before it, which would otherwise not be followed by its ReLU.
        quant_pre_process(whole, folded, skip_symbolic_shape=True)
        quantization.quantize_static(
            folded,
            file,
            _Reader(inputs),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            reduce_range=_REDUCED_RANGE,
            nodes_to_exclude=_first_convolutions(folded),
        )


def _first_convolutions(file: Path) -> list[str]:
    """Return the names of a network's first convolutions, after setting them in the file, where they are optional."""
    import onnx

    network = onnx.load(file)
    first = [node for node in network.graph.node if node.op_type == "Conv"][:_LEFT_IN_FLOATS]
    for number, node in enumerate(first):
        node.name = f"first-{number}"
    onnx.save(network, file)
    return [node.name for node in first]


class _Reader:
    """Supplies the inputs one by one to ONNX Runtime."""

    def __init__(self, inputs: Iterator[dict[str, Floats]]) -> None:
        self._inputs = inputs

    def get_next(self) -> dict[str, Floats] | None:
        return next(self._inputs, None)


def _inputs(
    network: "onnx.ModelProto", pictures: Iterable[Pixels], manifest: ModelManifest
) -> Iterator[dict[str, Floats]]:
    """Yield the network's input for each picture, repeated if the network was exported for one batch size."""
    source: Any = network.graph.input[0]
    count = source.type.tensor_type.shape.dim[0].dim_value or 1
    for pixels in pictures:
        yield {source.name: np.repeat(as_input(pixels, manifest)[np.newaxis], count, axis=0)}


def as_input(pixels: Pixels, manifest: ModelManifest) -> Floats:
    """Return a picture as the network's input: the conversion that `Classifier` leaves to the inference engine."""
    ordered = pixels if manifest.channels == "RGB" else pixels[..., ::-1]
    scaled = ((ordered - np.array(manifest.mean)) / manifest.std).astype(np.float32)
    return np.ascontiguousarray(scaled if manifest.layout == "NHWC" else scaled.transpose(2, 0, 1))
