"""Runs users against a service for a given time."""

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import gevent  # type: ignore[import-untyped]
from gevent.event import Event  # type: ignore[import-untyped]
from locust.env import Environment

from stress_test.locustfile import Visitor
from stress_test.report import Measurement
from testing.unique_images import UniqueImages

# At the end of a run no user starts another request, but requests in flight are still waited for: leaving them out
# would leave out the slowest. The service answers within 30 s.
_LAST_ANSWERS_S = 35.0


@dataclass(frozen=True, slots=True)
class Load:
    """The users, the service, and the duration; `pause_s` is each user's pause between two requests, on average."""

    host: str
    users: int
    duration_s: float
    pause_s: float = 0.0


def run(load: Load, images: UniqueImages) -> Measurement:
    """Load the service and return what was measured, until Ctrl-C or SIGTERM if one comes before the time is over."""
    Visitor.images, Visitor.pause_s = images, load.pause_s
    environment = Environment(user_classes=[Visitor], host=load.host, stop_timeout=_LAST_ANSWERS_S)
    measurement = Measurement(load.users)
    environment.events.request.add_listener(measurement.record)  # type: ignore[no-untyped-call]
    environment.events.user_error.add_listener(measurement.record_bug)  # type: ignore[no-untyped-call]
    wall_s, processor_s = time.perf_counter(), time.process_time()
    _let_run(environment, load, measurement)
    measurement.elapsed_s = time.perf_counter() - wall_s
    measurement.generator_cores = (time.process_time() - processor_s) / measurement.elapsed_s
    return measurement


def _let_run(environment: Environment, load: Load, measurement: Measurement) -> None:
    runner = environment.create_local_runner()
    with _asked_to_stop() as asked:
        runner.start(load.users, spawn_rate=load.users)
        asked.wait(load.duration_s)
        stopping = gevent.spawn(runner.quit)
        gevent.wait([stopping, asked], count=1)
        if asked.is_set():  # someone who stops the run does not want to wait for the last answers
            runner.user_greenlets.kill()
        stopping.join()
        measurement.interrupted = asked.is_set()


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Event]:
    """Yield an event that SIGINT and SIGTERM set; otherwise Ctrl-C would raise an error in the running user."""
    asked = Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, lambda *_: asked.set()) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
