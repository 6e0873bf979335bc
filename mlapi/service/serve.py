"""`mlapi serve`: Redis, model workers and the API on this machine, as one command."""

import logging
import os
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from urllib.parse import quote

import redis

from api.settings import ApiSettings
from jobs.redis.loads import RedisLoads
from jobs.redis.queue import RedisJobQueue
from mlapi.service import redis_server
from mlapi.service.loader import Loader
from mlapi.service.supervisor import CannotStart, Program, Supervisor
from mlapi.settings import ServeSettings
from mlapi.terminal import echo_lines
from model.manifest import MANIFEST, ModelManifest
from model.settings import ModelSettings
from runtime import listening, logs

log = logging.getLogger(__name__)

_MLAPI = (sys.executable, "-m", "mlapi")

# All processes run as one user, so no other user needs their files: pictures, reports, Redis's data.
_PRIVATE = 0o077
_REDIS_START_TIMEOUT_S = 10.0
# A worker loads its network and tries every batch size before it counts as alive.
_START_TIMEOUT_S = 120.0
# The API itself kills a process that does not stop in time.
_STOP_SPARE_S = 15.0


def serve() -> None:
    """Run the whole service until SIGTERM or Ctrl-C.

    Raises `SettingsError`, `ModelError`, `RedisServerMissing` or `CannotStart` with what to do.
    """
    settings, api_settings, model_settings = ServeSettings.from_env(), ApiSettings.from_env(), ModelSettings.from_env()
    logs.configure(settings.log_level, settings.log_format)
    os.umask(_PRIVATE)
    manifests = _manifests(model_settings.model, *settings.models_beside or ())
    listening.check(api_settings.host, api_settings.port)
    with _redis_folders(settings.redis_folder) as (folder, kept), Supervisor() as supervisor:
        socket = folder / redis_server.SOCKET
        url = f"unix://{quote(str(socket))}"
        supervisor.start(_redis(socket, folder, kept))
        if not supervisor.wait_until(lambda: _answers(url), "Redis did not answer", _REDIS_START_TIMEOUT_S):
            return
        environment = {"REDIS_URL": url}
        workers = _workers(settings, environment)
        supervisor.start(*workers, _api(api_settings, environment))
        address, queue = api_settings.local_url, RedisJobQueue(url, max_jobs=1)
        all_up = supervisor.wait_until(
            lambda: _is_ready(address) and len(queue.live_workers()) == len(workers),
            "The service was not ready",
            _START_TIMEOUT_S,
        )
        if not all_up:
            return
        with_key = bool(api_settings.api_keys_file)
        echo_lines(_greeting(manifests, settings, address, url, with_key=with_key))
        served = {f"{each.name}@{each.version}" for each in manifests}
        programs = partial(_loaded, settings, environment, supervisor)
        supervisor.run(Loader(supervisor, RedisLoads(url), queue, served, programs).step)


@contextmanager
def _redis_folders(kept: Path | None) -> Iterator[tuple[Path, Path | None]]:
    """Yield a folder for Redis's socket and log, and the one for its data, if one is set."""
    with redis_server.runtime_folder() as folder:
        if kept is None:
            yield folder, None
            return
        with redis_server.kept_in(kept) as locked:
            yield folder, locked


def _redis(socket: Path, folder: Path, kept: Path | None) -> Program:
    command = redis_server.command(socket, folder, kept)
    return Program("Redis server", command, log_file=folder / redis_server.LOG_FILE)


def _manifests(*folders: Path) -> list[ModelManifest]:
    """Return the folders' manifests, the default model's first. Raises `CannotStart` if two have the same version."""
    manifests = [ModelManifest.load(folder) for folder in folders]
    versions = [(manifest.name, manifest.version) for manifest in manifests]
    for manifest in manifests:
        if versions.count((manifest.name, manifest.version)) > 1:
            raise CannotStart(
                f"{manifest.folder / MANIFEST}: another model is {manifest.name} {manifest.version}, too. Give one "
                "another name or version."
            )
    return manifests


def _workers(settings: ServeSettings, environment: dict[str, str]) -> list[Program]:
    default: list[dict[str, str]] = [{}] * settings.instances
    beside = [_standing_beside(folder) for folder in settings.models_beside or ()] * settings.instances_beside
    return [_worker(settings, number, environment | own) for number, own in enumerate([*default, *beside], 1)]


def _loaded(
    settings: ServeSettings, environment: dict[str, str], supervisor: Supervisor, folder: Path
) -> list[Program]:
    """Return the workers of a folder that is loaded later, with the first free numbers."""
    taken = supervisor.names
    possible = (_worker(settings, number, environment | _standing_beside(folder)) for number in count(1))
    free = (replace(program, keeps_last_words=True) for program in possible if program.name not in taken)
    return list(islice(free, settings.instances_beside))


def _standing_beside(folder: Path) -> dict[str, str]:
    return {"MODEL": str(folder), "BESIDE": "true"}


def _worker(settings: ServeSettings, number: int, environment: dict[str, str]) -> Program:
    environment = environment | _metrics_port(settings, number)
    return Program(f"model worker {number}", [*_MLAPI, "worker"], environment)


def _api(settings: ApiSettings, environment: dict[str, str]) -> Program:
    """Return the API, which starts last, so that it stops first and its requests still find workers."""
    stop_timeout_s = settings.drain_s + settings.stop_timeout_s + _STOP_SPARE_S
    return Program("API", [*_MLAPI, "api"], environment, stop_timeout_s=stop_timeout_s)


def _metrics_port(settings: ServeSettings, number: int) -> dict[str, str]:
    """Return the setting of a worker's own metrics port: the API uses the configured one."""
    return {"METRICS_PORT": str(settings.metrics_port + number)} if settings.metrics_port else {}


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url, retry=None) as connection:
        try:
            return bool(connection.ping())
        except redis.ConnectionError:
            return False


def _is_ready(address: str) -> bool:
    """Return whether the API accepts images."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5):  # noqa: S310 - our own address
            return True
    except OSError:
        return False


def _greeting(
    manifests: Sequence[ModelManifest], settings: ServeSettings, address: str, redis_url: str, *, with_key: bool
) -> str:
    served, *beside = (f"{each.name} {each.version} ({len(each.labels)} classes)" for each in manifests)
    workers = f"{settings.instances} model worker{'s' if settings.instances > 1 else ''}"
    more = f"\nBeside it {', '.join(beside)}, with {settings.instances_beside} each." if beside else ""
    return f"""
Serving {served} with {workers}.{more}

  page  {address}/, and {address}/status for operators
  try   curl {"-u :KEY " if with_key else ""}-F file=@tests/dog.jpeg {address}/predict
  jobs  REDIS_URL={redis_url}

Ctrl-C stops it."""
