"""EfficientNet-Lite0 in PyTorch, written independently of the converter, as a reference for its logits.

Run as a program (`python -m model.zoo.tests.pytorch_network`) it writes the logits that the tests without PyTorch
compare with. Importing it needs PyTorch.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from model.zoo.efficientnet_lite0 import find_checkpoint
from model.zoo.tests.reference_inputs import STORED_LOGITS, reference_inputs

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn
Tensor: TypeAlias = Any  # PyTorch's types, unknown to the type checker
Module: TypeAlias = Any

# blocks, kernel, stride, expansion, channels out
LAYOUT = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320)]  # fmt: skip


def norm(channels: int) -> Module:
    """Return batch norm with TensorFlow's epsilon for this network."""
    return nn.BatchNorm2d(channels, eps=1e-3)


class SameConv(nn.Conv2d):  # type: ignore[name-defined,misc] # PyTorch is not installed where types are checked
    """A convolution without bias that pads as TensorFlow's "SAME" does, for inputs of any size."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pad the input's bottom and right no less than its top and left, then convolve."""
        sides: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            missing = max(kernel - (size % stride or stride), 0)
            sides += [missing // 2, missing - missing // 2]
        return super().forward(nn.functional.pad(x, sides))


class Block(nn.Module):  # type: ignore[name-defined,misc]
    """An inverted residual block, its layers named as in the checkpoint."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = channels_in * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = SameConv(channels_in, width), norm(width)
        self._depthwise_conv, self._bn1 = SameConv(width, width, kernel, stride, groups=width), norm(width)
        self._project_conv, self._bn2 = SameConv(width, channels_out), norm(channels_out)
        self.expands = expansion > 1
        self.adds = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Widen, filter each channel, narrow; add the input if the shapes agree."""
        relu6 = nn.functional.relu6
        y = relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):  # type: ignore[name-defined,misc]
    """The whole network, its layers named as in the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2), norm(32)
        self._blocks = nn.ModuleList()
        channels = 32
        for blocks, kernel, stride, expansion, channels_out in LAYOUT:
            for n in range(blocks):
                self._blocks.append(Block(channels, channels_out, kernel, stride if n == 0 else 1, expansion))
                channels = channels_out
        self._conv_head, self._bn1 = SameConv(channels, 1280), norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, 224, 224] -> logits [N, 1000]."""
        relu6 = nn.functional.relu6
        x = relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            x = block(x)
        x = relu6(self._bn1(self._conv_head(x)))
        return self._fc(x.mean((2, 3)))


def pretrained() -> Module:
    """Return the network with the checkpoint's weights, read by PyTorch itself, ready for inference."""
    network = EfficientNetLite0().eval()
    network.load_state_dict(torch.load(find_checkpoint(), weights_only=True), strict=True)
    return network


def logits(network: Module, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the logits [N, 1000] of normalised images [N, 3, 224, 224]."""
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(np.ascontiguousarray(images))).numpy())


if __name__ == "__main__":
    network = pretrained()
    logits_by_name: dict[str, Any] = {name: logits(network, images) for name, images in reference_inputs().items()}
    np.savez_compressed(STORED_LOGITS, **logits_by_name)
