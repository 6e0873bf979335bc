"""Receives the bodies of requests: whole, each within its time, and not too many bytes at once.

None of this takes a thread: a client that sends slowly costs the memory of what it has sent, and no more.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from api.rsgi import HTTPProtocol, Scope
from jobs.errors import RETRY_AFTER_S, QueueFull, ServiceError, TooManyBytes, TooSlow

# Where too many bytes are under way, those that have been so for longer make room.
_PATIENCE_S = 5.0
# A refused body is received all the same and thrown away, for so long: a client that still sends looks for no answer.
_LINGER_S = 5.0


@dataclass(eq=False, frozen=True, slots=True)
class _Upload:
    task: "asyncio.Task[Any] | None"
    max_bytes: int
    started_at: float  # on the monotonic clock

    def end(self) -> None:
        """Have it raise `asyncio.CancelledError`."""
        if self.task:
            self.task.cancel()


class Bodies:
    """The bodies of one process, in one event loop: `max_bytes` of them under way."""

    def __init__(self, *, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._under_way: dict[_Upload, None] = {}  # oldest first
        self._bytes_under_way = 0

    async def receive(self, scope: Scope, protocol: HTTPProtocol, max_body_bytes: int) -> bytes:
        """Return a request's body, of up to so many bytes. Raises `TooManyBytes`, `QueueFull` or `TooSlow`."""
        chunked = "transfer-encoding" in scope.headers
        length = max_body_bytes if chunked else int(scope.headers.get("content-length") or 0)
        if not length:
            return b""
        refusal = self._refusal(length, max_body_bytes)
        if refusal:
            await _throw_away(protocol)
            raise refusal
        with self._timed(length):
            return await (_chunks(protocol, max_body_bytes) if chunked else protocol())

    def hurry(self) -> None:
        """Let no upload take much longer from now on."""
        asyncio.get_running_loop().call_later(_PATIENCE_S, self._end_all)

    def _end_all(self) -> None:
        for upload in list(self._under_way):
            upload.end()

    def _refusal(self, length: int, max_body_bytes: int) -> ServiceError | None:
        if length > max_body_bytes:
            return TooManyBytes(f"A request may have at most {max_body_bytes} bytes.")
        self._make_room(length)
        if self._under_way and self._bytes_under_way + length > self._max_bytes:
            return QueueFull("Too many uploads are under way. Try again later.", RETRY_AFTER_S)
        return None

    def _make_room(self, length: int) -> None:
        """End uploads that have had their time, where there is no place for another one."""
        patient_until = time.monotonic() - _PATIENCE_S
        while self._under_way and self._bytes_under_way + length > self._max_bytes:
            oldest = next(iter(self._under_way))
            if oldest.started_at > patient_until:
                return
            self._forget(oldest)
            oldest.end()

    @contextmanager
    def _timed(self, length: int) -> Iterator[None]:
        """Count an upload, and end it when its time is over."""
        upload = _Upload(asyncio.current_task(), length, time.monotonic())
        self._under_way[upload] = None
        self._bytes_under_way += length
        timer = asyncio.get_running_loop().call_later(self._timeout_s, upload.end)
        try:
            yield
        except asyncio.CancelledError as err:
            raise TooSlow from err
        finally:
            timer.cancel()
            self._forget(upload)

    def _forget(self, upload: _Upload) -> None:
        if upload in self._under_way:
            del self._under_way[upload]
            self._bytes_under_way -= upload.max_bytes


async def _chunks(protocol: HTTPProtocol, max_body_bytes: int) -> bytes:
    """Return a body that did not say before how long it is."""
    chunks, size = [], 0
    async for chunk in protocol:
        size += len(chunk)
        if size <= max_body_bytes:
            chunks.append(chunk)
    if size > max_body_bytes:
        raise TooManyBytes(f"A request may have at most {max_body_bytes} bytes.")
    return b"".join(chunks)


async def _throw_away(protocol: HTTPProtocol) -> None:
    async def receive() -> None:
        async for _ in protocol:
            pass

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(receive(), _LINGER_S)
