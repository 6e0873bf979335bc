"""Removes old uploads, and the oldest when they take too much space, so that disk or bucket do not fill up."""

import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, runtime_checkable

from jobs.schema import image_hash
from jobs.storage.images import IMAGE_NAME, TEMPORARY_PREFIX, FolderImageStore
from runtime import locks
from runtime.errors import QueueUnavailable, StorageUnavailable

log = logging.getLogger(__name__)

# A service at full load stores about half a gigabyte between two sweeps of a folder.
_FOLDER_EVERY_S = 60.0

# Images, and the temporary files of processes killed while storing. Nothing else in the folder is ours.
_UPLOAD = re.compile(rf"{IMAGE_NAME.pattern}|{re.escape(TEMPORARY_PREFIX)}.+")
_LOCK_FILE = ".sweep"


@dataclass(frozen=True, slots=True)
class Swept:
    """The number of uploads that a sweep removed, and the bytes of those that remain."""

    removed: int
    kept_bytes: int


@runtime_checkable
class Uploads(Protocol):
    """Stored uploads that can be swept. Every method raises `OSError` or `StorageUnavailable`."""

    @property
    def sweep_every_s(self) -> float:
        """The seconds between two sweeps."""

    def turn(self) -> AbstractContextManager[float | None]:
        """Let one process sweep at a time: the context is the Unix time, or None if it is not this one's turn."""

    def uploads(self) -> Iterator[tuple[float, int]]:
        """Yield for every upload when it was last stored (Unix time) and the bytes that it takes."""

    def remove_stored_before(self, stored_before: float, queued: Set[str] = frozenset()) -> list[int]:
        """Remove uploads that were last stored before a Unix time; return the bytes of each.

        Uploads whose hashes are `queued` stay.
        """


class UploadSweeper:
    """Removes uploads not stored again for `max_age_s`, and the oldest if all take more than `max_bytes`.

    Uploads stay in any case if their hashes are `queued`, since their jobs wait or are being processed, or if they were
    stored within the last `needed_s`, since a job for them may be about to be submitted.
    """

    def __init__(
        self,
        uploads: Uploads,
        queued: Callable[[], Set[str]],
        *,
        max_age_s: float,
        max_bytes: int,
        needed_s: float,
    ) -> None:
        self._uploads = uploads
        self._queued = queued
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._needed_s = needed_s

    def run(self, stopped: threading.Event) -> None:
        """Sweep repeatedly until `stopped` is set."""
        while not stopped.is_set():
            try:
                self.sweep()
            except (OSError, StorageUnavailable, QueueUnavailable) as err:
                log.warning("the uploads cannot be swept: %s", err)
            stopped.wait(self._uploads.sweep_every_s)

    def sweep(self) -> Swept | None:
        """Remove uploads as needed; return None if nothing was uploaded yet, or another process sweeps."""
        with self._uploads.turn() as now:
            return None if now is None else self._sweep(now)

    def _sweep(self, now: float) -> Swept:
        """List first, then remove, so that memory does not grow with the number of uploads."""
        bytes_by_second: Counter[int] = Counter()
        for stored_at, size in self._uploads.uploads():
            bytes_by_second[int(stored_at)] += size
        stored_before = min(self._oldest_to_keep(bytes_by_second, now), now - self._needed_s)
        is_old = min(bytes_by_second, default=now) < stored_before
        removed = self._uploads.remove_stored_before(stored_before, self._queued()) if is_old else []
        swept = Swept(len(removed), bytes_by_second.total() - sum(removed))
        self._report(swept)
        return swept

    def _oldest_to_keep(self, bytes_by_second: Counter[int], now: float) -> float:
        """Return the time before which uploads are too old, or over the size limit together with all newer ones."""
        newest_first = sorted(bytes_by_second, reverse=True)
        totals = accumulate(bytes_by_second[second] for second in newest_first)
        too_much = (second for second, total in zip(newest_first, totals, strict=True) if total > self._max_bytes)
        return max(now - self._max_age_s, next(too_much, -1) + 1)

    def _report(self, swept: Swept) -> None:
        if swept.removed:
            log.info("old uploads removed", extra={"count": swept.removed, "kept_bytes": swept.kept_bytes})
        if swept.kept_bytes > self._max_bytes:
            log.warning("uploads take more than UPLOAD_MAX_BYTES", extra={"kept_bytes": swept.kept_bytes})


class FolderUploads:
    """The uploads of a folder; sizes are disk usage."""

    sweep_every_s = _FOLDER_EVERY_S

    def __init__(self, images: FolderImageStore) -> None:
        self._images = images

    @contextmanager
    def turn(self) -> Iterator[float | None]:
        """Yield the time, or None if there is no folder yet or another process holds its lock."""
        with ExitStack() as stack:
            try:
                file = stack.enter_context((self._images.folder / _LOCK_FILE).open("ab"))
                stack.enter_context(locks.exclusive(file, wait=False))
                now: float | None = time.time()
            except (FileNotFoundError, BlockingIOError):
                now = None
            yield now

    def uploads(self) -> Iterator[tuple[float, int]]:
        """Yield for every upload when it was last stored and its disk usage in bytes."""
        for _, stored_at, size in self._named():
            yield stored_at, size

    def remove_stored_before(self, stored_before: float, queued: Set[str] = frozenset()) -> list[int]:
        """Remove uploads, unless they are stored again meanwhile."""
        old = ((name, size) for name, stored_at, size in self._named() if stored_at < stored_before)
        return [size for name, size in old if image_hash(name) not in queued and self._remove(name, stored_before)]

    def _named(self) -> Iterator[tuple[str, float, int]]:
        with os.scandir(self._images.folder) as entries:
            for entry in entries:
                if _UPLOAD.fullmatch(entry.name):
                    with suppress(FileNotFoundError):  # a temporary file was renamed meanwhile
                        status = entry.stat()
                        yield entry.name, status.st_mtime, 512 * status.st_blocks

    def _remove(self, name: str, stored_before: float) -> bool:
        try:
            return self._images.remove(name, stored_before)
        except OSError as err:  # not permitted, or removed by hand
            log.debug("upload cannot be removed: %s", err, extra={"image": name})
            return False
