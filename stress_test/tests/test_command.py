"""`python -m stress_test` against a small server whose answers each test sets."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

GOOD = {"success": True, "prediction": "Eskimo_dog", "score": 0.64}
PAGE = b'<p role="status">Thank you</p><input name="file">'
ROOT = Path(__file__).parents[2]


class FakeService(ThreadingHTTPServer):
    """Answers the requests of the stress test's users, and records them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHandler)
        self.ready = True
        self.status = 200
        self.prediction: dict[str, object] = GOOD
        self.headers: dict[str, str] = {}
        self.authorizations: set[str | None] = set()
        self.predicted: list[bytes] = []
        self.reports: list[bytes] = []
        self.asked = threading.Event()
        self.busy = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class FakeHandler(BaseHTTPRequestHandler):
    """One connection to the fake."""

    server: FakeService
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path == "/readyz":
            reason = json.dumps({"status": "not ready", "reason": "No model worker is alive."})
            self.answer(200 if self.server.ready else 503, reason.encode())
        else:
            self.server.authorizations.add(self.headers["Authorization"])
            self.answer(200, PAGE)

    def do_POST(self) -> None:
        self.server.authorizations.add(self.headers["Authorization"])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.set()
        if len(self.server.predicted) >= 10:
            self.server.busy.set()
        if self.path == "/predict":
            self.server.predicted.append(body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0])
            self.answer(self.server.status, json.dumps(self.server.prediction).encode(), self.server.headers)
        else:
            self.server.reports.append(body)
            self.answer(200, PAGE)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def command(host: str, seconds: float, *more: str) -> list[str]:
    numbers = ["--users", "2", "--seconds", str(seconds)]
    return [sys.executable, "-W", "error", "-m", "stress_test", "--host", host, *numbers, *more]


def run(host: str, seconds: float = 1.0, key: str = "") -> subprocess.CompletedProcess[str]:
    # In a separate process, since Locust changes the standard library of the one that imports it.
    environment = {**os.environ, "API_KEY": key}
    return subprocess.run(
        command(host, seconds), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def count(output: str, row: str) -> tuple[int, int]:
    """Return the numbers of requests and failures in a row of the table."""
    match = re.search(rf"^\| {re.escape(row)} \| (\d+) \| (\d+) \|", output, re.MULTILINE)
    assert match, output
    return int(match[1]), int(match[2])


def test_a_good_service_gets_a_table_without_failures(service: FakeService) -> None:
    result = run(service.address, seconds=5)
    assert (result.returncode, result.stderr.count("Traceback")) == (0, 0), result.stderr
    requests, failures = count(result.stdout, "POST /predict")
    assert (requests, failures) == (len(service.predicted), 0)
    assert requests > 0
    assert len(set(service.predicted)) == requests
    assert count(result.stdout, "GET /")[0] > 0
    assert count(result.stdout, "POST /feedback") == (len(service.reports), 0)
    assert "stress-test-" in service.reports[0].decode()


@pytest.mark.parametrize(("key", "authorization"), [("", None), ("mlapi_secret", "Bearer mlapi_secret")])
def test_every_request_has_the_key_if_there_is_one(service: FakeService, key: str, authorization: str | None) -> None:
    result = run(service.address, key=key)
    assert result.returncode == 0, result.stderr
    assert service.authorizations == {authorization}
    assert "mlapi_secret" not in result.stdout + result.stderr


def test_answers_of_200_without_success_are_failures(service: FakeService) -> None:
    service.prediction = {"success": False, "prediction": None, "score": None}
    result = run(service.address)
    assert result.returncode == 1
    requests, failures = count(result.stdout, "POST /predict")
    assert requests == failures > 0
    assert f'- {failures} x POST /predict: 200, but not a success: {{"success": false' in result.stdout
    assert service.reports == []


def test_a_full_queue_is_a_failure_that_is_named(service: FakeService) -> None:
    service.status, service.headers = 429, {"X-Error": "queue-full: Too many", "Retry-After": "7"}
    result = run(service.address)
    assert result.returncode == 1
    assert "POST /predict: 429 queue-full: Too many (Retry-After)" in result.stdout


def test_a_redirect_to_a_page_that_works_is_a_failure(service: FakeService) -> None:
    service.status, service.headers = 302, {"Location": "/"}
    result = run(service.address)
    assert result.returncode == 1
    assert "POST /predict: 302 without" in result.stdout


def test_ctrl_c_shows_what_was_measured_so_far(service: FakeService) -> None:
    with subprocess.Popen(command(service.address, 600), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert service.busy.wait(60)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert count(output, "all")[1] == 0
    assert ", interrupted; the generator took" in output


def test_a_service_that_is_not_ready_is_not_loaded(service: FakeService) -> None:
    service.ready = False
    result = run(service.address)
    assert result.returncode == 1
    assert result.stderr == f"stress_test: The service at {service.address} is not ready: No model worker is alive.\n"
    assert not service.asked.is_set()


def test_where_nothing_listens_one_is_told_how_to_start_the_service() -> None:
    result = run("http://127.0.0.1:1")
    assert result.returncode == 1
    assert "No service answers at http://127.0.0.1:1 " in result.stderr
    assert "`make run`" in result.stderr


def test_locusts_own_command_runs_the_same_users(service: FakeService) -> None:
    options = ["--headless", "--users", "1", "--run-time", "1s", "--host", service.address, "--only-summary"]
    locust = [sys.executable, "-m", "locust", "-f", "stress_test/locustfile.py", "--pause", "0.01", *options]
    result = subprocess.run(
        locust, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert len(set(service.predicted)) == len(service.predicted) > 0
