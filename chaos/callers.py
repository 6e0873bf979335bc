"""Clients that send one picture after another, and the outcome of every request."""

import asyncio
import threading
import time
from dataclasses import dataclass

from benchmarks.load import connected
from testing.answers import WrongAnswer
from testing.pictures import Question, Questions, check

# The service answers within PREDICT_TIMEOUT_S, 30 s, so a request that has waited this long will never be answered.
PATIENCE_S = 40.0
_PAUSE_S = 0.05

RIGHT, WRONG, UNANSWERED = "right", "wrong", "unanswered"


@dataclass(frozen=True, slots=True)
class Request:
    """A request and its outcome: `RIGHT`, `WRONG`, `UNANSWERED`, or the status and code of a refusal.

    Times are seconds on the clock of `time.monotonic`. The client retried whenever no server listened, and whenever a
    connection `broke` before the answer.
    """

    sent_at: float
    settled_at: float
    outcome: str
    unheard: int = 0
    broke: int = 0


class Callers:
    """Keeps a number of requests in flight, from its own thread, until the context ends."""

    def __init__(self, port: int, questions: Questions, callers: int) -> None:
        self.requests: list[Request] = []
        self._port = port
        self._questions = questions
        self._callers = callers
        self._stopped = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="callers")

    def __enter__(self) -> "Callers":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join()

    async def _run(self) -> None:
        await asyncio.gather(*(self._call() for _ in range(self._callers)))

    async def _call(self) -> None:
        while not self._stopped:
            request = await ask(self._port, self._questions.next(), self._questions.content_type)
            self.requests.append(request)
            if request.outcome != RIGHT:
                await asyncio.sleep(_PAUSE_S)


async def ask(port: int, question: Question, content_type: str) -> Request:
    """Send a request, retrying after every broken connection, until it is answered or the client's patience ends."""
    sent_at, unheard, broke = time.monotonic(), 0, 0
    while (left_s := sent_at + PATIENCE_S - time.monotonic()) > 0:
        try:
            outcome = await asyncio.wait_for(_outcome(port, question, content_type), left_s)
        except ConnectionRefusedError:
            unheard += 1
        except (OSError, EOFError, asyncio.TimeoutError):
            broke += 1
        else:
            return Request(sent_at, time.monotonic(), outcome, unheard, broke)
        await asyncio.sleep(_PAUSE_S)
    return Request(sent_at, time.monotonic(), UNANSWERED, unheard, broke)


async def _outcome(port: int, question: Question, content_type: str) -> str:
    async with connected(port) as connection:
        answer = await connection.post("/predict", content_type, question.body)
    try:
        check(*answer, question.expected)
    except WrongAnswer as err:
        reason = str(err)
        return WRONG if reason.startswith("200") else reason.split(":")[0]
    return RIGHT
