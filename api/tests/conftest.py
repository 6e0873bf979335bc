"""An API with an in-memory queue, and a worker whose outcomes the test sets."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.settings import ApiSettings
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ClassScore, Outcome, Prediction

TOP = (ClassScore("Eskimo_dog", 248, 0.640374), ClassScore("malamute", 249, 0.2))
DOG = Prediction(*TOP[0], "m1", top=TOP)


class FakeWorker:
    """Answers every job with `outcome`, in its own thread; holds jobs while `outcome` is None."""

    def __init__(self, queue: MemoryJobQueue, model: str = "m1") -> None:
        self.outcome: Outcome | None = DOG
        self.image_names: list[str] = []
        self.request_ids: list[str] = []
        self.lanes: list[str] = []
        self._queue = queue
        self._model = model
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)  # nothing stops it if a test fails
        queue.heartbeat("fake", 0.01, model)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._queue.heartbeat("fake", 0.01, self._model)
            for delivery in self._queue.take_batch("fake", 10, 0.02):
                self.image_names.append(delivery.job.image_name)
                self.request_ids.append(delivery.job.request_id)
                self.lanes.append(delivery.job.lane)
                if self.outcome is not None:
                    self._queue.finish([(delivery, self.outcome)])

    def stop(self) -> None:
        """Stop taking jobs."""
        self._stopped.set()
        self._thread.join()
        self._queue.retire("fake")


@pytest.fixture(autouse=True)
def patience_with_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure every request is counted, however long Redis takes to answer on a busy machine."""
    monkeypatch.setattr("api.access.rates._REDIS_TIMEOUT_S", 30.0)


@pytest.fixture
def queue() -> MemoryJobQueue:
    return MemoryJobQueue(max_jobs=3, cache_ttl_s=60, worker_ttl_s=60)


@pytest.fixture
def worker(queue: MemoryJobQueue) -> Iterator[FakeWorker]:
    worker = FakeWorker(queue)
    yield worker
    worker.stop()


MakeApp = Callable[..., Flask]


@pytest.fixture
def make_app(queue: MemoryJobQueue, tmp_path: Path) -> MakeApp:
    """Make the API with some settings changed."""

    def make(**changes: object) -> Flask:
        defaults = {"upload_folder": tmp_path / "uploads", "feedback_filepath": tmp_path / "feedback" / "feedback"}
        return create_app(ApiSettings.model_validate({**defaults, **changes}), queue, queue.results)

    return make


@pytest.fixture
def client(make_app: MakeApp) -> FlaskClient:
    return make_app().test_client()
