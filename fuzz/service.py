"""The API and a worker as they are shipped, but with a queue in memory, to be sent any request.

The API is complete except for Granian: requests come as Granian passes them on.
"""

import asyncio
import logging
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import unquote

from api.access.keys import KeyFile
from api.app import create_app
from api.server.gateway import Gateway
from api.settings import ApiSettings
from fuzz.request import HostileRequest
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import JobFailure, ModelInfo, Outcome
from jobs.storage.images import FolderImageStore
from model.decoding_limit import DecodingLimit
from model.ml_service import Worker, classify_process, load_classifier, predict
from model.settings import ModelSettings
from runtime.errors import SetAside
from testing import rsgi_client
from testing.rsgi_client import FakeHeaders, FakeProtocol, FakeScope

log = logging.getLogger(__name__)

_LOAD_TIMEOUT_S = 120.0
# A worker that is busy with one image for longer counts as dead. By then its request has been answered 504.
_HANG_S = 60.0
# The page that a stored report may break later.
_OPERATORS_PAGE = HostileRequest("operators' page", path="/status", method="GET")
# Not Linux's default start method: a fork would copy the threads' locks in whatever state they are.
_processes = get_context("spawn")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response's status and error, its duration, and whether a worker has died meanwhile."""

    status: int
    error: str
    took_s: float
    worker_died: bool

    @property
    def is_failure(self) -> bool:
        """Whether this answer is wrong for any request."""
        return self.status >= 500 or self.worker_died


class WorkerProcess:
    """Classifies stored images in a separate process, which is restarted when it dies."""

    def __init__(self, settings: ModelSettings) -> None:
        self.deaths = 0
        self._settings = settings
        self._start()

    def _start(self) -> None:
        self._connection, theirs = _processes.Pipe()
        self._process = _processes.Process(target=_classify_forever, args=(theirs, self._settings), daemon=True)
        self._process.start()
        theirs.close()
        if not self._connection.poll(_LOAD_TIMEOUT_S):
            raise TimeoutError("The worker did not start.")
        self._connection.recv()

    def kill(self) -> None:
        """Kill the process, as a bug in a decoder would."""
        self._process.kill()
        self._process.join()

    def classify(self, names: Sequence[str], _: Sequence[float] = ()) -> list[Outcome]:
        """Return the outcomes of a batch; if it ends the process, they are failures."""
        try:
            self._connection.send(names)
            if self._connection.poll(_HANG_S):
                outcomes: list[Outcome] = self._connection.recv()
                return outcomes
        except (EOFError, OSError):
            pass
        self.deaths += 1
        self.stop()
        self._start()
        return [JobFailure.of(SetAside())] * len(names)

    def stop(self) -> None:
        """End the process at once."""
        self.kill()
        self._connection.close()


def _classify_forever(connection: Connection, settings: ModelSettings) -> None:
    """Load the network, report that it is ready, and answer each list of names with its outcomes."""
    warnings.filterwarnings("ignore", module="PIL")
    images, classifier = FolderImageStore(settings.upload_folder), load_classifier(settings)
    limit = DecodingLimit(settings.max_decode_s)
    connection.send("ready")
    while True:
        connection.send(predict(connection.recv(), images, classifier, settings.max_image_pixels, limit=limit))


class Service:
    """An API whose jobs go through a queue in memory to the worker's own loop."""

    def __init__(self, settings: ApiSettings, worker: WorkerProcess, key: str) -> None:
        self.settings = settings
        self._headers = {"authorization": f"Bearer {key}"}
        self.worker = worker
        self._queue = MemoryJobQueue(max_jobs=settings.max_queued_jobs)
        self._gateway = Gateway(create_app(settings, self._queue, self._queue.results), settings, self._queue)
        self._event_loop = asyncio.new_event_loop()
        self._gateway.__rsgi_init__(self._event_loop)
        self._stopped = threading.Event()
        model = ModelInfo("fuzz", "fuzz", "1")
        loop = Worker(self._queue, worker.classify, model=model, jobs_at_once=1, batch_size=1, service_time_s=0.01)
        loop.heartbeat()
        self._thread = threading.Thread(target=classify_process, args=(loop, self._stopped))
        self._thread.start()

    def send(self, request: HostileRequest) -> Answer:
        """Return the answer to a request; for a good report, the answer of the operator's page if that fails.

        The page shows only this report, so that no other request can be to blame.
        """
        self.settings.feedback_filepath.unlink(missing_ok=True)
        answer = self._send(request)
        shown = self._send(_OPERATORS_PAGE) if self.settings.feedback_filepath.exists() else answer
        return shown if shown.is_failure else answer

    def _send(self, request: HostileRequest) -> Answer:
        deaths, started = self.worker.deaths, time.monotonic()
        response = self._event_loop.run_until_complete(self._ask(request))
        took_s = time.monotonic() - started
        return Answer(response.status, response.headers.get("X-Error", ""), took_s, self.worker.deaths > deaths)

    async def _ask(self, request: HostileRequest) -> rsgi_client.Answer:
        """Return the gateway's answer, or Granian's if the gateway gives none."""
        protocol = FakeProtocol([request.body])
        try:
            await self._gateway.__rsgi__(self._scope(request), protocol)
        except Exception:
            log.exception("the gateway has failed")
        return protocol.answer or rsgi_client.Answer(500, {}, b"")

    def _scope(self, request: HostileRequest) -> FakeScope:
        """Return the request's head, as far as Granian lets it through."""
        path, _, query = request.path.partition("?")
        length = {"content-length": str(len(request.body))}  # Granian lets no other length through
        headers = {"host": "localhost", "content-type": request.content_type, **self._headers}
        headers |= {name.lower(): value for name, value in request.headers.items()} | length
        return FakeScope(request.method, unquote(path), FakeHeaders(*headers.items()), query_string=query)

    def stop(self) -> None:
        """End the worker's loop, and the gateway's."""
        self._stopped.set()
        self._thread.join()
        self._event_loop.close()


@contextmanager
def running(folder: Path) -> Iterator[Service]:
    """Run a service that requires keys and keeps its files in a folder; its limits are those of the environment."""
    uploads, keys, feedback = folder / "uploads", folder / "keys", folder / "feedback" / "feedback"
    (feedback.parent / "images").mkdir(parents=True)  # as if an image was reported before
    changes = {
        "upload_folder": uploads,
        "feedback_filepath": feedback,
        "api_keys_file": keys,
        "trusted_proxies": 1,
        "rate_limit": None,
    }
    worker = WorkerProcess(ModelSettings.from_env().model_copy(update={"upload_folder": uploads}))
    service = Service(ApiSettings.from_env().model_copy(update=changes), worker, KeyFile(keys).add("fuzz"))
    try:
        yield service
    finally:
        service.stop()
        worker.stop()
