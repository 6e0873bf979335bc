"""Compares a model with its INT8 version: their agreement, accuracy and speed."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from mlapi.quantization.pictures import Picture
from model.classifier import Classifier

Scores = NDArray[np.float64]  # of every class, shape (pictures, classes)

# Margin between the two best classes; below it, rounding may decide which one is the answer.
_CLEAR_MARGIN = 0.1
_ROUNDS = 31


@dataclass(frozen=True, slots=True)
class Agreement:
    """The number of pictures with the same class, of all and of those that are clear to the original."""

    images: int
    same_class: int
    clear_images: int
    clear_same_class: int
    largest_score_difference: float

    @classmethod
    def of(cls, original: Scores, quantized: Scores) -> "Agreement":
        """Compare the scores of the same pictures."""
        same = original.argmax(axis=1) == quantized.argmax(axis=1)
        best = np.sort(original, axis=1)[:, ::-1]
        clear = best[:, 0] - best[:, 1:2].max(axis=1, initial=0) > _CLEAR_MARGIN  # there may be only one class
        apart = float(np.abs(original - quantized).max())
        return cls(len(same), int(same.sum()), int(clear.sum()), int((same & clear).sum()), apart)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The number of labelled pictures, and how many of them each model classifies correctly."""

    images: int
    original_right: int
    quantized_right: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A model and its INT8 version, ready to run in batches of `batch_size`."""

    original: Classifier
    quantized: Classifier
    batch_size: int

    def agreement(self, pictures: Iterable[Picture]) -> Agreement:
        """Compare the two models' answers for pictures."""
        scored = [self._scores(batch) for batch in _batches(pictures, self.batch_size)]
        return Agreement.of(*(np.concatenate(each) for each in zip(*scored, strict=True)))

    def accuracy(self, pictures: Iterable[Picture], labels: Mapping[str, str]) -> Accuracy:
        """Count how often each model is right, by the labels of the pictures' paths."""
        names, right = self.original.manifest.labels, list[tuple[bool, ...]]()
        for batch in _batches(pictures, self.batch_size):
            answers = zip(*(scores.argmax(axis=1) for scores in self._scores(batch)), strict=True)
            for picture, both in zip(batch, answers, strict=True):
                right.append(tuple(names[answer] == labels[picture.path] for answer in both))
        return Accuracy(len(right), sum(one for one, _ in right), sum(two for _, two in right))

    def images_per_s(self, pictures: Sequence[Picture]) -> tuple[float, float]:
        """Return the images per second of each network in such a batch: medians of alternating runs."""
        pixels = _stack(pictures[: self.batch_size])
        rounds = [(_seconds(self.original, pixels), _seconds(self.quantized, pixels)) for _ in range(1 + _ROUNDS)]
        one, two = zip(*rounds[1:], strict=True)  # the first warms up the engine for the batch's size
        return len(pixels) / statistics.median(one), len(pixels) / statistics.median(two)

    def _scores(self, batch: Sequence[Picture]) -> tuple[Scores, Scores]:
        pixels = _stack(batch)
        return self.original.scores(pixels), self.quantized.scores(pixels)


def _seconds(classifier: Classifier, pixels: NDArray[np.uint8]) -> float:
    started = perf_counter()
    classifier.classify(pixels)
    return perf_counter() - started


def _batches(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    rest = iter(pictures)
    while batch := list(islice(rest, size)):
        yield batch


def _stack(pictures: Sequence[Picture]) -> NDArray[np.uint8]:
    return np.stack([picture.pixels for picture in pictures])
