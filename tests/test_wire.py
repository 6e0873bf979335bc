"""Requests that no client library sends: broken off, ambiguous in length, too long, or oddly spelled."""

import socket
import struct
from urllib.parse import urlsplit

import pytest
import requests

from testing.images import DOG

CLOSE = b"Connection: close\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
REPORT = b"report=" + b"x" * 20
MUCH = 10**9


def send(
    base_url: str, method: str, path: str, headers: bytes, *pieces: bytes, half_close: bool = False, reset: bool = False
) -> bytes:
    """Send a request byte by byte as given, and return all data received until the server closes or stops sending."""
    address = urlsplit(base_url)
    with socket.create_connection((address.hostname or "", address.port or 80), timeout=60) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + headers + b"\r\n")
        for piece in pieces:
            connection.sendall(piece)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").read()


def status(answer: bytes) -> int:
    """Return the status of the last answer, whose body has none in it."""
    return int(answer.rpartition(b"HTTP/1.1 ")[2][:3])


def form(data: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="dog.jpeg"\r\n\r\n'
    return head + data + b"\r\n--b--\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/feedback", b"Content-Type: application/x-www-form-urlencoded\r\n", REPORT),
        ("/v1/predictions", b"Content-Type: image/jpeg\r\nIdempotency-Key: %b\r\n", DOG),
        ("/predict", b"Content-Type: multipart/form-data; boundary=b\r\n", form(DOG)),
    ],
    ids=["report", "image", "form"],
)
@pytest.mark.parametrize("ending", [b"", b"0\r\n", b"not a size\r\n"], ids=["no end", "half an end", "no size"])
def test_a_chunked_body_that_breaks_off_is_not_taken_for_whole(
    base_url: str, path: str, headers: bytes, body: bytes, ending: bytes
) -> None:
    headers = CHUNKED + headers.replace(b"%b", ending.hex().encode() + b"-broken")
    for pieces in ([chunk(body), ending], [chunk(body)[: len(body) // 2]]):
        answer = send(base_url, "POST", path, headers, *pieces, half_close=True)
        assert status(answer) == 400
        assert b"bad-body" in answer
    send(base_url, "POST", path, headers, chunk(body), reset=True)
    assert status(send(base_url, "POST", path, headers + CLOSE, chunk(body), b"0\r\n\r\n")) == 200


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: identity\r\n", b""),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"),
        (b"Content-Length: +5\r\n", b"hello"),
        (CHUNKED, b"5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n"),
    ],
    ids=["another coding", "no coding", "two lengths", "a sign", "trailer"],
)
def test_a_body_whose_end_is_in_doubt_is_refused(base_url: str, headers: bytes, body: bytes) -> None:
    assert status(send(base_url, "POST", "/feedback", headers + CLOSE, body)) == 400


@pytest.mark.parametrize("length", [b"%d" % (len(REPORT) + 1), b"90000"])
@pytest.mark.parametrize("path", ["/feedback", "/predict", "/", "/v1/predictions", "/v2/models/any/infer", "/nowhere"])
def test_a_body_that_is_shorter_than_announced_is_refused_with_the_reason(
    base_url: str, path: str, length: bytes
) -> None:
    headers = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " + length + b"\r\n"
    answer = send(base_url, "POST", path, headers, REPORT, half_close=True)
    assert status(answer) == 400
    assert b"bad-body" in answer


@pytest.mark.parametrize(
    ("method", "path", "length", "expected"),
    [
        ("POST", "/predict", 5, 400),
        ("POST", "/", 5, 400),
        ("POST", "/v1/predictions", 5, 415),
        ("POST", "/v2/models/any/infer", MUCH, 413),
        ("POST", "/feedback", MUCH, 413),
        ("POST", "/nowhere", 5, 404),
        ("POST", "/labels", 5, 405),
        ("post", "/predict", 5, 405),
        ("PUT", "/predict", 5, 405),
        ("GET", "/labels", 5, 200),
    ],
)
def test_what_the_head_alone_tells_is_answered_before_the_body_is_asked_for(
    base_url: str, method: str, path: str, length: int, expected: int
) -> None:
    headers = b"Expect: 100-continue\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" % length
    answer = send(base_url, method, path, headers)
    assert answer.startswith(b"HTTP/1.1 %d " % expected)
    assert b"connection: close" in answer.lower()


def test_a_body_that_can_be_taken_is_asked_for(base_url: str) -> None:
    headers = CLOSE + b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(form(DOG))
    headers += b"Content-Type: multipart/form-data; boundary=b\r\n"
    answer = send(base_url, "POST", "/predict", headers, form(DOG))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("method", ["post", "Post", "get", "TRACE", "CONNECT", "PROPFIND", "MADEUP", "X" * 5000])
def test_a_method_that_is_none_of_the_services_is_refused(base_url: str, method: str) -> None:
    target = "localhost:80" if method == "CONNECT" else "/predict"
    answer = send(base_url, method, target, b"Content-Length: 0\r\n" + CLOSE)
    assert status(answer) in {404, 405}
    assert f'method="{method[:100]}' not in requests.get(f"{base_url}/metrics", timeout=60).text


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/feedback", "/predict", "/", "/status/release", "/v1/predictions"])
def test_only_post_changes_anything(base_url: str, method: str, path: str) -> None:
    before = requests.get(f"{base_url}/metrics", timeout=60).text.count("mlapi_feedback_total")
    for extra in ({}, {"X-HTTP-Method-Override": "POST"}):
        answer = requests.request(method, f"{base_url}{path}", data={"report": "a"}, headers=extra, timeout=60)
        assert answer.status_code in {200, 404, 405}
    assert requests.get(f"{base_url}/metrics", timeout=60).text.count("mlapi_feedback_total") == before


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/" + "x" * 60_000, b"", 414),
        ("/predict/" + "%41" * 3000, b"", 414),
        ("/v1/" + "x" * 3000, b"", 414),
        ("/labels?" + "x" * 10_000, b"", 414),
        ("/labels", b"X-Long: " + b"x" * 10_000 + b"\r\n", 431),
        ("/labels", b"X-Forwarded-For: " + b"192.0.2.1, " * 30_000 + b"\r\n", 431),
        ("/labels", b"".join(b"Cookie: %b\r\n" % (b"a=1; " * 100) for _ in range(90)), 431),
        ("/labels", b"X: 1\r\n" * 99, 431),
        ("/labels", b"X-Long: " + b"x" * 500_000 + b"\r\n", 431),
        ("/labels", b"X-Long: " + b"x" * 8000 + b"\r\n", 200),
    ],
)
def test_a_head_beyond_its_bounds_is_refused(base_url: str, path: str, headers: bytes, expected: int) -> None:
    assert status(send(base_url, "GET", path, CLOSE + headers)) == expected
