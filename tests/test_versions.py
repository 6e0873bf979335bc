"""Versions of a model side by side in a running service: switching, rolling back, and a version that dies."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
import requests

from testing.images import DOG
from tests.conftest import EVENT_TIMEOUT_S, ROOT, MakeService, Service, until

NAME = "efficientnet-lite0"
OLD, NEW = f"{NAME}@1", f"{NAME}@2"
USERS = 4
# The number of answers to wait for before and after each action.
ENOUGH = 30


class Answer(NamedTuple):
    """The answer to a request, when it was sent and when the answer came, by the monotonic clock."""

    status: int
    version: str
    label: str
    sent_at: float
    came_at: float


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """Make a second version of the model: the same network under another number."""
    second = tmp_path / "second"
    shutil.copytree(ROOT / "var/models" / NAME, second)
    manifest = second / "model.toml"
    manifest.write_text(re.sub(r'(?m)^version = ".*"$', 'version = "2"', manifest.read_text()))
    return second


@pytest.fixture
def service(make_service: MakeService, second: Path) -> Service:
    """Start a service with both versions."""
    return make_service(INSTANCES="1", MODELS_BESIDE=str(second), LOG_LEVEL="WARNING").wait_until_ready()


def mlapi_model(service: Service, *words: str) -> str:
    """Run `mlapi model` on a service's queue, and return its output."""
    done = run_model(service, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_model(service: Service, *words: str) -> "subprocess.CompletedProcess[str]":
    [url] = re.findall(r"REDIS_URL=(\S+)", service.log)
    command = [sys.executable, "-m", "mlapi", "model", *words]
    environment = {**os.environ, "REDIS_URL": url}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def ask(service: Service, session: requests.Session, **fields: str) -> Answer:
    """Post the photo of the dog as a file that is new each time."""
    sent_at = time.monotonic()
    files = {"file": ("dog.jpeg", DOG + uuid4().bytes)}
    response = session.post(f"{service.url}/v1/predictions", files=files, data=fields, timeout=60)
    told: dict[str, Any] = response.json()
    if not response.ok:
        return Answer(response.status_code, "", str(told), sent_at, time.monotonic())
    label = told["results"][0]["predictions"][0]["label"]
    return Answer(response.status_code, told["model"]["version"], label, sent_at, time.monotonic())


@contextmanager
def load(service: Service) -> Iterator[list[Answer]]:
    """Have callers send pictures all the time; the list collects their answers."""
    answers: list[Answer] = []
    stopped = threading.Event()

    def call() -> None:
        with requests.Session() as session:
            while not stopped.is_set():
                answers.append(ask(service, session))

    with ThreadPoolExecutor(USERS) as pool:
        calls = [pool.submit(call) for _ in range(USERS)]
        try:
            wait_for_more(answers)
            yield answers
            wait_for_more(answers)
        finally:
            stopped.set()
    for done in calls:
        done.result()


def wait_for_more(answers: list[Answer]) -> None:
    enough = len(answers) + ENOUGH
    assert until(lambda: len(answers) >= enough, EVENT_TIMEOUT_S), answers[-1:]


def wait_for_version(answers: list[Answer], version: str) -> None:
    """Return when all callers are answered by a version."""
    assert until(lambda: {answer.version for answer in answers[-2 * USERS :]} == {version}, EVENT_TIMEOUT_S)


def when_it_is_known(service: Service, version: str) -> float:
    """Return when Redis says that a version serves."""
    with service.redis() as connection:
        assert until(lambda: f'"serve": "{version}"' in str(connection.hget("{mlapi}:routes", NAME)), EVENT_TIMEOUT_S)
    return time.monotonic()


def all_right(answers: list[Answer]) -> bool:
    return {(answer.status, answer.label) for answer in answers} == {(200, "Eskimo_dog")}


def test_switching_and_rolling_back_under_load_fails_no_request(service: Service, figures: list[str]) -> None:
    took_s: dict[str, float] = {}
    with load(service) as answers, ThreadPoolExecutor(1) as pool:
        for words, version in ((("serve", NEW), "2"), (("rollback", NAME), "1")):
            switching = pool.submit(mlapi_model, service, *words)
            switched_at = when_it_is_known(service, version)
            switching.result()
            wait_for_version(answers, version)
            late = [answer.sent_at for answer in answers if answer.version != version and answer.sent_at > switched_at]
            took_s[words[0]] = max(late, default=switched_at) - switched_at
            wait_for_more(answers)
    failed = [answer for answer in answers if answer.status != 200]
    latencies_s = sorted(answer.came_at - answer.sent_at for answer in answers)
    times = ", ".join(f"{verb} after {seconds:.2f} s" for verb, seconds in took_s.items())
    figures.append(
        f"Versions: {len(answers)} requests, {len(failed)} failed; the last one that the version before got came: "
        f"{times}; p99 {1000 * latencies_s[int(0.99 * len(latencies_s))]:.0f} ms"
    )
    assert failed == []
    assert all_right(answers)
    assert Counter(version for version, _ in itertools.groupby(answer.version for answer in answers))["2"] >= 1


def test_a_canary_answers_some_and_the_rest_is_answered_as_before(service: Service) -> None:
    mlapi_model(service, "canary", NEW, "--percent", "50")
    with load(service) as answers:
        assert until(lambda: "2" in {answer.version for answer in answers}, EVENT_TIMEOUT_S)
    assert all_right(answers)
    assert {answer.version for answer in answers} == {"1", "2"}


def test_a_shadow_is_compared_with_the_version_that_serves_and_both_are_asked_about_corrected_images(
    service: Service,
) -> None:
    mlapi_model(service, "shadow", NEW, "--percent", "100")
    report = {"filename": image_name(service), "prediction": "Eskimo_dog", "score": 0.64}
    for url, label in ((f"{service.url}/feedback", "Siberian_husky"), (f"{service.url}/feedback", "Eskimo_dog")):
        requests.post(url, data={"report": json.dumps(report), "label": label}, timeout=60).raise_for_status()
    with load(service) as answers:
        assert until(lambda: status(service)[1]["comparison"], EVENT_TIMEOUT_S)
    assert all_right(answers)
    assert {answer.version for answer in answers} == {"1"}
    right = {"right": 1, "images": 1}  # by the latest report
    assert until(lambda: all(each["examined"] == right for each in status(service)), EVENT_TIMEOUT_S)
    served, shadow = status(service)
    assert (shadow["role"], served["comparison"]) == ("shadow", None)
    compared = shadow["comparison"]
    assert 0 < compared["images"] == compared["agreeing"]  # it is the same network
    assert compared["score_difference"] / compared["images"] < 0.05
    assert min(compared["ms"], compared["served_ms"]) > 0


def image_name(service: Service) -> str:
    """Have the photo of the dog classified, and return its name."""
    service.predict(DOG)
    [name] = [path.name for path in (service.folder / "uploads").glob("*.jpg")]
    return name


def status(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(mlapi_model(service, "status", "--json"))
    return found


def test_a_version_is_asked_for_by_its_name_wherever_a_model_is_named(service: Service) -> None:
    with requests.Session() as session:
        asked = {name: ask(service, session, model=name).version for name in (NAME, OLD, NEW)}
        assert asked == {NAME: "1", OLD: "1", NEW: "2"}
        assert ask(service, session, model=f"{NAME}@3").status == 404
        body, headers = DOG, {"Inference-Header-Content-Length": "0"}
        path = f"{service.url}/v2/models/{NAME}/versions/2"
        answer = session.post(f"{path}/infer", data=body, headers=headers, timeout=60).json()
        assert answer["model_version"] == "2"
        assert session.get(f"{path}/ready", timeout=60).status_code == 200
        assert session.get(f"{service.url}/v2/models/{NAME}", timeout=60).json()["versions"] == ["1", "2"]
    found = status(service)
    assert [(each["version"], each["workers"], each["role"]) for each in found] == [
        ("1", 1, "serves"),
        ("2", 1, "idle"),
    ]


def test_when_the_serving_version_dies_the_one_before_answers_and_nothing_that_was_accepted_is_lost(
    service: Service,
) -> None:
    mlapi_model(service, "serve", NEW)
    with load(service) as answers:
        wait_for_version(answers, "2")
        assert until(lambda: answered_without(service, answers), EVENT_TIMEOUT_S)
        wait_for_version(answers, "2")  # its worker is restarted
    assert all_right(answers), {answer for answer in answers if answer.status != 200}


def answered_without(service: Service, answers: list[Answer]) -> bool:
    """Kill the worker of the second version, if there is one; return whether the first version has answered."""
    for pid in service.processes("mlapi worker"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has already ended
            if "BESIDE=true" in Path(f"/proc/{pid}/environ").read_text():
                os.kill(pid, signal.SIGKILL)
    return answers[-1].version == "1"


def test_a_version_is_loaded_switched_to_and_unloaded_while_requests_come_and_none_fails(
    make_service: MakeService, second: Path
) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    folder = os.path.relpath(second, ROOT)  # relative to the command's working folder
    with load(service) as answers:
        assert mlapi_model(service, "load", folder) == f"{NEW} is loaded"
        assert mlapi_model(service, "serve", NEW).endswith(": 2 serves")
        wait_for_version(answers, "2")
        assert f"{NEW} is in use (serves)" in run_model(service, "unload", NEW).stderr
        mlapi_model(service, "rollback", NAME)
        wait_for_version(answers, "1")
        assert mlapi_model(service, "unload", NEW) == f"{NEW} is unloaded"
    assert all_right(answers), {answer for answer in answers if answer.status != 200}
    assert [(each["version"], each["workers"]) for each in status(service)] == [("1", 1), ("2", 0)]
    assert len(service.processes("mlapi worker")) == 1
    assert run_model(service, "unload", NEW).returncode == 1


def test_a_folder_that_cannot_be_served_says_why_and_changes_nothing(make_service: MakeService, second: Path) -> None:
    service = make_service(INSTANCES="1").wait_until_ready()
    (second / "dog.jpeg").write_bytes(DOG)
    manifest = second / "model.toml"
    sample = '[sample]\nfile = "dog.jpeg"\nlabel = "tabby"\n'
    manifest.write_text(manifest.read_text().partition("[sample]")[0] + sample)
    empty = second / "empty"
    empty.mkdir()
    for folder, said in ((second, "the network says 'Eskimo_dog'"), (empty, "model.toml: not found")):
        done = run_model(service, "load", str(folder))
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
    assert [each["version"] for each in status(service)] == ["1"]
    assert len(service.processes("mlapi worker")) == 1
    assert service.predict(DOG).ok


def test_what_was_loaded_serves_again_after_a_restart_where_redis_keeps_it(
    make_service: MakeService, second: Path, tmp_path: Path
) -> None:
    settings = {"INSTANCES": "1", "REDIS_FOLDER": str(tmp_path / "redis")}
    service = make_service(**settings).wait_until_ready()
    mlapi_model(service, "load", str(second))
    mlapi_model(service, "serve", NEW)
    assert service.stop() == 0
    assert service.processes() == []
    again = make_service(**settings).wait_until_ready()
    with requests.Session() as session:
        assert until(lambda: ask(again, session).version == "2", EVENT_TIMEOUT_S)
