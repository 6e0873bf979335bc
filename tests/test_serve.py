"""`make run` itself: starting, stopping, and recovery when one of its processes is killed."""

import json
import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from testing.images import DOG
from testing.redis_servers import wait_until_written
from tests.conftest import (
    EVENT_TIMEOUT_S,
    ROOT,
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    MakeService,
    Service,
    free_port,
    until,
)


def is_right(response: requests.Response) -> bool:
    return response.status_code == 200 and response.json()["prediction"] == "Eskimo_dog"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_of_it_and_leaves_no_process(make_service: MakeService, number: signal.Signals) -> None:
    service = make_service().wait_until_ready()
    assert len(service.processes("worker")) == 2
    assert service.stop(number) == 0, service.log
    assert service.processes() == [], service.log


def test_workers_leave_the_processor_to_whoever_answers_requests(make_service: MakeService) -> None:
    service = make_service().wait_until_ready()
    priorities = {
        words: {os.getpriority(os.PRIO_PROCESS, pid) for pid in service.processes(words)}
        for words in ("mlapi api", "redis-server", "mlapi worker")
    }
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert priorities == {"mlapi api": {ours}, "redis-server": {ours}, "mlapi worker": {min(ours + 10, 19)}}


def test_other_users_of_the_machine_reach_nothing_of_it(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(REDIS_FOLDER=str(tmp_path / "0" / "redis"), INSTANCES="1").wait_until_ready()
    assert is_right(service.predict(DOG))
    requests.post(f"{service.url}/feedback", data={"report": "a wrong one"}, timeout=60).raise_for_status()
    made = {path.name: path.stat().st_mode & 0o777 for path in service.folder.iterdir() if path.name != "log"}
    assert {"uploads", "feedback", "redis"} < made.keys()
    assert set(made.values()) == {0o700}
    for kept in (service.folder / "redis").iterdir():
        assert kept.stat().st_mode & 0o077 == 0
    [redis] = service.processes("redis-server")
    assert not listening_sockets() & {str(file.readlink()) for file in Path(f"/proc/{redis}/fd").iterdir()}


def listening_sockets() -> set[str]:
    """Return the sockets of this machine that listen on a TCP port, as links to them are called."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return {f"socket:[{line[9]}]" for line in lines if line[3] == "0A"}


def test_many_signals_stop_it_like_one(make_service: MakeService) -> None:
    service = make_service().wait_until_ready()
    for _ in range(5):
        service.kill("mlapi api", signal.SIGTERM)
        service.process.terminate()
    assert service.process.wait(STOP_TIMEOUT_S) == 0, service.log
    assert service.processes() == [], service.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_make_run_takes_port_and_instances_and_stops_like_the_command(
    make_service: MakeService, number: signal.Signals
) -> None:
    port = free_port()
    service = make_service(["make", "run", f"PORT={port}", "INSTANCES=3"], MAKEFLAGS="").wait_until_ready()
    assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=60).json()["workers"] == 3
    if number == signal.SIGINT:  # as a terminal does: to make and what it runs
        for pid in service.processes("mlapi serve"):
            os.kill(pid, number)
    service.stop(number)
    assert until(lambda: service.processes() == [], EVENT_TIMEOUT_S)


def test_nothing_stays_when_the_command_itself_is_killed(make_service: MakeService) -> None:
    service = make_service().wait_until_ready()
    service.stop(signal.SIGKILL)
    assert until(lambda: service.processes() == [], EVENT_TIMEOUT_S)


def test_nothing_stays_when_the_command_and_the_process_that_runs_the_api_are_killed(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1", API_PROCESSES="2").wait_until_ready()
    api = service.processes("mlapi api")
    assert len(api) >= 3
    with requests.Session() as idle:  # its connection stays open
        assert idle.get(f"{service.url}/livez", timeout=60).status_code == 200
        for pid in (service.process.pid, min(api)):
            os.kill(pid, signal.SIGKILL)
        assert until(lambda: service.processes() == [], EVENT_TIMEOUT_S), service.log


def test_the_greeting_says_what_is_served_and_how_to_try_it(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    assert "efficientnet-lite0" in service.log
    assert "1 model worker." in service.log
    [command] = [line.split(maxsplit=1)[1] for line in service.log.splitlines() if line.strip().startswith("try")]
    answer = subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert '"Eskimo_dog"' in answer.stdout


def test_200_requests_are_answered_right_though_a_worker_is_killed_among_them(make_service: MakeService) -> None:
    service = make_service().wait_until_ready()

    def predict(number: int) -> bool:
        if number == 100:
            os.kill(service.processes("mlapi worker")[0], signal.SIGKILL)
        return is_right(service.predict(DOG))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(predict, range(200))) == [True] * 200
    assert until(lambda: len(service.processes("mlapi worker")) == 2, EVENT_TIMEOUT_S)
    assert "was ended by SIGKILL; starting it again" in service.log


@pytest.mark.parametrize("words", ["mlapi worker", "mlapi api", "redis-server"])
def test_a_part_that_is_killed_is_started_again(make_service: MakeService, words: str) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    killed = service.processes(words)
    os.kill(min(killed), signal.SIGKILL)
    assert until(lambda: set(service.processes(words)) - set(killed), EVENT_TIMEOUT_S)
    assert until(lambda: answers(service), EVENT_TIMEOUT_S), service.log


def test_requests_that_wait_are_answered_though_redis_is_killed_and_remembers_nothing(
    make_service: MakeService,
) -> None:
    service = make_service().wait_until_ready()
    service.pause_workers()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(service.predict, DOG) for _ in range(8)]
        assert until(lambda: service.queued_jobs() == 8, EVENT_TIMEOUT_S)
        service.kill("redis-server", signal.SIGKILL)
        assert until(lambda: "Redis server was ended by SIGKILL; starting it again" in service.log, EVENT_TIMEOUT_S)
        service.kill("mlapi worker", signal.SIGCONT)
        assert all(is_right(request.result()) for request in waiting), service.log


def test_what_redis_keeps_in_a_folder_outlives_it_and_the_service(make_service: MakeService, tmp_path: Path) -> None:
    # Within the service's own folder, by which its Redis is recognised as one of its processes.
    environment = {"CACHE_TTL_S": "600", "REDIS_FOLDER": str(tmp_path / "0" / "redis"), "INSTANCES": "1"}
    service = make_service(**environment).wait_until_ready()
    assert is_right(service.predict(DOG))
    with service.redis() as connection:
        wait_until_written(connection)
    [redis] = service.processes("redis-server")
    os.kill(redis, signal.SIGKILL)
    assert until(lambda: set(service.processes("redis-server")) - {redis}, EVENT_TIMEOUT_S), service.log
    assert service.predict(DOG).headers["Server-Timing"].startswith("cache")
    service.stop()
    assert make_service(**environment).wait_until_ready().predict(DOG).headers["Server-Timing"].startswith("cache")


def test_a_folder_that_another_service_keeps_its_jobs_in_is_refused(make_service: MakeService, tmp_path: Path) -> None:
    folder = str(tmp_path / "redis")
    first = make_service(REDIS_FOLDER=folder, INSTANCES="1").wait_until_ready()
    second = make_service(REDIS_FOLDER=folder)
    assert second.process.wait(START_TIMEOUT_S) == 1
    assert f"REDIS_FOLDER={folder}: another service" in second.log
    assert is_right(first.predict(DOG))


def answers(service: Service) -> bool:
    try:
        return is_right(service.predict(DOG))
    except requests.ConnectionError:
        return False


def test_the_same_image_is_computed_once_and_then_answered_from_the_cache(make_service: MakeService) -> None:
    service = make_service(CACHE_TTL_S="60").wait_until_ready()
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: service.predict(DOG), range(8)))
    assert all(is_right(response) for response in responses)
    assert until(lambda: ": batch of " in service.log, EVENT_TIMEOUT_S)
    assert service.predict(DOG).headers["Server-Timing"].startswith("cache, total;dur=")
    assert service.log.count(": batch of ") == 1


def test_a_request_in_work_is_answered_before_the_service_stops(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    with ThreadPoolExecutor(16) as pool:
        requests_in_work = [pool.submit(service.predict, DOG) for _ in range(16)]
        assert until(lambda: "label=" in service.log, EVENT_TIMEOUT_S)
        service.stop()
        # A request that came too late to be accepted finds no listener.
        taken = [
            request for request in requests_in_work if not isinstance(request.exception(), requests.ConnectionError)
        ]
        statuses = [request.result().status_code for request in taken]
    assert statuses
    assert set(statuses) == {200}


def test_an_upload_goes_after_its_time_and_a_reported_one_is_kept(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    [uploads, kept] = [service.folder / "uploads", service.folder / "feedback" / "images"]
    assert is_right(service.predict(DOG))
    [name] = [path.name for path in uploads.glob("*.jpg")]
    requests.post(f"{service.url}/feedback", data={"report": json.dumps({"filename": name})}, timeout=60)
    service.stop()
    os.utime(uploads / name, (0, 0))
    again = make_service(INSTANCES="1", UPLOAD_FOLDER=str(uploads)).wait_until_ready()
    assert until(lambda: "old uploads removed count=1" in again.log, EVENT_TIMEOUT_S), again.log
    assert requests.get(f"{again.url}/display/{name}", timeout=60).status_code == 404
    assert (kept / name).read_bytes() == DOG


def test_requests_in_work_are_answered_though_the_signal_to_stop_reaches_every_process(
    make_service: MakeService,
) -> None:
    service = make_service().wait_until_ready()
    service.pause_workers()
    with ThreadPoolExecutor(16) as pool:
        requests_in_work = [pool.submit(service.predict, DOG) for _ in range(16)]
        assert until(lambda: service.queued_jobs() == 16, EVENT_TIMEOUT_S)
        service.kill("", signal.SIGTERM)
        service.kill("mlapi worker", signal.SIGCONT)
        assert service.process.wait(STOP_TIMEOUT_S) == 0
        assert all(is_right(request.result()) for request in requests_in_work), service.log
    assert service.processes() == [], service.log


def test_requests_that_come_as_the_signal_to_stop_reaches_every_process_are_answered(make_service: MakeService) -> None:
    service = make_service().wait_until_ready()
    with ThreadPoolExecutor(16) as pool:
        on_their_way = [pool.submit(service.predict, DOG) for _ in range(16)]
        service.kill("", signal.SIGTERM)
        assert service.process.wait(STOP_TIMEOUT_S) == 0
        answers = [request.result() for request in on_their_way]
    for answer in answers:  # the workers have it as well, and may be gone until the supervisor has started them again
        assert is_right(answer) or answer.headers["X-Error"].startswith("no-worker"), service.log


def test_requests_in_work_are_answered_however_many_signals_the_api_gets(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    service.pause_workers()
    with ThreadPoolExecutor(4) as pool:
        requests_in_work = [pool.submit(service.predict, DOG) for _ in range(4)]
        assert until(lambda: service.queued_jobs() == 4, EVENT_TIMEOUT_S)
        service.process.terminate()
        for number in (signal.SIGTERM, signal.SIGINT) * 4:
            service.kill("mlapi api", number)
        service.kill("mlapi worker", signal.SIGCONT)
        assert service.process.wait(STOP_TIMEOUT_S) == 0
        assert all(is_right(request.result()) for request in requests_in_work), service.log
    assert service.processes() == [], service.log


def test_who_cannot_be_answered_before_the_service_stops_is_told_so(make_service: MakeService) -> None:
    service = make_service(INSTANCES="1", STOP_TIMEOUT_S="1").wait_until_ready()
    service.pause_workers()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(service.predict, DOG)
        assert until(lambda: service.queued_jobs() == 1, EVENT_TIMEOUT_S)
        service.process.terminate()
        response = waiting.result()
    service.kill("mlapi worker", signal.SIGCONT)
    assert response.status_code == 503
    assert response.headers["X-Error"].startswith("stopping")
    assert response.headers["Retry-After"]
    assert service.process.wait(STOP_TIMEOUT_S) == 0


def test_a_port_that_is_taken_is_named_and_nothing_is_left(make_service: MakeService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        service = make_service(PORT=str(port))
        assert service.process.wait(START_TIMEOUT_S) == 1
    assert f"Port {port} of 127.0.0.1 cannot be used" in service.log
    assert service.processes() == [], service.log


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PORT": "http"}, ["PORT=http", "integer"]),
        ({"INSTANCES": "0"}, ["INSTANCES=0", "greater than or equal to 1"]),
        ({"RATE_LIMIT": "often"}, ["RATE_LIMIT=often", "600/minute"]),
        ({"API_KEYS_FILE": "README.md"}, ["README.md", "file of API keys"]),
        ({"MODEL": "nowhere/at-all"}, ["nowhere/at-all"]),
        ({"REDIS_SERVER": "/bin/false"}, ["Redis server", "exit status 1"]),
    ],
)
def test_what_cannot_start_ends_with_the_reason(
    make_service: MakeService, environment: dict[str, str], words: list[str]
) -> None:
    service = make_service(**environment)
    assert service.process.wait(START_TIMEOUT_S) == 1
    assert all(word in service.log for word in words), service.log
    assert "Traceback" not in service.log
    assert service.processes() == [], service.log


def test_a_network_that_does_not_fit_its_manifest_ends_the_start(make_service: MakeService, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in (ROOT / "var/models/efficientnet-lite0").iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    manifest = model / "model.toml"
    manifest.write_text(manifest.read_text().replace("[224, 224]", "[299, 299]"))
    service = make_service(MODEL=str(model))
    assert service.process.wait(START_TIMEOUT_S) == 1
    assert "299" in service.log
    assert "224" in service.log
    assert service.processes() == [], service.log
