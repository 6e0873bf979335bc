"""Comparing two networks."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from mlapi.quantization.comparison import Accuracy, Agreement, Pair
from mlapi.quantization.pictures import Picture
from model.classifier import Classifier


class FakeClassifier:
    """Answers with a picture's first number plus `shift` as the class, and records its batches."""

    def __init__(self, calls: list[tuple[int, int]], labels: tuple[str, ...] = ("a", "b", "c"), shift: int = 0) -> None:
        self.manifest = type("Manifest", (), {"labels": labels})
        self._shift = shift
        self._calls = calls

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        self._calls.append((self._shift, len(pixels)))
        answers = (pixels[:, 0, 0, 0].astype(int) + self._shift) % len(self.manifest.labels)  # type: ignore[attr-defined]
        scores: NDArray[np.float64] = np.eye(3)[answers]
        return scores

    classify = scores


def picture(number: int) -> Picture:
    return Picture(f"{number}.png", bytes([number]), np.full((2, 2, 3), number, np.uint8))


def pair(calls: list[tuple[int, int]], labels: tuple[str, ...] = ("a", "b", "c")) -> Pair:
    one, two = FakeClassifier(calls, labels), FakeClassifier(calls, labels, shift=1)
    return Pair(cast("Classifier", one), cast("Classifier", two), batch_size=2)


def test_agreement_counts_all_pictures_and_those_that_are_clear_to_the_original() -> None:
    original = np.array([[0.9, 0.1, 0.0], [0.5, 0.45, 0.05], [0.1, 0.2, 0.7]])
    quantized = np.array([[0.8, 0.1, 0.1], [0.4, 0.45, 0.15], [0.1, 0.1, 0.8]])
    found = Agreement.of(original, quantized)
    assert found.largest_score_difference == np.abs(original - quantized).max()
    assert (found.images, found.same_class, found.clear_images, found.clear_same_class) == (3, 2, 2, 2)


def test_a_single_class_is_agreed_on() -> None:
    assert Agreement.of(np.ones((4, 1)), np.ones((4, 1))) == Agreement(4, 4, 4, 4, 0.0)


def test_both_see_the_same_batches() -> None:
    calls: list[tuple[int, int]] = []
    assert pair(calls).agreement(map(picture, range(3))) == Agreement(3, 0, 3, 0, 1.0)
    assert calls == [(0, 2), (1, 2), (0, 1), (1, 1)]


def test_an_answer_is_right_where_it_has_the_label_of_the_picture() -> None:
    labels = {"0.png": "a", "1.png": "b", "2.png": "a"}
    assert pair([]).accuracy(map(picture, range(3)), labels) == Accuracy(3, 2, 1)


def test_of_classes_with_the_same_label_each_is_right() -> None:
    labels = {"0.png": "crane", "1.png": "crane"}
    assert pair([], ("crane", "crane", "dog")).accuracy(map(picture, range(2)), labels) == Accuracy(2, 2, 1)


def test_without_labelled_pictures_none_is_right() -> None:
    assert pair([]).accuracy([], {}) == Accuracy(0, 0, 0)


def test_speeds_are_measured_in_turn() -> None:
    calls: list[tuple[int, int]] = []
    speeds = pair(calls).images_per_s([picture(0), picture(1), picture(2)])
    assert min(speeds) > 0
    assert calls[:4] == [(0, 2), (1, 2), (0, 2), (1, 2)]
