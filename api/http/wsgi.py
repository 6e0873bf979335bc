"""Calls a WSGI application (PEP 3333) for a request received through RSGI, Granian's own interface."""

import io
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from api.http.rsgi import Scope

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Answer = tuple[int, list[tuple[str, str]], bytes]  # status, headers, body

_ABOUT_THE_BODY = frozenset({"content-length", "transfer-encoding"})
_ALWAYS: dict[str, Any] = {
    "SCRIPT_NAME": "",
    "SERVER_SOFTWARE": "Granian",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}


def environ(scope: Scope, body: io.BytesIO) -> dict[str, Any]:
    """Return the WSGI environment of a request."""
    server_name, _, server_port = scope.server.rpartition(":")
    remote_address, _, remote_port = scope.client.rpartition(":")
    return {
        **_ALWAYS,
        **_headers(scope.headers.items()),
        "REQUEST_METHOD": scope.method,
        "PATH_INFO": scope.path.encode().decode("latin-1"),  # WSGI strings hold bytes as Latin-1
        "QUERY_STRING": scope.query_string,
        "CONTENT_LENGTH": str(body.getbuffer().nbytes),
        "SERVER_NAME": server_name,
        "SERVER_PORT": server_port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": remote_address.strip("[]"),
        "REMOTE_PORT": remote_port,
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": body,
    }


def _headers(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by their WSGI names; repeated headers are joined into one.

    Headers about the body's length are left out, since the body is here, and so are names with an underscore: in WSGI
    they look like others with a hyphen, which a proxy may have checked.
    """
    found: dict[str, str] = {}
    for name, value in items:
        if "_" in name or name in _ABOUT_THE_BODY:
            continue
        key = _key(name)
        separator = "; " if name == "cookie" else ","
        found[key] = f"{found[key]}{separator}{value}" if key in found else value
    return found


@lru_cache(maxsize=1024)
def _key(name: str) -> str:
    return "CONTENT_TYPE" if name == "content-type" else f"HTTP_{name.upper().replace('-', '_')}"


def call(app: "WSGIApplication", environment: dict[str, Any]) -> Answer:
    """Return the application's complete response."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> Callable[[bytes], None]:
        started[:] = [(status, headers)]
        return written.append

    chunks = app(environment, start_response)
    try:
        written.extend(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    [(status, headers)] = started
    return int(status[:3]), headers, b"".join(written)
