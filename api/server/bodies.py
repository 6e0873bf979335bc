"""Receives request bodies whole, each within a time limit, and limits the bytes in memory at once.

None of this takes a thread: a slow client costs only the memory of what it has sent.
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

# Connections of one process, if it may open that many files; further ones wait in the kernel's queue. Each costs some
# kilobytes.
MAX_CONNECTIONS = 10_000
# Time that uploads in progress have when the service is about to stop.
_HURRY_S = 5.0
# A refused body is still received for this long, and discarded: a client that is sending does not read responses.
_LINGER_S = 5.0


@dataclass(eq=False, slots=True)
class _Upload:
    """A body in progress: the task to cancel at its deadline, and the bytes so far, unless it is refused."""

    task: "asyncio.Task[Any]"
    timer: asyncio.TimerHandle
    body: io.BytesIO = field(default_factory=io.BytesIO)
    size: int = 0
    refusal: ServiceError | None = None


class Bodies:
    """The bodies of one process, in one event loop, with at most `max_bytes` in memory.

    Beyond that, the sender with the most bytes in progress is refused. Small bodies never are: there is room for one on
    each connection. They are counted by their announced length, which costs less.
    """

    def __init__(self, *, max_bytes: int, timeout_s: float, trusted_proxies: int = 0) -> None:
        self._max_bytes = max_bytes
        self._small_bytes = max_bytes // MAX_CONNECTIONS
        self._timeout_s = timeout_s
        self._trusted_proxies = trusted_proxies
        self._under_way: set[_Upload] = set()
        self._senders: dict[_Upload, str] = {}  # without small uploads; oldest first
        self._bytes = 0

    async def receive(
        self, head: Head, protocol: HTTPProtocol, max_body_bytes: int, refusal: ServiceError | None = None
    ) -> bytes:
        """Return a request's body, of up to `max_body_bytes`; discard it if the request is refused anyway.

        If the client waits for `100 Continue`, a refused body is not received at all. Raises the `refusal`,
        `BadForwarding`, `TooManyBytes`, `QueueFull`, `TooSlow` or, if the body breaks off, `BadBody`: a client that has
        only closed its half of the connection can read why.
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
        """Receive and discard a body, so that its client gets to read the response."""
        with suppress(ServiceError):
            await self.receive(head, protocol, 0, BadBody())

    def hurry(self) -> None:
        """Cancel all uploads that are still in progress after a short time."""
        asyncio.get_running_loop().call_later(_HURRY_S, self._end_all)

    def _end_all(self) -> None:
        for upload in self._under_way:
            upload.task.cancel()

    @contextmanager
    def _under_time(self) -> Iterator[_Upload]:
        """Yield an upload that is cancelled at its deadline, and removed in the end."""
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
        """Receive a body in pieces; discard those of a refused one.

        Granian ends every body with an empty piece. It yields another one before that if the body breaks off, and for
        trailer fields, which it does not distinguish, and none otherwise.
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
        """Count received bytes, and make room for them if there is none."""
        upload.size += size
        self._bytes += size
        while self._bytes > self._max_bytes and self._senders:
            self._make_room()

    def _make_room(self) -> None:
        """Refuse the latest uploads of the sender with the most bytes in progress, so that earlier ones can finish."""
        sizes = Counter[str]()
        for upload, sender in self._senders.items():
            sizes[sender] += upload.size
        [(most, _)] = sizes.most_common(1)
        for upload in [each for each in reversed(self._senders) if self._senders[each] == most]:
            if self._bytes > self._max_bytes:
                self._refuse(upload, QueueFull("Too many uploads are under way. Try again later.", RETRY_AFTER_S))

    def _refuse(self, upload: _Upload, refusal: ServiceError) -> None:
        """Discard an upload, and cancel it soon."""
        self._drop(upload)
        upload.refusal = refusal
        upload.timer.cancel()
        upload.timer = asyncio.get_running_loop().call_later(_LINGER_S, upload.task.cancel)

    def _drop(self, upload: _Upload) -> None:
        """Stop counting an upload, and free its bytes."""
        self._bytes -= upload.size
        upload.size = 0
        upload.body = io.BytesIO()
        self._senders.pop(upload, None)


def _too_many(max_body_bytes: int) -> TooManyBytes:
    return TooManyBytes(f"A request may have at most {max_body_bytes} bytes.")


def _sender(head: Head, trusted_proxies: int) -> str:
    """Return the identity of a request's client. Raises `BadForwarding`."""
    forwarded_for = (value for name, value in head.headers.items() if name == "x-forwarded-for")
    return subscriber(client_address(forwarded_for, trusted_proxies, head.client.rpartition(":")[0].strip("[]")))
