"""What an endpoint may know of the connection it answers on, and have done with it."""

import asyncio
import io
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from flask import request

from api.http.rsgi import HTTPProtocol
from api.http.wsgi import Answer
from runtime.errors import ServiceError

ENVIRON_KEY = "mlapi.connection"


class Turns:
    """Turns to have images queued, so many at once, and how many requests have one or wait for it."""

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self.requests = 0

    async def take(self) -> None:
        """Wait for a turn, and take it."""
        self.requests += 1
        try:
            await self._free.acquire()
        except BaseException:
            self.requests -= 1
            raise

    def give_back(self) -> None:
        """Let another request have the turn."""
        self.requests -= 1
        self._free.release()


@dataclass
class Connection:
    """The connection of one request, begun at `began_at_s`, with its `body`, all of which was there at `received_at_s`.

    `stream`, where the endpoint sets it, sends the answer and what comes after it, in the event loop; `file` is sent as
    the answer's body, by a server that `sends_files`.
    `refusal` is why the request is not to be served, `draining` says that the server is about to stop, and `turn` is
    given back when all that is left to do is to wait.
    """

    body: io.BytesIO = field(default_factory=io.BytesIO)
    began_at_s: float = field(default_factory=time.monotonic)
    received_at_s: float = field(default_factory=time.monotonic)
    refusal: ServiceError | None = None
    draining: bool = False
    turn: Turns | None = None
    stream: "Callable[[HTTPProtocol, Answer], Awaitable[None]] | None" = None
    sends_files: bool = False
    file: Path | None = None
    _closed: bool = False
    _on_close: Callable[[], None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the client has hung up."""
        return self._closed

    def drop_body(self) -> None:
        """Free the memory of a body that has been read."""
        self.body.close()

    def replace_body(self, body: io.BytesIO) -> None:
        """Free the memory of the body, and have another in its place."""
        self.drop_body()
        self.body = body

    def when_closed(self, call: Callable[[], None]) -> None:
        """Have `call` called when the client hangs up; at once where it has.

        It may be called twice, and must not wait for anything. The request itself only waits from now on.
        """
        self.end_turn()
        self._on_close = call
        if self._closed:
            call()

    def end_turn(self) -> None:
        """Let another request do its work."""
        turn, self.turn = self.turn, None
        if turn:
            turn.give_back()

    def close(self) -> None:
        """Note that the client has hung up."""
        self._closed = True
        if self._on_close:
            self._on_close()


def current() -> Connection:
    """Return the connection of the current request; under a server that tells nothing about it, one that stays."""
    found: Connection = request.environ.setdefault(ENVIRON_KEY, Connection())
    return found
