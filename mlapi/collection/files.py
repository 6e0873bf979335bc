"""Reads the files of a collection, which may be anything, or gone."""

import stat
from pathlib import Path

from jobs.errors import ServiceError, TooManyBytes


class CannotRead(ServiceError):
    """The file is gone, or not ours to read, or no file."""

    code = "cannot-read"


class Files:
    """Images by their paths."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def get(self, name: str) -> bytes:
        """Return a file's bytes. Raises `CannotRead` or `TooManyBytes`."""
        try:
            status = Path(name).stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
                raise CannotRead("It is a folder that cannot be listed, or no file.")
            if status.st_size > self._max_bytes:
                raise TooManyBytes(f"The file has {status.st_size} bytes; at most {self._max_bytes} are read.")
            return Path(name).read_bytes()
        except OSError as err:
            raise CannotRead(f"It cannot be read: {err.strerror}.") from err
