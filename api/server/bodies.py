"""Receives the bodies of requests: whole, each within its time, and not too many bytes at once.

None of this takes a thread: a client that sends slowly costs the memory of what it has sent, and no more.
"""

import asyncio
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from api.access.access import subscriber
from api.http.forwarded import client_address
from api.http.heads import Head
from api.http.rsgi import HTTPProtocol, ProtocolClosed
from runtime.errors import RETRY_AFTER_S, BadBody, BadForwarding, QueueFull, ServiceError, TooManyBytes, TooSlow

# Connections of one process, as far as it may open files; further ones wait in the kernel's queue. Each costs some
# kilobytes.
MAX_CONNECTIONS = 10_000
# How long uploads have that are under way when the service is about to stop.
_HURRY_S = 5.0
# A refused body is received all the same and thrown away, for so long: a client that still sends looks for no answer.
_LINGER_S = 5.0


@dataclass(eq=False, slots=True)
class _Upload:
    """A body under way, whose task is cancelled when its time is over; what came of it, while it is not refused."""

    task: "asyncio.Task[Any]"
    timer: asyncio.TimerHandle
    body: io.BytesIO = field(default_factory=io.BytesIO)
    size: int = 0
    refusal: ServiceError | None = None


class Bodies:
    """The bodies of one process, in one event loop: `max_bytes` of them, as far as they have come.

    Where more come, who has the most under way makes room. Small ones never do: as many as there are connections have
    room. They are counted by what they announce, which costs less.
    """

    def __init__(self, *, max_bytes: int, timeout_s: float, trusted_proxies: int = 0) -> None:
        self._max_bytes = max_bytes
        self._small_bytes = max_bytes // MAX_CONNECTIONS
        self._timeout_s = timeout_s
        self._trusted_proxies = trusted_proxies
        self._under_way: set[_Upload] = set()
        self._senders: dict[_Upload, str] = {}  # of those that are not small; oldest first
        self._bytes = 0

    async def receive(
        self, head: Head, protocol: HTTPProtocol, max_body_bytes: int, refusal: ServiceError | None = None
    ) -> bytes:
        """Return a request's body, of up to so many bytes; keep nothing of one that is refused anyway.

        Of a client that waits for `100 Continue`, one that is refused is not received at all. Raises the `refusal`,
        `BadForwarding`, `TooManyBytes`, `QueueFull`, `TooSlow` or, where the body breaks off, `BadBody`: a client that
        has only closed its half of the connection reads why.
        """
        length = head.length
        if length == 0:
            return b""
        try:
            sender = _sender(head, self._trusted_proxies)
        except BadForwarding as err:
            refusal = refusal or err
        if not refusal and length and length > max_body_bytes:
            refusal = _too_many(max_body_bytes)
        if refusal and head.asks_first:
            raise refusal
        with self._under_time() as upload:
            if refusal:
                self._refuse(upload, refusal)
            elif length is not None and length <= self._small_bytes:
                self._count(upload, length)
                return await protocol()
            else:
                self._senders[upload] = sender
            await self._collect(upload, protocol, length or 0, max_body_bytes)
            return upload.body.getvalue()

    async def throw_away(self, head: Head, protocol: HTTPProtocol) -> None:
        """Receive a body that nothing will look at, so that its client comes to read the answer."""
        with suppress(ServiceError):
            await self.receive(head, protocol, 0, BadBody())

    def hurry(self) -> None:
        """Let no upload take much longer from now on."""
        asyncio.get_running_loop().call_later(_HURRY_S, self._end_all)

    def _end_all(self) -> None:
        for upload in self._under_way:
            upload.task.cancel()

    @contextmanager
    def _under_time(self) -> Iterator[_Upload]:
        """Yield an upload that is ended when its time is over, and forgotten in the end."""
        task: Any = asyncio.current_task()
        upload = _Upload(task, asyncio.get_running_loop().call_later(self._timeout_s, task.cancel))
        self._under_way.add(upload)
        try:
            yield upload
        except asyncio.CancelledError as err:
            raise upload.refusal or TooSlow from err
        except ProtocolClosed as err:
            raise upload.refusal or BadBody from err
        finally:
            upload.timer.cancel()
            self._under_way.remove(upload)
            self._drop(upload)

    async def _collect(self, upload: _Upload, protocol: HTTPProtocol, length: int, max_body_bytes: int) -> None:
        """Have a body come piece by piece; what comes of one that is refused is thrown away.

        Granian ends every body with an empty piece. It gives another one before that where the body breaks off, and for
        trailer fields, which it does not tell apart; it gives none otherwise.
        """
        empty_pieces = 0
        async for piece in protocol:
            empty_pieces += not piece
            if not upload.refusal:
                upload.body.write(piece)
                self._count(upload, len(piece))
            if upload.size > max_body_bytes:
                self._refuse(upload, _too_many(max_body_bytes))
        if upload.refusal:
            raise upload.refusal
        if upload.size < length or empty_pieces > 1:
            raise BadBody

    def _count(self, upload: _Upload, size: int) -> None:
        """Count so many bytes more, and have room made for them where there is none."""
        upload.size += size
        self._bytes += size
        while self._bytes > self._max_bytes and self._senders:
            self._make_room()

    def _make_room(self) -> None:
        """Refuse the latest uploads of whoever has the most under way, so that the earlier ones can come to an end."""
        sizes = Counter[str]()
        for upload, sender in self._senders.items():
            sizes[sender] += upload.size
        [(most, _)] = sizes.most_common(1)
        for upload in [each for each in reversed(self._senders) if self._senders[each] == most]:
            if self._bytes > self._max_bytes:
                self._refuse(upload, QueueFull("Too many uploads are under way. Try again later.", RETRY_AFTER_S))

    def _refuse(self, upload: _Upload, refusal: ServiceError) -> None:
        """Keep nothing of an upload any more, and end it soon."""
        self._drop(upload)
        upload.refusal = refusal
        upload.timer.cancel()
        upload.timer = asyncio.get_running_loop().call_later(_LINGER_S, upload.task.cancel)

    def _drop(self, upload: _Upload) -> None:
        """Count an upload no more, and forget what came of it."""
        self._bytes -= upload.size
        upload.size = 0
        upload.body = io.BytesIO()
        self._senders.pop(upload, None)


def _too_many(max_body_bytes: int) -> TooManyBytes:
    return TooManyBytes(f"A request may have at most {max_body_bytes} bytes.")


def _sender(head: Head, trusted_proxies: int) -> str:
    """Return what stands for the client that sends a request. Raises `BadForwarding`."""
    forwarded_for = (value for name, value in head.headers.items() if name == "x-forwarded-for")
    return subscriber(client_address(forwarded_for, trusted_proxies, head.client.rpartition(":")[0].strip("[]")))
