"""A checkpoint is read exactly, and only tensors come out of it."""

import io
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest

from model.zoo.checkpoint import MAGIC_NUMBER, PROTOCOL_VERSION, read_checkpoint, verified_bytes
from model.zoo.efficientnet_lite0 import CHECKPOINT_SHA256, find_checkpoint
from model.zoo.errors import CheckpointError


class Named(ModuleType):
    """An object that pickles as a bare name, `module.name`, whether or not that can be imported here."""

    def __init__(self, module: str, name: str) -> None:
        super().__init__(module)
        self.__module__, self.__qualname__ = module, name
        setattr(self, name, self)

    def __call__(self) -> None:
        """Do nothing; only callables pickle as a call."""

    def __reduce__(self) -> str:
        return self.__qualname__


class Call:
    """An object that pickles as a call, which is made when the pickle is read."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


class Stored(tuple[object, ...]):
    """An object that pickles as PyTorch's reference to a storage."""


class Writer(pickle.Pickler):
    """Writes pickles as `torch.save` does."""

    def persistent_id(self, obj: object) -> object:
        """Return the reference as which a storage is pickled."""
        return tuple(obj) if isinstance(obj, Stored) else None


FLOATS = Named("torch", "FloatStorage")
REBUILD = Named("torch._utils", "_rebuild_tensor_v2")
LOAD = Named("torch.storage", "_load_from_bytes")


def pickled(obj: object) -> bytes:
    """Return the pickle of `obj`, PyTorch's modules replaced by our stand-ins while it is written."""
    file = io.BytesIO()
    stand_ins = {"torch": FLOATS, "torch._utils": REBUILD, "torch.storage": LOAD}
    with mock.patch.dict(sys.modules, stand_ins):
        Writer(file, 2).dump(obj)
    return file.getvalue()


def tensor(shape: tuple[object, ...], strides: tuple[int, ...], offset: int = 0, length: int = 6) -> Call:
    """Return an object that pickles as a view of the storage in `checkpoint`."""
    storage = Stored(("storage", FLOATS, "k", "cpu", length, None))
    hooks: OrderedDict[str, int] = OrderedDict()
    return Call(REBUILD, storage, offset, shape, strides, False, hooks)


def checkpoint(obj: object, length: int = 6) -> bytes:
    """Return a file that holds `obj` and one storage of 0.0, 1.0, 2.0 ..."""
    head = [pickled(part) for part in (MAGIC_NUMBER, PROTOCOL_VERSION, {"little_endian": True}, obj, ["k"])]
    return b"".join(head) + length.to_bytes(8, "little") + np.arange(length, dtype="<f4").tobytes()


def test_the_real_checkpoint_holds_its_tensors() -> None:
    tensors = read_checkpoint(verified_bytes(find_checkpoint(), CHECKPOINT_SHA256))
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].dtype == np.float32
    assert tensors["_bn0.num_batches_tracked"].dtype == np.int64
    assert all(values.flags.c_contiguous and np.isfinite(values).all() for values in tensors.values())


def test_strides_and_offsets_are_honoured() -> None:
    data = checkpoint({"plain": tensor((2, 3), (3, 1)), "turned": tensor((3, 2), (1, 3)), "last": tensor((), (), 5)})
    tensors = read_checkpoint(data)
    assert tensors["plain"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tensors["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert tensors["last"] == 5


@pytest.mark.parametrize(
    ("attack", "name"),  # the names as Python 2 spelt them, which this old kind of pickle still uses
    [
        (Call(os.system, "touch hacked"), "posix.system"),
        (Call(eval, "open('hacked', 'w')"), "__builtin__.eval"),
        (Call(getattr, "", "join"), "__builtin__.getattr"),
        (Call(LOAD, b""), "torch.storage._load_from_bytes"),
        (Call(np.load, "hacked"), "numpy.load"),
        (eval, "__builtin__.eval"),
        (OrderedDict.fromkeys, "__builtin__.getattr"),
        ({"weight": Call(subprocess.Popen, ["touch", "hacked"])}, "commands.Popen"),
    ],
)
def test_a_pickle_that_asks_for_anything_else_is_refused(
    attack: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for data in (checkpoint(attack), pickled(attack)):
        with pytest.raises(CheckpointError, match=f"asks for {name}, which is no tensor"):
            read_checkpoint(data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"PK\x03\x04 the newer, zipped format",
        pickled(MAGIC_NUMBER),
        pickled(1),
        checkpoint([1, 2]),
        checkpoint({"weight": "no tensor"}),
        checkpoint({"weight": Stored(("storage", FLOATS, "k", "cpu", 6, None))}),
        checkpoint({"weight": Call(REBUILD, 1, 2)}),
        checkpoint({"weight": tensor((2, 3), (3, 1), offset=1)}),
        checkpoint({"weight": tensor((2, 3), (3, 1), offset=-1)}),
        checkpoint({"weight": tensor((2, 3), (-3, 1), offset=3)}),
        checkpoint({"weight": tensor((10**30,), (1,))}),
        checkpoint({"weight": tensor((2**40,), (0,))}),
        checkpoint({"weight": tensor((2, 3), (3, 1), length=2**62)}, length=6),
        checkpoint({"weight": tensor((2, 3), (3, 1))}, length=5),
        checkpoint({"weight": tensor(("2",), (1,))}),
    ],
)
def test_a_damaged_checkpoint_is_refused(damaged: bytes) -> None:
    with pytest.raises(CheckpointError):
        read_checkpoint(damaged)


def test_a_checkpoint_cut_short_anywhere_is_refused() -> None:
    whole = checkpoint({"weight": tensor((2, 3), (3, 1))})
    assert read_checkpoint(whole)
    for length in range(len(whole)):
        with pytest.raises(CheckpointError):
            read_checkpoint(whole[:length])


def test_any_overwritten_byte_gives_tensors_or_a_clear_error() -> None:
    whole = checkpoint({"weight": tensor((2, 3), (3, 1))})
    for position in range(len(whole)):
        for value in b"\x00.b0}\xff":
            overwritten = whole[:position] + bytes([value]) + whole[position + 1 :]
            try:
                tensors = read_checkpoint(overwritten)
            except CheckpointError:
                continue
            assert all(isinstance(values, np.ndarray) for values in tensors.values())


def test_a_file_with_another_checksum_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(checkpoint({}))
    with pytest.raises(CheckpointError, match=r"not the expected file.*fetch it anew"):
        verified_bytes(path, CHECKPOINT_SHA256)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pth: No such file"):
        verified_bytes(tmp_path / "absent.pth", CHECKPOINT_SHA256)
