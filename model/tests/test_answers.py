"""A version made with test pictures is served only if it answers them as its original did."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model import answers
from model.classifier import Classifier
from model.manifest import ModelError, ModelManifest
from model.ml_service import load_classifier
from model.settings import ModelSettings
from testing.networks import COLOUR_WEIGHTS, save_network


def noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 24, 32, 3), np.uint8)


def make(manifest: ModelManifest, folder: Path, weights: float = 1.0) -> Classifier:
    """Make a model whose scores are the more decided, the larger its weights are."""
    made = replace(manifest, folder=folder)
    made.write(folder)
    save_network(made.network_path, ("N", 3, 24, 32), weights=np.array(COLOUR_WEIGHTS) * weights)
    return Classifier.load(made)


@pytest.fixture
def original(manifest: ModelManifest, tmp_path: Path) -> Classifier:
    return make(manifest, tmp_path / "original")


def load(folder: Path) -> None:
    load_classifier(ModelSettings(model=folder))


def test_a_version_that_answers_as_when_it_was_made_is_served(original: Classifier, tmp_path: Path) -> None:
    version = make(original.manifest, tmp_path / "version", 1.01)
    answers.keep(original, version, noise(20))
    load(version.manifest.folder)
    with np.load(version.manifest.folder / "answers.npz") as kept:
        assert kept["pixels"].tolist() == noise(20)[:8].tolist()
        assert kept["scores"].tolist() == original.scores(noise(20)[:8]).max(axis=1).tolist()


def test_a_version_that_answers_otherwise_here_is_refused_by_name(original: Classifier, tmp_path: Path) -> None:
    folder = tmp_path / "version"
    answers.keep(original, make(original.manifest, folder), np.full((2, 24, 32, 3), (250, 80, 80), np.uint8))
    save_network(folder / "model.onnx", ("N", 3, 24, 32), weights=np.array(COLOUR_WEIGHTS) * 0.01)
    with pytest.raises(ModelError, match=r"answers\.npz: 2 of 2 pictures .* 'red', .* computes it wrong in .*, or it"):
        load(folder)


def test_only_what_both_answer_alike_is_kept(original: Classifier, tmp_path: Path) -> None:
    other = make(original.manifest, tmp_path / "other", -1.0)
    with pytest.raises(ModelError, match="answers none of 2 pictures as the original does"):
        answers.keep(original, other, np.full((2, 24, 32, 3), (250, 80, 80), np.uint8))
    assert not (tmp_path / "other" / "answers.npz").exists()


@pytest.mark.parametrize(
    "kept",
    [
        b"",
        b"no archive",
        b"PK\x03\x04 cut short",
        {"pixels": noise(1), "classes": np.array([0])},
        {"pixels": noise(1), "classes": np.array([9]), "scores": np.array([1.0])},
        {"pixels": noise(1)[:, :20], "classes": np.array([0]), "scores": np.array([1.0])},
        {"pixels": noise(1), "classes": np.array([object()]), "scores": np.array([1.0])},
        {"pixels": noise(0), "classes": np.array([], int), "scores": np.array([])},
    ],
    ids=["empty", "no archive", "cut", "incomplete", "no such class", "size", "objects", "none"],
)
def test_damaged_answers_are_named(original: Classifier, kept: bytes | dict[str, NDArray[np.generic]]) -> None:
    file = original.manifest.folder / "answers.npz"
    if isinstance(kept, bytes):
        file.write_bytes(kept)
    else:
        np.savez(file, **kept)  # type: ignore[arg-type]  # arrays by their names
    with pytest.raises(ModelError, match=r"answers\.npz: is not what `mlapi model quantize` kept with this network"):
        load(original.manifest.folder)


def test_an_answer_that_is_no_number_is_wrong(original: Classifier) -> None:
    kept = {"pixels": noise(1), "classes": np.array([0]), "scores": np.array([np.nan])}
    np.savez(original.manifest.folder / "answers.npz", **kept)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="1 of 1 pictures"):
        load(original.manifest.folder)
