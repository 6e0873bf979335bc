"""Exports Keras's ResNet-50 to ONNX, with a manifest that prepares images exactly as Keras does."""

from __future__ import annotations

import hashlib
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from model.manifest import ModelManifest
from model.zoo.errors import ZooError
from model.zoo.labels import imagenet_labels

if TYPE_CHECKING:
    import keras  # type: ignore[import-not-found] # installed only where this model is made

NAME = "resnet50"
NEEDS = "keras onnx onnxscript torch"
REVISION = "1"  # part of every cached answer's key: raise it with any change that changes a score

IMAGE_SIZE = 224  # pixels a side
IMAGENET = "imagenet"
NETWORK_TIMEOUT_S = (
    20  # for every connection and read, not for the whole 103 MB: a slow line is no error, a silent one is
)
WEIGHTS_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/resnet/resnet50_weights_tf_dim_ordering_tf_kernels.h5"
)


def build(folder: Path, weights: str | None = None) -> None:
    """Write the model's folder: `model.onnx`, `model.toml`, `labels.txt`.

    `weights` is the path of a Keras weights file (.h5) for this network; by default, Keras downloads its ImageNet
    weights. Raises `ZooError` if the download fails or the file does not fit.
    """
    made = version(weights)  # first, since it also checks that the file is there
    export(network(weights or IMAGENET), folder, made)


def version(weights: str | None = None) -> str:
    """Return the version of what `build` makes: the converter's revision, and the hash of a given file."""
    if weights is None:
        return REVISION
    try:
        return f"{REVISION}-{hashlib.sha256(Path(weights).read_bytes()).hexdigest()[:12]}"
    except OSError as err:
        raise ZooError(f"cannot read the weights {weights}: {err.strerror}") from err


def network(weights: str | None) -> keras.Model:
    """Return the Keras network: float32 [N, 224, 224, 3] -> float32 scores in 0..1 [N, 1000].

    `weights` is "imagenet" (a download, checked by its checksum and kept by Keras), the path of a .h5 file, or None for
    random numbers.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")  # read when Keras is first imported; its own default is TensorFlow
    import keras

    # A user's ~/.keras/keras.json may set another format, and the manifest below says NHWC.
    keras.config.set_image_data_format("channels_last")
    try:
        with socket_timeout(NETWORK_TIMEOUT_S):
            return keras.applications.ResNet50(weights=weights)
    except Exception as err:  # Keras raises a plain Exception when a download fails
        raise ZooError(_advice(weights, err)) from err


def _advice(weights: str | None, err: Exception) -> str:
    if weights != IMAGENET:
        return f"{weights} does not hold Keras weights of ResNet-50 with its 1000 classes: {err}"
    return (
        f"Keras could not get the ImageNet weights of ResNet-50: {err}. "
        f"Where the network is closed, download {WEIGHTS_URL} elsewhere and name the file with --weights FILE"
    )


@contextmanager
def socket_timeout(timeout_s: float) -> Iterator[None]:
    """Limit every wait on a new connection: Keras's download sets no limit, and has no option for one."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout_s)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def export(network: keras.Model, folder: Path, version: str) -> None:
    """Write a Keras ResNet-50 as a model folder; the ONNX file takes batches of any size."""
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hundreds, about Keras's tracing; the parity tests check the result
        network(np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32))  # Keras exports only what has run once
        network.export(folder / "model.onnx", format="onnx", verbose=False)
    manifest(folder, version).write(folder)


def manifest(folder: Path, version: str) -> ModelManifest:
    """Describe the preprocessing of Keras's `load_img(target_size=(224, 224))` and `resnet50.preprocess_input`.

    The first squashes with nearest neighbour. The second is of Caffe's kind: BGR, the means of ImageNet subtracted, and
    no scaling (`imagenet_utils.py` in Keras).
    """
    return ModelManifest(
        name=NAME,
        version=version,
        height=IMAGE_SIZE,
        width=IMAGE_SIZE,
        resize="squash",
        crop=None,
        interpolation="nearest",
        channels="BGR",
        mean=(103.939, 116.779, 123.68),
        std=(1.0, 1.0, 1.0),
        layout="NHWC",
        logits=False,
        labels=imagenet_labels(),
        folder=folder,
    )
