"""Error responses, in the format for the request's path and client."""

import asyncio
import io
import json
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.http.headers import DEFAULTS
from api.server.gateway import Gateway
from api.tests.conftest import FakeWorker, MakeApp
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ModelInfo
from testing.rsgi_client import Answer, FakeHeaders, FakeProtocol, FakeScope

FAILED = {"success": False, "prediction": None, "score": None}


def is_page(response: TestResponse) -> bool:
    return response.content_type == "text/html; charset=utf-8" and 'role="alert"' in response.text


def is_problem(response: TestResponse) -> bool:
    return response.content_type == "application/problem+json" and response.get_json()["status"] == response.status_code


def is_error(response: TestResponse) -> bool:
    return response.content_type == "application/json" and list(response.get_json()) == ["error"]


def is_failed_prediction(response: TestResponse) -> bool:
    return response.content_type == "application/json" and response.get_json() == FAILED


@pytest.mark.parametrize(
    ("method", "path", "status", "has_form"),
    [
        ("GET", "/nowhere", 404, is_page),
        ("POST", "/nowhere", 404, is_page),
        ("GET", "/static/nowhere.css", 404, is_page),
        ("GET", "/display/x", 404, is_page),
        ("GET", "/docs/", 404, is_page),
        ("PUT", "/", 405, is_page),
        ("DELETE", "/livez", 405, is_page),
        ("POST", "/docs", 405, is_page),
        ("GET", "/predict", 405, is_failed_prediction),
        ("PUT", "/predict", 405, is_failed_prediction),
        ("POST", "/predict/", 404, is_failed_prediction),
        ("GET", "/predict/x", 404, is_failed_prediction),
        ("GET", "/v1", 404, is_problem),
        ("GET", "/v1/", 404, is_problem),
        ("GET", "/v1/nowhere", 404, is_problem),
        ("POST", "/v1/predictions/", 404, is_problem),
        ("GET", "/v1/predictions", 405, is_problem),
        ("POST", "/v1/openapi.json", 405, is_problem),
        ("GET", "/v2/", 404, is_error),
        ("GET", "/v2/nowhere", 404, is_error),
        ("POST", "/v2", 405, is_error),
        ("GET", "/v2/models/pets/infer", 405, is_error),
    ],
)
def test_an_address_that_is_not_there_or_takes_another_method_says_so_in_its_own_form(
    client: FlaskClient, method: str, path: str, status: int, has_form: Any
) -> None:
    response = client.open(path, method=method, buffered=True)
    assert response.status_code == status
    assert has_form(response)
    assert response.headers["X-Error"].startswith({404: "not-found: ", 405: "method-not-allowed: "}[status])
    assert ("OPTIONS" in response.headers.get("Allow", "")) is (status == 405)


@pytest.mark.parametrize(
    ("accept", "has_form"),
    [
        ("", is_page),
        ("*/*", is_page),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", is_page),
        ("text/html, application/json", is_page),
        ("image/png", is_page),
        ("application/json", is_problem),
        ("application/json, text/plain, */*", is_problem),
        ("application/problem+json", is_problem),
        ("text/html;q=0.5, application/json", is_problem),
    ],
)
def test_who_asks_the_page_for_json_gets_a_problem(client: FlaskClient, accept: str, has_form: Any) -> None:
    for response in (client.get("/nowhere", headers={"Accept": accept}), client.put("/", headers={"Accept": accept})):
        assert has_form(response)
    assert is_failed_prediction(client.get("/predict", headers={"Accept": accept}))


@pytest.mark.parametrize("path", ["/", "/predict", "/v1/predictions", "/v2/models/pets/infer", "/nowhere"])
def test_head_is_answered_as_get_without_a_body(client: FlaskClient, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content_type, head.data) == (get.status_code, get.content_type, b"")


def test_the_reason_in_a_header_is_printable_ascii(make_app: MakeApp, queue: MemoryJobQueue) -> None:
    queue.publish(ModelInfo("m1", "pets", "7", "f32", 224, 192, "crop", ("the\r\nking “penguin”", "großer king")))
    queue.heartbeat("w1", 0.01, "m1")
    answer = make_app().test_client().post("/feedback", data={"report": "{}", "label": "king"})
    assert answer.status_code == 400
    assert re.fullmatch(r"unknown-label: The model knows no such class, but: [ -~]+", answer.headers["X-Error"])


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/predict", {"OPTIONS", "POST"}),
        ("/v1/predictions", {"OPTIONS", "POST"}),
        ("/v1/models", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_options_says_which_methods_an_address_takes(client: FlaskClient, path: str, methods: set[str]) -> None:
    response = client.options(path)
    assert (response.status_code, set(response.headers["Allow"].split(", "))) == (200, methods)


@pytest.mark.parametrize("path", ["/", "/nowhere", "/labels", "/v1/models", "/v1/nowhere", "/predict", "/openapi.json"])
def test_no_cache_on_the_way_keeps_an_answer(client: FlaskClient, path: str) -> None:
    assert client.get(path).headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("path", "media_type", "body"),
    [
        ("/predict", "application/json", FAILED),
        ("/v1/predictions", "application/problem+json", {"status", "type", "title", "detail", "code", "request_id"}),
        ("/v2/models/pets/infer", "application/json", {"error"}),
    ],
)
def test_the_gateways_own_refusals_have_the_headers_and_the_form_of_all_others(
    make_app: MakeApp, queue: MemoryJobQueue, path: str, media_type: str, body: Any
) -> None:
    app = make_app(max_upload_bytes=10, max_request_bytes=10)
    mine = ask(Gateway(app, app.extensions["services"].settings, queue), path, 200_000)
    flasks = app.test_client().post(path)  # without an image
    assert (mine.status, flasks.status_code >= 400) == (413, True)
    assert mine.headers["Content-Type"] == flasks.content_type == media_type
    assert mine.headers.keys() - {"Connection"} == set(dict(flasks.headers)) - {"Content-Length"}
    assert {name: mine.headers[name] for name in DEFAULTS} == DEFAULTS
    for document in (json.loads(mine.body), flasks.get_json()):
        assert document == body if isinstance(body, dict) else set(document) == body


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/nowhere", "text/html; charset=utf-8"),
        ("/predict", "application/json"),
        ("/predict/", "application/json"),
        ("/v1/predictions", "application/problem+json"),
        ("/v1/predictions/x/feedback", "application/problem+json"),
        ("/v2/models/pets/infer", "application/json"),
        ("/v2", "application/json"),
    ],
)
def test_a_head_that_is_too_large_is_refused_in_the_form_of_its_address(
    make_app: MakeApp, queue: MemoryJobQueue, path: str, media_type: str
) -> None:
    app = make_app()
    gateway = Gateway(app, app.extensions["services"].settings, queue)
    too_many = ask(gateway, path, 7, *[("x", "")] * 1000)
    assert (too_many.status, too_many.headers["Content-Type"]) == (431, media_type)
    assert {name: too_many.headers[name] for name in DEFAULTS} == DEFAULTS
    if path not in {"/", "/v2"}:  # where a longer path belongs to another protocol
        too_long = ask(gateway, path + "/" + "x" * 100_000)
        assert (too_long.status, too_long.headers["Content-Type"]) == (414, media_type)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/predict", "application/json"),
        ("/v1/models", "application/problem+json"),
        ("/v2", "application/json"),
        ("/", "text/plain; charset=utf-8"),
    ],
)
def test_where_flask_itself_fails_the_answer_still_has_its_form_and_headers(
    make_app: MakeApp, queue: MemoryJobQueue, path: str, media_type: str
) -> None:
    app = make_app()
    app.wsgi_app = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]
    answer = ask(Gateway(app, app.extensions["services"].settings, queue), path)
    assert (answer.status, answer.headers["Content-Type"]) == (500, media_type)
    assert answer.headers["X-Error"].startswith("internal-error: ")
    assert answer.headers["X-Request-ID"] == "mine"
    assert {name: answer.headers[name] for name in DEFAULTS} == DEFAULTS


def ask(gateway: Gateway, path: str, length: int = 0, *more_headers: tuple[str, str]) -> Answer:
    """Send a request as Granian does, with a body of zeros, and return the response."""
    own = (("host", "localhost"), ("content-length", str(length)), ("x-request-id", "mine"))
    headers = FakeHeaders(*own, *more_headers)

    async def steps() -> Answer | None:
        gateway.__rsgi_init__(asyncio.get_running_loop())
        protocol = FakeProtocol([bytes(length)] if length else [])
        await gateway.__rsgi__(FakeScope("POST" if length else "GET", path, headers), protocol)
        return protocol.answer

    answer = asyncio.run(steps())
    assert answer
    return answer


@pytest.mark.usefixtures("worker")
def test_a_picture_at_the_page_is_refused_with_the_page(client: FlaskClient, worker: FakeWorker, dog: bytes) -> None:
    worker.stop()
    assert is_page(client.post("/", data={"file": (io.BytesIO(dog), "dog.jpeg")}))
