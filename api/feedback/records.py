"""Feedback on predictions of `/v1`, as JSON Lines, beside the plain text file of `/feedback`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from api.feedback.file import FeedbackFile
from runtime.errors import StorageUnavailable

Record = dict[str, Any]

# A record's other fields take far less than this, and what its sender wrote is limited before.
_MAX_BYTES = 64 * 1024
# The most that a page reads of a file in which few records match.
_MAX_SCAN_BYTES = 4_000_000


class FeedbackRecords:
    """Appends records to the file at `path`, and reads them in pages; safe for several processes at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = FeedbackFile(path, _MAX_BYTES)

    def append(self, record: Record) -> None:
        """Add a record, on disk when this returns. Raises `StorageUnavailable`."""
        self._file.append(json.dumps(record))

    def page(self, wanted: Mapping[str, object], cursor: int, limit: int) -> tuple[list[Record], int | None]:
        """Return up to `limit` records that match `wanted`, from `cursor` on, and the next cursor.

        The oldest come first. A cursor is an offset in the file; it is None after the last record. A page may be short
        before that.
        """
        found: list[Record] = []
        try:
            with self._path.open("rb") as file:
                # Not all file systems can seek far beyond the end.
                file.seek(min(cursor, self._path.stat().st_size))
                while len(found) < limit and file.tell() - cursor < _MAX_SCAN_BYTES:
                    line = file.readline(_MAX_BYTES)
                    if not line.endswith(b"\n") and len(line) < _MAX_BYTES:  # the end, or a record being written
                        return found, None
                    record = _parse(line)
                    if record is not None and record.items() >= wanted.items():
                        found.append(record)
                return found, file.tell()
        except FileNotFoundError:
            return [], None
        except OSError as err:
            raise StorageUnavailable("Feedback cannot be read at the moment. Try again shortly.") from err


def _parse(line: bytes) -> Record | None:
    """Return a record, or None if the cursor was not at the beginning of one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
