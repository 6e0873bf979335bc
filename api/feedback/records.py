"""Feedback on predictions of `/v1`, as JSON Lines: one object a line, beside the plain text file of `/feedback`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from api.feedback.file import FeedbackFile
from runtime.errors import StorageUnavailable

Record = dict[str, Any]

# What a record has besides what its sender wrote is far less than this, and that is bounded before.
_MAX_BYTES = 64 * 1024
# Of a file in which nearly nothing is looked for, a page reads so much.
_MAX_SCAN_BYTES = 4_000_000


class FeedbackRecords:
    """Appends records to the file at `path`, and reads them page by page; several processes may do so at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = FeedbackFile(path, _MAX_BYTES)

    def append(self, record: Record) -> None:
        """Add a record, on disk when this returns. Raises `StorageUnavailable`."""
        self._file.append(json.dumps(record))

    def page(self, wanted: Mapping[str, object], cursor: int, limit: int) -> tuple[list[Record], int | None]:
        """Return up to `limit` records whose fields are as `wanted`, from `cursor` on, and the cursor to go on from.

        The oldest come first. A cursor is a place in the file; there is none after the last record, and a page may be
        short before that.
        """
        found: list[Record] = []
        try:
            with self._path.open("rb") as file:
                # Not all file systems can go to a place far beyond the end.
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
    """Return a record, or None where the cursor was not the beginning of one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
