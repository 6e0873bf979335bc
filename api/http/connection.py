"""The client connection of a request, as endpoints see it."""

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
    """Limits how many requests queue images at once, and counts those that do or wait to."""

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self.requests = 0

    async def take(self) -> None:
        """Wait for a turn."""
        self.requests += 1
        try:
            await self._free.acquire()
        except BaseException:
            self.requests -= 1
            raise

    def give_back(self) -> None:
        """Release the turn to another request."""
        self.requests -= 1
        self._free.release()


@dataclass
class Connection:
    """The connection of one request, begun at `began_at_s`, with its `body`, complete at `received_at_s`.

    `stream`, if the endpoint sets it, sends the response and what follows it, in the event loop. `file` is sent as the
    response's body, by a server that `sends_files`. `refusal` is why the request is refused, `draining` means that the
    server is about to stop, and `turn` is released when the request only has to wait.
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
        """Whether the client has disconnected."""
        return self._closed

    def drop_body(self) -> None:
        """Free the body's memory, once it has been read."""
        self.body.close()

    def replace_body(self, body: io.BytesIO) -> None:
        """Replace the body, and free the old one's memory."""
        self.drop_body()
        self.body = body

    def when_closed(self, call: Callable[[], None]) -> None:
        """Call `call` when the client disconnects, or at once if it already has.

        It may be called twice, and must not block. From now on the request only waits, so its turn ends.
        """
        self.end_turn()
        self._on_close = call
        if self._closed:
            call()

    def end_turn(self) -> None:
        """Release the turn, if it is held."""
        turn, self.turn = self.turn, None
        if turn:
            turn.give_back()

    def close(self) -> None:
        """Record that the client has disconnected."""
        self._closed = True
        if self._on_close:
            self._on_close()


def current() -> Connection:
    """Return the current request's connection; under another server, one that never closes."""
    found: Connection = request.environ.setdefault(ENVIRON_KEY, Connection())
    return found
