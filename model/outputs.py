"""Checks whether a network's outputs for test pictures match its manifest."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model import labels
from model.manifest import LABELS, MANIFEST, ModelError, ModelManifest

EXPORT_HINT = "export the network with a dynamic batch dimension"

# A bf16 softmax rounds each of its shares by up to 2**-9, hence their sum by up to 0.2 %.
_SUM_TOLERANCE = 0.01

# As a share of the largest answer. Kernels for other batch sizes may round differently; mixed-up images differ far
# more.
_BATCH_TOLERANCE = 0.05

_SIGMOIDS = {"Sigmoid", "HardSigmoid"}
# Operations in other forms of a sigmoid: 1 / (1 + exp(-x)) and 0.5 + 0.5 * tanh(x / 2).
_PARTS_OF_SIGMOIDS = {"Exp", "Tanh"}

Answers = NDArray[np.float32]


def check(together: Answers, alone: Answers, last_function: str, manifest: ModelManifest) -> None:
    """Raise `ModelError` if the answers to the same pictures, batched and one by one, do not fit the manifest.

    `last_function` is the engine's name of the operation that makes them.
    """
    _check_shape(together, len(alone), manifest)
    _check_independence(together, alone, manifest)
    answers = together[np.isfinite(together).all(axis=1)]
    _check_several_classes(last_function, answers, manifest)
    _check_sum(last_function, answers, manifest)
    _check_logits(answers, manifest)


def _check_shape(answers: Answers, count: int, manifest: ModelManifest) -> None:
    expected = (count, len(manifest.labels))
    if answers.shape == expected:
        return
    hint = f"; {EXPORT_HINT}" if answers.shape[:1] != (count,) else _advice_on_outputs(answers.shape[1:], manifest)
    raise ModelError(
        f"{manifest.network_path}: answers {count} images with an output of shape {list(answers.shape)};"
        f" {LABELS} has {expected[1]} labels, so {list(expected)} was expected{hint}"
    )


def _advice_on_outputs(sizes: Sequence[int], manifest: ModelManifest) -> str:
    """Return advice on outputs whose sizes are not one number per label."""
    if len(sizes) > 1:
        return "; export the network with one number for each class, which a last pooling or flattening makes"
    return labels.advice(manifest.labels, sizes[0] if sizes else 1)


def _check_independence(together: Answers, alone: Answers, manifest: ModelManifest) -> None:
    tolerance = _BATCH_TOLERANCE * np.abs(np.nan_to_num(alone)).max()
    if not np.allclose(together, alone, rtol=0, atol=tolerance, equal_nan=True):
        raise ModelError(
            f"{manifest.network_path}: answers an image differently alone and in a batch; export the network for"
            " inference (batch normalisation still in training mode does this, and dynamic quantization)"
        )


def _check_several_classes(last: str, answers: Answers, manifest: ModelManifest) -> None:
    """Raise `ModelError` if each output is an independent probability: then a picture may have several classes."""
    shares = answers.min() >= 0 and answers.max() <= 1 + _SUM_TOLERANCE
    apart = shares and not _are_probabilities(answers)
    if last in _SIGMOIDS or (apart and (last in _PARTS_OF_SIGMOIDS or not manifest.logits)):
        raise ModelError(
            f"{manifest.network_path}: each output is a probability by itself, from {answers.min():.3g} to"
            f" {answers.max():.3g}, as a sigmoid makes them where a picture may have several classes or none; only"
            " networks are served by which a picture has one class, so neither logits = true nor false is right: train"
            " it with a softmax, or export it without the sigmoid if its classes exclude each other"
        )


def _check_sum(last: str, answers: Answers, manifest: ModelManifest) -> None:
    """Raise `ModelError` if a softmax's probabilities are scaled, as to percent."""
    if last == "Softmax" and not _are_probabilities(answers):
        raise ModelError(
            f"{manifest.network_path}: ends in a softmax, whose outputs are then changed: they go from"
            f" {answers.min():.3g} to {answers.max():.3g}, and an image's sum is {answers[0].sum():.3g}; export the"
            " network with the softmax last and set logits = false, or without it and set logits = true"
        )


def _check_logits(answers: Answers, manifest: ModelManifest) -> None:
    path = manifest.network_path
    if manifest.logits and _are_probabilities(answers):
        raise ModelError(
            f"{path}: the outputs are probabilities already; {MANIFEST} says logits = true: set it to false"
        )
    if not manifest.logits and not _are_probabilities(answers):
        raise ModelError(
            f"{path}: the outputs are not probabilities, they go from {answers.min():.3g} to {answers.max():.3g} and"
            f" an image's sum is {answers[0].sum():.3g}; {MANIFEST} says logits = false: set it to true"
        )


def _are_probabilities(answers: Answers) -> bool:
    in_range = answers.min() >= 0 and answers.max() <= 1 + _SUM_TOLERANCE
    return bool(in_range and np.abs(answers.sum(axis=1) - 1).max() < _SUM_TOLERANCE)
