"""Where uploaded bytes live between the services."""

import os
import tempfile
from pathlib import Path
from typing import Protocol

from jobs.errors import RETRY_AFTER_S, StorageUnavailable


class ImageStore(Protocol):
    """Holds images by name; a name is made of the content's hash, so the same name always means the same bytes."""

    def put(self, name: str, data: bytes) -> None:
        """Store an image; any number of callers may store the same one at once. Raises `StorageUnavailable`."""

    def get(self, name: str) -> bytes:
        """Return an image's bytes. Raises `FileNotFoundError` where there is none of this name."""


class FolderImageStore:
    """Images as files of one folder, which is made at the first upload."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, data: bytes) -> None:
        """Store an image under its name."""
        path = self.folder / name
        if path.exists():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(path, data)
        except OSError as err:  # the disk is full, or the folder is not ours to write
            raise StorageUnavailable(retry_after_s=RETRY_AFTER_S) from err

    def _write(self, path: Path, data: bytes) -> None:
        """Write a temporary file and rename it, so that nobody ever sees half an image under its name."""
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".upload-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(temporary).chmod(0o644)  # the workers may run as another user; mkstemp gives 0600
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def get(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self.folder / name).read_bytes()
