"""A closed loop of users: each sends the next picture when the last one is answered, on a persistent connection.

One thread and asyncio: the generator shares the processor with the system it measures, so it has to be light.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stress_test.report import percentile
from testing.answers import WrongAnswer
from testing.pictures import Questions, check

# Nothing is recorded until every user has had an answer, or this time has passed: a queue needs time to fill.
_LEAD_IN_S, _LONGEST_LEAD_IN_S = 1.0, 15.0
# Requests in flight at the end are waited for, so that they do not run into the next measurement.
_LAST_ANSWERS_S = 40.0
# Otherwise a system that refuses at once would be sent requests as fast as the generator can.
_PAUSE_AFTER_FAILURE_S = 0.1
# How soon the end of a condition is noticed.
_LOOK_S = 0.05


class Cell(NamedTuple):
    """One measurement; times are of right answers only."""

    rate_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int
    generator_cores: float = 0.0


def cell(times_s: Sequence[float], seconds: float, errors: int = 0, generator_cores: float = 0.0) -> Cell:
    """Return the figures for right answers that took `times_s` and came within `seconds`."""
    p50, p95, p99 = (1000 * percentile(times_s, percent) if times_s else float("nan") for percent in (50, 95, 99))
    return Cell(len(times_s) / seconds, p50, p95, p99, errors, generator_cores)


@dataclass(slots=True)
class _Record:
    times_s: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


class Load:
    """Users of the service that listens on a port of this machine."""

    def __init__(self, port: int, questions: Questions) -> None:
        self.failures: Counter[str] = Counter()
        self.asked = 0
        self._port = port
        self._questions = questions
        self._record = _Record()
        self._answered = 0  # users that have had an answer
        self._over = False

    def run(self, users: int, seconds: float) -> Cell:
        """Let `users` send requests for `seconds`; then `failures` counts error reasons, `asked` all requests."""
        return asyncio.run(self._run(users, asyncio.sleep(seconds)))

    def run_while(self, users: int, goes_on: Callable[[], bool]) -> Cell:
        """Let `users` send requests while `goes_on()` holds."""
        return asyncio.run(self._run(users, _end_of(goes_on)))

    async def _run(self, users: int, end: Coroutine[Any, Any, None]) -> Cell:
        self._over, self._answered = False, 0
        tasks = [asyncio.create_task(self._user()) for _ in range(users)]
        await self._lead_in(users)
        self._record = record = _Record()
        started_s, processor_s = time.perf_counter(), time.process_time()
        await end
        self._record = _Record()
        elapsed_s = time.perf_counter() - started_s
        generator_cores = (time.process_time() - processor_s) / elapsed_s
        self._over = True
        _, unanswered = await asyncio.wait(tasks, timeout=_LAST_ANSWERS_S)
        for task in unanswered:
            task.cancel()
        record.failures["no answer"] += len(unanswered)
        self.failures = +record.failures
        return cell(record.times_s, elapsed_s, self.failures.total(), generator_cores)

    async def _lead_in(self, users: int) -> None:
        deadline = time.monotonic() + _LONGEST_LEAD_IN_S
        await asyncio.sleep(_LEAD_IN_S)
        while self._answered < users and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def _user(self) -> None:
        first = True
        while not self._over:
            with contextlib.suppress(OSError):
                async with connected(self._port) as connection:
                    while not self._over and await self._ask(connection):
                        self._answered += first
                        first = False
            await asyncio.sleep(0 if self._over else _PAUSE_AFTER_FAILURE_S)

    async def _ask(self, connection: "Connection") -> bool:
        """Send one picture; record the answer, and return whether it is right."""
        body, expected = self._questions.next()
        self.asked += 1
        started = time.perf_counter()
        try:
            answer = await connection.post("/predict", self._questions.content_type, body)
            elapsed_s = time.perf_counter() - started
            check(*answer, expected)
        except (WrongAnswer, OSError, EOFError, ValueError) as err:
            self._record.failures[str(err) or type(err).__name__] += 1
            return False
        self._record.times_s.append(elapsed_s)
        return True


async def _end_of(goes_on: Callable[[], bool]) -> None:
    while goes_on():
        await asyncio.sleep(_LOOK_S)


class Connection:
    """A connection to a service, which it may keep open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, path: str, content_type: str, body: bytes, more: str = "") -> tuple[int, bytes, bytes]:
        """Return status, headers and body of the answer. `more` are headers, each with a line break."""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n{more}"
        self._writer.write(b"".join((head.encode(), b"Content-Length: %d\r\n\r\n" % len(body), body)))
        await self._writer.drain()
        headers = await self._reader.readuntil(b"\r\n\r\n")
        return int(headers[9:12]), headers, await self._reader.readexactly(content_length(headers))


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """Connect to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def content_length(headers: bytes) -> int:
    """Return the body's length from an answer's headers. Raises `ValueError` if they do not give it."""
    for line in headers.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError("the answer does not say how long it is")
