"""One interpretation of a request's head, within size limits."""

from collections.abc import Iterable

import pytest
from flask import Flask
from werkzeug.exceptions import HTTPException

from api.http.heads import MAX_HEADER_BYTES, MAX_HEADERS, MAX_HEADERS_BYTES, MAX_PATH_BYTES, MAX_QUERY_BYTES, Head
from api.server.gateway import _IMAGE_ENDPOINTS, _image_endpoint
from api.tests.conftest import MakeApp
from runtime.errors import AddressTooLong, BadBody, HeadersTooLarge, ServiceError
from testing.rsgi_client import FakeHeaders, FakeScope


def refusal(scope: FakeScope) -> type[ServiceError] | None:
    """Return a head's refusal, after checking that what is left of it is within the limits."""
    head = Head.read(scope)
    items = list(head.headers.items())
    assert len(head.path.encode()) <= MAX_PATH_BYTES
    assert len(head.query_string) <= MAX_QUERY_BYTES
    assert len(items) <= MAX_HEADERS
    assert sum(len(name) + len(value) for name, value in items) <= MAX_HEADERS_BYTES
    return type(head.refusal) if head.refusal else None


def headers(*pairs: tuple[str, str]) -> FakeScope:
    return FakeScope(headers=FakeHeaders(("host", "localhost"), *pairs))


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (FakeScope(path="/" + "x" * (MAX_PATH_BYTES - 1)), None),
        (FakeScope(path="/" + "x" * MAX_PATH_BYTES), AddressTooLong),
        (FakeScope(path="/" + "é" * (MAX_PATH_BYTES // 2)), AddressTooLong),
        (FakeScope(path="/" + "\N{DOG FACE}" * 60_000), AddressTooLong),
        (FakeScope(query_string="x" * MAX_QUERY_BYTES), None),
        (FakeScope(query_string="x" * (MAX_QUERY_BYTES + 1)), AddressTooLong),
        (headers(("x", "y" * (MAX_HEADER_BYTES - 1))), None),
        (headers(("x", "y" * MAX_HEADER_BYTES)), HeadersTooLarge),
        (headers(("x" * MAX_HEADER_BYTES, "y")), HeadersTooLarge),
        (headers(*[("x", "y" * 8000)] * 4), None),
        (headers(*[("x", "y" * 8000)] * 5), HeadersTooLarge),
        (headers(*[("x", "")] * (MAX_HEADERS - 1)), None),
        (headers(*[("x", "")] * MAX_HEADERS), HeadersTooLarge),
        (headers(("x-forwarded-for", "192.0.2.1, " * 100_000)), HeadersTooLarge),
        (headers(("transfer-encoding", "chunked")), None),
        (headers(("transfer-encoding", "Chunked ")), None),
        (headers(("transfer-encoding", "gzip, chunked")), BadBody),
    ],
)
def test_a_head_beyond_its_bounds_is_refused_and_what_is_left_of_it_is_within_them(
    scope: FakeScope, expected: type[ServiceError] | None
) -> None:
    assert refusal(scope) == expected


def test_of_a_head_that_is_refused_stays_who_asks_for_what() -> None:
    head = Head.read(headers(("x", "y" * 400_000), ("authorization", "Bearer key"), ("content-length", "7")))
    assert (head.path, head.headers.get("host"), head.headers.get("authorization")) == (
        "/livez",
        "localhost",
        "Bearer key",
    )
    assert head.length == 7


@pytest.mark.parametrize("method", ["post", "Post", "TRACE", "CONNECT", "MADEUP", "X" * 300_000])
def test_a_method_that_is_none_of_the_services_is_one_that_no_route_has(method: str, make_app: MakeApp) -> None:
    head = Head.read(FakeScope(method, "/predict"))
    assert head.method == "UNKNOWN"
    assert not any("UNKNOWN" in (rule.methods or ()) for rule in make_app().url_map.iter_rules())


PATHS = [
    *("/", "//", "/predict", "//predict", "///predict", "/predict/", "/predict//", "/./predict", "/x/../predict"),
    *("/Predict", "/predict;a=b", "/predict\n", "/predict\0", "/predict ", "/prédict", "/predict?x", "*", "predict"),
    *("/v1/predictions", "/v1//predictions", "//v1/predictions", "/v1/predictions/", "/v1/predictions/x"),
    *("/v2/models/a/infer", "/v2/models/a/infer/", "/v2/models//infer", "/v2/models/a/b/infer", "//v2/models/a/infer"),
    *("/v2/models/a\nb/infer", "/v2/models/%2f/infer", "/v2/models/ä/infer", "/v2/models/a/versions/1/infer"),
    *("/v2/models/a/versions//infer", "/v2/models/a/versions/1/2/infer", "/v2//models/a/infer", "/v2/models/ /infer"),
]


@pytest.mark.parametrize("path", PATHS)
def test_gateway_and_flask_take_the_same_paths_for_those_of_images(make_app: MakeApp, path: str) -> None:
    head = Head.read(FakeScope("POST", path))
    endpoint = _image_endpoint(head)
    found = flask_route(make_app(), head.path)
    assert (endpoint.route if endpoint else None) == (found if found in image_routes() else None)


def image_routes() -> set[str]:
    return {endpoint.route for endpoint in _IMAGE_ENDPOINTS}


def flask_route(app: Flask, path: str) -> str | None:
    """Return Flask's route for a POST to a path, as a WSGI server passes it."""
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": path.encode().decode("latin-1"), "SERVER_NAME": "localhost"}
    try:
        rule, _ = app.url_map.bind_to_environ(
            {**environ, "SERVER_PORT": "80", "wsgi.url_scheme": "http", "HTTP_HOST": "localhost"}
        ).match(return_rule=True)
    except HTTPException:
        return None
    return rule.rule


class UnreadableHeaders(FakeHeaders):
    """Headers as Granian passes them: values that are not ASCII are left out."""

    def get(self, name: str) -> str | None:
        """Return the first value of a header, if it can be read."""
        value = next(value for each, value in self._pairs if each == name)
        return value if value.isascii() else None

    def items(self) -> Iterable[tuple[str, str]]:
        """Return the headers that can be read."""
        return [(name, value) for name, value in self._pairs if value.isascii()]


def test_a_header_that_cannot_be_read_counts_as_sent_where_it_is_checked() -> None:
    lines = ("\xff, 203.0.113.9", "198.51.100.1")
    pairs = (*(("x-forwarded-for", line) for line in lines), ("origin", "é"), ("user-agent", "é"))
    found = list(Head.read(FakeScope(headers=UnreadableHeaders(*pairs))).headers.items())
    assert sorted(found) == [("origin", "\x80"), ("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "\x80")]
    assert found.index(("x-forwarded-for", "\x80")) < found.index(("x-forwarded-for", "198.51.100.1"))
