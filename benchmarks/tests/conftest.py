"""A server for the load generators, which answers at once."""

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest


class Handler(BaseHTTPRequestHandler):
    """Answers every picture with "dog", with these statuses in turn."""

    protocol_version = "HTTP/1.1"
    statuses: ClassVar[Sequence[int]] = (200,)
    requests = 0

    def do_POST(self) -> None:  # noqa: D102 - named by its base class
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).requests += 1
        body = json.dumps({"success": True, "prediction": "dog", "score": 0.7}).encode()
        self.send_response(self.statuses[self.requests % len(self.statuses)])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
