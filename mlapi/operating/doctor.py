"""`mlapi doctor`: checks everything that the service needs on this machine, and says what to do about problems."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jobs.redis import url as redis_url
from jobs.settings import SettingsError, SharedSettings
from jobs.storage.opening import open_store
from mlapi.service import redis_server
from mlapi.service.cores import available_cores
from mlapi.settings import ServeSettings
from runtime import listening, tracing
from runtime.environment import env_file
from runtime.errors import ServiceError, SetupError, StorageUnavailable

if TYPE_CHECKING:
    from jobs.redis.setup import RedisSetup

State = Literal["ok", "doubtful", "wrong", "not examined"]

_OLDEST_PYTHON, _OLDEST_REDIS = (3, 10), (6, 2)
# The imports of each part, by the extra that installs them.
_MODULES = {"api": ("flask", "granian", "limits", "multipart"), "model": ("numpy", "openvino", "PIL")}
_GIGABYTE = 1e9
# Stored as a test; it is not removed.
_TRIAL_NAME = ".doctor"
_ANSWER_TIMEOUT_S = 5.0


class Doubt(Exception):
    """A check passed, but something may be wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; unless "ok", `found` ends with what to do."""

    about: str
    state: State
    found: str

    def __str__(self) -> str:
        return f"{self.state:12}  {self.about:10}  {self.found}"


def examine() -> Iterator[Finding]:
    """Run all checks, and yield their findings."""
    for about, check in CHECKS.items():
        yield _finding(about, check)


def _finding(about: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(about, "ok", check())
    except Doubt as doubt:
        return Finding(about, "doubtful", str(doubt))
    except SettingsError as err:
        return (
            Finding(about, "wrong", str(err)) if check is settings else Finding(about, "not examined", "see settings")
        )
    except ModuleNotFoundError as err:
        return Finding(about, "not examined", f"{err.name} is not installed: see packages")
    except (SetupError, ServiceError) as err:
        return Finding(about, "wrong", str(err))


def python() -> str:
    """Return Python's version. Raises `SetupError` if it is too old."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _OLDEST_PYTHON:
        raise SetupError(f"{version}: at least {'.'.join(map(str, _OLDEST_PYTHON))} is needed.")
    return f"{version}, {sys.executable}"


def packages() -> str:
    """Return which parts can run here. Raises `SetupError` if none can, `Doubt` if one cannot."""
    missing = {extra: [name for name in names if not find_spec(name)] for extra, names in _MODULES.items()}
    lacking = [
        f"{', '.join(names)}: `pip install 'flask-ml-api[{extra}]'`" for extra, names in missing.items() if names
    ]
    if len(lacking) == len(_MODULES):
        raise SetupError(f"Missing are {'; '.join(lacking)}.")
    if lacking:  # a container has one of them
        raise Doubt(f"Missing is {lacking[0]}.")
    return "API and worker have all that they import"


def settings() -> str:
    """Return where the settings come from. Raises `SettingsError` or `SetupError` if one is invalid."""
    from api.settings import ApiSettings
    from api.webhooks.sender import Sender
    from model.settings import ModelSettings

    for kind in (ServeSettings, ModelSettings):
        kind.from_env()
    api = ApiSettings.from_env()
    tracing.require(api)
    if api.webhook_secret:
        Sender(api.webhook_secret.get_secret_value(), allow_private=False)
    file = Path(env_file())
    return f"from the environment and {file}" if file.is_file() else "from the environment alone"


def cores() -> str:
    """Return the number of cores. Raises `Doubt` if the workers need more."""
    from model.settings import ModelSettings

    cores, instances, threads = available_cores(), ServeSettings.from_env().instances, ModelSettings.from_env().threads
    said = f"{cores} of {os.cpu_count()} may be used; INSTANCES={instances} with THREADS={threads} each"
    if instances * threads > cores:
        raise Doubt(f"{said}, which is more: leave INSTANCES and THREADS unset, or run `mlapi tune`.")
    return said


def model() -> str:
    """Load the model, classify a test image, and return the time it took. Raises `ModelError`."""
    import numpy as np

    from model.ml_service import identity, load_classifier
    from model.settings import ModelSettings

    classifier = load_classifier(ModelSettings.from_env())
    manifest = classifier.manifest
    grey = np.full((1, manifest.height, manifest.width, 3), 128, np.uint8)
    classifier.classify(grey)
    started = time.perf_counter()
    classifier.classify(grey)
    elapsed_ms = 1000 * (time.perf_counter() - started)
    name = identity(manifest, classifier.precision)
    return f"{name}: {len(manifest.labels)} classes, {elapsed_ms:.1f} ms for one image"


def precision() -> str:
    """Return the network's precision. Raises `Doubt` if the processor emulates it."""
    from model.classifier import native_precision
    from model.settings import ModelSettings

    wanted, native = ModelSettings.from_env().precision, native_precision()
    if wanted == "bf16" and native != "bf16":
        raise Doubt("PRECISION=bf16, which this processor does not have and imitates slowly: leave PRECISION unset.")
    return f"{native if wanted == 'auto' else wanted}; the processor has {native}"


def redis() -> str:
    """Return the version of the server that `mlapi serve` starts. Raises `SetupError`."""
    program = redis_server.find_program()
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"v=((\d+)\.(\d+)[\d.]*)", said)
    if not found:
        raise SetupError(f"{program} is no Redis server: {said.strip()!r}. Set REDIS_SERVER to one, or to nothing.")
    if (int(found[2]), int(found[3])) < _OLDEST_REDIS:
        raise SetupError(f"{program} is {found[1]}; at least 6.2 is needed: `make setup` fetches one.")
    return f"{found[1]}, {program}"


def queue() -> str:
    """Return the number of workers of the Redis at REDIS_URL.

    Raises `SetupError` if it is set and does not answer or refuses jobs, `Doubt` if it may lose some.
    """
    from jobs.redis.queue import RedisJobQueue

    shared = SharedSettings.from_env()
    url = redis_url.for_people(shared.redis_url)
    queue = RedisJobQueue.from_settings(shared)
    try:
        said = f"{len(queue.live_workers())} workers at {url}"
        setup = _redis_setup(shared.redis_login)
    except ServiceError as err:
        if "redis_url" in shared.model_fields_set:
            raise SetupError(
                f"No Redis answers at REDIS_URL={url} ({err.__cause__}). Start it, or unset REDIS_URL."
            ) from err
        return "`mlapi serve` starts its own Redis; `mlapi api` and `mlapi worker` need REDIS_URL"
    finally:
        queue.close()
    if setup.is_node and redis_url.parse(shared.redis_url).kind != "cluster":
        raise Doubt(
            f"{said}, a node of a cluster, where another may take the queue: begin REDIS_URL with redis+cluster://."
        )
    if setup.refuses:
        raise SetupError(f"{said}: {'; '.join((*setup.refuses, *setup.loses))}.")
    if setup.loses:
        raise Doubt(f"{said}: {'; '.join(setup.loses)}.")
    return said if setup.is_kept else f"{said}, which has all in memory (appendonly is off)"


def port() -> str:
    """Return whether the port is free or the API listens on it. Raises `SetupError` if something else does."""
    from api.settings import ApiSettings

    settings = ApiSettings.from_env()
    try:
        listening.check(settings.host, settings.port)
    except SetupError:
        if _is_alive(settings.local_url):
            return f"{settings.port}: the service runs there"
        raise
    return f"{settings.port} of {settings.host} is free"


def uploads() -> str:
    """Return where uploads are stored. Raises `SetupError` if they cannot be written, `Doubt` if space is low."""
    from api.settings import ApiSettings

    settings = ApiSettings.from_env()
    if settings.upload_url:
        return _object_storage(settings)
    folder = _writable(settings.upload_folder, "UPLOAD_FOLDER")
    free = shutil.disk_usage(folder).free
    said = f"{folder} has {free / _GIGABYTE:.1f} GB left"
    if free < settings.upload_max_bytes:
        raise Doubt(
            f"{said}; UPLOAD_MAX_BYTES is {settings.upload_max_bytes / _GIGABYTE:.1f} GB: lower it, or make room."
        )
    return said


def feedback() -> str:
    """Return where reports are stored. Raises `SetupError` if they cannot be."""
    from api.feedback.file import MIN_FREE_BYTES
    from api.settings import ApiSettings

    file = ApiSettings.from_env().feedback_filepath
    free = shutil.disk_usage(_writable(file.parent, "FEEDBACK_FILEPATH")).free
    if free < MIN_FREE_BYTES:
        raise SetupError(
            f"{file}: its disk has {free / _GIGABYTE:.1f} GB left; below {MIN_FREE_BYTES / _GIGABYTE:g} GB no report "
            "is taken: make room."
        )
    if file.exists() and not os.access(file, os.W_OK):
        raise SetupError(f"FEEDBACK_FILEPATH={file} is not ours to write: change its owner.")
    return str(file)


CHECKS: dict[str, Callable[[], str]] = {
    check.__name__: check
    for check in (python, packages, settings, cores, model, precision, redis, queue, port, uploads, feedback)
}


def _writable(folder: Path, setting: str) -> Path:
    """Return a writable folder, or the existing parent in which it will be created."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return there
    except OSError as err:
        raise SetupError(f"{setting}: {there} cannot be written: {err.strerror}. Name another folder.") from err


def _object_storage(settings: SharedSettings) -> str:
    """Store an object and read it back. Raises `SetupError`."""
    store = open_store(settings)
    try:
        store.put(_TRIAL_NAME, b"mlapi doctor")
        store.get(_TRIAL_NAME)
    except StorageUnavailable as err:
        from jobs.storage.object_storage import reason

        raise SetupError(f"{settings.upload_url}: {reason(err.__cause__ or err)}") from err
    return f"{settings.upload_url} stores and returns"


def _redis_setup(login: str) -> "RedisSetup":
    """Return the configuration of a Redis. Raises `QueueUnavailable`."""
    from jobs.redis.connection import connect, reaching_redis
    from jobs.redis.setup import RedisSetup

    with reaching_redis(), connect(login) as connection:
        return RedisSetup.read(connection)


def _is_alive(url: str) -> bool:
    """Return whether this service's API answers at a URL of this machine."""
    try:
        with urllib.request.urlopen(f"{url}/livez", timeout=_ANSWER_TIMEOUT_S) as answer:  # noqa: S310 - ours
            return b'"alive"' in answer.read(1000)
    except (OSError, ValueError):
        return False
