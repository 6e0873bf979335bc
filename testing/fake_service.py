"""An HTTP server that gives prepared answers and records the requests."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, dict[str, str], bytes]  # status, headers, body
Answering = Callable[[bytes], Answer | None]  # by the request's body

ID = "3f1c6d0be8a94a6f9d3a1f0d7f5b2c11"
DOG = {
    "predictions": [
        {"label": "Eskimo_dog", "class_index": 248, "score": 0.6404},
        {"label": "Siberian_husky", "class_index": 250, "score": 0.3071},
    ],
    "timings": {"queue_ms": 0.41, "decode_ms": 4.12, "inference_ms": 9.87, "batch_size": 1},
    "error": None,
}


def problem(code: str, status: int, detail: str, **headers: str) -> Answer:
    """Return the answer to a request that fails as a whole."""
    told = {"code": code, "status": status, "detail": detail}
    return status, {"Content-Type": "application/problem+json", **headers}, json.dumps(told).encode()


def failed(code: str, status: int, detail: str) -> dict[str, object]:
    """Return the result of an image that fails alone."""
    return {"predictions": None, "timings": None, "error": {"code": code, "status": status, "detail": detail}}


def predictions(*results: object, **headers: str) -> Answer:
    """Return the answer to a request for predictions."""
    model = {"name": "efficientnet-lite0", "version": "1"}
    return 200, headers, json.dumps({"id": ID, "status": "done", "model": model, "results": results}).encode()


def dogs(body: bytes) -> Answer:
    """Answer that every image shows a dog."""
    return predictions(*[DOG] * image_count(body))


def image_count(body: bytes) -> int:
    """Return the number of images in a request: a form has several, and a bare image has no fields."""
    return body.count(b'name="file"') or 1


class Server:
    """Gives the answers in turn, repeating the last one; None closes the connection without an answer."""

    def __init__(self) -> None:
        self.answers: list[Answer | Answering | None] = [dogs]
        self.requests: list[tuple[float, str, dict[str, str], bytes]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.requests.append((time.monotonic(), self.path, dict(self.headers), body))
                given = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                answer = given(body) if callable(given) else given
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST  # noqa: N815 - its base class's name for it

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        """End the server and its thread."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
