"""A service that requires keys and limits rates, from outside."""

import os
import signal
from pathlib import Path

import pytest
import requests

from testing.images import DOG
from tests.conftest import EVENT_TIMEOUT_S, MakeService, mlapi_key, until

FAILED = {"success": False, "prediction": None, "score": None}


def test_keys_are_made_and_removed_while_the_service_runs(make_service: MakeService, tmp_path: Path) -> None:
    file = tmp_path / "keys" / "keys.json"
    service = make_service(INSTANCES="1", API_KEYS_FILE=str(file)).wait_until_ready()
    assert "has no key yet" in service.log
    assert "curl -u :KEY" in service.log
    assert service.predict(DOG).status_code == 401
    assert "This service needs an API key" in requests.get(service.url, timeout=60).text

    key = mlapi_key(file, "add", "alice")
    assert mlapi_key(file, "list") == "alice"
    for headers, auth in (({"Authorization": f"Bearer {key}"}, None), ({}, ("", key))):
        answer = requests.post(
            f"{service.url}/predict", files={"file": ("dog.jpeg", DOG)}, headers=headers, auth=auth, timeout=60
        )
        assert answer.json()["prediction"] == "Eskimo_dog"
    assert "key=alice" in service.log

    mlapi_key(file, "remove", "alice")
    assert requests.get(service.url, auth=("", key), timeout=60).status_code == 401
    assert key not in service.log


def test_a_large_upload_without_a_key_gets_an_answer_and_the_service_goes_on(
    make_service: MakeService, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    key = mlapi_key(file, "add", "alice")
    service = make_service(INSTANCES="1", API_KEYS_FILE=str(file)).wait_until_ready()
    with requests.Session() as session:
        for _ in range(3):
            refused = session.post(
                f"{service.url}/predict", files={"file": ("large.jpeg", bytes(9_000_000))}, timeout=60
            )
            assert (refused.status_code, refused.json()) == (401, FAILED)
        answer = session.post(f"{service.url}/predict", files={"file": ("dog.jpeg", DOG)}, auth=("", key), timeout=60)
        assert answer.json()["success"]


def test_api_processes_count_together_and_without_redis_not_at_all(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1", API_PROCESSES="2", RATE_LIMIT="20/day").wait_until_ready()
    statuses = [requests.get(service.url, timeout=60).status_code for _ in range(30)]
    assert sorted(statuses) == [200] * 20 + [429] * 10

    [redis] = service.processes("redis-server")
    os.kill(redis, signal.SIGSTOP)  # it accepts connections and answers nothing
    try:
        assert until(lambda: requests.get(service.url, timeout=60).status_code == 200, EVENT_TIMEOUT_S)
    finally:
        os.kill(redis, signal.SIGCONT)


def test_a_letter_that_is_not_ascii_hides_no_header(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1", TRUSTED_PROXIES="2").wait_until_ready()
    for name, value in {
        "X-Forwarded-For": b"\xff, 203.0.113.9, 198.51.100.1",
        "X-Forwarded-Host": b"\xc3\xa9, pictures.example, proxy.example",
        "Idempotency-Key": b"\xc3\xa9",
        "Sec-Fetch-Site": b"cross-site\xff",
    }.items():
        response = requests.post(f"{service.url}/v1/predictions", data=DOG, headers={name: value}, timeout=60)
        assert response.status_code in {400, 403}, name


@pytest.mark.parametrize("forwarded_for", [["198.51.100.1"] * 2, ["198.51.100.1", "198.51.100.2"]])
def test_clients_are_told_by_the_address_that_the_proxy_saw(
    make_service: MakeService, forwarded_for: list[str]
) -> None:
    service = make_service(INSTANCES="1", RATE_LIMIT="1/day", TRUSTED_PROXIES="1").wait_until_ready()
    statuses = [
        requests.get(service.url, headers={"X-Forwarded-For": f'"203.0.113.9, {address}'}, timeout=60).status_code
        for address in forwarded_for
    ]
    assert statuses == [200, 429 if len(set(forwarded_for)) == 1 else 200]
