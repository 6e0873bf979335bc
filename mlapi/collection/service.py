"""Has files classified by a running service, many at the same time."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from jobs.errors import ServiceError
from jobs.schema import JobFailure
from mlapi.client import Client
from mlapi.collection.files import Files
from mlapi.collection.rows import Row, as_text

# A service that is busy says so, and one that is started again is away for a moment. One that is away for longer ends
# the run, which can go on later.
_PATIENCE_S = 120.0
_PATIENCE_AT_START_S = 5.0
# So many of a worker's batches are in the service: one is computed, one waits, and others are on their way.
_FILES_FOR_WORKER = 16
# What is larger is not sent. The service has its own limit, which may be lower.
_MAX_BYTES = 100_000_000
# The image is bad, too much, or nothing that the model can do anything with. All else holds for every image.
_ABOUT_THE_IMAGE = {400, 413, 500}


class Service:
    """A service, asked about each file in a request of its own."""

    chunk_size = 1

    def __init__(self, url: str, key: str | None) -> None:
        with Client(url, key=key, timeout_s=_PATIENCE_AT_START_S) as client:
            in_flight = _FILES_FOR_WORKER * client.workers()
        self.chunks_ahead = 2 * in_flight
        self._client = Client(url, key=key, timeout_s=_PATIENCE_S, connections=in_flight)
        self._threads = ThreadPoolExecutor(in_flight, "request")
        self._files = Files(_MAX_BYTES)

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def wait_until_ready(self) -> None:
        """Return: it was ready when this was made."""

    def submit(self, paths: Sequence[str]) -> Future[list[Row]]:
        """Send files; `rows` waits for the answers."""
        return self._threads.submit(lambda: [self._classify(path) for path in paths])

    def rows(self, paths: Sequence[str], submitted: Future[list[Row]]) -> list[Row]:  # noqa: ARG002 - a protocol
        """Return the rows of files that were sent. Raises `ServiceError` where it does not depend on the files."""
        return submitted.result()

    def _classify(self, path: str) -> Row:
        try:
            prediction = self._client.predict(self._files.get(path))
        except ServiceError as err:
            if err.status not in _ABOUT_THE_IMAGE:
                raise
            return Row.of(path, JobFailure.of(err))
        return Row(as_text(path), prediction.label, prediction.score)
