"""Loads and unloads versions in a running `mlapi serve`, for `mlapi model load` and `unload`."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobs.queue.interface import JobQueue
from jobs.redis.loads import CannotLoad, Load, RedisLoads
from mlapi.service.supervisor import Child, Program, Supervisor
from model.manifest import ModelManifest
from runtime.errors import QueueUnavailable, SetupError

log = logging.getLogger(__name__)

# A worker loads its network and tries every batch size before it counts as alive.
_READY_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class _Workers:
    """The workers of a version, and the deadline for them to be ready."""

    version: str
    children: list[Child]
    give_up_at: float

    @property
    def are_ready(self) -> bool:
        """Whether all have been alive, and so are restarted when they end."""
        return not any(child.may_end for child in self.children)

    def keep(self) -> None:
        """Restart them from now on when they end."""
        for child in self.children:
            child.may_end = False


class Loader:
    """Handles load and unload requests in the supervisor's thread; `served` are the versions it did not load."""

    def __init__(
        self,
        supervisor: Supervisor,
        loads: RedisLoads,
        queue: JobQueue,
        served: Collection[str],
        programs: Callable[[Path], Sequence[Program]],
    ) -> None:
        self._supervisor = supervisor
        self._loads = loads
        self._queue = queue
        self._served = served
        self._programs = programs
        self._loaded: dict[str, _Workers] = {}

    def step(self) -> None:
        """Start and stop versions as requested, and report their state; Redis may be down, or have lost everything."""
        with suppress(QueueUnavailable):
            self._loads.supervise()
            asked = self._loads.read()
            for folder in [*asked, *(self._loaded.keys() - asked)]:
                self._do(folder, asked.get(folder))

    def _do(self, folder: str, asked: Load | None) -> None:
        if asked and asked.state == "unload":
            self._stop(folder)
            self._loads.forget(folder)
        elif not asked or asked.state != "failed":
            found = self._examine(folder)
            if found != asked:
                log.info("model folder %s: %s", folder, found.error or found.state)
                self._loads.write(folder, found)

    def _examine(self, folder: str) -> Load:
        """Start a folder's workers if needed; return their state."""
        try:
            workers = self._loaded.get(folder) or self._start(folder)
            self._check(workers)
        except SetupError as err:
            self._stop(folder)
            return Load("failed", error=str(err))
        return Load("ready", workers.version) if workers.are_ready else Load()

    def _start(self, folder: str) -> _Workers:
        """Start a folder's workers. Raises `ModelError`, or `CannotLoad` if its version is already there."""
        manifest = ModelManifest.load(Path(folder))
        version = f"{manifest.name}@{manifest.version}"
        if version in {*self._served, *(each.version for each in self._loaded.values())}:
            raise CannotLoad(f"{folder} is {version}, which is there already. Give it another name or version.")
        children = [self._supervisor.try_out(program) for program in self._programs(Path(folder))]
        self._loaded[folder] = _Workers(version, children, time.monotonic() + _READY_TIMEOUT_S)
        return self._loaded[folder]

    def _check(self, workers: _Workers) -> None:
        """Keep workers running once all are ready. Raises `CannotLoad` if one ended or the deadline has passed."""
        if workers.are_ready:
            return
        for child in workers.children:
            if not child.is_running:
                raise CannotLoad(child.failure())
        alive = sum(each.workers for each in self._queue.versions().all if each.pool == workers.version)
        if alive >= len(workers.children):
            workers.keep()
        elif time.monotonic() > workers.give_up_at:
            raise CannotLoad(f"{workers.version} was not ready within {_READY_TIMEOUT_S:g} s.")

    def _stop(self, folder: str) -> None:
        workers = self._loaded.pop(folder, None)
        for child in workers.children if workers else ():
            self._supervisor.stop(child)
