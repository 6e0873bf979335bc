"""The API with a queue that answers at once, or after $ANSWER_AFTER_S: the remaining cost is the WSGI server's."""

import os
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress

from flask import Flask

from api.app import create_app as create_api
from api.server.gateway import Gateway
from benchmarks.simulated_worker import ANSWER
from jobs.queue.interface import Admission
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ImageJob, Prediction
from runtime import waiting


class InstantQueue(MemoryJobQueue):
    """A queue that answers every job after `answer_after_s`."""

    def __init__(self, answer_after_s: float) -> None:
        super().__init__(max_jobs=1)
        self._answer_after_s = answer_after_s

    def submit(self, job: ImageJob) -> Admission:  # noqa: ARG002 - the job does not matter
        """Accept the job, without queueing it."""
        return "accepted"

    def wait(self, job: ImageJob) -> Prediction:  # noqa: ARG002 - all get the same answer
        """Return the answer."""
        if self._answer_after_s:
            with suppress(FutureTimeoutError):  # as the API waits, on its event loop or in a thread
                waiting.wait(Future(), self._answer_after_s)
        return ANSWER


def create_app() -> Flask:
    """Return the API of one process."""
    queue = InstantQueue(float(os.environ.get("ANSWER_AFTER_S", "0")))
    return create_api(queue=queue, results=queue.results)


def create_gateway() -> Gateway:
    """Return the API of one process, through Granian's own interface."""
    app = create_app()
    services = app.extensions["services"]
    return Gateway(app, services.settings, services.queue)
