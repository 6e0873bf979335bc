"""Reads PyTorch's old (non-zip) checkpoint files without PyTorch, and accepts only tensors.

The layout, as `torch.save` wrote it before version 1.6: five pickles (a magic number, the protocol's version, facts
about the machine, the object itself, the keys of its storages), then every storage: its length as a 64-bit integer, and
its values.
"""

import hashlib
import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import numpy as np
import numpy.typing as npt

from model.zoo.errors import CheckpointError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
STORAGE_DTYPES: dict[str, np.dtype[Any]] = {
    "HalfStorage": np.dtype("<f2"),
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
}
# Exceptions of a damaged pickle: the documentation of `pickle` gives these as examples and promises no complete list.
UNPICKLING_ERRORS = (
    pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, ImportError, LookupError, MemoryError,
    TypeError, ValueError,
)  # fmt: skip

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Storage:
    """A flat run of values, shared by the tensors that view it; the values follow the pickles in the file."""

    dtype: np.dtype[Any]
    key: str
    length: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor before its values are read: the position of its elements in its storage, in elements."""

    storage: Storage
    offset: int
    shape: Shape
    strides: Shape

    @classmethod
    def rebuild(cls, storage: Storage, offset: int, shape: Shape, strides: Shape, *_: object) -> "TensorView":
        """Replace `torch._utils._rebuild_tensor_v2`; the ignored arguments matter only to training."""
        return cls(storage, offset, shape, strides)

    def read(self, storages: Mapping[str, Array]) -> Array:
        """Return the tensor's values as a new array, in C order."""
        values = storages[self.storage.key]
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        smallest = min(self.offset, *self.shape, *self.strides, 0)
        if smallest < 0 or last >= len(values) or math.prod(self.shape) > len(values):
            _refuse("a tensor reaches beyond its storage")
        strides_bytes = [stride * values.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides_bytes, writeable=False)
        return np.array(view, order="C")


ADMITTED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): TensorView.rebuild,
    **{("torch", name): name for name in STORAGE_DTYPES},
}


class TensorUnpickler(pickle.Unpickler):
    """An unpickler that accepts the few names that a dictionary of tensors needs, and refuses all others."""

    def find_class(self, module: str, name: str) -> object:
        """Return our replacement for `module.name`; nothing is ever imported."""
        if (module, name) not in ADMITTED:
            raise CheckpointError(f"the checkpoint asks for {module}.{name}, which is no tensor; do not use this file")
        return ADMITTED[module, name]

    def persistent_load(self, pid: tuple[str, str, str, str, int, None]) -> Storage:
        """Return the storage that a tensor refers to: ("storage", kind, key, device, length, None)."""
        _, kind, key, _, length, _ = pid
        return Storage(STORAGE_DTYPES[kind], key, length)


def verified_bytes(path: Path, sha256: str) -> bytes:
    """Return the content of `path`, which must have this SHA-256 (in hex)."""
    try:
        data = path.read_bytes()
    except OSError as err:
        raise CheckpointError(f"cannot read the checkpoint {path}: {err.strerror}") from err
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise CheckpointError(f"{path} is not the expected file: its SHA-256 is {found}, not {sha256}; fetch it anew")
    return data


def read_checkpoint(data: bytes) -> dict[str, Array]:
    """Return the tensors of a checkpoint by name, each in its own dtype and in C order.

    Verify the source of `data` first (`verified_bytes`): no pickle can run code here, but a malicious one can ask for
    more memory than there is.
    """
    try:
        return _read(io.BytesIO(data))
    except UNPICKLING_ERRORS as err:
        raise CheckpointError(f"the checkpoint is damaged: {err}") from err


def _read(file: io.BytesIO) -> dict[str, Array]:
    if _unpickle(file) != MAGIC_NUMBER or _unpickle(file) != PROTOCOL_VERSION:
        _refuse("it is not in PyTorch's old format")
    _unpickle(file)
    views, keys = _unpickle(file), _unpickle(file)
    if not _is_state_dict(views) or not isinstance(keys, list):
        _refuse("it is not a dictionary of tensors")
    declared = {view.storage.key: view.storage for view in views.values()}
    storages = {key: _read_storage(file, declared[key]) for key in keys}
    return {name: view.read(storages) for name, view in views.items()}


def _is_state_dict(found: object) -> TypeGuard[dict[str, TensorView]]:
    return isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(view, TensorView) for name, view in found.items()
    )


def _unpickle(file: io.BytesIO) -> object:
    return TensorUnpickler(file).load()


def _read_storage(file: io.BytesIO, storage: Storage) -> Array:
    length = int.from_bytes(file.read(8), "little")
    values = file.read(length * storage.dtype.itemsize)
    if length != storage.length or len(values) != length * storage.dtype.itemsize:
        _refuse("a storage is cut short")
    return np.frombuffer(values, storage.dtype)


def _refuse(reason: str) -> NoReturn:
    raise CheckpointError(f"the checkpoint cannot be read: {reason}")
