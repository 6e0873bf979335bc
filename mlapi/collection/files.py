"""Reads the files of a collection, which may not be regular files, or be gone."""

import os
import stat

from jobs.storage.images import ImageSource
from runtime.errors import ServiceError, TooManyBytes

# Four channels of 16 bits: a picture within the pixel limit has no larger file.
MOST_BYTES_OF_PIXEL = 8


class CannotRead(ServiceError):
    """The file is gone, not readable, or not a regular file."""

    code = "cannot-read"


class Files(ImageSource):
    """Images by their paths."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def get(self, name: str) -> bytes:
        """Return a file's bytes. Raises `CannotRead` or `TooManyBytes`."""
        try:
            with open(name, "rb", buffering=0, opener=_without_waiting) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise CannotRead("It is no file.")
                if status.st_size > self._max_bytes:
                    raise TooManyBytes(f"The file has {status.st_size} bytes; at most {self._max_bytes} are read.")
                return file.readall()
        except OSError as err:
            raise CannotRead(f"It cannot be read: {err.strerror}.") from err


def _without_waiting(path: str, flags: int) -> int:
    """Open a file without blocking, even if it is a pipe without a writer."""
    return os.open(path, flags | os.O_NONBLOCK)
