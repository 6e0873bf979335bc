"""Streams server-sent events to browsers, without a thread per browser."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from api.http.rsgi import HTTPProtocol
from api.http.wsgi import Answer

MEDIA_TYPE = "text/event-stream"

# Further browsers get one event, and reconnect by themselves.
_MAX_LISTENERS = 64
# After this many events, a browser must reconnect: Granian buffers without limit what a client does not read.
_MAX_EVENTS = 60


def event(text: str, again_after_s: float) -> bytes:
    """Return a text as an event, with the seconds after which a browser reconnects when the stream has ended."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines() if line.strip())
    return f"retry: {1000 * again_after_s:.0f}\n{lines}\n".encode()


class Feed:
    """The same events for all listeners of one process; `make` makes them, in a thread, while anyone listens."""

    def __init__(self, make: Callable[[], bytes], every_s: float) -> None:
        self._make = make
        self._every_s = every_s
        self._listeners = 0
        self._stopped = asyncio.Event()
        self._making: asyncio.Future[bytes] | None = None
        self._stale_at = 0.0  # on the monotonic clock

    def stop(self) -> None:
        """End all streams, since the service is about to stop; call this in the event loop."""
        self._stopped.set()

    async def serve(self, protocol: HTTPProtocol, answer: Answer) -> None:
        """Send a response whose body is the first event, then further events, at most until the client disconnects."""
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
        """Wait until the next event is due; return whether one of `ends` completed before."""
        done, _ = await asyncio.wait(ends, timeout=self._every_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    async def _latest(self) -> bytes:
        """Return the current event, made once for all listeners that ask at about the same time."""
        if self._making is None or time.monotonic() >= self._stale_at:
            self._stale_at = time.monotonic() + self._every_s / 2
            self._making = asyncio.ensure_future(asyncio.to_thread(self._make))
        return await asyncio.shield(self._making)
