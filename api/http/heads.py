"""Reads the head of a request within size limits, before anything else does.

Granian and Flask interpret parts of it differently: to Flask, `post` is POST, and `//predict` the path `/predict`. All
code after this module works with one interpretation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from api.http import content_encoding, rsgi
from runtime.errors import AddressTooLong, BadBody, HeadersTooLarge, ServiceError, UnsupportedEncoding

# Methods are in upper case (RFC 9110). Any other is `UNKNOWN`, which no route has: it is answered with 405, and it is
# one word in the log, whatever the client sent.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN_METHOD = "UNKNOWN"
# Granian accepts heads of 400 KB. They are parsed on the event loop, which blocks everything else, and written to the
# log. No client or proxy needs that much: nginx and Apache accept 8 KB as well.
MAX_PATH_BYTES = 2048
MAX_QUERY_BYTES = 8192
MAX_HEADER_BYTES = 8192
MAX_HEADERS_BYTES = 32_768
MAX_HEADERS = 100

_Pairs = Sequence[tuple[str, str]]


class Headers:
    """A request's headers, read once; names are in lower case and may repeat."""

    def __init__(self, pairs: _Pairs) -> None:
        self._pairs = pairs
        self._first = dict(reversed(pairs))

    def get(self, name: str) -> str | None:
        """Return the first value of a header."""
        return self._first.get(name)

    def items(self) -> Iterable[tuple[str, str]]:
        """Return all headers."""
        return self._pairs

    def __contains__(self, name: object) -> bool:
        return name in self._first


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head; with a `refusal`, only the part within the limits.

    The `length` of the body is None if it is not known in advance (chunked transfer coding).
    """

    method: str
    path: str
    query_string: str
    headers: Headers
    scheme: str
    http_version: str
    server: str
    client: str
    length: int | None = 0
    refusal: ServiceError | None = None

    @classmethod
    def read(cls, scope: rsgi.Scope) -> "Head":
        """Return the head of a request."""
        pairs: _Pairs = rsgi.header_items(scope.headers)
        path, query = f"/{scope.path.lstrip('/')}", scope.query_string
        refusal: ServiceError | None = None
        if _are_too_large(pairs):
            pairs, refusal = _within_bounds(pairs), HeadersTooLarge()
        if len(query) > MAX_QUERY_BYTES:
            query, refusal = "", AddressTooLong(f"The query of an address may have at most {MAX_QUERY_BYTES} bytes.")
        if len(path) > MAX_PATH_BYTES or len(path.encode()) > MAX_PATH_BYTES:
            path, refusal = path[: MAX_PATH_BYTES // 4], AddressTooLong()
        headers = Headers(pairs)
        try:
            length = _length(headers)
        except BadBody as err:
            length, refusal = None, refusal or err
        if scope.method == "POST" and length != 0:
            refusal = refusal or _coding_refusal(headers)
        return cls(
            method=scope.method if scope.method in _METHODS else UNKNOWN_METHOD,
            path=path,
            query_string=query,
            headers=headers,
            scheme=scope.scheme,
            http_version=scope.http_version,
            server=scope.server,
            client=scope.client,
            length=length,
            refusal=refusal,
        )

    @property
    def media_type(self) -> str:
        """The body's media type, in lower case and without parameters."""
        return (self.headers.get("content-type") or "").partition(";")[0].strip().lower()

    @property
    def asks_first(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body."""
        return self.length != 0 and "expect" in self.headers


def _are_too_large(pairs: _Pairs) -> bool:
    sizes = [len(name) + len(value) for name, value in pairs]
    return len(sizes) > MAX_HEADERS or sum(sizes) > MAX_HEADERS_BYTES or max(sizes, default=0) > MAX_HEADER_BYTES


def _within_bounds(pairs: _Pairs) -> _Pairs:
    """Return the small headers, which are safe to process: they identify the client and give the body's length."""
    small = [(name, value) for name, value in pairs if len(name) + len(value) <= MAX_HEADERS_BYTES // MAX_HEADERS]
    return small[:MAX_HEADERS]


def _length(headers: Headers) -> int | None:
    """Return the body's length; None if it is chunked. Raises `BadBody` for any other transfer coding.

    Granian refuses lengths that are not numbers or contradict each other, and ignores a length beside chunks.
    """
    coding = headers.get("transfer-encoding")
    if coding is None:
        return int(headers.get("content-length") or 0)
    if coding.strip().lower() != "chunked":
        raise BadBody("The body is in a transfer coding other than chunked, which is not taken.")
    return None


def _coding_refusal(headers: Headers) -> UnsupportedEncoding | None:
    """Return the error for a body in an unsupported content coding, or None."""
    try:
        content_encoding.coding_of(",".join(value for name, value in headers.items() if name == "content-encoding"))
    except UnsupportedEncoding as err:
        return err
    return None
