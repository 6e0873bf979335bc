"""Stores for uploaded images, shared by the services."""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import uuid4

from runtime import locks
from runtime.errors import StorageUnavailable

# The form of an image's name.
IMAGE_NAME = re.compile(r"[0-9a-f]{64}\.[a-z]+")


class ImageSource(Protocol):
    """Reads images by name."""

    def get(self, name: str) -> bytes:
        """Return an image's bytes.

        Raises `FileNotFoundError` if there is none with this name, `StorageUnavailable` if the store does not answer.
        """

    def fetch(self, names: Sequence[str]) -> Sequence[Callable[[], bytes]]:
        """Return for every image a function that gets it as `get` does; remote images are already being fetched.

        By default, images are read only when asked for, so that memory holds one at a time.
        """
        return [partial(self.get, name) for name in names]


class ImageStore(ImageSource, Protocol):
    """Stores images by name; a name is made from the content's hash, so the same name always means the same bytes."""

    def put(self, name: str, data: bytes) -> None:
        """Store an image; if it is stored already, it counts as new again.

        Any number of callers may store the same image at once. Raises `StorageUnavailable`.
        """


# The prefix of a file's name until all of it is written.
TEMPORARY_PREFIX = ".upload-"


class FolderImageStore(ImageStore):
    """Images as files in one folder, created at the first upload; a file's mtime is when it was last stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, data: bytes) -> None:
        """Store an image under its name."""
        try:
            if not _renew(self.folder / name, len(data)):
                self._write(name, data)
        except OSError as err:  # the disk is full, or the folder is not writable
            raise StorageUnavailable from err

    def _write(self, name: str, data: bytes) -> None:
        """Write a temporary file and rename it, so that no reader ever sees half an image under its name."""
        temporary = self.folder / f"{TEMPORARY_PREFIX}{uuid4().hex}"
        try:
            with self._new_file(temporary) as file:
                os.fchmod(file.fileno(), 0o644)  # whatever the umask is: the workers may run as another user
                file.write(data)
            temporary.replace(self.folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _new_file(self, path: Path) -> BinaryIO:
        """Open a new file in the folder, which is created if it does not exist."""
        try:
            return path.open("xb")
        except FileNotFoundError:
            self.folder.mkdir(parents=True, exist_ok=True)
            return path.open("xb")

    def get(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self.folder / name).read_bytes()

    def remove(self, name: str, stored_before: float) -> bool:
        """Remove an image unless it was stored again since `stored_before` (Unix time); return whether it is gone."""
        path = self.folder / name
        with path.open("r+b") as file, locks.exclusive(file):
            if os.fstat(file.fileno()).st_mtime >= stored_before:
                return False
            path.unlink()
            return True


def _renew(path: Path, size: int) -> bool:
    """Set a stored image's time to now; return whether the whole image is there.

    The lock prevents its removal by a process that has just read its old time.
    """
    try:
        with path.open("rb") as file, locks.shared(file):
            os.utime(file.fileno())
            found = os.fstat(file.fileno())
            # No link is left if the file was removed while we waited for the lock. After a loss of power, an image that
            # was just being written may be shorter than the upload.
            return found.st_nlink > 0 and found.st_size == size
    except OSError:  # it is missing, another user's, or on a disk without locks: write it anew
        return False
