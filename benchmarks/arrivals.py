"""An open loop of clients that arrive at a given rate even if the service cannot keep up: overload.

One thread and asyncio, as in `load.py`. Each client uses an idle connection, or opens one.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.load import Connection, connected
from testing.answers import WrongAnswer
from testing.pictures import Questions, check

_REFUSED = 429
# Servers close idle connections after a while, so one that has idled for longer is not reused.
_IDLE_S = 5.0
_SEED = 1


@dataclass(slots=True)
class Outcomes:
    """The clients' outcomes: latencies of right answers and refusals, and when the right answers came."""

    sent: int = 0
    right_s: list[float] = field(default_factory=list)
    right_at_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    generator_cores: float = 0.0


class Arrivals:
    """Clients of the service that listens on a port of this machine."""

    def __init__(self, port: int, questions: Questions) -> None:
        self._port = port
        self._questions = questions
        self._free: list[tuple[Connection, float]] = []  # with the time since when they are idle, the latest last

    def run(self, per_s: float, seconds: float, last_answer_s: float) -> Outcomes:
        """Run random arrivals with a mean rate of `per_s`; wait up to `last_answer_s` for the last answers."""
        return asyncio.run(self._run(per_s, seconds, last_answer_s))

    async def _run(self, per_s: float, seconds: float, last_answer_s: float) -> Outcomes:
        outcomes, clients = Outcomes(), set()
        gaps = random.Random(_SEED)  # noqa: S311 - a schedule, the same every time
        started, processor_s = time.perf_counter(), time.process_time()
        due = 0.0
        async with contextlib.AsyncExitStack() as connections:
            while (due := due + gaps.expovariate(per_s)) < seconds:
                await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
                clients.add(client := asyncio.create_task(self._ask(outcomes, started, connections)))
                client.add_done_callback(clients.discard)
            outcomes.generator_cores = (time.process_time() - processor_s) / (time.perf_counter() - started)
            if clients:
                _, unanswered = await asyncio.wait(clients, timeout=last_answer_s)
                outcomes.errors["no answer"] += len(unanswered)
                for client in unanswered:
                    client.cancel()
        outcomes.errors = +outcomes.errors
        return outcomes

    async def _ask(self, outcomes: Outcomes, started: float, connections: contextlib.AsyncExitStack) -> None:
        body, expected = self._questions.next()
        outcomes.sent += 1
        asked = time.perf_counter()
        try:
            connection = self._idle()
            if connection is None:
                connection = await connections.enter_async_context(connected(self._port))
            answer = await connection.post("/predict", self._questions.content_type, body)
            answered = time.perf_counter()
            self._free.append((connection, answered))
            if answer[0] == _REFUSED:
                outcomes.refused_s.append(answered - asked)
                return
            check(*answer, expected)
        except (WrongAnswer, OSError, EOFError, ValueError) as err:
            outcomes.errors[str(err) or type(err).__name__] += 1
            return
        outcomes.right_s.append(answered - asked)
        outcomes.right_at_s.append(answered - started)

    def _idle(self) -> Connection | None:
        """Return the most recently used idle connection, unless that was too long ago."""
        if self._free and time.perf_counter() - self._free[-1][1] > _IDLE_S:
            self._free.clear()
        return self._free.pop()[0] if self._free else None
