"""The log line of each request."""

import io
import logging
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from api.tests.conftest import FakeWorker
from runtime import logs


@pytest.fixture(autouse=True)
def no_request_left() -> Iterator[None]:
    """Clear the last request's log fields, which belong to this thread."""
    yield
    logs.start()


def line(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    [record] = [record for record in caplog.records if record.name == "api.monitoring.request_log"]
    return record


@pytest.mark.usefixtures("worker")
def test_a_request_is_one_line_with_its_answer(
    client: FlaskClient, dog: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.post("/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")})
    assert line(caplog).getMessage() == "POST /predict"
    assert vars(line(caplog)).items() >= {"status": 200}.items()
    assert vars(line(caplog))["ms"] > 0


def test_a_refused_request_says_why(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client.post("/predict")
    assert vars(line(caplog))["status"] == 400
    assert vars(line(caplog))["error"].startswith("no-file: ")


def test_a_path_cannot_forge_a_line(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client.get("/display/%0AINFO%20all%20is%20well")
    assert line(caplog).getMessage() == "GET /display/%0AINFO%20all%20is%20well"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_are_quiet(client: FlaskClient, caplog: pytest.LogCaptureFixture, path: str) -> None:
    caplog.set_level(logging.INFO)
    client.get(path)
    assert not caplog.records


@pytest.mark.usefixtures("worker")
def test_the_callers_request_id_reaches_the_job_and_comes_back(
    client: FlaskClient, worker: FakeWorker, dog: bytes
) -> None:
    response = client.post(
        "/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")}, headers={"X-Request-ID": "order-7:a.b_c"}
    )
    assert response.headers["X-Request-ID"] == "order-7:a.b_c"
    assert worker.request_ids == ["order-7:a.b_c"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "<b>", 'a"b'])
def test_a_request_id_that_is_not_sane_is_replaced(client: FlaskClient, given: str) -> None:
    ids = {client.get("/livez", headers={"X-Request-ID": given}).headers["X-Request-ID"] for _ in range(2)}
    assert len(ids) == 2
    assert all(len(made) == 32 for made in ids)
