"""What this project uses of RSGI, Granian's interface to applications, with the types that Granian leaves out."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from granian.rsgi import ProtocolClosed as ProtocolClosed  # type: ignore[attr-defined]  # it is, but does not say so


class Headers(Protocol):
    """A request's headers, with names in lower case, which may repeat."""

    def get(self, name: str) -> str | None:
        """Return the value of a header, of one of this name where there are several."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Return all headers."""

    def __contains__(self, name: object) -> bool: ...


# Headers by which a request is refused, or counted for somebody, and so not to be lost.
_CHECKED_NAMES = (
    *("content-encoding", "forwarded", "host", "idempotency-key", "origin", "sec-fetch-site", "via"),
    *("x-forwarded-for", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-proto", "x-real-ip"),
)
# In place of a value that is not ASCII; no header may have it, so all that look at it refuse it.
UNREADABLE = "\x80"


def header_items(headers: Headers) -> list[tuple[str, str]]:
    """Return all headers that can be read, and before them those that are checked and cannot be.

    Granian leaves out a value that is not ASCII: with one such letter, a client could make the header vanish to which
    its proxy has added the address.
    """
    unreadable = [(name, UNREADABLE) for name in _CHECKED_NAMES if name in headers and headers.get(name) is None]
    return [*unreadable, *headers.items()]


class Scope(Protocol):
    """What a request says before its body."""

    @property
    def http_version(self) -> str:
        """1 or 1.1."""

    @property
    def scheme(self) -> str:
        """Either http or https."""

    @property
    def method(self) -> str:
        """Any word."""

    @property
    def path(self) -> str:
        """Its path, decoded."""

    @property
    def query_string(self) -> str:
        """What comes after the path, as it was sent."""

    @property
    def server(self) -> str:
        """The server's address and port."""

    @property
    def client(self) -> str:
        """The client's."""

    @property
    def headers(self) -> Headers:
        """Its headers."""


class Stream(Protocol):
    """An answer whose body is sent piece by piece."""

    async def send_bytes(self, data: bytes) -> None:
        """Send some of it."""


class HTTPProtocol(Protocol):
    """The body of a request, and the way back to its client.

    A client that hangs up before it has sent all of the body makes reading raise `ProtocolClosed`.
    """

    def __call__(self) -> "asyncio.Future[bytes]":
        """Return all of the body."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Return the body in pieces."""

    def client_disconnect(self) -> "asyncio.Future[None]":
        """Return what is done when the client has hung up."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer, from any thread; what comes after the first answer is dropped."""

    def response_file(self, status: int, headers: list[tuple[str, str]], file: str) -> None:
        """Answer with a file, which is read as fast as the client takes it."""

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Stream:
        """Begin to answer."""
