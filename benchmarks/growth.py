"""Measures the cost of API and Redis as workers and backlog grow; the workers sleep instead of computing.

`python -m benchmarks.growth` prints two tables. The processor time per job shows where one process saturates, however
few cores the machine has: 1,000,000 us of a core per second.
"""

import contextlib
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import NamedTuple

import click
import redis

from benchmarks.load import Load
from benchmarks.simulated_worker import ANSWER, BATCH_SIZE
from benchmarks.table import markdown
from jobs.queue.interface import Delivery
from jobs.redis.queue import RedisJobQueue
from jobs.schema import ImageJob
from mlapi.service import redis_server
from testing import pictures, processes
from testing.pictures import Expected, Questions

_BATCH_S = 0.04
_USERS_PER_WORKER, _MOST_USERS = 16, 256
_FILES = 16
_SAMPLE = 4000  # jobs submitted, taken and answered at each backlog
_JOB = ("0" * 64 + ".jpeg", 3600.0)

_WORKER_HEADER = ("workers", "users", "jobs/s", "p50 ms", "API us/job", "Redis us/job", "workers us/job", "errors")
_BACKLOG_HEADER = ("backlog", "submit us", "take and finish us", "Redis us/job", "Redis bytes/job")


class Row(NamedTuple):
    """One number of workers; processor times are microseconds per job."""

    workers: int
    users: int
    jobs_per_s: float
    p50_ms: float
    api_us: float
    redis_us: float
    workers_us: float
    errors: int


class BacklogRow(NamedTuple):
    """One backlog; times are microseconds per job."""

    backlog: int
    submit_us: float
    take_and_finish_us: float
    redis_us: float
    redis_bytes: float


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[tuple[str, int]]:
    """Run a Redis; yield its URL and process id."""
    port, log = redis_server.free_port(), folder / "redis.out"
    with processes.running(redis_server.command(port, folder), {}, log) as process:
        url = f"redis://127.0.0.1:{port}"
        processes.wait_until(lambda: _answers(url), process, log)
        yield url, process.pid


def _answers(url: str) -> bool:
    with contextlib.suppress(redis.ConnectionError), redis.Redis.from_url(url, retry=None) as connection:
        return bool(connection.ping())
    return False


def measure_workers(workers: int, seconds: float, questions: Questions) -> Row:
    """Return the figures of `workers` simulated workers behind one API process."""
    with (
        tempfile.TemporaryDirectory(prefix="mlapi-growth-", dir=processes.memory_folder()) as name,
        contextlib.ExitStack() as stack,
    ):
        folder, port = Path(name), redis_server.free_port()
        url, redis_pid = stack.enter_context(_redis(folder))
        environment = {"REDIS_URL": url, "PORT": str(port), "UPLOAD_FOLDER": str(folder / "uploads")}
        command = processes.python("benchmarks.simulated_worker", str(workers), str(_BATCH_S))
        worker = stack.enter_context(processes.running(command, environment, folder / "workers.log"))
        api = stack.enter_context(processes.running(processes.python("mlapi", "api"), environment, folder / "api.log"))
        processes.wait_until(lambda: _live_workers(port) == workers, api, folder / "api.log")
        return _load(workers, Load(port, questions), seconds, (api.pid, redis_pid, worker.pid))


def _load(workers: int, load: Load, seconds: float, pids: Sequence[int]) -> Row:
    users = min(_USERS_PER_WORKER * workers, _MOST_USERS)
    load.run(users, seconds / 2)
    asked, before = load.asked, [processes.processor_s(pid) for pid in pids]
    measured = load.run(users, seconds)
    spent = [processes.processor_s(pid) - start for pid, start in zip(pids, before, strict=True)]
    api_us, redis_us, workers_us = (1e6 * cpu_s / (load.asked - asked) for cpu_s in spent)
    rate, p50_ms, errors = measured.rate_per_s, measured.p50_ms, measured.errors
    return Row(workers, users, rate, p50_ms, api_us, redis_us, workers_us, errors)


def _live_workers(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return int(json.load(answer)["workers"])
    except OSError:
        return 0


def measure_backlog(backlog: int) -> BacklogRow:
    """Return the cost of submitting, and of taking and answering, while `backlog` jobs wait."""
    with (
        tempfile.TemporaryDirectory(prefix="mlapi-growth-", dir=processes.memory_folder()) as name,
        _redis(Path(name)) as (url, redis_pid),
    ):
        queue, server = RedisJobQueue(url, max_jobs=10**9), redis.Redis.from_url(url)
        queue.heartbeat("worker", 0.01, "simulated")
        queue.take_batch("worker", 1, 0.001)
        empty_bytes = int(server.info("memory")["used_memory"])
        _submit(queue, backlog)
        redis_bytes = (int(server.info("memory")["used_memory"]) - empty_bytes) / backlog
        before_s = processes.processor_s(redis_pid)
        submit_s = take_s = 0.0
        # In small turns, so that the backlog stays constant.
        for _ in range(_SAMPLE // BATCH_SIZE):
            submit_s += _submit(queue, BATCH_SIZE)
            take_s += _take_and_finish(queue)
        redis_s = processes.processor_s(redis_pid) - before_s
        queue.close()
        submit_us, take_us, redis_us = (1e6 * spent_s / _SAMPLE for spent_s in (submit_s, take_s, redis_s))
        return BacklogRow(backlog, submit_us, take_us, redis_us, redis_bytes)


def _submit(queue: RedisJobQueue, jobs: int) -> float:
    """Submit jobs one by one; return the seconds taken."""
    started = time.perf_counter()
    for number in range(jobs):
        if number % 1000 == 0:
            queue.heartbeat("worker", 0.01, "simulated")
        queue.submit(ImageJob.create(*_JOB))
    return time.perf_counter() - started


def _take_and_finish(queue: RedisJobQueue) -> float:
    """Take and answer a full batch; return the seconds taken."""
    started = time.perf_counter()
    done = 0
    while done < BATCH_SIZE:
        batch: list[Delivery] = queue.take_batch("worker", BATCH_SIZE - done, 0.1)
        queue.finish((delivery, ANSWER) for delivery in batch)
        done += len(batch)
    return time.perf_counter() - started


def figures(rows: Sequence[Sequence[float]]) -> list[list[str]]:
    """Return the figures of a table as whole numbers."""
    return [[f"{value:,.0f}" for value in row] for row in rows]


def powers(base: int, first: int, last: int) -> list[int]:
    """Return `first` times powers of `base`, up to `last`."""
    return list(takewhile(lambda value: value <= last, (first * base**exponent for exponent in count())))


@click.command()
@click.option("--workers", default=64, show_default=True, help="Workers at most: 1, 2, 4, ... of them.")
@click.option("--backlog", default=100_000, show_default=True, help="Jobs that wait at most: 10, 100, ... of them.")
@click.option("--seconds", default=4.0, show_default=True, help="How long each number of workers is measured.")
def main(workers: int, backlog: int, seconds: float) -> None:
    """Measure how API and queue grow with simulated workers and with the backlog."""
    processes.stop_on_sigterm()
    answer = Expected(frozenset({ANSWER.label}), ANSWER.score)
    questions = Questions(pictures.render(None, _FILES), [answer] * _FILES)
    rows = [measure_workers(number, seconds, questions) for number in powers(2, 1, workers)]
    print(markdown(_WORKER_HEADER, figures(rows)), end="\n\n")
    print(markdown(_BACKLOG_HEADER, figures([measure_backlog(jobs) for jobs in powers(10, 10, backlog)])))


if __name__ == "__main__":
    main()
