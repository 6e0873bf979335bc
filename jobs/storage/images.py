"""Where uploaded bytes live between the services."""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import uuid4

from runtime import locks
from runtime.errors import StorageUnavailable

# What `ImageStore.put` is given as a name.
IMAGE_NAME = re.compile(r"[0-9a-f]{64}\.[a-z]+")


class ImageSource(Protocol):
    """Has images by name."""

    def get(self, name: str) -> bytes:
        """Return an image's bytes.

        Raises `FileNotFoundError` where there is none of this name, `StorageUnavailable` where nobody can tell.
        """

    def fetch(self, names: Sequence[str]) -> Sequence[Callable[[], bytes]]:
        """Return for each image a function that gets it as `get` does; those that come from far are on their way.

        Without anything to win by that, memory holds one image at a time.
        """
        return [partial(self.get, name) for name in names]


class ImageStore(ImageSource, Protocol):
    """Holds images by name; a name is made of the content's hash, so the same name always means the same bytes."""

    def put(self, name: str, data: bytes) -> None:
        """Store an image, which counts as new again where it is stored already.

        Any number of callers may store the same one at once. Raises `StorageUnavailable`.
        """


# What a file is called until all of it is written.
TEMPORARY_PREFIX = ".upload-"


class FolderImageStore(ImageStore):
    """Images as files of one folder, which is made at the first upload; a file's time is when it was last stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, data: bytes) -> None:
        """Store an image under its name."""
        try:
            if not _renew(self.folder / name, len(data)):
                self._write(name, data)
        except OSError as err:  # the disk is full, or the folder is not ours to write
            raise StorageUnavailable from err

    def _write(self, name: str, data: bytes) -> None:
        """Write a temporary file and rename it, so that nobody ever sees half an image under its name."""
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
        """Open a new file of the folder, which is made first where there is none."""
        try:
            return path.open("xb")
        except FileNotFoundError:
            self.folder.mkdir(parents=True, exist_ok=True)
            return path.open("xb")

    def get(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self.folder / name).read_bytes()

    def remove(self, name: str, stored_before: float) -> bool:
        """Remove an image, unless it was stored again since `stored_before` (a Unix time); tell whether it is gone."""
        path = self.folder / name
        with path.open("r+b") as file, locks.exclusive(file):
            if os.fstat(file.fileno()).st_mtime >= stored_before:
                return False
            path.unlink()
            return True


def _renew(path: Path, size: int) -> bool:
    """Set a stored image's time to now; tell whether it is there as a whole.

    The lock keeps it from being removed by somebody who has just seen its old time.
    """
    try:
        with path.open("rb") as file, locks.shared(file):
            os.utime(file.fileno())
            found = os.fstat(file.fileno())
            # No link is left where it was removed while we waited for the lock; of an image written just before a loss
            # of power, less may be left than was sent.
            return found.st_nlink > 0 and found.st_size == size
    except OSError:  # there is none; or it is another user's, or its disk has no locks, and can be written anew
        return False
