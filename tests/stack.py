"""A Compose project for tests, and callers that load it."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import requests

from testing.images import DOG
from tests.conftest import ROOT, free_port

# The first build downloads the requirements.
BUILD_TIMEOUT_S = 1200
UP_TIMEOUT_S = 180
# A killed container is restarted at once, and its worker then loads and tries the model.
RESTART_TIMEOUT_S = 60
# The answer that every caller gets when all is well.
RIGHT = {"Eskimo_dog"}


def run(*command: str, timeout_s: float = 60, **environment: str) -> str:
    """Return a command's output; fail with all of it if the command fails."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


class Stack:
    """The containers of a test's Compose project, as the named files describe it."""

    workers = 2

    def __init__(self, *files: str) -> None:
        self.port = free_port()
        address = f"127.0.0.1:{self.port}"
        self.url = f"http://{address}"
        self.environment = {
            "COMPOSE_PROJECT_NAME": f"mlapi-test-{uuid4().hex[:8]}",
            "COMPOSE_FILE": ":".join(["docker-compose.yml", *files]),
            "HTTP_PORT": address,
            "CACHE_TTL_S": "0",
        }

    def compose(self, *words: str, timeout_s: float = 60, **environment: str) -> str:
        """Run `docker compose` on this project."""
        return run("docker", "compose", *words, timeout_s=timeout_s, **{**self.environment, **environment})

    def up(self, *words: str) -> None:
        """Start the workers and the rest; return when all are healthy, fail with their logs if they are not."""
        try:
            self.compose("up", "--detach", "--wait", "--scale", f"model={self.workers}", *words, timeout_s=UP_TIMEOUT_S)
        except AssertionError as err:
            raise AssertionError(f"{err}\n{self.compose('logs', '--no-color')}") from err

    def containers(self, *services: str) -> list[str]:
        """Return the ids of the services' containers, running or not; by default of all services."""
        return self.compose("ps", "--all", "--quiet", *services).split()

    def inspect(self, container: str, template: str) -> str:
        """Return the engine's information on a container."""
        return run("docker", "inspect", "--format", template, container)

    def shell(self, container: str, script: str) -> str:
        """Return a shell's output in a container."""
        return run("docker", "exec", container, "sh", "-c", script)

    def predict(self) -> requests.Response:
        """Post the photo of the dog."""
        return requests.post(f"{self.url}/predict", files={"file": ("dog.jpeg", DOG)}, timeout=60)

    def ready_workers(self) -> int:
        """Return the number of workers that /readyz reports."""
        try:
            answer = requests.get(f"{self.url}/readyz", timeout=10)
        except requests.ConnectionError:
            return 0
        return int(answer.json()["workers"]) if answer.ok else 0

    def listens(self) -> bool:
        """Return whether new requests are answered at all."""
        try:
            return requests.get(f"{self.url}/livez", timeout=10).ok
        except requests.ConnectionError:
            return False

    def queued_jobs(self) -> int:
        """Return the number of waiting and processing jobs."""
        return int(self.redis("xlen {mlapi}:jobs"))

    def redis(self, command: str) -> str:
        """Return Redis's answer to a command."""
        [redis] = self.containers("redis")
        return self.shell(redis, f"REDISCLI_AUTH=$(cat /run/redis-password/password) redis-cli {command}")

    def remove(self) -> None:
        """Remove all containers, volumes, networks and images."""
        self.compose("down", "--volumes", "--rmi", "local", "--remove-orphans", "--timeout", "5")


@contextmanager
def load(stack: Stack) -> Iterator[list[str]]:
    """Have four callers send new pictures all the time; the list collects their answers."""
    answers: list[str] = []
    stopped = threading.Event()

    def call() -> None:
        with requests.Session() as session:
            while not stopped.is_set():
                answers.append(classify(stack, session))

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(call) for _ in range(4)]
        try:
            yield answers
        finally:
            stopped.set()
    for done in calls:
        done.result()


def classify(stack: Stack, session: requests.Session) -> str:
    """Post the photo of the dog as a file that is new each time; return its class, or the status and error."""
    files = {"file": ("dog.jpeg", DOG + uuid4().bytes)}
    response = session.post(f"{stack.url}/predict", files=files, timeout=60)
    return str(response.json()["prediction"]) if response.ok else f"{response.status_code} {response.headers}"


def grown(answers: list[str], by: int = 20) -> Callable[[], bool]:
    """Return a function that returns whether that many more answers have come."""
    target = len(answers) + by
    return lambda: len(answers) >= target
