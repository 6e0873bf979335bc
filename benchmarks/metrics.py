"""Measures the cost of metrics: the same API with and without them, in turn, and the cost of a scrape.

`python -m benchmarks.metrics` calls the application itself, without HTTP, and prints a table of processor time.
"""

import io
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from flask.testing import FlaskClient
from prometheus_client import generate_latest

from api.app import create_app
from api.monitoring.metrics import Metrics, count_together, registry
from api.settings import ApiSettings
from benchmarks.table import markdown
from jobs.queue.interface import Admission, Delivery
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ImageJob, ModelInfo, Outcome, Prediction, Timings
from model.metrics import WorkerMetrics

_PICTURE = Path(__file__).parents[1] / "tests" / "dog.jpeg"
_ANSWER = Prediction("Eskimo_dog", 248, 0.64, "m1", Timings(5, 10, 10, 4))
_HEADER = ("what", "µs of processor time")


class NoMetrics(Metrics):
    """Counts nothing."""

    def answered(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Do nothing."""

    def predicted(self, *outcomes: object) -> None:
        """Do nothing."""


class InstantQueue(MemoryJobQueue):
    """Answers each job at once, as no worker can."""

    def submit(self, job: ImageJob) -> Admission:
        """Answer a job."""
        self._waiters.add(job)
        self._waiters.resolve(job.id, _ANSWER)
        return "accepted"


def cpu_us(work: Callable[[], object], times: int) -> float:
    """Return the processor time of one call, in microseconds."""
    started = time.process_time()
    for _ in range(times):
        work()
    return 1e6 * (time.process_time() - started) / times


@contextmanager
def _clients() -> Iterator[tuple[FlaskClient, FlaskClient, Metrics]]:
    """Yield an API without metrics, one with metrics as for several processes, and its metrics."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count_together(folder)
        queue = InstantQueue(max_jobs=1000)
        queue.heartbeat("w1", 0.01, "m1")
        queue.publish(ModelInfo("m1", labels=("Eskimo_dog",)))
        settings = ApiSettings.model_validate({"upload_folder": folder, "feedback_filepath": folder / "feedback"})
        apps = [create_app(settings, queue, queue.results, counts) for counts in (NoMetrics(), Metrics())]
        yield apps[0].test_client(), apps[1].test_client(), apps[1].extensions["services"].metrics


def _predict(client: FlaskClient, data: bytes) -> None:
    response = client.post("/predict", data={"file": (io.BytesIO(data), "dog.jpeg")})
    if response.status_code != 200:
        raise click.ClickException(f"/predict answered {response.status_code}: {response.text}")


def _worker_batch() -> Callable[[], object]:
    """Return a function that records a worker's batch of four."""
    worker = WorkerMetrics("m1", 100)
    batch = [Delivery(ImageJob("j", "dog.jpeg", 30), "", "", 5)] * 4
    outcomes: list[Outcome] = [_ANSWER] * 4
    return lambda: worker.finished(batch, outcomes, 0.02)


@click.command(context_settings={"show_default": True})
@click.option("--rounds", default=40, help="How often each is measured; the table has the medians.")
@click.option("--times", default=50, help="Requests of a round.")
def main(rounds: int, times: int) -> None:
    """Measure a prediction with and without counting, in turn, and what workers and scrapes take."""
    logging.disable()
    data = _PICTURE.read_bytes()
    with _clients() as (without, counting, metrics):
        pairs = [
            [cpu_us(partial(_predict, client, data), times) for client in (without, counting)] for _ in range(rounds)
        ]
        before, after = (statistics.median(each) for each in zip(*pairs, strict=True))
        difference = statistics.median(with_it - without_it for without_it, with_it in pairs)
        queue = InstantQueue(max_jobs=1)
        scrape = cpu_us(lambda: generate_latest(registry(metrics, queue)), 50)
        worker = cpu_us(_worker_batch(), 2000)
    rows = [
        ("a prediction in the API, counting nothing", before),
        ("a prediction in the API", after),
        ("median of the differences", difference),
        ("a batch of 4 in a worker", worker),
        ("a scrape of one API process", scrape),
    ]
    print(markdown(_HEADER, [(what, f"{us:.0f}") for what, us in rows]))
    print(f"\nCounting takes {100 * difference / before:.1f} % of the API's own work. Medians of {rounds} x {times}.")


if __name__ == "__main__":
    main()
