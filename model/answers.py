"""Test pictures stored with a quantized version, to check its answers on any processor against the original's."""

import zipfile

import numpy as np
from numpy.typing import NDArray

from model.classifier import Classifier
from model.manifest import ModelError
from runtime.errors import InferenceFailed

FILE = "answers.npz"
_MOST = 8

# Tolerance of a score. On 1,000 photographs, bf16 moved an INT8 network's scores by up to 0.12 from those in f32.
_TOLERANCE = 0.25
# The pictures kept agree more closely, to leave room for that.
_ALIKE = 0.1


def keep(original: Classifier, version: Classifier, pixels: NDArray[np.uint8]) -> None:
    """Write to the version's folder some pictures that both models answer alike, with the original's answers.

    `pixels` are uint8 of shape (N, height, width, 3). Raises `ModelError` if no picture is answered alike.
    """
    scores = _scores(original, pixels)
    classes, expected = scores.argmax(axis=1), scores.max(axis=1)
    chosen = np.flatnonzero(_differences(version, pixels, classes, expected) <= _ALIKE)[:_MOST]
    made = version.manifest
    if not len(chosen):
        raise ModelError(f"{made.name}@{made.version} answers none of {len(pixels)} pictures as the original does")
    np.savez_compressed(made.folder / FILE, pixels=pixels[chosen], classes=classes[chosen], scores=expected[chosen])


def check(classifier: Classifier) -> None:
    """Raise `ModelError` if a network answers the kept pictures, if there are any, differently."""
    file = classifier.manifest.folder / FILE
    if not file.exists():
        return
    try:
        with file.open("rb") as opened, np.load(opened) as kept:
            classes, expected = kept["classes"], kept["scores"]
            apart = _differences(classifier, kept["pixels"], classes, expected)
    except (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile, InferenceFailed) as err:
        raise ModelError(f"{file}: is not what `mlapi model quantize` kept with this network: {err}") from err
    if wrong := np.flatnonzero(~(apart <= _TOLERANCE)).tolist():  # NaN is wrong, too
        label = classifier.manifest.labels[classes[wrong[0]]]
        raise ModelError(
            f"{file}: {len(wrong)} of {len(apart)} pictures have other answers than when this version was made, as"
            f" {label!r}, whose score differs by {apart[wrong[0]]:.2f}: this processor computes it wrong in"
            f" {classifier.precision}, or it is another network; make the version again with `mlapi model quantize`, or"
            " serve the original"
        )


def _differences(
    classifier: Classifier, pixels: NDArray[np.uint8], classes: NDArray[np.int64], expected: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the absolute difference of a network's score of each picture's class from the expected score."""
    differences: NDArray[np.float64] = np.abs(_scores(classifier, pixels)[np.arange(len(classes)), classes] - expected)
    return differences


def _scores(classifier: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    # One by one: the engine needs the code for a batch of one in any case.
    return np.concatenate([classifier.scores(pixels[i : i + 1]) for i in range(len(pixels))])
