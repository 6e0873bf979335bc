"""A model with a sample is served only if it gives the answer in its manifest."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from model.manifest import ModelError, ModelManifest, Sample
from model.ml_service import load_classifier
from model.settings import ModelSettings
from testing.networks import save_network


@pytest.fixture
def folder(manifest: ModelManifest, tmp_path: Path) -> Path:
    """Return the folder of a network that distinguishes colours, with a green picture as its sample."""
    replace(manifest, sample=Sample("sample.png", "green")).write(tmp_path)
    save_network(manifest.network_path, (None, 3, 24, 32))
    Image.new("RGB", (64, 48), "lime").save(tmp_path / "sample.png")
    return tmp_path


def load(folder: Path) -> ModelManifest:
    return load_classifier(ModelSettings(model=folder, precision="f32")).manifest


def test_a_model_that_is_right_about_its_sample_is_served(folder: Path) -> None:
    assert load(folder).sample == Sample("sample.png", "green")


def test_a_model_made_of_another_has_its_sample_too(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    manifest = load(folder)
    replace(manifest, version="2").write(other)
    save_network(other / "model.onnx", (None, 3, 24, 32))
    manifest.copy_sample(other)
    assert load(other).sample == manifest.sample


def test_a_model_that_takes_its_sample_for_something_else_is_not_served(folder: Path) -> None:
    Image.new("RGB", (64, 48), "blue").save(folder / "sample.png")
    with pytest.raises(ModelError, match=r"sample\.png: the network says 'blue' .*'green'"):
        load(folder)


def test_channels_in_another_order_than_in_training_are_noticed(folder: Path) -> None:
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text().replace('"RGB"', '"BGR"').replace("green", "red"))
    Image.new("RGB", (64, 48), "red").save(folder / "sample.png")
    with pytest.raises(ModelError, match="the network says 'blue'"):
        load(folder)


@pytest.mark.parametrize("data", [None, b"no image"])
def test_a_sample_that_cannot_be_read_is_named(folder: Path, data: bytes | None) -> None:
    (folder / "sample.png").unlink()
    if data is not None:
        (folder / "sample.png").write_bytes(data)
    with pytest.raises(ModelError, match=r"sample\.png: the sample cannot be classified"):
        load(folder)


@pytest.mark.parametrize(
    ("key", "words"),
    [("label = 'purple'\nfile = 'a.png'", "purple"), ("label = 'red'\nfile = '../a.png'", "sample.file")],
)
def test_a_label_that_there_is_not_and_a_file_elsewhere_are_refused(folder: Path, key: str, words: str) -> None:
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text().partition("[sample]")[0] + f"[sample]\n{key}\n")
    with pytest.raises(ModelError, match=words):
        load(folder)
