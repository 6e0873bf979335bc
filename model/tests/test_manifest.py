"""A model folder is understood exactly, or refused with what to change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.manifest import ModelError, ModelManifest

TOML = """
name = "flowers"
version = "2"

[input]
size = [224, 192]
resize = "crop"
crop = 0.875
interpolation = "bicubic"
channels = "BGR"
mean = [127, 127.5, 128.0]
std = [128.0, 1, 0.5]
layout = "NHWC"

[output]
logits = false
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a model folder without a fault; its network is not read here."""
    (tmp_path / "model.toml").write_text(TOML)
    (tmp_path / "labels.txt").write_text("rose\ntulip\n")
    (tmp_path / "model.onnx").write_bytes(b"")
    return tmp_path


def test_every_key_is_read(folder: Path) -> None:
    assert ModelManifest.load(folder) == ModelManifest(
        name="flowers",
        version="2",
        height=224,
        width=192,
        resize="crop",
        crop=0.875,
        interpolation="bicubic",
        channels="BGR",
        mean=(127.0, 127.5, 128.0),
        std=(128.0, 1.0, 0.5),
        layout="NHWC",
        logits=False,
        labels=("rose", "tulip"),
        folder=folder,
    )


def test_the_network_stands_beside_the_manifest(folder: Path) -> None:
    assert ModelManifest.load(folder).network_path == folder / "model.onnx"


def test_the_example_in_the_documentation_is_valid(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    (folder / "model.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    (folder / "labels.txt").write_text("Eskimo_dog\ntulip\n")
    assert ModelManifest.load(folder).labels == ("Eskimo_dog", "tulip")


@pytest.mark.parametrize(
    ("found", "changed", "complaint"),
    [
        ('name = "flowers"', "", "name is missing"),
        ('name = "flowers"', 'name = ""', 'name is ""'),
        ('name = "flowers"', 'name = "flow\\ners"', "name is"),
        ('version = "2"', "version = 2", "version is 2: should be a valid string"),
        ('version = "2"', 'version = "2"\ncolour = 1', "colour is not a key"),
        ("[224, 192]", "[224, 0]", "input.size.1 is 0: should be greater than 0"),
        ("[224, 192]", "[-1, 192]", "input.size.0 is -1"),
        ("[224, 192]", "[224]", "input.size.1 is missing"),
        ("[224, 192]", "[224, 192, 3]", "input.size is [224, 192, 3]"),
        ("[224, 192]", "224", "input.size is 224"),
        ("[224, 192]", '["224", "192"]', 'input.size.0 is "224"'),
        ("[224, 192]", "[224.0, 192]", "input.size.0 is 224.0"),
        ('resize = "crop"', 'resize = "fit"', "input.resize is \"fit\": should be 'crop' or 'squash'"),
        ('resize = "crop"', 'resize = "squash"', "remove the key crop"),
        ("crop = 0.875", "", "needs the key crop"),
        ("crop = 0.875", "crop = 0", "input.crop is 0: should be greater than 0"),
        ("crop = 0.875", "crop = 1.1", "input.crop is 1.1: should be less than or equal to 1"),
        ("crop = 0.875", "crop = true", "input.crop is true"),
        ("crop = 0.875", "crop = 0.875\ncorp = 1", "input.corp is not a key"),
        ('"bicubic"', '"cubic"', "input.interpolation is \"cubic\": should be 'nearest', 'bilinear'"),
        ('"BGR"', '"rgb"', "input.channels is \"rgb\": should be 'RGB' or 'BGR'"),
        ("[127, 127.5, 128.0]", "[127]", "input.mean.1 is missing"),
        ("[127, 127.5, 128.0]", "[127, nan, 127]", "input.mean.1 is NaN: should be a finite number"),
        ("[128.0, 1, 0.5]", "[128, 0, 128]", "input.std.1 is 0: should be greater than 0"),
        ("[128.0, 1, 0.5]", "[128, inf, 128]", "input.std.1 is Infinity"),
        ('"NHWC"', '"CHWN"', "input.layout is \"CHWN\": should be 'NCHW' or 'NHWC'"),
        ("logits = false", "logits = 0", "output.logits is 0: should be a valid boolean"),
        ("[output]\nlogits = false", "", "output is missing"),
        ("[input]", "[input", "not TOML"),
    ],
)
def test_a_wrong_key_is_named_with_what_was_found_and_expected(
    folder: Path, found: str, changed: str, complaint: str
) -> None:
    assert TOML.count(found) == 1
    (folder / "model.toml").write_text(TOML.replace(found, changed))
    with pytest.raises(ModelError) as caught:
        ModelManifest.load(folder)
    assert str(caught.value).startswith(f"{folder / 'model.toml'}: ")
    assert complaint in str(caught.value)


def test_all_wrong_keys_are_named_at_once(folder: Path) -> None:
    (folder / "model.toml").write_text(TOML.replace("crop = 0.875", "crop = 2").replace('"NHWC"', '"HWC"'))
    with pytest.raises(ModelError, match=r"input\.crop is 2.*; input\.layout is"):
        ModelManifest.load(folder)


@pytest.mark.parametrize("missing", ["model.toml", "labels.txt", "model.onnx"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"{missing}: not found"):
        ModelManifest.load(folder)


def test_a_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "labels.txt").unlink()
    (folder / "labels.txt").mkdir()
    with pytest.raises(ModelError, match=r"labels\.txt: cannot be read"):
        ModelManifest.load(folder)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"rose\n\ntulip\n", "line 2 is empty"),
        (b"\nrose\n", "line 1 is empty"),
        (b"ros\xe9\n", "byte 3 is not UTF-8"),
    ],
)
def test_wrong_labels_are_refused(folder: Path, labels: bytes, complaint: str) -> None:
    (folder / "labels.txt").write_bytes(labels)
    with pytest.raises(ModelError, match=complaint):
        ModelManifest.load(folder)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (b"rose\r\ntulip\r\n", ("rose", "tulip")),
        (b"\xef\xbb\xbfrose\ntulip", ("rose", "tulip")),
        (b"rose\ntulip\n\n", ("rose", "tulip")),
        ("\u5f20\u2028x\nlove-in-a-mist\n".encode(), ("\u5f20\u2028x", "love-in-a-mist")),
        (b"crane\ncrane\n", ("crane", "crane")),
    ],
    ids=["Windows line ends", "byte order mark", "empty line at the end", "a separator in a label", "twice the same"],
)
def test_labels_are_read_however_the_editor_saved_them(folder: Path, text: bytes, labels: tuple[str, ...]) -> None:
    (folder / "labels.txt").write_bytes(text)
    assert ModelManifest.load(folder).labels == labels


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resize": "squash", "crop": None, "interpolation": "nearest"},
        {"name": 'a "quoted" \\ name, \u5f20 and \U0001f33c', "labels": ("two words", "caf\u00e9", "\U0001f33c")},
        {"mean": (1e-12, -3.0, 1e20), "std": (0.1, 1 / 3, 1e-7), "crop": 1.0, "logits": False},
    ],
    ids=["plain", "squashed", "odd text", "odd numbers"],
)
def test_what_is_written_is_read_back_equal(manifest: ModelManifest, tmp_path: Path, changes: dict[str, Any]) -> None:
    written, folder = replace(manifest, **changes), tmp_path / "made" / "here"
    written.write(folder)
    (folder / "model.onnx").write_bytes(b"")
    read = ModelManifest.load(folder)
    assert (read, read.folder) == (written, folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ("one\ntwo",)},
        {"labels": (" rose",)},
        {"labels": ("",)},
        {"labels": ()},
        {"crop": None},
        {"resize": "squash"},
        {"height": 0},
        {"std": (1.0, 0.0, 1.0)},
        {"name": "two\nlines"},
    ],
)
def test_a_manifest_that_could_not_be_read_back_is_not_written(
    manifest: ModelManifest, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(ModelError):
        replace(manifest, **changes).write(tmp_path / "model")
    assert not (tmp_path / "model").exists()
