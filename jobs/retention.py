"""Keeps uploads from filling the disk: old ones go, and of too many the oldest."""

import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate

from jobs import locks
from jobs.images import TEMPORARY_PREFIX, FolderImageStore

log = logging.getLogger(__name__)

# A service at full load stores about half a gigabyte between two sweeps.
EVERY_S = 60.0

# Images, and what a process that was killed while it stored one left behind. All else in the folder is not ours.
_UPLOAD = re.compile(rf"[0-9a-f]{{64}}\.[a-z]+|{re.escape(TEMPORARY_PREFIX)}.+")
_LOCK_FILE = ".sweep"


@dataclass(frozen=True, slots=True)
class Swept:
    """How many uploads a sweep removed, and how many bytes of disk the others take."""

    removed: int
    kept_bytes: int


class UploadSweeper:
    """Removes uploads not stored again for `max_age_s`, and the oldest where all take more than `max_bytes` of disk.

    One stored within the last `needed_s` stays in any case: a job for it may still wait.
    """

    def __init__(self, images: FolderImageStore, *, max_age_s: float, max_bytes: int, needed_s: float) -> None:
        self._images = images
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._needed_s = needed_s

    def run(self, stopped: threading.Event) -> None:
        """Sweep every `EVERY_S` until `stopped` is set."""
        while not stopped.is_set():
            try:
                self.sweep()
            except OSError as err:
                log.warning("the uploads cannot be swept: %s", err)
            stopped.wait(EVERY_S)

    def sweep(self) -> Swept | None:
        """Remove what has to go; None where nothing was uploaded yet, or another process is sweeping."""
        try:
            with (self._images.folder / _LOCK_FILE).open("ab") as file, locks.exclusive(file, wait=False):
                return self._sweep()
        except (FileNotFoundError, BlockingIOError):
            return None

    def _sweep(self) -> Swept:
        """Look first and remove then, so that memory does not grow with the number of uploads."""
        now = time.time()
        bytes_by_second: Counter[int] = Counter()
        for _, stored_at, size in self._uploads():
            bytes_by_second[int(stored_at)] += size
        stored_before = min(self._oldest_to_keep(bytes_by_second, now), now - self._needed_s)
        removed = self._remove_old(stored_before) if min(bytes_by_second, default=now) < stored_before else []
        swept = Swept(len(removed), bytes_by_second.total() - sum(removed))
        self._report(swept)
        return swept

    def _uploads(self) -> Iterator[tuple[str, float, int]]:
        """Yield each upload's name, the time it was last stored, and the bytes of disk that it takes."""
        with os.scandir(self._images.folder) as entries:
            for entry in entries:
                if _UPLOAD.fullmatch(entry.name):
                    with suppress(FileNotFoundError):  # a temporary file has its image's name by now
                        status = entry.stat()
                        yield entry.name, status.st_mtime, 512 * status.st_blocks

    def _oldest_to_keep(self, bytes_by_second: Counter[int], now: float) -> float:
        """Return the time before which uploads are too old, or too much beside all newer ones."""
        newest_first = sorted(bytes_by_second, reverse=True)
        totals = accumulate(bytes_by_second[second] for second in newest_first)
        too_much = (second for second, total in zip(newest_first, totals, strict=True) if total > self._max_bytes)
        return max(now - self._max_age_s, next(too_much, -1) + 1)

    def _remove_old(self, stored_before: float) -> list[int]:
        """Return how many bytes of disk each upload took that was removed."""
        old = ((name, size) for name, stored_at, size in self._uploads() if stored_at < stored_before)
        return [size for name, size in old if self._remove(name, stored_before)]

    def _remove(self, name: str, stored_before: float) -> bool:
        try:
            return self._images.remove(name, stored_before)
        except OSError as err:  # it is not ours to remove, or was removed by hand
            log.debug("upload cannot be removed: %s", err, extra={"image": name})
            return False

    def _report(self, swept: Swept) -> None:
        if swept.removed:
            log.info("old uploads removed", extra={"count": swept.removed, "kept_bytes": swept.kept_bytes})
        if swept.kept_bytes > self._max_bytes:
            log.warning("uploads take more than UPLOAD_MAX_BYTES", extra={"kept_bytes": swept.kept_bytes})
