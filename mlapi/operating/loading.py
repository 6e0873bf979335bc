"""Asks a running `mlapi serve` to load and unload models: `mlapi model load` and `unload`."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jobs.queue.interface import JobQueue
from jobs.redis.loads import CannotLoad, Load, RedisLoads
from jobs.versions.rules import Versions

# Longer than the time that workers have to be ready.
_ANSWER_TIMEOUT_S = 240.0
_ASK_EVERY_S = 0.1


def load(loads: RedisLoads, folder: Path) -> str:
    """Load a folder's version; return the resulting state. Raises `CannotLoad`."""
    asked = str(folder.resolve())
    found = _ask(loads, asked, Load(), lambda load: load is None or load.state in {"ready", "failed"})
    if found is None or found.state == "failed":
        raise CannotLoad(f"It is not loaded. {found.error if found else 'Another asked for it to be unloaded.'}")
    return f"{found.version} is loaded"


def unload(loads: RedisLoads, queue: JobQueue, name: str, *, last: bool = False) -> str:
    """Unload a version that is idle, or is the `last` of its model; return the resulting state.

    Raises `CannotLoad`.
    """
    loaded = {load.version: (folder, load) for folder, load in loads.read().items() if load.version}
    if name not in loaded:
        raise CannotLoad(
            f"{name} was not loaded by `mlapi model load`, so it stays until what started it is stopped. What can be "
            f"unloaded: {', '.join(loaded) or 'nothing'}."
        )
    _check_idle(queue.versions(), name, last=last)
    folder, load = loaded[name]
    _ask(loads, folder, replace(load, state="unload"), lambda load: load is None)
    return f"{name} is unloaded"


def _check_idle(versions: Versions, name: str, *, last: bool) -> None:
    """Raise `CannotLoad` if a version is in use."""
    version = next((each for each in versions.listed if each.name == name), None)
    role = versions.role(version).name if version else "idle"
    if not version or role == "idle":
        return
    others = [each for each in versions.listed if each.workers and each.info.name == version.info.name]
    if role != "serves" or others != [version]:
        raise CannotLoad(
            f"{name} is in use ({role}): `mlapi model serve`, `rollback`, `canary` and `shadow` change that."
        )
    if not last:
        raise CannotLoad(f"No other version of {version.info.name} has a worker; --last unloads it, too.")


def _ask(loads: RedisLoads, folder: str, asked: Load, is_done: Callable[[Load | None], bool]) -> Load | None:
    """Send a request to `mlapi serve`; return the resulting state, or None once the folder is unloaded."""
    if not loads.are_supervised():
        raise CannotLoad(
            "No `mlapi serve` runs with this Redis, so nothing starts or stops workers here. Containers do: a second "
            "service of Compose, or a second Deployment (docs/models.md)."
        )
    loads.write(folder, asked)
    deadline = time.monotonic() + _ANSWER_TIMEOUT_S
    while not is_done(found := loads.read().get(folder)):
        if time.monotonic() > deadline:
            raise CannotLoad("`mlapi serve` does not answer; its log may say why.")
        time.sleep(_ASK_EVERY_S)
    return found
