"""Sends events to browsers that go on listening (server-sent events), without a thread for any of them."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from api.http.rsgi import HTTPProtocol
from api.http.wsgi import Answer

MEDIA_TYPE = "text/event-stream"

# Further ones get one event, and ask again by themselves.
_MAX_LISTENERS = 64
# After so many events, a browser is to ask again. What a client does not read stays in Granian's memory: it takes all.
_MAX_EVENTS = 60


def event(text: str, again_after_s: float) -> bytes:
    """Return a text as an event, after whose stream has ended a browser asks again after so long."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines() if line.strip())
    return f"retry: {1000 * again_after_s:.0f}\n{lines}\n".encode()


class Feed:
    """The same events for all who listen to one process, made by `make`, in a thread, as long as anybody listens."""

    def __init__(self, make: Callable[[], bytes], every_s: float) -> None:
        self._make = make
        self._every_s = every_s
        self._listeners = 0
        self._stopped = asyncio.Event()
        self._making: asyncio.Future[bytes] | None = None
        self._stale_at = 0.0  # on the monotonic clock

    def stop(self) -> None:
        """Let nobody listen any more, as the service is about to stop; from the event loop."""
        self._stopped.set()

    async def serve(self, protocol: HTTPProtocol, answer: Answer) -> None:
        """Send an answer, whose body is the first event, and then others, no longer than until the client hangs up."""
        status, headers, first = answer
        if self._stopped.is_set() or self._listeners >= _MAX_LISTENERS:
            protocol.response_bytes(status, headers, first)
            return
        stream = protocol.response_stream(status, headers)
        self._listeners += 1
        waits = (protocol.client_disconnect(), self._stopped.wait())
        ends: set[asyncio.Future[Any]] = {asyncio.ensure_future(each) for each in waits}
        try:
            await stream.send_bytes(first)
            for _ in range(_MAX_EVENTS):
                if await self._ended(ends):
                    break
                await stream.send_bytes(await self._latest())
        finally:
            self._listeners -= 1
            for end in ends:
                end.cancel()

    async def _ended(self, ends: "set[asyncio.Future[Any]]") -> bool:
        """Wait until it is time for the next event; tell whether one of these came before."""
        done, _ = await asyncio.wait(ends, timeout=self._every_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    async def _latest(self) -> bytes:
        """Return the event of now, which is made once for all who ask at about the same time."""
        if self._making is None or time.monotonic() >= self._stale_at:
            self._stale_at = time.monotonic() + self._every_s / 2
            self._making = asyncio.ensure_future(asyncio.to_thread(self._make))
        return await asyncio.shield(self._making)
