"""Posts a signed message to a URL that a client has chosen, possibly to do harm.

The signature follows Standard Webhooks (https://www.standardwebhooks.com).
"""

import base64
import hashlib
import hmac
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import closing, contextmanager, suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from api.webhooks.internet import is_public
from runtime.errors import SetupError

_SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with
# For the DNS lookup, connection, TLS, message and response together; less than the lease of a webhook.
_TIMEOUT_S = 10.0
# A receiver's invalid status line may be part of the reason, and have up to 64 KB.
_MAX_REASON = 200


class NotSent(Exception):
    """A message was not received; the exception tells the operator why."""


class Sender:
    """Signs with `secret`, and sends to public addresses, or to any with `allow_private`."""

    def __init__(self, secret: str, *, allow_private: bool) -> None:
        self._secret = _key(secret)
        self._allow_private = allow_private

    def post(self, url: str, message_id: str, document: dict[str, Any]) -> None:
        """Send a document. Raises `NotSent` if the response is not 2xx; redirects are not followed."""
        try:
            status = self._post(urlsplit(url), message_id, json.dumps(document).encode())
        except (TimeoutError, futures.TimeoutError) as err:  # two classes before Python 3.11
            raise NotSent(f"no answer within {_TIMEOUT_S:g} s") from err
        except (OSError, http.client.HTTPException, ValueError) as err:
            raise NotSent(f"{type(err).__name__}: {err}"[:_MAX_REASON]) from err
        if not 200 <= status < 300:
            raise NotSent(f"it was answered with {status}")

    def _post(self, url: SplitResult, message_id: str, body: bytes) -> int:
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = {"Content-Type": "application/json", **self.headers(message_id, body)}
        deadline = time.monotonic() + _TIMEOUT_S
        with closing(self._connection(url, deadline)) as connection, _ended_at(deadline, connection.sock):
            if isinstance(connection.sock, ssl.SSLSocket):
                connection.sock.do_handshake()
            connection.request("POST", path, body, headers)
            return connection.getresponse().status

    def headers(self, message_id: str, body: bytes, at_s: float | None = None) -> dict[str, str]:
        """Return the headers with which the receiver verifies that the message is authentic and new."""
        timestamp = str(int(time.time() if at_s is None else at_s))
        signed = hmac.digest(self._secret, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
        signature = f"v1,{base64.b64encode(signed).decode()}"
        return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}

    def _connection(self, url: SplitResult, deadline: float) -> http.client.HTTPConnection:
        """Return a connection to the address that was checked: a second lookup may return another.

        The caller makes the TLS handshake.
        """
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        address = self._address(host, port, deadline)
        connected = socket.create_connection((address, port), _left_s(deadline))
        connection = http.client.HTTPConnection(host, port)
        if url.scheme == "https":
            connection = http.client.HTTPSConnection(host, port)
            context = ssl.create_default_context()
            connected = context.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
        connection.sock = connected
        return connection

    def _address(self, host: str, port: int, deadline: float) -> str:
        """Return the first address of a host. Raises `OSError` if one of its addresses is not allowed."""
        addresses = _addresses(host, port, deadline)
        for address in addresses:
            if not self._allow_private and not is_public(ip_address(address)):
                raise PermissionError(f"{host} is {address}, which is not on the Internet")
        return addresses[0]


def _addresses(host: str, port: int, deadline: float) -> list[str]:
    """Return the addresses of a host. Raises `OSError`, or `futures.TimeoutError`."""
    found = futures.Future[list[str]]()

    def look_up() -> None:
        try:
            found.set_result([str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except (OSError, ValueError) as err:
            found.set_exception(err)

    # A lookup cannot be cancelled, so the thread may outlive this call; the system's resolver times out in the end.
    threading.Thread(target=look_up, name="webhook look-up", daemon=True).start()
    return found.result(_left_s(deadline))


def _left_s(deadline: float) -> float:
    """Return the seconds left. Raises `TimeoutError` if there are none."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


@contextmanager
def _ended_at(deadline: float, connected: socket.socket) -> Iterator[None]:
    """Shut a connection down at a deadline: a socket's own timeout restarts with each byte.

    Raises `TimeoutError`, even if the shutdown made a response look complete.
    """
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        with suppress(OSError):  # it is closed by now
            socket.socket.shutdown(connected, socket.SHUT_RDWR)  # not TLS's own, which is for its own thread

    timer = threading.Timer(deadline - time.monotonic(), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not is_over.is_set():
            raise
    finally:
        timer.cancel()
    if is_over.is_set():
        raise TimeoutError


def _key(secret: str) -> bytes:
    """Return the bytes to sign with. Raises `SetupError`."""
    if not secret.startswith(_SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except ValueError as err:
        raise SetupError(f"WEBHOOK_SECRET: what comes after {_SECRET_PREFIX} must be base64.") from err
