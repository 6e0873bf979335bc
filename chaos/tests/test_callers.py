"""Callers, against a server that treats their requests as a test wants."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chaos.callers import PATIENCE_S, RIGHT, WRONG, Callers, Request
from testing.pictures import Expected, Questions, render

RIGHT_BODY = b'{"success": true, "prediction": "dog", "score": 0.7}'


class Handler(BaseHTTPRequestHandler):
    """Answers by its `script`, in turn: a status with a body or a header, or None for a connection that breaks."""

    script: list[tuple[int, bytes, str] | None]
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.script.pop(0) if self.script else (200, RIGHT_BODY, "")
        if answer is None:
            self.close_connection = True
            return
        status, body, error = answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Error", error)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"script": [], "bodies": []})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def questions() -> Questions:
    return Questions(render(None, 2), [Expected(frozenset({"dog"}), 0.7)] * 2)


def first_request(server: ThreadingHTTPServer, questions: Questions, *script: object) -> Request:
    """Return the outcome of a caller's first request."""
    server.RequestHandlerClass.script[:] = script  # type: ignore[attr-defined]
    with Callers(server.server_port, questions, 1) as callers:
        deadline = time.monotonic() + PATIENCE_S
        while not callers.requests and time.monotonic() < deadline:
            pass
    return callers.requests[0]


def test_a_right_answer_is_right(server: ThreadingHTTPServer, questions: Questions) -> None:
    request = first_request(server, questions)
    assert (request.outcome, request.unheard, request.broke) == (RIGHT, 0, 0)
    assert request.sent_at < request.settled_at


def test_another_answer_is_wrong(server: ThreadingHTTPServer, questions: Questions) -> None:
    assert first_request(server, questions, (200, RIGHT_BODY.replace(b"dog", b"cat"), "")).outcome == WRONG


def test_a_refusal_is_told_by_status_and_code(server: ThreadingHTTPServer, questions: Questions) -> None:
    refusal = (503, b"{}", "no-worker: No model worker is alive.")
    assert first_request(server, questions, refusal).outcome == "503 no-worker"


def test_after_a_broken_connection_the_same_picture_is_sent_again(
    server: ThreadingHTTPServer, questions: Questions
) -> None:
    request = first_request(server, questions, None, None)
    assert (request.outcome, request.unheard, request.broke) == (RIGHT, 0, 2)
    first, second, third, *_ = server.RequestHandlerClass.bodies  # type: ignore[attr-defined]
    assert first == second == third
