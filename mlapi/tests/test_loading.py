"""`mlapi model load` and `unload`, against a supervisor whose workers are small fakes."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from jobs.queue.memory import MemoryJobQueue
from jobs.redis.loads import CannotLoad, Load, RedisLoads
from jobs.schema import ModelInfo
from mlapi import cli
from mlapi.operating import loading
from mlapi.service import loader
from mlapi.service.loader import Loader
from mlapi.service.redis_server import free_port
from mlapi.service.supervisor import Program, Supervisor
from model.manifest import ModelManifest
from runtime.errors import QueueUnavailable

MANIFEST = """
name = "{name}"
version = "{version}"
[input]
size = [32, 32]
resize = "squash"
interpolation = "bilinear"
channels = "RGB"
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]
layout = "NCHW"
[output]
logits = true
"""
# The code that a worker runs, in its folder.
RUNS = "import time; open('runs', 'w').close(); time.sleep(600)"
FAILS = "open('starts', 'a').write('x'); raise SystemExit('mlapi: the sample is wrong')"


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> MemoryJobQueue:
    queue = MemoryJobQueue(max_jobs=10, worker_ttl_s=600)
    comes_alive(queue, "pets", "1")
    monkeypatch.setattr(cli, "_queue", lambda: queue)
    return queue


@pytest.fixture
def loads(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisLoads]:
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushall()
    loads = RedisLoads(redis_url)
    monkeypatch.setattr(cli, "_loads", lambda: loads)
    yield loads
    loads.close()


def comes_alive(queue: MemoryJobQueue, name: str, version: str) -> None:
    """Record a heartbeat of a version's worker."""
    queue.publish(ModelInfo(f"{name}-{version}-id", name, version))
    queue.heartbeat(f"worker of {name}@{version}", 0.01, f"{name}-{version}-id")


def folder(path: Path, version: str, code: str = RUNS, name: str = "pets") -> Path:
    """Make a model folder whose worker runs this code."""
    path.mkdir()
    (path / "model.toml").write_text(MANIFEST.format(name=name, version=version))
    (path / "labels.txt").write_text("cat\ndog\n")
    (path / "model.onnx").write_bytes(b"")
    (path / "worker.py").write_text(code)
    return path


def worker(folder: Path) -> list[Program]:
    code = f"import os; os.chdir({str(folder)!r}); exec(open('worker.py').read())"
    return [Program(f"worker of {folder.name}", [sys.executable, "-c", code], keeps_last_words=True)]


class Service:
    """A supervisor with a loader, running during each command, and the commands."""

    def __init__(self, supervisor: Supervisor, loads: RedisLoads, queue: MemoryJobQueue) -> None:
        self._loader = Loader(supervisor, loads, queue, {"pets@1"}, worker)
        self._loads = loads
        self._queue = queue
        self.supervisor = supervisor

    def step(self) -> None:
        """Run a step of the supervisor; a folder's worker is alive once it has reported so there."""
        self._loader.step()
        for folder in self._loads.read():
            if (Path(folder) / "runs").exists():
                manifest = ModelManifest.load(Path(folder))
                pool = self._queue.beside(f"{manifest.name}@{manifest.version}")
                comes_alive(pool, manifest.name, manifest.version)

    def load(self, folder: Path) -> str:
        """Return what the command tells, or raise what it raises."""
        return self._while_it_works(lambda: loading.load(self._loads, folder))

    def unload(self, name: str, *, last: bool = False) -> str:
        """Return what the command tells, or raise what it raises."""
        return self._while_it_works(lambda: loading.unload(self._loads, self._queue, name, last=last))

    def _while_it_works(self, command: Callable[[], str]) -> str:
        self.step()
        with ThreadPoolExecutor(1) as pool:
            told = pool.submit(command)
            while not wait([told], 0.02).done:
                self.step()
        return told.result()


@pytest.fixture
def service(loads: RedisLoads, queue: MemoryJobQueue) -> Iterator[Service]:
    with Supervisor() as supervisor:
        yield Service(supervisor, loads, queue)


def test_a_version_is_ready_when_its_worker_is_alive_and_is_stopped_when_it_is_unloaded(
    service: Service, loads: RedisLoads, tmp_path: Path
) -> None:
    second = folder(tmp_path / "second", "2")
    assert service.load(second) == "pets@2 is loaded"
    assert loads.read() == {str(second): Load("ready", "pets@2")}
    assert service.supervisor.names == {"worker of second"}
    assert service.load(second) == "pets@2 is loaded"  # as it was before
    assert service.unload("pets@2") == "pets@2 is unloaded"
    assert loads.read() == {}
    assert service.supervisor.names == set()


def test_a_worker_that_ends_before_it_is_ready_is_not_started_again_and_says_why(
    service: Service, tmp_path: Path
) -> None:
    second = folder(tmp_path / "second", "2", FAILS)
    with pytest.raises(CannotLoad, match="ended with exit status 1; the sample is wrong"):
        service.load(second)
    service.step()
    assert (second / "starts").read_text() == "x"
    assert service.supervisor.names == set()
    (second / "worker.py").write_text(RUNS)
    assert service.load(second) == "pets@2 is loaded"  # once it is fixed


def test_a_worker_that_is_never_ready_is_given_up(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "_READY_TIMEOUT_S", 0.1)
    with pytest.raises(CannotLoad, match=r"pets@2 was not ready within 0\.1 s"):
        service.load(folder(tmp_path / "second", "2", "import time; time.sleep(600)"))
    assert service.supervisor.names == set()


@pytest.mark.parametrize(("version", "said"), [("1", "is pets@1, which is there already"), ("", "version is")])
def test_what_cannot_be_started_is_said_by_name(service: Service, tmp_path: Path, version: str, said: str) -> None:
    with pytest.raises(CannotLoad, match=said):
        service.load(folder(tmp_path / "second", version))
    assert service.supervisor.names == set()


def test_a_version_is_loaded_from_one_folder(service: Service, tmp_path: Path) -> None:
    service.load(folder(tmp_path / "second", "2"))
    with pytest.raises(CannotLoad, match="is there already"):
        service.load(folder(tmp_path / "copy", "2"))
    assert service.supervisor.names == {"worker of second"}


def test_what_was_loaded_is_loaded_again_by_the_next_service(
    service: Service, loads: RedisLoads, tmp_path: Path
) -> None:
    second = folder(tmp_path / "second", "2")
    failed = folder(tmp_path / "failed", "3", FAILS)
    loads.write(str(second), Load("ready", "pets@2"))  # as the one before has left it
    loads.write(str(failed), Load("failed", error="the sample is wrong"))
    service.step()
    assert service.supervisor.names == {"worker of second"}
    assert service.load(second) == "pets@2 is loaded"


def test_what_is_loaded_stays_though_redis_forgets_it(
    service: Service, loads: RedisLoads, redis_url: str, tmp_path: Path
) -> None:
    second = folder(tmp_path / "second", "2")
    service.load(second)
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushall()
    service.step()
    assert loads.read() == {str(second): Load("ready", "pets@2")}
    assert service.unload("pets@2") == "pets@2 is unloaded"


def test_redis_may_be_away(queue: MemoryJobQueue, tmp_path: Path) -> None:
    with Supervisor() as supervisor, closing(RedisLoads(f"redis://127.0.0.1:{free_port()}")) as loads:
        Loader(supervisor, loads, queue, {"pets@1"}, worker).step()
        with pytest.raises(QueueUnavailable):
            loading.load(loads, tmp_path)


@pytest.mark.parametrize("words", [("serve",), ("canary", "--percent", "5"), ("shadow", "--percent", "5")])
def test_a_version_that_gets_images_is_not_unloaded(service: Service, tmp_path: Path, words: tuple[str, ...]) -> None:
    service.load(folder(tmp_path / "second", "2"))
    verb, *options = words
    assert CliRunner().invoke(cli.cli, ["model", verb, "pets@2", *options]).exit_code == 0
    with pytest.raises(CannotLoad, match="pets@2 is in use"):
        service.unload("pets@2", last=True)
    assert service.supervisor.names == {"worker of second"}


def test_the_last_version_of_a_model_is_unloaded_only_where_that_is_said(service: Service, tmp_path: Path) -> None:
    service.load(folder(tmp_path / "cars", "1", name="cars"))
    with pytest.raises(CannotLoad, match="No other version of cars has a worker"):
        service.unload("cars@1")
    assert service.unload("cars@1", last=True) == "cars@1 is unloaded"


def test_what_was_started_otherwise_is_not_unloaded(service: Service) -> None:
    with pytest.raises(CannotLoad, match=r"pets@1 was not loaded by .* What can be unloaded: nothing\."):
        service.unload("pets@1")


def test_without_a_supervisor_the_command_says_so_at_once(loads: RedisLoads, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.cli, ["model", "load", str(tmp_path)])
    assert "No `mlapi serve` runs with this Redis" in str(done.exception)
    assert loads.read() == {}
