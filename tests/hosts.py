"""Machines that share only networks: containers for API, Redis, object storage and workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import until
from tests.stack import RESTART_TIMEOUT_S, Stack, run

_PASSWORD_FILE = "/run/redis-password/password"  # noqa: S105 - where it is, not what


class Hosts(Stack):
    """Containers as separate machines, with copies of Redis's password, which can be cut off from networks."""

    def __init__(self, folder: Path, *files: str) -> None:
        super().__init__("deploy/compose/hosts.yml", "tests/compose.hosts.yml", *files)
        self._password = folder / "redis-password"
        self.environment["REDIS_PASSWORD_FILE"] = str(self._password)

    def up(self, *words: str) -> None:
        """Start Redis, copy its password to the others, and start them."""
        self.compose("up", "--detach", "--wait", "redis")
        self._password.write_text(self.compose("exec", "-T", "redis", "cat", _PASSWORD_FILE))
        super().up(*words)

    def scale(self, workers: int) -> None:
        """Add workers, or stop some with SIGTERM; return when it is done."""
        self.workers = workers
        super().up("--no-recreate")
        self.wait_until_well()

    def wait_until_well(self) -> None:
        """Return when the API answers and every worker is alive; fail if that takes too long."""
        assert until(lambda: self.ready_workers() == self.workers, RESTART_TIMEOUT_S), self.compose("ps", "--all")

    def first(self, service: str) -> str:
        """Return the id of a service's first container."""
        return self.containers(service)[0]

    @contextmanager
    def stopped(self, command: str, *containers: str) -> Iterator[None]:
        """Stop containers with a Docker command, and start them again."""
        run("docker", command, *containers)
        try:
            yield
        finally:
            run("docker", "start", *containers)

    @contextmanager
    def cut_off(self, service: str, *networks: str) -> Iterator[None]:
        """Cut a service's first container off some of its networks, and reconnect it, perhaps at another address."""
        container = self.first(service)
        names = [f"{self.environment['COMPOSE_PROJECT_NAME']}_{network}" for network in networks]
        for name in names:
            run("docker", "network", "disconnect", name, container)
        try:
            yield
        finally:
            for name in names:
                run("docker", "network", "connect", "--alias", service, name, container)
