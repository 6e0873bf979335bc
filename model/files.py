"""Identifies files that are in a model folder in place of an ONNX network, its weights, or a text."""

import re
import zipfile
from codecs import getincrementaldecoder
from io import SEEK_CUR, BufferedReader
from pathlib import Path

_HEAD_BYTES = 1024
_BYTES_OF_KIND = {1: 8, 5: 4}
_TORCH = "export the network from PyTorch with torch.onnx.export"
_KERAS = 'export the network from Keras with model.export(path, format="onnx")'
_TENSORFLOW = "convert it with tf2onnx"
_UNPACK = "unpack it"
_COPY = "copy or download it again"

# Files that are no model data at all, whatever was expected.
_NO_FILE = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the file that it stands for: run `git lfs pull`"),
    (rb"\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body)\b", "a web page: download the file itself, not its page"),
)
_SIGNATURES = (
    *_NO_FILE,
    (rb"\x80[\x02-\x05]", f"a Python pickle, as PyTorch's checkpoints were: {_TORCH}"),
    (rb"\x89HDF\r\n", f"an HDF5 file, as Keras's .h5: {_KERAS}"),
    (rb"....TFL3", "a TensorFlow Lite network: convert it with `python -m tf2onnx.convert --tflite`"),
    (rb"....ORTM", "ONNX Runtime's own format: take the .onnx file that it was made of"),
    (rb"\x08\x01\x12", f"a TensorFlow SavedModel: {_TENSORFLOW}"),
    (rb".{8}\s*\{\s*\"", f"a safetensors file, which has weights alone: load them, and {_TORCH}"),
    (rb"\s*<\?xml.*<net\b", "OpenVINO's own format: take the .onnx file that it was made of"),
    (rb"\x93NUMPY", "a NumPy array: export the network as ONNX"),
    (rb"\x1f\x8b", f"compressed with gzip: {_UNPACK}"),
    (rb"BZh\d", f"compressed with bzip2: {_UNPACK}"),
    (rb"\xfd7zXZ", f"compressed with xz: {_UNPACK}"),
    (rb"\x28\xb5\x2f\xfd", f"compressed with zstd: {_UNPACK}"),
    (rb"7z\xbc\xaf", f"a 7z archive: {_UNPACK}"),
    (rb".{257}ustar", f"a tar archive: {_UNPACK}"),
)
_IN_ARCHIVES = (
    (r"(.*/)?constants\.pkl$", f"a TorchScript network: {_TORCH}"),
    (r"(.*/)?data\.pkl$", f"a PyTorch checkpoint: {_TORCH}"),
    (r"model\.weights\.h5$|config\.json$", f"a Keras network: {_KERAS}"),
    (r".*\.npy$", "an archive of NumPy arrays: export the network as ONNX"),
)


def instead_of_network(file: Path) -> str | None:
    """Describe a file that is not an ONNX network, with advice; None if it may be one. Raises `OSError`."""
    head = _head(file)
    if head.startswith(b"PK\x03\x04"):
        return _archive(file)
    return _empty(head) or _known(head, _SIGNATURES) or _text(head) or _cut_short(file)


def instead_of_data(file: Path) -> str | None:
    """Describe a file that can be neither weights nor a text, with advice, else None. Raises `OSError`."""
    head = _head(file)
    return _empty(head) or _known(head, _NO_FILE)


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_HEAD_BYTES)


def _empty(head: bytes) -> str | None:
    return None if head else f"empty: {_COPY}"


def _known(head: bytes, signatures: tuple[tuple[bytes, str], ...]) -> str | None:
    return next((what for pattern, what in signatures if re.match(pattern, head, re.DOTALL | re.IGNORECASE)), None)


def _archive(file: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return f"a ZIP archive that is cut short: {_COPY}"
    found = (what for pattern, what in _IN_ARCHIVES if any(re.match(pattern, name) for name in names))
    return next(found, f"a ZIP archive: {_UNPACK}")


def _text(head: bytes) -> str | None:
    try:
        text = getincrementaldecoder("utf-8")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return None
    if not all(character.isprintable() or character.isspace() for character in text):
        return None
    return f"a text that begins with {text.strip()[:40]!r}: {_COPY}"


def _cut_short(file: Path) -> str | None:
    """Describe a file that ends within a field: ONNX is one protobuf message. None if it ends after one."""
    with file.open("rb") as opened:
        try:
            while opened.peek(1):
                _skip_field(opened)
        except (ValueError, OverflowError):
            return f"one that is cut short or damaged: {_COPY}"
        return None if opened.tell() == file.stat().st_size else f"one that is cut short: {_COPY}"


def _skip_field(opened: BufferedReader) -> None:
    """Skip a protobuf field: a number and a type, then a number, 8 or 4 bytes, or a length and as many bytes.

    Raises `ValueError` if there is none.
    """
    kind = _varint(opened) & 7
    if kind == 0:
        _varint(opened)
    elif kind in _BYTES_OF_KIND:
        opened.seek(_BYTES_OF_KIND[kind], SEEK_CUR)
    elif kind == 2:
        opened.seek(_varint(opened), SEEK_CUR)
    else:
        raise ValueError(f"no protobuf has fields of type {kind}")


def _varint(opened: BufferedReader) -> int:
    """Read a number: seven bits per byte, lowest first; the top bit says whether more bytes follow."""
    number = 0
    for shift in range(0, 64, 7):
        [byte] = opened.read(1)
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number
    raise ValueError("the number has no end")
