"""The part of RSGI, Granian's application interface, that this project uses, with the types that Granian omits."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from granian.rsgi import ProtocolClosed as ProtocolClosed  # type: ignore[attr-defined]  # it is, but does not say so


class Headers(Protocol):
    """A request's headers; names are in lower case and may repeat."""

    def get(self, name: str) -> str | None:
        """Return the value of a header, or of one of several with this name."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Return all headers."""

    def __contains__(self, name: object) -> bool: ...


# Headers that decide whether a request is refused or to whom it is counted, so they must not get lost.
_CHECKED_NAMES = (
    *("content-encoding", "forwarded", "host", "idempotency-key", "origin", "sec-fetch-site", "via"),
    *("x-forwarded-for", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-proto", "x-real-ip"),
)
# Replaces a value that is not ASCII; it is invalid in every header, so all code that reads it refuses it.
UNREADABLE = "\x80"


def header_items(headers: Headers) -> list[tuple[str, str]]:
    """Return all readable headers, preceded by the checked headers that are unreadable.

    Granian leaves out values that are not ASCII: with one such character, a client could hide the header to which its
    proxy has added the address.
    """
    unreadable = [(name, UNREADABLE) for name in _CHECKED_NAMES if name in headers and headers.get(name) is None]
    return [*unreadable, *headers.items()]


class Scope(Protocol):
    """A request's head."""

    @property
    def http_version(self) -> str:
        """1 or 1.1."""

    @property
    def scheme(self) -> str:
        """Either http or https."""

    @property
    def method(self) -> str:
        """The method, which may be any word."""

    @property
    def path(self) -> str:
        """The path, decoded."""

    @property
    def query_string(self) -> str:
        """The query string, as it was sent."""

    @property
    def server(self) -> str:
        """The server's address and port."""

    @property
    def client(self) -> str:
        """The client's address and port."""

    @property
    def headers(self) -> Headers:
        """The headers."""


class Stream(Protocol):
    """A response whose body is sent in pieces."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a piece of the body."""


class HTTPProtocol(Protocol):
    """The body of a request, and the methods that send its response.

    Reading raises `ProtocolClosed` if the client disconnects before it has sent the whole body.
    """

    def __call__(self) -> "asyncio.Future[bytes]":
        """Return the whole body."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Return the body in pieces."""

    def client_disconnect(self) -> "asyncio.Future[None]":
        """Return a future that completes when the client disconnects."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send a response, from any thread; any after the first is dropped."""

    def response_file(self, status: int, headers: list[tuple[str, str]], file: str) -> None:
        """Send a file as the response, read as fast as the client receives it."""

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Stream:
        """Start a response whose body follows in pieces."""
