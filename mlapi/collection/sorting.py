"""Copies images into a folder for each class."""

import filecmp
import hashlib
import re
import shutil
from pathlib import Path

from runtime.errors import SetupError

# Characters that some system does not allow in a name.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_LONGEST_NAME_BYTES = 100
_HASH_LENGTH = 8


def folder_name(label: str) -> str:
    """Return the folder name of a class: its label, if that is a valid name.

    Otherwise the label is changed and ends in its hash, so that two classes never share a folder.
    """
    name = _FORBIDDEN.sub("_", label).strip(". ").encode()[:_LONGEST_NAME_BYTES].decode(errors="ignore")
    return name if name == label and name else f"{name or 'class'}-{_hash(label.encode())}"


def copy(path: str, label: str, folder: Path, *, again: bool = False) -> Path:
    """Copy a file into the folder of its class, and return the copy. Raises `SetupError`.

    If another file has its name, the copy's name ends in a hash of the content. A file with the same content is taken
    as the copy, from an earlier run or of an identical file. With `again`, equal size and time are enough, so that the
    many copies of an earlier run need not be read.
    """
    source, target_folder = Path(path), folder / folder_name(label)
    try:
        target = target_folder / source.name
        if target.exists() and not filecmp.cmp(source, target, shallow=again):
            target = target.with_stem(f"{target.stem}-{_hash(source.read_bytes())}")
        if not target.exists():
            _copy_whole(source, target)
    except OSError as err:
        raise SetupError(f"{path} cannot be copied into {target_folder}: {err.strerror}") from err
    return target


def _copy_whole(source: Path, target: Path) -> None:
    """Copy a file atomically: its name never refers to a partial copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name[-_LONGEST_NAME_BYTES:]}.unfinished")
    try:
        shutil.copy2(source, unfinished)
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_HASH_LENGTH]
