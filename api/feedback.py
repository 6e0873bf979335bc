"""The plain text file of reports about wrong predictions, one a line."""

import fcntl
import os
from pathlib import Path

from jobs.errors import TooLarge


class FeedbackFile:
    """Appends reports to the file at `path`; several processes may do so at once."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes

    def append(self, report: str) -> None:
        """Add a report as one line, on disk when this returns. Raises `TooLarge`.

        What would end the line is replaced by a space; in a JSON object, line breaks stand only where a space may.
        """
        line = " ".join(report.splitlines()).encode()
        if len(line) > self._max_bytes:
            raise TooLarge(f"The report has {len(line)} bytes; at most {self._max_bytes} are accepted.")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
