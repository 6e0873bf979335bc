"""The plain text file of reports about wrong predictions, one a line, and the images that they are about."""

import errno
import fcntl
import logging
import os
import shutil
from pathlib import Path

from jobs.errors import ReportTooLarge, StorageUnavailable
from jobs.images import FolderImageStore, ImageStore

log = logging.getLogger(__name__)

# Reported images are never removed, so they leave the rest of the disk to everybody else.
_MIN_FREE_BYTES = 1_000_000_000


class FeedbackFile:
    """Appends reports to the file at `path`, and keeps images beside it; several processes may do so at once."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._images = FolderImageStore(path.parent / "images")

    def append(self, report: str) -> None:
        """Add a report as one line, on disk when this returns. Raises `ReportTooLarge` or `StorageUnavailable`.

        What would end the line is replaced by a space; in a JSON object, line breaks stand only where a space may.
        """
        line = " ".join(report.splitlines()).encode()
        if len(line) > self._max_bytes:
            raise ReportTooLarge(f"The report has {len(line)} bytes; at most {self._max_bytes} are accepted.")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write(line + b"\n")
        except OSError as err:
            raise StorageUnavailable("The report cannot be kept at the moment. Try again shortly.") from err

    def _write(self, line: bytes) -> None:
        """Write all of a line or, where the disk is full, nothing: what is left of one would begin the next."""
        with self._path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise

    def keep_image(self, name: str, uploads: ImageStore) -> None:
        """Copy the image of a report, since uploads are removed in time; one that is gone, or does not fit, is not."""
        if shutil.disk_usage(self._path.parent).free < _MIN_FREE_BYTES:
            log.warning("the disk is nearly full: a reported image is not kept", extra={"image": name})
            return
        try:
            self._images.put(name, uploads.get(name))
        except (FileNotFoundError, StorageUnavailable) as err:
            log.warning("a reported image is not kept: %s", err, extra={"image": name})
