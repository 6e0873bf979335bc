"""A model folder is read exactly, or refused with advice on what to change."""

import re
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
    """Return a correct model folder; its network is not read here."""
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
        ('name = "flowers"', 'name = "team/flowers"', "name: \"team/flowers\" has '/', so it could not be asked for"),
        ('name = "flowers"', 'name = "flowers@2"', "has '@'"),
        ('name = "flowers"', "name = 'a\\b'", "has '\\\\'"),
        ('name = "flowers"', 'name = "a%2Fb"', "has '%'"),
        ('name = "flowers"', 'name = "a?"', "has '?'"),
        ('name = "flowers"', 'name = "a#b"', "has '#'"),
        ('name = "flowers"', 'name = "-a"', "has '-'"),
        ('name = "flowers"', 'name = " a"', "has ' '"),
        ('name = "flowers"', 'name = "a\\u00a0"', "has '\\xa0'"),
        ('name = "flowers"', 'name = "."', "has '.'"),
        ('name = "flowers"', 'name = ".."', "has '..'"),
        ('name = "flowers"', 'name = "a\\u202eb"', "has characters that are invisible"),
        ('name = "flowers"', 'name = "a\\u200bb"', "has characters that are invisible"),
        ('name = "flowers"', 'name = "u\\u0308"', "can be written in two ways"),
        ('name = "flowers"', f'name = "{"a" * 101}"', "should have at most 100 characters"),
        ('version = "2"', 'version = "1/2"', "version: \"1/2\" has '/'"),
        ('version = "2"', 'version = "2@3"', "version: \"2@3\" has '@'"),
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


@pytest.mark.parametrize("name", ["a.b", "v1.0-rc.1+cu12", "a b", "M\u00fcll_2", ".a", "1"])
def test_a_name_that_can_be_asked_for_is_taken(folder: Path, name: str) -> None:
    text = TOML.replace('"flowers"', f'"{name}"').replace('version = "2"', f'version = "{name}"')
    (folder / "model.toml").write_text(text)
    manifest = ModelManifest.load(folder)
    assert (manifest.name, manifest.version) == (name, name)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], "std is below 1, as for values from 0 to 1, and pixels are from "
         "0 to 255; probably meant: mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375]"),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], "mean = [127.5, 127.5, 127.5], std = [127.5, 127.5, 127.5]"),
        ([0, 0, 0], [0.99, 0.99, 0.99], "mean = [0, 0, 0], std = [252.45, 252.45, 252.45]"),
        ([123.675, 116.28, 103.53], [0.229, 0.224, 0.225], "mean = [123.675, 116.28, 103.53], std = [58.395,"),
        ([0.485, 0.456, 0.406], [58.395, 57.12, 57.375], "mean is below 1, as for values from 0 to 1, and pixels"),
        ([0.485, 0.456, 0.406], [1, 1, 1], "mean = [123.675, 116.28, 103.53], std = [1, 1, 1]"),
        ([0, 0, 0], [0.00392156862745098] * 3, "such as 1/255, and .* mean = [0, 0, 0], std = [255, 255, 255]"),
        ([31537.125, 29651.4, 26400.15], [14890.725] * 3, "mean is above 255, and .* mean = [123.675, 116.28, 103.53]"),
        ([1e9, 0, 0], [1, 1, 1], "mean is above 255"),
        ([300, 116, 103], [58, 57, 57], "mean is above 255, the largest of a pixel"),
        ([-123, -116, -103], [58, 57, 57], "mean is below 0, .* probably meant: mean = [123, 116, 103], std = [58, "),
    ],
)  # fmt: skip
def test_mean_and_std_of_another_scale_are_refused_with_what_was_probably_meant(
    folder: Path, mean: list[float], std: list[float], words: str
) -> None:
    text = TOML.replace("[127, 127.5, 128.0]", str(mean)).replace("[128.0, 1, 0.5]", str(std))
    (folder / "model.toml").write_text(text)
    with pytest.raises(ModelError, match=re.escape(words).replace(r"\.\*", ".*")):
        ModelManifest.load(folder)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([0, 0, 0], [255, 255, 255]),
        ([0, 0, 0], [1, 1, 1]),
        ([127.5, 127.5, 127.5], [127.5, 127.5, 127.5]),
        ([103.939, 116.779, 123.68], [1, 1, 1]),
        ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        ([0, 128, 255], [0.5, 1, 256]),
    ],
)
def test_mean_and_std_of_pixels_are_taken(folder: Path, mean: list[float], std: list[float]) -> None:
    text = TOML.replace("[127, 127.5, 128.0]", str(mean)).replace("[128.0, 1, 0.5]", str(std))
    (folder / "model.toml").write_text(text)
    assert (ModelManifest.load(folder).mean, ModelManifest.load(folder).std) == (tuple(mean), tuple(std))


def test_all_wrong_keys_are_named_at_once(folder: Path) -> None:
    (folder / "model.toml").write_text(TOML.replace("crop = 0.875", "crop = 2").replace('"NHWC"', '"HWC"'))
    with pytest.raises(ModelError, match=r"input\.crop is 2.*; input\.layout is"):
        ModelManifest.load(folder)


@pytest.mark.parametrize("missing", ["model.toml", "labels.txt", "model.onnx"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=f"{missing}: not found"):
        ModelManifest.load(folder)


def test_a_network_under_another_name_is_named(folder: Path) -> None:
    (folder / "model.onnx").rename(folder / "resnet18.onnx")
    with pytest.raises(ModelError, match=r"model\.onnx: not found; .*; resnet18\.onnx is there: call it model\.onnx"):
        ModelManifest.load(folder)
    (folder / "model.onnx").mkdir()
    with pytest.raises(ModelError, match=r"model\.onnx: is a folder; "):
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
        (b'["rose", "tulip"]', "is JSON, or a list"),
        (
            b'{"id": 0, "name": "rose"}\n{"id": 1, "name": "tulip"}\n',
            "has JSON, or a list or dictionary .* in each line",
        ),
        (b'{"0": "rose", "1": "tulip"}\n', "is JSON, or a list or dictionary"),
        (b'{\n  "rose": 0,\n  "tulip": 1\n}', "is JSON, or a list or dictionary"),
        (b"['rose', 'tulip']", "is JSON, or a list or dictionary as Python writes it"),
        (b"{0: 'rose', 1: 'tulip'}", "or dictionary as Python writes it"),
        (b"- rose\n- tulip\n", "is a YAML list"),
        (b'"rose",\n"tulip"\n', 'has labels in quotes, as "rose",: remove the quotes'),
        (b"'rose'\n'tulip'\n", "has labels in quotes"),
        (b"0 rose\n1 tulip\n", "has labels with numbers, as '0 rose': remove the numbers"),
        (b"1: rose\n2: tulip\n3: a b\n", "has labels with numbers"),
        (b"0,rose\r\n1,tulip\r\n", "has labels with numbers, as '0,rose'"),
        (b"rose,0\ntulip,1\n", "has labels with numbers"),
        (b"tulip, 1\nrose, 0\n", "has labels with numbers"),
        (b"index,label\n0,rose\n1,tulip\n", "has labels with numbers, as '0,rose'"),
        (b"class;id\nrose;0\ntulip;1\n", "has labels with numbers"),
        (b'"0","rose"\n"1","tulip"\n', "has labels with numbers"),
        (b"(0) rose\n(1) tulip\n", "has labels with numbers"),
        (b"1. rose\n2. tulip\n", "has labels with numbers"),
        (b"id\tlabel\nx\trose\ny\ttulip\n", "is a table whose columns are separated by tabs"),
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
        (b"0\n1\n2\n", ("0", "1", "2")),
        (b"0 - zero\n1 - one\n", ("0 - zero", "1 - one")),
        (b"0 fingers\n1 finger\n2 fingers\n", ("0 fingers", "1 finger", "2 fingers")),
        (b"type 1\ntype 2\n", ("type 1", "type 2")),
        (b"tench, Tinca\ngoldfish, carp\n", ("tench, Tinca", "goldfish, carp")),
        (b'"rose"\ntulip\n', ('"rose"', "tulip")),
        (b"[UNK]\ncat\n[PAD]\n", ("[UNK]", "cat", "[PAD]")),
        (b"747 jet\n737 plane\n", ("747 jet", "737 plane")),
        (b"0 rose\n", ("0 rose",)),
    ],
)
def test_labels_are_read_however_the_editor_saved_them(folder: Path, text: bytes, labels: tuple[str, ...]) -> None:
    (folder / "labels.txt").write_bytes(text)
    assert ModelManifest.load(folder).labels == labels


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resize": "squash", "crop": None, "interpolation": "nearest"},
        {"name": 'a "quoted" name, \u5f20 and \U0001f33c', "labels": ("two words", "caf\u00e9", "\U0001f33c")},
        {"mean": (1e-12, -3.0, 254.9999), "std": (0.1, 1 / 3, 1e20), "crop": 1.0, "logits": False},
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
