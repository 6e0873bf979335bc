"""Faster processing classifies pictures like the reference: reduced decoding, and bf16."""

import io
import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from jobs.schema import Prediction
from model.classifier import Classifier
from model.manifest import ModelManifest
from model.preprocessing import decode, fit, preprocess
from model.tests.conftest import DOG
from model.zoo.efficientnet_lite0 import build

MAX_PIXELS = 20_000_000
Pixels = Sequence[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> ModelManifest:
    """Make the default model, once."""
    folder = tmp_path_factory.mktemp("efficientnet-lite0")
    build(folder)
    return ModelManifest.load(folder)


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """Return parts of the dog in many sizes, each as a JPEG file that is decoded at 1/2 or 1/4 of its size."""
    dog, chance = Image.open(DOG), random.Random(0)  # noqa: S311  # chooses pictures, no secret
    return [_variant(dog, chance) for _ in range(40)]


def _variant(dog: Image.Image, chance: random.Random) -> bytes:
    left, top = chance.randint(0, 150), chance.randint(0, 60)
    part = dog.crop((left, top, left + chance.randint(450, 570), top + chance.randint(380, 420)))
    scale = chance.choice([2.8, 3.5, 4.2, 5]) * chance.uniform(1, 1.2)
    file = io.BytesIO()
    part.resize((int(part.width * scale), int(part.height * scale))).save(
        file, "JPEG", quality=chance.randint(75, 95), progressive=chance.random() < 0.2
    )
    return file.getvalue()


@pytest.fixture(scope="module")
def reference(photos: list[bytes], manifest: ModelManifest) -> Pixels:
    return [fit(decode(photo, MAX_PIXELS), manifest) for photo in photos]


def classified(classifier: Classifier, pixels: Pixels) -> list[Prediction]:
    outcomes = classifier.classify(np.stack(pixels))
    assert all(isinstance(outcome, Prediction) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, Prediction)]


def assert_agreement(seen: list[Prediction], expected: list[Prediction]) -> None:
    assert [each.label for each in seen] == [each.label for each in expected]
    assert [each.score for each in seen] == pytest.approx([each.score for each in expected], abs=0.1)


def test_photos_decoded_small_are_classified_as_those_decoded_in_full(
    photos: list[bytes], reference: Pixels, manifest: ModelManifest
) -> None:
    small = [preprocess(photo, manifest, MAX_PIXELS) for photo in photos]
    assert not any(np.array_equal(*pair) for pair in zip(small, reference, strict=True))
    classifier = Classifier.load(manifest)
    assert_agreement(classified(classifier, small), classified(classifier, reference))


def test_photos_are_classified_alike_in_f32_and_in_what_the_processor_has(
    reference: Pixels, manifest: ModelManifest
) -> None:
    native = classified(Classifier.load(manifest, precision="auto"), reference)
    assert_agreement(native, classified(Classifier.load(manifest, precision="f32"), reference))
