"""The plain text file of reports of wrong predictions, one per line, and their images."""

import errno
import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from uuid import uuid4

from api.utils import MEDIA_TYPES
from jobs.storage.images import FolderImageStore, ImageStore
from runtime import locks
from runtime.errors import NoSuchReport, ReportTooLarge, StorageUnavailable

log = logging.getLogger(__name__)

# Reports and their images are never deleted, so they leave this much of the disk free.
MIN_FREE_BYTES = 1_000_000_000
# A report to be withdrawn is searched for in this much of the file's end, which holds thousands.
_LATEST_BYTES = 1_000_000
# Other reports on its image are searched for, in 5 ms, in this much of the file's end, which holds tens of thousands.
_SEARCHED_BYTES, _PIECE_BYTES = 16_000_000, 1_000_000
_REPORT_ID = re.compile(r"[0-9a-f]{32}")
_IMAGE_HASH = re.compile(r"[0-9a-f]{64}")


class FeedbackFile:
    """Appends reports to the file at `path`, and keeps images beside it; several processes may do so at once."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self.images = FolderImageStore(path.parent / "images")

    def append(self, report: str) -> None:
        """Add a report as one line, on disk when this returns. Raises `ReportTooLarge` or `StorageUnavailable`.

        Line breaks are replaced by spaces; in a JSON object, they occur only where a space is allowed.
        """
        self.check_size(report)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.path.parent).free < MIN_FREE_BYTES:
                raise _no_space()
            self._write(_line(report) + b"\n")
        except OSError as err:
            raise StorageUnavailable("The report cannot be kept at the moment. Try again shortly.") from err

    def check_size(self, text: str) -> None:
        """Raise `ReportTooLarge` if a report with this text is too large."""
        size = len(_line(text))
        if size > self._max_bytes:
            raise ReportTooLarge(f"The report has {size} bytes; at most {self._max_bytes} are accepted.")

    def append_with_id(self, report: dict[str, object]) -> str:
        """Append a report as a JSON object, and return the id with which it can be withdrawn."""
        report_id = uuid4().hex
        self.append(json.dumps({**report, "id": report_id}))
        return report_id

    def take_back(self, report_id: str) -> str:
        """Remove and return the report with this id, if it is among the latest.

        Raises `NoSuchReport` or `StorageUnavailable`.

        Removing the line keeps the file simple to read: every line is a report that stands.
        """
        if not _REPORT_ID.fullmatch(report_id):
            raise NoSuchReport
        try:
            with self.path.open("r+b", buffering=0) as file, locks.exclusive(file):
                return _cut_out(file, f'"id": "{report_id}"}}\n'.encode()).decode()
        except FileNotFoundError as err:
            raise NoSuchReport from err
        except OSError as err:
            raise StorageUnavailable("The report cannot be taken back at the moment. Try again shortly.") from err

    def kept_name(self, image_hash: str) -> str | None:
        """Return the name under which a report's image is kept, or None."""
        return next(self._kept_names(image_hash), None)

    def _kept_names(self, image_hash: str) -> Iterator[str]:
        if _IMAGE_HASH.fullmatch(image_hash):
            names = (f"{image_hash}{ending}" for ending in MEDIA_TYPES)
            yield from (name for name in names if (self.images.folder / name).is_file())

    def _write(self, line: bytes) -> None:
        """Write a whole line or, if the disk is full, nothing: a partial line would corrupt the next."""
        with self.path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) < len(line):
                    raise _no_space()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise

    def keep_image(self, name: str, uploads: ImageStore) -> None:
        """Copy a report's image, since uploads expire; if that fails, the report stands without it."""
        try:
            self.images.put(name, uploads.get(name))
        except (FileNotFoundError, StorageUnavailable) as err:
            log.warning("a reported image is not kept: %s", err, extra={"image": name})

    def drop_image(self, image_hash: str, records: Path) -> None:
        """Remove the image of a withdrawn report, unless another report or a line of `records` has its hash.

        If a file is too long to be searched whole, the image stays. It also stays if a report arrives meanwhile, which
        stores the image again, later than the file's modification time read here.
        """
        try:
            stored_before = self.path.stat().st_mtime
            if not (_mentions(self.path, image_hash) or _mentions(records, image_hash)):
                for name in self._kept_names(image_hash):
                    self.images.remove(name, stored_before)
        except OSError as err:
            log.warning("the image of a report that was taken back stays: %s", err, extra={"image": image_hash})


def _line(report: str) -> bytes:
    return " ".join(report.splitlines()).encode()


def _no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _mentions(file: Path, text: str) -> bool:
    """Return whether a file contains a text or, if it is too long to search, may contain it."""
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - _SEARCHED_BYTES))
            return _has(opened, text.encode()) or size > _SEARCHED_BYTES
    except FileNotFoundError:
        return False


def _has(file: IO[bytes], text: bytes) -> bool:
    """Return whether the rest of a file contains a text, which may span two pieces."""
    end = b""
    while piece := file.read(_PIECE_BYTES):
        if text in end + piece:
            return True
        end = piece[-len(text) :]
    return False


def _cut_out(file: IO[bytes], end: bytes) -> bytes:
    """Remove and return the line with this ending, and move later lines up. Raises `NoSuchReport`."""
    start = max(0, file.seek(0, os.SEEK_END) - _LATEST_BYTES)
    file.seek(start)
    latest = file.read()
    line_end = latest.find(end) + len(end)
    line_start = latest.rfind(b"\n", 0, line_end - len(end)) + 1
    begins_whole = start == 0 or line_start > 0  # else it may be a partial line
    if line_end < len(end) or not begins_whole:
        raise NoSuchReport
    later = latest[line_end:]
    file.seek(start + line_start)
    if file.write(later) < len(later):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    file.truncate()
    os.fsync(file.fileno())
    return latest[line_start:line_end]
