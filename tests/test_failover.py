"""API and workers under load on a Redis that dies, and whose replica takes over by sentinels or a cluster."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from uuid import uuid4

import pytest
import requests

from testing.images import DOG
from testing.redis_servers import Cluster, Sentinels
from tests.conftest import EVENT_TIMEOUT_S, START_TIMEOUT_S, MakeService, Service, until

MLAPI = (sys.executable, "-m", "mlapi")


def ready_workers(api: Service) -> int:
    try:
        answer = requests.get(f"{api.url}/readyz", timeout=10)
    except requests.ConnectionError:
        return 0
    return int(answer.json()["workers"]) if answer.ok else 0


def predict(api: Service) -> tuple[float, str]:
    """Have a new picture of the dog classified, retrying while that is refused; return the time and the answer."""
    image, deadline = DOG + uuid4().bytes, time.monotonic() + EVENT_TIMEOUT_S
    while (response := api.predict(image)).status_code == 503:
        assert time.monotonic() < deadline, api.log
    return time.monotonic(), str(response.json()["prediction"])


@pytest.fixture(params=["sentinels", "cluster"])
def redis_group(request: pytest.FixtureRequest) -> Sentinels | Cluster:
    group: Sentinels | Cluster = request.getfixturevalue(request.param)
    return group


def test_every_accepted_image_is_classified_right_though_the_master_dies(
    make_service: MakeService, redis_group: Sentinels | Cluster, figures: list[str]
) -> None:
    api = make_service([*MLAPI, "api"], REDIS_URL=redis_group.url)
    shared = {"REDIS_URL": redis_group.url, "UPLOAD_FOLDER": str(api.folder / "uploads")}
    for _ in range(2):
        make_service([*MLAPI, "worker"], **shared)
    assert until(lambda: ready_workers(api) == 2, START_TIMEOUT_S), api.log

    with ThreadPoolExecutor(8) as pool:
        before = [pool.submit(predict, api) for _ in range(100)]
        assert before[40].result()[1] == "Eskimo_dog"
        redis_group.kill_master()
        redis_group.wait_for_promotion()
        after = [pool.submit(predict, api) for _ in range(50)]
        answers = sorted(request.result() for request in before + after)
    right = sum(label == "Eskimo_dog" for _, label in answers)
    pause_s = max(later - earlier for (earlier, _), (later, _) in pairwise(answers))
    group = type(redis_group).__name__
    figures.append(f"{group}: {right} of {len(answers)} images right; none for {pause_s:.1f} s after its master's end")
    assert right == len(answers), api.log
