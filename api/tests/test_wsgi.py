"""Conversion from RSGI to WSGI and back."""

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from api.http import wsgi
from testing.rsgi_client import FakeHeaders, FakeScope


def test_a_request_is_described_as_wsgi_has_it() -> None:
    scope = FakeScope(
        "POST",
        "/display/é b",
        FakeHeaders(("host", "here:1"), ("content-type", "text/plain"), ("content-length", "9"), ("x-a-b", "1")),
        query_string="x=%20y",
    )
    found = wsgi.environ(scope, io.BytesIO(b"abc"))
    assert found["wsgi.input"].read() == b"abc"
    expected = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/display/Ã© b",
        "QUERY_STRING": "x=%20y",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
        "HTTP_HOST": "here:1",
        "HTTP_X_A_B": "1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "5000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "wsgi.url_scheme": "http",
    }
    assert {name: found[name] for name in expected} == expected


def test_headers_of_one_name_are_one_list() -> None:
    headers = FakeHeaders(("x-forwarded-for", "a"), ("cookie", "a=1"), ("x-forwarded-for", "b"), ("cookie", "b=2"))
    found = wsgi.environ(FakeScope(headers=headers), io.BytesIO())
    assert (found["HTTP_X_FORWARDED_FOR"], found["HTTP_COOKIE"]) == ("a,b", "a=1; b=2")


def test_no_header_passes_for_another_or_for_one_about_the_body() -> None:
    headers = FakeHeaders(("x_forwarded_for", "evil"), ("transfer-encoding", "chunked"), ("content-length", "9"))
    found = wsgi.environ(FakeScope(headers=headers), io.BytesIO())
    assert not {name for name in found if name.startswith("HTTP_")}
    assert found["CONTENT_LENGTH"] == "0"


def test_an_ipv6_address_stands_without_brackets() -> None:
    found = wsgi.environ(FakeScope(client="[2001:db8::1]:40000"), io.BytesIO())
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("2001:db8::1", "40000")


class Chunks:
    """A response body that records that it was closed."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self.closed = False
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    def close(self) -> None:
        """Record the call."""
        self.closed = True


def application(body: Iterable[bytes], written: bytes = b"") -> Any:
    def app(_: dict[str, Any], start_response: Callable[..., Callable[[bytes], None]]) -> Iterable[bytes]:
        start_response("404 NOT FOUND", [("X-A", "1")])(written)
        return body

    return app


def test_an_answer_is_returned_whole_and_its_body_closed() -> None:
    body = Chunks(b"b", b"c")
    assert wsgi.call(application(body, b"a"), {}) == (404, [("X-A", "1")], b"abc")
    assert body.closed


def test_a_body_that_fails_is_closed_too() -> None:
    body = Chunks(b"a", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        wsgi.call(application(body), {})
    assert body.closed
