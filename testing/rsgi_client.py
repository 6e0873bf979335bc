"""A stand-in for Granian: calls an RSGI application as Granian does for an HTTP client."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from api.http.rsgi import ProtocolClosed


class FakeHeaders:
    """Headers whose names may repeat."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self._pairs = pairs

    def get(self, name: str) -> str | None:
        """Return the first value of a header."""
        return dict(reversed(self._pairs)).get(name)

    def items(self) -> Iterable[tuple[str, str]]:
        """Return all headers."""
        return self._pairs

    def __contains__(self, name: object) -> bool:
        return name in dict(self._pairs)


@dataclass
class FakeScope:
    """A request's metadata."""

    method: str = "GET"
    path: str = "/livez"
    headers: FakeHeaders = field(default_factory=lambda: FakeHeaders(("host", "localhost")))
    http_version: str = "1.1"
    scheme: str = "http"
    query_string: str = ""
    server: str = "127.0.0.1:5000"
    client: str = "192.0.2.1:40000"


@dataclass
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


class FakeStream:
    """A response that is sent in pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def send_bytes(self, data: bytes) -> None:
        """Record a piece."""
        self.pieces.append(data)


class FakeProtocol:
    """A client that sends `pieces` of a body and then its end, unless it is `slow`."""

    def __init__(self, pieces: Iterable[bytes] = (), slow: bool = False) -> None:
        self.answer: Answer | None = None
        self.stream: FakeStream | None = None
        self.file: str | None = None
        self._pieces = list(pieces)
        self._slow = slow
        self._hang_up = asyncio.Event()

    def __call__(self) -> "asyncio.Future[bytes]":
        """Return the whole body."""
        return asyncio.ensure_future(self._read())

    async def _read(self) -> bytes:
        if self._slow:
            await self._hang_up.wait()
            raise ProtocolClosed
        return b"".join(self._pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces, then an empty one; a client that hangs up sends one more before it."""
        for piece in self._pieces:
            yield piece
        if self._slow:
            await self._hang_up.wait()
            yield b""
        yield b""

    def client_disconnect(self) -> "asyncio.Future[None]":
        """Return a future that is done when the client has hung up."""
        return asyncio.ensure_future(self._gone())

    async def _gone(self) -> None:
        await self._hang_up.wait()

    def hang_up(self) -> None:
        """Close the connection."""
        self._hang_up.set()

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Record the first answer."""
        self.answer = self.answer or Answer(status, dict(headers), body)

    def response_file(self, status: int, headers: list[tuple[str, str]], file: str) -> None:
        """Record the first answer, and the file."""
        self.file = file
        self.response_bytes(status, headers, Path(file).read_bytes())

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> FakeStream:
        """Record the beginning of a streamed answer."""
        self.answer, self.stream = Answer(status, dict(headers), b""), FakeStream()
        return self.stream
