"""A small proxy that serves a service under a path prefix, like nginx and others (docs/proxies.md)."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Hop-by-hop headers, which apply to one connection only.
_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding"}
_CHUNK_BYTES = 65_536


class PrefixProxy(ThreadingHTTPServer):
    """Forwards requests under `prefix`, and records the paths outside it."""

    daemon_threads = True

    def __init__(self, service_url: str, prefix: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = urlsplit(service_url).netloc
        self.prefix = prefix
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.url = f"http://{self.host}{prefix}"
        self.strays: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: PrefixProxy

    def handle_one_request(self) -> None:
        """Answer a request; a browser that hangs up is no error."""
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def do_GET(self) -> None:
        """Forward a request, without the prefix."""
        prefix = self.server.prefix
        if not self.path.startswith(f"{prefix}/"):
            self.server.strays.append(self.path)
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with closing(http.client.HTTPConnection(self.server.service, timeout=60)) as upstream:
            upstream.request(self.command, self.path.removeprefix(prefix), body or None, self._headers())
            self._answer(upstream.getresponse())

    do_POST = do_HEAD = do_GET  # noqa: N815 - the base class has these names

    def _headers(self) -> dict[str, str]:
        kept = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_CONNECTION}
        return {
            **kept,
            "X-Forwarded-For": self.client_address[0],
            "X-Forwarded-Host": self.server.host,
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Prefix": self.server.prefix,
        }

    def _answer(self, response: http.client.HTTPResponse) -> None:
        """Forward an answer as it comes; its end is that of the connection (HTTP/1.0)."""
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _OF_THE_CONNECTION:
                self.send_header(name, value)
        self.end_headers()
        while piece := response.read1(_CHUNK_BYTES):
            self.wfile.write(piece)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serving_under(prefix: str, service_url: str) -> Iterator[PrefixProxy]:
    """Yield a proxy that serves a service under a path, on a free port of 127.0.0.1."""
    with PrefixProxy(service_url, prefix) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()
