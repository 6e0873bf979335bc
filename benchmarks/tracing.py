"""Measures the cost of traces: the same request and the same batch, with traces off and on, in turn.

`python -m benchmarks.tracing` calls the application itself, without HTTP, and a worker without a network, and prints a
table of processor time. Spans are sent to a collector in another process, so that sending is measured, too.
"""

import io
import logging
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import click
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from api.app import create_app
from api.settings import ApiSettings
from benchmarks.metrics import InstantQueue, cpu_us
from benchmarks.table import markdown
from jobs import job_trace
from jobs.queue.interface import Delivery
from jobs.schema import ImageJob, ModelInfo, Outcome, Prediction, Timings
from model import batch_trace
from runtime import tracing
from runtime.tracing.otlp import OpenTelemetryTracer

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

_FORK = get_context("fork")
_PICTURE = Path(__file__).parents[1] / "tests" / "dog.jpeg"
_ANSWER = Prediction("Eskimo_dog", 248, 0.64, "m1", Timings(5, 10, 10, 4))
_HEADER = ("traces", "a prediction in the API", "of that, more than off", "a batch of 4 in a worker")
_SAMPLERS: Mapping[str, Mapping[str, str]] = {
    "off": {},
    "on, none recorded": {"OTEL_TRACES_SAMPLER": "always_off"},
    "on, a tenth recorded": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
    "on, all recorded": {"OTEL_TRACES_SAMPLER": "always_on"},
}


class _Receiver(BaseHTTPRequestHandler):
    """Counts the bytes it receives, and discards them."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_POST(self) -> None:
        received = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.received_bytes.get_lock():
            self.server.received_bytes.value += len(received)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.received_bytes = _FORK.Value("q")


@dataclass(frozen=True, slots=True)
class Collector:
    """The URL of a collector, and the number of bytes sent to it."""

    url: str
    received_bytes: "Synchronized[int]"


@contextmanager
def collector() -> Iterator[Collector]:
    """Yield a collector in a separate process."""
    server = _Server()
    process = _FORK.Process(target=server.serve_forever, daemon=True)
    process.start()
    yield Collector(f"http://127.0.0.1:{server.server_port}", server.received_bytes)
    process.terminate()
    process.join()


def _api(folder: Path) -> Callable[[], object]:
    """Return a function that requests a prediction from an API with the process's present tracing."""
    queue = InstantQueue(max_jobs=1000)
    queue.heartbeat("w1", 0.01, "m1")
    queue.publish(ModelInfo("m1", labels=("Eskimo_dog",)))
    settings = ApiSettings.model_validate({"upload_folder": folder, "feedback_filepath": folder / "feedback"})
    client, data = create_app(settings, queue, queue.results).test_client(), _PICTURE.read_bytes()

    def predict() -> None:
        response = client.post("/predict", data={"file": (io.BytesIO(data), "dog.jpeg")})
        if response.status_code != 200:
            raise click.ClickException(f"/predict answered {response.status_code}: {response.text}")

    return predict


def _job() -> ImageJob:
    """Return a job with its own trace."""
    with tracing.span("request"):
        return job_trace.carrying(ImageJob("j", "dog.jpeg", 30))


def _batch() -> Callable[[], object]:
    """Return a function that traces a batch of four as a worker does."""
    batch = [Delivery(_job(), "", "", 5) for _ in range(4)]
    outcomes: list[Outcome] = [_ANSWER] * 4

    def trace() -> None:
        with batch_trace.traced(batch) as found:
            with tracing.span("decode"):
                pass
            with tracing.span("inference"):
                pass
            found.finished(outcomes)

    return trace


class _Setting:
    """The API and the worker with one sampler."""

    def __init__(self, sampler: Mapping[str, str], folder: Path) -> None:
        os.environ.update(sampler)
        self._processor = BatchSpanProcessor(OTLPSpanExporter(), 100_000, schedule_delay_millis=3_600_000)
        self._tracer = OpenTelemetryTracer(self._processor) if sampler else None
        tracing.use(self._tracer)
        self._predict = _api(folder)

    def measure(self, times: int) -> tuple[float, float]:
        """Return the processor time of a prediction and of a batch in microseconds, sending their spans included."""
        tracing.use(self._tracer)
        batches = [_batch() for _ in range(times)]
        self._processor.force_flush()
        return self._cpu_us([self._predict] * times), self._cpu_us(batches)

    def _cpu_us(self, works: Sequence[Callable[[], object]]) -> float:
        def do_all() -> None:
            for work in works:
                work()
            self._processor.force_flush()

        return cpu_us(do_all, 1) / len(works)


@click.command(context_settings={"show_default": True})
@click.option("--rounds", default=20, help="How often each is measured; the table has the medians.")
@click.option("--times", default=300, help="Requests and batches of a round.")
def main(rounds: int, times: int) -> None:
    """Measure a prediction and a batch with traces off and on, in turn."""
    logging.disable()
    with collector() as sent_to, tempfile.TemporaryDirectory() as folder:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = sent_to.url
        settings = {name: _Setting(sampler, Path(folder)) for name, sampler in _SAMPLERS.items()}
        rows = [{name: setting.measure(times) for name, setting in settings.items()} for _ in range(rounds)]
    print(markdown(_HEADER, [_row(name, rows) for name in _SAMPLERS]))
    print(f"\nµs of processor time, that of sending spans included. Medians of {rounds} x {times}.")


def _row(name: str, rows: list[dict[str, tuple[float, float]]]) -> tuple[str, ...]:
    api = statistics.median(row[name][0] for row in rows)
    more = statistics.median(row[name][0] - row["off"][0] for row in rows)
    batch = statistics.median(row[name][1] for row in rows)
    return name, f"{api:.0f}", f"{more:.0f}", f"{batch:.1f}"


if __name__ == "__main__":
    main()
