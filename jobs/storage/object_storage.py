"""Uploads in object storage: S3, Google Cloud Storage or Azure Blob Storage, by one client."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

from obstore.exceptions import BaseError
from obstore.store import from_url

from jobs.schema import image_hash
from jobs.storage.images import IMAGE_NAME, ImageStore
from runtime import waiting
from runtime.errors import SetupError, StorageUnavailable

log = logging.getLogger(__name__)

# An attempt, and until when another one is made: together a third of the time that a request has by default.
_ATTEMPT_S = 5.0
_RETRY_S = 5.0
_CONNECT_S = 2.0
_FIRST_PAUSE_S = 0.1
# Images that a worker fetches at once.
_FETCHES = 16
# Lists are paid for by the thousand names, and a bucket does not fill up.
_SWEEP_EVERY_S = 600.0
_NAMES_PER_LIST = 1000
# An object that the process which sweeps has written; its time is that of the storage's own clock.
_MARK = ".sweep"


class ObjectImageStore(ImageStore):
    """Images as objects of a bucket, under a prefix; an object's time is when it was last stored.

    `url` is such as `s3://bucket/prefix`. Credentials, region and endpoint are the environment's, by the names that the
    vendors gave them, or the machine's own role. Raises `SetupError` where they cannot be used. What a process has
    opened, none that is forked from it can use.
    """

    sweep_every_s = _SWEEP_EVERY_S

    def __init__(self, url: str) -> None:
        try:
            self._store = from_url(
                url,
                client_options={
                    "allow_http": True,  # where the environment names such an endpoint; a vendor's own are https
                    "connect_timeout": timedelta(seconds=_CONNECT_S),
                    "timeout": timedelta(seconds=_ATTEMPT_S),
                },
                retry_config={
                    "backoff": {"init_backoff": timedelta(seconds=_FIRST_PAUSE_S)},
                    "retry_timeout": timedelta(seconds=_RETRY_S),
                },
            )
        except (BaseError, ValueError) as err:
            raise SetupError(f"UPLOAD_URL={url} cannot be used: {reason(err)}") from err
        self._threads = ThreadPoolExecutor(_FETCHES, thread_name_prefix="images")

    @waiting.blocking
    def put(self, name: str, data: bytes) -> None:
        """Store an image under its name, whether it is there or not: to ask that would take as many requests."""
        try:
            # In one piece, since of several, those of a process that dies would stay where no list shows them.
            self._store.put(name, data, use_multipart=False)
        except (BaseError, FileNotFoundError) as err:  # that is the bucket, which is not there
            raise _unavailable(err) from err

    @waiting.blocking
    def get(self, name: str) -> bytes:
        """Return an object's bytes. Raises `StorageUnavailable` where the storage does not tell."""
        try:
            return bytes(self._store.get(name).bytes())
        except BaseError as err:
            raise _unavailable(err, "The stored image cannot be read at the moment. Try again shortly.") from err

    def fetch(self, names: Sequence[str]) -> Sequence[Callable[[], bytes]]:
        """Begin to get images, all at the same time."""
        return [self._threads.submit(self.get, name).result for name in names]

    # Sweeping

    @contextmanager
    def turn(self) -> Iterator[float | None]:
        """Yield the storage's time to one of all processes that ask within `sweep_every_s`, mostly: two do no harm."""
        try:
            yield None if self._was_swept() else self._mark()
        except (BaseError, FileNotFoundError) as err:
            raise _unavailable(err) from err

    def _was_swept(self) -> bool:
        try:
            # Either clock may be ahead, but not by much: else requests would be refused for their signatures' time.
            return abs(time.time() - self._marked_at()) < 0.9 * _SWEEP_EVERY_S
        except FileNotFoundError:
            return False

    def _mark(self) -> float:
        self._store.put(_MARK, b"")
        return self._marked_at()

    def _marked_at(self) -> float:
        return self._store.head(_MARK)["last_modified"].timestamp()

    def uploads(self) -> Iterator[tuple[float, int]]:
        """Yield of each image when it was last stored (a Unix time), and its bytes."""
        for page in self._pages():
            for _, stored_at, size in page:
                yield stored_at, size

    def remove_stored_before(self, stored_before: float, queued: Set[str] = frozenset()) -> list[int]:
        """Remove images that were last stored before a Unix time; return the bytes of each.

        Nothing can be removed on a condition, so one that is stored again between its list and its removal is lost.
        Each list is dealt with before the next one is asked for: that is a moment, of a time that is a day by default.
        """
        removed = []
        for page in self._pages():
            old = [
                (name, size)
                for name, stored_at, size in page
                if stored_at < stored_before and image_hash(name) not in queued
            ]
            if old:
                self._store.delete([name for name, _ in old])
            removed += [size for _, size in old]
        return removed

    def _pages(self) -> Iterator[list[tuple[str, float, int]]]:
        for page in self._store.list(chunk_size=_NAMES_PER_LIST):
            yield [
                (each["path"], each["last_modified"].timestamp(), each["size"])
                for each in page
                if IMAGE_NAME.fullmatch(each["path"])  # all else is not ours
            ]


def _unavailable(err: Exception, message: str | None = None) -> StorageUnavailable:
    log.warning("object storage: %s", reason(err))
    return StorageUnavailable(message)


def reason(err: BaseException) -> str:
    """Return what an error says; without queries of addresses, which may be secret, and of an answer only its code."""
    text = str(err)
    code = re.search(r"<Code>(\w+)", text)
    said = re.sub(r"\?\S*", "", re.split(r"[<\n]", text)[0])
    return f"{said}{code[1]}" if code else said
