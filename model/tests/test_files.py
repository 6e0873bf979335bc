"""A file in place of a network or its weights is identified, with advice."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from model import files
from model.classifier import Classifier
from model.manifest import ModelError, ModelManifest
from testing.networks import move_weights, save_network

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 102530\n"
WEB_PAGE = b"\n<!DOCTYPE html>\n<html><head><title>GitHub</title>"


def archive(members: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return data.getvalue()


def tar() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as opened:
        opened.addfile(tarfile.TarInfo("model.onnx"))
    return data.getvalue()


def npy() -> bytes:
    data = io.BytesIO()
    np.save(data, np.ones(3))
    return data.getvalue()


NO_NETWORKS = {
    "empty": (b"", "empty: copy or download it again"),
    "Git LFS pointer": (LFS_POINTER, "a Git LFS pointer, not the file that it stands for: run `git lfs pull`"),
    "web page": (WEB_PAGE, "a web page: download the file itself"),
    "web page behind a comment": (b"<!-- saved --> <html>", "a web page"),
    "pickle": (pickle.dumps({"weight": 1}), "a Python pickle, .* torch.onnx.export"),
    "PyTorch": (archive({"resnet/data.pkl": b"", "resnet/data/0": b""}), "a PyTorch checkpoint: .*torch.onnx.export"),
    "TorchScript": (archive({"net/data.pkl": b"", "net/constants.pkl": b""}), "a TorchScript network: "),
    "Keras": (archive({"config.json": b"", "model.weights.h5": b""}), "a Keras network: .*model.export"),
    "Keras's older": (b"\x89HDF\r\n\x1a\n" + bytes(8), "an HDF5 file, as Keras's .h5: .*model.export"),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3\x14\0", "a TensorFlow Lite network: .*tf2onnx"),
    "TensorFlow": (b"\x08\x01\x12\xa4\x08\n", "a TensorFlow SavedModel: .*tf2onnx"),
    "ONNX Runtime": (b"\x1c\0\0\0ORTM", "ONNX Runtime's own format"),
    "OpenVINO": (b'<?xml version="1.0"?>\n<net name="Model0" version="11">', "OpenVINO's own format"),
    "safetensors": (b'\x40\0\0\0\0\0\0\0{"weight":{"dtype":"F32"', "a safetensors file, which has weights alone"),
    "npz": (archive({"weight.npy": b""}), "an archive of NumPy arrays"),
    "npy": (npy(), "a NumPy array"),
    "gzip": (b"\x1f\x8b\x08\0", "compressed with gzip: unpack it"),
    "bzip2": (b"BZh91AY", "compressed with bzip2: unpack it"),
    "xz": (b"\xfd7zXZ\0", "compressed with xz: unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd\x24", "compressed with zstd: unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    "tar": (tar(), "a tar archive: unpack it"),
    "ZIP": (archive({"model.onnx": b""}), "a ZIP archive: unpack it"),
    "half a ZIP": (archive({"data.pkl": b""})[:40], "a ZIP archive that is cut short"),
    "half a field": (b"\x08\x08\x12\x07pytor", "one that is cut short: copy or download it again"),
    "half a number": (b"\x08\x80", "one that is cut short or damaged: copy or download it again"),
    "an endless length": (b"\x12" + 9 * b"\xff" + b"\x01", "one that is cut short"),
    "anything": (bytes(range(256)), "one that is cut short or damaged"),
    "a text": (("404: Not Found \u00e9" + 600 * "\u20ac").encode(), r"a text that begins with '404: Not Found"),
}


@pytest.mark.parametrize(("data", "words"), NO_NETWORKS.values(), ids=NO_NETWORKS)
def test_what_is_no_network_is_named_with_what_to_do(manifest: ModelManifest, data: bytes, words: str) -> None:
    manifest.network_path.write_bytes(data)
    with pytest.raises(ModelError, match=rf"model\.onnx: not an ONNX network but {words}"):
        Classifier.load(manifest)


@pytest.mark.parametrize("data", [b"\x08\x08\x12\x07pytorch", b"\x3a\x02\x0a\x00", b"\x08\x80\x01"])
def test_what_may_be_a_network_is_left_to_the_engine(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    assert files.instead_of_network(tmp_path / "model.onnx") is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, r"not found; model\.onnx has its weights in a file of this name: copy the file that was exported"),
        (b"", "not the network's weights but empty"),
        (LFS_POINTER, "not the network's weights but a Git LFS pointer"),
        (WEB_PAGE, "not the network's weights but a web page"),
    ],
)
def test_weights_that_are_missing_or_something_else_are_named(
    manifest: ModelManifest, data: bytes | None, words: str
) -> None:
    save_network(manifest.network_path, ("N", 3, 24, 32))
    weights = move_weights(manifest.network_path, "model.onnx.data")
    Classifier.load(manifest)
    weights.unlink()
    if data is not None:
        weights.write_bytes(data)
    with pytest.raises(ModelError, match=rf"model\.onnx\.data: {words}"):
        Classifier.load(manifest)


def test_weights_under_another_name_are_named_by_both(manifest: ModelManifest) -> None:
    save_network(manifest.network_path, ("N", 3, 24, 32))
    move_weights(manifest.network_path, "resnet.onnx.data").rename(manifest.folder / "model.onnx.data")
    with pytest.raises(ModelError, match=r"resnet\.onnx\.data: not found; .*what model\.onnx\.data has, give it that"):
        Classifier.load(manifest)


def test_weights_cut_short_are_named(manifest: ModelManifest) -> None:
    save_network(manifest.network_path, ("N", 3, 24, 32))
    weights = move_weights(manifest.network_path, "weights.bin")
    weights.write_bytes(weights.read_bytes()[:10])
    with pytest.raises(ModelError, match=r"are weights\.bin whole, and of the same export\?"):
        Classifier.load(manifest)


@pytest.mark.parametrize("name", ["w", "w" * 127, "w" * 128, "w" * 200, "gewichte-\u00e4\u00f6.bin"])
def test_the_files_of_a_network_are_found_by_the_names_in_it(manifest: ModelManifest, name: str) -> None:
    save_network(manifest.network_path, ("N", 3, 24, 32))
    assert manifest.network_files() == (manifest.network_path,)
    weights = move_weights(manifest.network_path, name)
    assert manifest.network_files() == (manifest.network_path, weights)


@pytest.mark.parametrize("name", ["../weights", "/weights"])
def test_weights_outside_the_folder_are_refused(manifest: ModelManifest, name: str) -> None:
    save_network(manifest.network_path, ("N", 3, 24, 32))
    move_weights(manifest.network_path, "x" * len(name))
    network = manifest.network_path.read_bytes()
    manifest.network_path.write_bytes(network.replace(b"x" * len(name), name.encode()))
    with pytest.raises(ModelError, match=rf"its weights are in '{name}', which is not in its folder"):
        Classifier.load(manifest)


@pytest.mark.parametrize("file", ["model.toml", "labels.txt"])
def test_a_text_that_is_a_pointer_or_a_page_is_named(manifest: ModelManifest, file: str) -> None:
    manifest.write(manifest.folder)
    for data, words in ((LFS_POINTER, "is a Git LFS pointer"), (WEB_PAGE, "is a web page")):
        (manifest.folder / file).write_bytes(data)
        with pytest.raises(ModelError, match=f"{file}: {words}"):
            ModelManifest.load(manifest.folder)
