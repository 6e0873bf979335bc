"""Interactive work overtakes bulk work in a whole service."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import requests

from testing.images import DOG
from tests.conftest import MakeService, Service, until

LATER, BULK = {"Prefer": "respond-async"}, {"Priority": "u=6"}
IMAGES = 16


def post(service: Service, count: int, request_id: str, **headers: str) -> requests.Response:
    """Have new pictures classified."""
    files = [("file", (f"{number}.jpeg", DOG + uuid4().bytes)) for number in range(count)]
    return requests.post(
        f"{service.url}/v1/predictions", files=files, headers={"X-Request-ID": request_id, **headers}, timeout=60
    )


def computed(service: Service) -> list[str]:
    """Return the requests of classified images, in order of classification, one per image."""
    lines = [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]
    return [request_id for line in lines for request_id in line.get("request_ids", [])]


@pytest.mark.parametrize("headers", [LATER, BULK], ids=["later", "bulk"])
def test_who_waits_is_answered_before_what_has_time(make_service: MakeService, headers: dict[str, str]) -> None:
    service = make_service(INSTANCES="1", LOG_FORMAT="json").wait_until_ready()
    service.pause_workers()
    with ThreadPoolExecutor(2) as pool:
        bulk = pool.submit(post, service, IMAGES, "bulk", **headers)
        assert until(lambda: service.queued_jobs() == IMAGES, 60), service.log
        interactive = pool.submit(post, service, 1, "interactive")
        assert until(lambda: service.queued_jobs() == IMAGES + 1, 60), service.log
        service.kill("mlapi worker", signal.SIGCONT)
        assert interactive.result().status_code == 200
        assert bulk.result().status_code in {200, 202}
    assert until(lambda: len(computed(service)) == IMAGES + 1, 60), service.log
    # The worker may have waited for a job when it was paused, and then has the first one that came.
    assert computed(service).index("interactive") <= 1


@pytest.mark.parametrize("headers", [{}, BULK], ids=["interactive", "bulk"])
def test_all_images_of_a_request_are_classified_in_either_lane(
    make_service: MakeService, headers: dict[str, str]
) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    results = post(service, IMAGES, "all", **headers).json()["results"]
    assert [result["predictions"][0]["label"] for result in results] == ["Eskimo_dog"] * IMAGES
