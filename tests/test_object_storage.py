"""The service with object storage, and without a folder that API and workers share."""

import hashlib
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from testing.images import DOG
from testing.s3_server import S3Server
from tests.conftest import EVENT_TIMEOUT_S, MakeService, Service, until

NAME = f"{hashlib.sha256(DOG).hexdigest()}.jpeg"
IMAGES, CALLERS = 40, 4


@pytest.fixture
def storage() -> Iterator[S3Server]:
    """Object storage for one test, which may stop it."""
    pytest.importorskip("moto")
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def service(storage: S3Server, make_service: MakeService, tmp_path: Path) -> Service:
    settings = {"UPLOAD_URL": f"s3://{storage.bucket}/uploads", "UPLOAD_FOLDER": str(tmp_path / "no-uploads")}
    return make_service(INSTANCES="1", **settings, **storage.environment).wait_until_ready()


def test_images_go_through_object_storage_alone(service: Service, tmp_path: Path) -> None:
    answer = service.predict(DOG, "dog.jpeg")
    assert answer.json()["prediction"] == "Eskimo_dog"
    assert requests.get(f"{service.url}/display/{NAME}", timeout=30).content == DOG
    assert not (tmp_path / "no-uploads").exists()
    for word in ("an-id", "a-secret"):
        assert word not in service.log


def test_every_image_of_several_callers_is_stored_and_classified_right(service: Service, figures: list[str]) -> None:
    def call(data: bytes) -> tuple[bool, float, float]:
        """Return whether an image is classified right and shown again, and the milliseconds that each took."""
        started = time.perf_counter()
        label = service.predict(data, "dog.jpeg").json()["prediction"]
        classified = time.perf_counter()
        shown = requests.get(f"{service.url}/display/{hashlib.sha256(data).hexdigest()}.jpeg", timeout=60).content
        is_right = (label, shown) == ("Eskimo_dog", data)
        return is_right, 1000 * (classified - started), 1000 * (time.perf_counter() - classified)

    with ThreadPoolExecutor(CALLERS) as pool:
        calls = list(pool.map(call, (DOG + uuid4().bytes for _ in range(IMAGES))))
    right = sum(is_right for is_right, _, _ in calls)
    predict_ms, display_ms = (statistics.median(column) for column in list(zip(*calls, strict=True))[1:])
    figures.append(
        f"Object storage: {right} of {IMAGES} images of {CALLERS} callers right; median {predict_ms:.0f} ms to store, "
        f"read and classify one, {display_ms:.0f} ms to show it"
    )
    assert right == IMAGES


def test_several_images_of_a_request_are_classified(service: Service) -> None:
    files = [("file", (f"{number}.jpeg", DOG + bytes([number]), "image/jpeg")) for number in range(4)]
    answer = requests.post(f"{service.url}/v1/predictions", files=files, timeout=60)
    labels = [result["predictions"][0]["label"] for result in answer.json()["results"]]
    assert labels == ["Eskimo_dog"] * 4


def test_the_image_of_a_report_is_kept_beside_it(service: Service) -> None:
    service.predict(DOG, "dog.jpeg")
    report = {"filename": NAME, "prediction": "Eskimo_dog", "score": 0.64}
    answer = requests.post(f"{service.url}/feedback", data={"report": str(report).replace("'", '"')}, timeout=30)
    assert answer.ok, answer.text
    assert (service.folder / "feedback" / "images" / NAME).read_bytes() == DOG


def test_without_storage_the_answer_is_503_until_it_is_back(service: Service, storage: S3Server) -> None:
    assert service.predict(DOG).status_code == 200
    storage.stop()
    answer = service.predict(DOG)
    assert (answer.status_code, answer.headers["X-Error"].split()[0].rstrip(":;")) == (503, "storage-unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert requests.get(f"{service.url}/display/{NAME}", timeout=30).status_code == 503
    storage.start()
    assert until(lambda: service.predict(DOG).status_code == 200, EVENT_TIMEOUT_S)
    assert "a-secret" not in service.log
