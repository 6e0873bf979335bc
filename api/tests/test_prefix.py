"""The API under a path prefix, behind a proxy that strips it and sends it in `X-Forwarded-Prefix`."""

import asyncio
import io
import json
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from api.access.keys import KeyFile
from api.server.gateway import Gateway
from api.tests.conftest import FakeWorker, MakeApp
from api.tests.test_predictions import LATER, form, png
from api.v1.predictions import document
from api.webhooks import webhooks
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import JobFailure
from runtime.errors import NotAnImage
from testing.rsgi_client import FakeHeaders, FakeProtocol, FakeScope

PREFIX = {"X-Forwarded-Prefix": "/mlapi/"}
# All links on a page, and the proxy's own words for the service.
LINKS = re.compile(r'(?:href|src|action|hx-get|hx-post|data-picture|data-events|data-document)="(?!#)([^"]*)"')


@pytest.fixture
def behind(make_app: MakeApp) -> FlaskClient:
    """Return a client of an API behind a proxy."""
    return make_app(trusted_proxies=1).test_client()


def links(page: str) -> list[str]:
    found = LINKS.findall(page)
    assert found
    return found


@pytest.mark.usefixtures("worker")
def test_all_that_the_pages_lead_to_is_under_the_prefix(
    make_app: MakeApp, tmp_path: Path, worker: FakeWorker, dog: bytes
) -> None:
    key = KeyFile(tmp_path / "keys").add("alice")
    client = make_app(trusted_proxies=1, api_keys_file=tmp_path / "keys").test_client()
    client.environ_base |= {"HTTP_AUTHORIZATION": f"Bearer {key}", "HTTP_X_FORWARDED_PREFIX": "/mlapi"}
    answer = client.post("/", data={"file": (io.BytesIO(dog), "dog.jpeg")}).text
    assert f"/mlapi/display/{worker.image_names[0]}" in links(answer)
    report = {"report": json.dumps({"filename": worker.image_names[0]}), "label": ""}
    thanks = client.post("/feedback", data=report)
    worker.stop()
    failure = client.post("/", data={"file": (io.BytesIO(dog + b"2"), "dog.jpeg")})
    pages = [client.get(path).text for path in ("/", "/docs", "/status", "/nowhere")]
    for page in (answer, thanks.text, failure.text, *pages):
        assert [link for link in links(page) if not link.startswith("/mlapi/")] == []
    assert "<code>POST /mlapi/predict</code>" in answer


def test_redirects_stay_under_the_prefix(behind: FlaskClient) -> None:
    assert behind.post("/", headers=PREFIX).headers["Location"] == "/mlapi/?error=no-file"
    asked = {**PREFIX, "X-Forwarded-Host": "pictures.example", "X-Forwarded-Proto": "https"}
    assert behind.get("/v1//models", headers=asked).headers["Location"] == "https://pictures.example/mlapi/v1/models"


@pytest.mark.usefixtures("worker")
def test_addresses_under_v1_have_the_prefix_that_they_were_asked_with(behind: FlaskClient) -> None:
    later = behind.post("/v1/predictions", data=form(("1.png", png(1))), headers={**PREFIX, **LATER})
    assert later.headers["Location"] == f"/mlapi/v1/predictions/{later.get_json()['id']}"
    for path in ("/v1/nowhere", "/v1/problems/not-found"):
        assert behind.get(path, headers=PREFIX).get_json()["type"] == "/mlapi/v1/problems/not-found"
    some = behind.post("/v1/predictions", data=form(("1.png", png(1)), ("2.png", b"x")), headers=PREFIX)
    assert some.get_json()["results"][1]["error"]["type"] == "/mlapi/v1/problems/not-an-image"
    assert behind.get("/openapi.json", headers=PREFIX).get_json()["servers"] == [{"url": "/mlapi"}]
    assert behind.get("/openapi.json").get_json()["servers"] == [{"url": "/"}]


def test_a_webhook_has_the_prefix_that_its_prediction_was_asked_with(
    make_app: MakeApp, queue: MemoryJobQueue, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "announce", lambda *_: None)
    worker.outcome = JobFailure.of(NotAnImage())
    client = make_app(trusted_proxies=1, webhook_secret="s" * 24).test_client()
    asked = form(("1.png", png(1)), webhook="https://receiver.example/")
    prediction_id = client.post("/v1/predictions", data=asked, headers={**PREFIX, **LATER}).get_json()["id"]
    client.get(f"/v1/predictions/{prediction_id}?wait=10")
    result = queue.results.get(prediction_id)
    assert result
    sent = document(queue, prediction_id, result)
    assert sent["results"][0]["error"]["type"] == "/mlapi/v1/problems/not-an-image"


def test_the_gateways_own_refusals_have_the_prefix(make_app: MakeApp, queue: MemoryJobQueue) -> None:
    app = make_app(trusted_proxies=1, max_request_bytes=10)
    headers = FakeHeaders(("content-length", "200000"), ("x-forwarded-prefix", "/x"), ("x-forwarded-prefix", "/mlapi"))

    async def steps() -> FakeProtocol:
        gateway = Gateway(app, app.extensions["services"].settings, queue)
        gateway.__rsgi_init__(asyncio.get_running_loop())
        protocol = FakeProtocol([bytes(200_000)])
        await gateway.__rsgi__(FakeScope("POST", "/v1/predictions", headers), protocol)
        return protocol

    answer = asyncio.run(steps()).answer
    assert answer
    assert json.loads(answer.body)["type"] == "/mlapi/v1/problems/too-many-bytes"


@pytest.mark.parametrize(
    ("proxies", "sent", "prefix"),
    [
        (0, "/mlapi", ""),  # a client may send anything
        (0, "//evil.example", ""),
        (1, "/mlapi", "/mlapi"),
        (1, "/a/b-1/c_2/~d.e/", "/a/b-1/c_2/~d.e"),
        (1, "/evil, /mlapi", "/mlapi"),
        (1, "/evil, /", ""),
        (1, '"/evil, /mlapi', "/mlapi"),
        (2, "/evil, /mlapi, /", "/mlapi"),
        (2, "/mlapi", ""),  # it did not pass both proxies
        (1, "", ""),
        (1, "/", ""),
        (1, "/.well-known", "/.well-known"),
        (1, "/..x", "/..x"),
    ],
)
def test_a_prefix_is_believed_from_so_many_proxies(make_app: MakeApp, proxies: int, sent: str, prefix: str) -> None:
    client = make_app(trusted_proxies=proxies).test_client()
    response = client.post("/", headers={"X-Forwarded-Prefix": sent})
    assert response.headers["Location"] == f"{prefix}/?error=no-file"


@pytest.mark.parametrize(
    "sent",
    [
        "//evil.example",
        "//",
        "/\\evil.example",
        "\\\\evil.example",
        "/a//b",
        "/..",
        "/a/../b",
        "/.",
        "/a/./",
        "/%2e%2e",
        "/%2f%2fevil.example",
        "mlapi",
        "https://evil.example/",
        "https:/evil",
        "javascript:alert(1)",
        "/a b",
        "/a\tb",
        "/a\x01",
        "/a\x7f",
        '/"onclick="alert(1)',
        "/<script>",
        "/a?b",
        "/a#b",
        "/a;b",
        "/a@b",
        "/caf\xe9",
    ],
)
def test_a_prefix_that_would_lead_elsewhere_is_refused(behind: FlaskClient, sent: str) -> None:
    for path in ("/", "/v1/models", "/docs"):
        response = behind.get(path, environ_base={"HTTP_X_FORWARDED_PREFIX": sent})
        assert response.status_code == 400
        assert response.headers["X-Error"].startswith("bad-forwarding: The proxy's X-Forwarded-Prefix ")
        assert "evil" not in response.text
