"""Security headers of responses."""

import io
import re

import pytest
from flask.testing import FlaskClient

from api.http.headers import HEADERS
from api.tests.conftest import FakeWorker

GOOD_AND_BAD_PATHS = [
    "/",
    "/feedback",
    "/predict",
    "/static/page.css",
    "/livez",
    "/readyz",
    "/display/x",
    "/nowhere",
    "/v2",
]


@pytest.mark.parametrize("path", GOOD_AND_BAD_PATHS)
def test_every_answer_has_the_security_headers_and_no_cookie(client: FlaskClient, path: str) -> None:
    for response in (client.get(path, buffered=True), client.post(path)):
        assert {name: response.headers.get(name) for name in HEADERS} == HEADERS
        assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("path", ["/", "/docs", "/status"])
def test_every_page_says_what_it_is(client: FlaskClient, path: str) -> None:
    assert re.search(r'<meta name="description" content="[A-Z][^"]{40,}\.">', client.get(path).text)


def test_the_page_may_load_its_own_files_and_nothing_else(client: FlaskClient) -> None:
    assert client.get("/").headers["Content-Security-Policy"] == (
        "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; "
        "script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:"
    )


def test_an_upload_is_displayed_in_a_sandbox(client: FlaskClient, worker: FakeWorker, dog: bytes) -> None:
    client.post("/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")})
    policy = client.get(f"/display/{worker.image_names[0]}").headers["Content-Security-Policy"]
    assert policy == "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'; sandbox"
