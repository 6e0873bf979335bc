"""The load generator, against a server that answers at once."""

from http.server import ThreadingHTTPServer

import pytest

from benchmarks.load import Load, cell, content_length
from testing.pictures import Expected, Questions, render


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return render(None, 2)


def test_users_ask_and_right_answers_are_counted(server: ThreadingHTTPServer, files: list[bytes]) -> None:
    load = Load(server.server_port, Questions(files, [Expected(frozenset({"dog"}), 0.7)] * 2))
    measured = load.run(users=2, seconds=1)
    assert measured.rate_per_s > 0
    assert 0 < measured.p50_ms <= measured.p95_ms <= measured.p99_ms
    assert measured.errors == 0


def test_wrong_answers_are_errors_and_not_answers(server: ThreadingHTTPServer, files: list[bytes]) -> None:
    load = Load(server.server_port, Questions(files, [Expected(frozenset({"cat"}), 0.7)] * 2))
    measured = load.run(users=2, seconds=1)
    assert (measured.rate_per_s, measured.errors) == (0, load.failures["200, but the answer to another picture"])
    assert measured.errors > 0


def test_a_refusal_is_an_error_and_the_user_goes_on(server: ThreadingHTTPServer, files: list[bytes]) -> None:
    server.RequestHandlerClass.statuses = (503, 200, 200)  # type: ignore[attr-defined]
    load = Load(server.server_port, Questions(files, [Expected(frozenset({"dog"}), 0.7)] * 2))
    measured = load.run(users=1, seconds=2)
    assert measured.errors == load.failures["503 without an X-Error header"] > 0
    assert measured.rate_per_s > 0


def test_percentiles_are_times_that_were_measured() -> None:
    measured = cell([0.001 * number for number in range(1, 101)], seconds=2)
    assert measured[:5] == (50, 50, 95, 99, 0)


@pytest.mark.parametrize("name", [b"content-length", b"Content-Length"])
def test_an_answers_length_is_read_from_its_headers(name: bytes) -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\nx: 1\r\n" + name + b": 42\r\n\r\n") == 42


def test_an_answer_without_a_length_is_refused() -> None:
    with pytest.raises(ValueError, match="how long"):
        content_length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
