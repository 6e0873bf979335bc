"""Classifies files with a running service, several per request and several requests at a time."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from jobs.schema import TOP_CLASSES
from mlapi.client import MOST_IMAGES, Client, Outcome
from mlapi.collection.files import Files
from mlapi.collection.rows import Row
from runtime.errors import ServiceError

# A busy service answers so, and a restarting one is away for a moment. A longer absence ends the run, which can be
# resumed later.
_PATIENCE_S = 120.0
_PATIENCE_AT_START_S = 5.0
# Per worker, one request is processed or queued, and another is on its way.
_REQUESTS_FOR_WORKER = 2
# Larger files are not sent. The service has its own limit, which may be lower.
_MAX_BYTES = 100_000_000
# Statuses about a single image, which is invalid, too large, or cannot be classified. All others concern every image.
_ABOUT_THE_IMAGE = {400, 413, 500}


class Service:
    """A running service that classifies several files per request."""

    chunk_size = MOST_IMAGES

    def __init__(self, url: str, key: str | None, top_k: int) -> None:
        with Client(url, key=key, timeout_s=_PATIENCE_AT_START_S) as client:
            requests = _REQUESTS_FOR_WORKER * client.workers()
            self.classes = min((model.classes for model in client.models()), default=TOP_CLASSES)
        self.chunks_ahead = 2 * requests
        self._top_k = top_k
        self._client = Client(url, key=key, timeout_s=_PATIENCE_S, connections=requests, background=True, keep=False)
        self._threads = ThreadPoolExecutor(requests, "request")
        self._files = Files(_MAX_BYTES)

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def wait_until_ready(self) -> None:
        """Return at once: the constructor has waited for the service."""

    def hurry(self) -> None:
        """Stop retrying requests."""
        self._client.give_up()

    def submit(self, paths: Sequence[str]) -> Future[list[Row]]:
        """Send files; `rows` waits for the responses."""
        return self._threads.submit(self._classify, paths)

    def rows(self, paths: Sequence[str], submitted: Future[list[Row]]) -> list[Row]:  # noqa: ARG002 - a protocol
        """Return the rows of files that were sent. Raises a `ServiceError` that does not depend on the files."""
        return submitted.result()

    def _classify(self, paths: Sequence[str]) -> list[Row]:
        files = [self._read(path) for path in paths]
        sent = [data for data in files if isinstance(data, bytes)]
        outcomes = iter(self._client.predict_many(sent, top_k=self._top_k))
        return [
            _row(path, next(outcomes) if isinstance(data, bytes) else data)
            for path, data in zip(paths, files, strict=True)
        ]

    def _read(self, path: str) -> bytes | ServiceError:
        try:
            return self._files.get(path)
        except ServiceError as err:
            return err


def _row(path: str, outcome: Outcome) -> Row:
    """Return the row of a file, or raise an error that is not about the file."""
    if not isinstance(outcome, ServiceError):
        return Row.classified(path, outcome.top)
    if outcome.status not in _ABOUT_THE_IMAGE:
        raise outcome
    return Row.failed(path, outcome)
