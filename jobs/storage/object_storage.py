"""Image storage in S3, Google Cloud Storage or Azure Blob Storage, with one client."""

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

# The timeout of one attempt, and the time within which retries start: together a third of a request's default time.
_ATTEMPT_S = 5.0
_RETRY_S = 5.0
_CONNECT_S = 2.0
_FIRST_PAUSE_S = 0.1
# The number of images that a worker fetches at once.
_FETCHES = 16
# Lists are billed per thousand names, and a bucket does not fill up.
_SWEEP_EVERY_S = 600.0
_NAMES_PER_LIST = 1000
# An object written by the process that sweeps; its time comes from the storage's own clock.
_MARK = ".sweep"


class ObjectImageStore(ImageStore):
    """Images as objects of a bucket, under a prefix; an object's time is when it was last stored.

    `url` is such as `s3://bucket/prefix`. Credentials, region and endpoint come from the vendors' environment
    variables, or the machine's own role. Raises `SetupError` if they cannot be used. A store opened in one process
    cannot be used in a process forked from it.
    """

    sweep_every_s = _SWEEP_EVERY_S

    def __init__(self, url: str) -> None:
        try:
            self._store = from_url(
                url,
                client_options={
                    "allow_http": True,  # for endpoints that the environment names; the vendors' own are https
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
        """Store an image under its name, even if it is there already: asking would take as many requests."""
        try:
            # As one upload: parts of a multipart upload whose process dies would stay, and no list shows them.
            self._store.put(name, data, use_multipart=False)
        except (BaseError, FileNotFoundError) as err:  # FileNotFoundError: the bucket does not exist
            raise _unavailable(err) from err

    @waiting.blocking
    def get(self, name: str) -> bytes:
        """Return an object's bytes. Raises `StorageUnavailable` if the storage fails."""
        try:
            return bytes(self._store.get(name).bytes())
        except BaseError as err:
            raise _unavailable(err, "The stored image cannot be read at the moment. Try again shortly.") from err

    def fetch(self, names: Sequence[str]) -> Sequence[Callable[[], bytes]]:
        """Start to fetch images, all at the same time."""
        return [self._threads.submit(self.get, name).result for name in names]

    # Sweeping

    @contextmanager
    def turn(self) -> Iterator[float | None]:
        """Yield the storage's time to one process per `sweep_every_s`, else None. Two may get it; that does no harm."""
        try:
            yield None if self._was_swept() else self._mark()
        except (BaseError, FileNotFoundError) as err:
            raise _unavailable(err) from err

    def _was_swept(self) -> bool:
        try:
            # Either clock may be ahead, but not by much: otherwise requests would be refused for their signatures'
            # time.
            return abs(time.time() - self._marked_at()) < 0.9 * _SWEEP_EVERY_S
        except FileNotFoundError:
            return False

    def _mark(self) -> float:
        self._store.put(_MARK, b"")
        return self._marked_at()

    def _marked_at(self) -> float:
        return self._store.head(_MARK)["last_modified"].timestamp()

    def uploads(self) -> Iterator[tuple[float, int]]:
        """Yield for every image when it was last stored (Unix time) and its bytes."""
        for page in self._pages():
            for _, stored_at, size in page:
                yield stored_at, size

    def remove_stored_before(self, stored_before: float, queued: Set[str] = frozenset()) -> list[int]:
        """Remove images that were last stored before a Unix time; return the bytes of each.

        Removal cannot be conditional, so an image that is stored again between listing and removal is lost. Every page
        of the list is handled before the next is requested, so this window is a moment, compared with a retention of a
        day by default.
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
                if IMAGE_NAME.fullmatch(each["path"])  # anything else is not ours
            ]


def _unavailable(err: Exception, message: str | None = None) -> StorageUnavailable:
    log.warning("object storage: %s", reason(err))
    return StorageUnavailable(message)


def reason(err: BaseException) -> str:
    """Return an error's message, without URL queries, which may be secret; of an XML answer, only the code."""
    text = str(err)
    code = re.search(r"<Code>(\w+)", text)
    said = re.sub(r"\?\S*", "", re.split(r"[<\n]", text)[0])
    return f"{said}{code[1]}" if code else said
