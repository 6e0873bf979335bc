"""The job queue in the memory of one process, for tests."""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field, replace

from jobs.queue.backlog import Backlog
from jobs.queue.figures import Examined, QueueFigures, VersionFigures, WorkerFigures, WorkerReport
from jobs.queue.interface import (
    BULK_EVERY,
    LATELY_S,
    MAX_BULK_SHARE,
    MAX_DEATHS,
    MAX_JOINED,
    MAX_WAIT_SHARE,
    WORKER_TTL_S,
    Admission,
    Delivery,
)
from jobs.queue.waiters import Waiters
from jobs.results import MemoryResults
from jobs.schema import ImageJob, JobFailure, Lane, ModelInfo, Outcome, Prediction, SetAsideImage, image_hash
from jobs.versions.comparison import Comparison
from jobs.versions.rules import DEFAULT_POOL, Route, Version, Versions
from runtime.errors import ClientGone, DeadlinePassed, NoWorker, QueueFull, SetAside


@dataclass
class _Entry:
    """A job that waits (`worker` is None) or that a worker holds, and the jobs for the same image that joined it."""

    job: ImageJob
    submitted_at: float = field(default_factory=time.monotonic)
    worker: str | None = None
    deaths: int = 0
    joined: list[ImageJob] = field(default_factory=list)

    @property
    def waited_ms(self) -> float:
        return 1000 * (time.monotonic() - self.submitted_at)

    @property
    def delivery(self) -> Delivery:
        return Delivery(self.job, receipt=self.job.id, reply_to="", waited_ms=self.waited_ms, deaths=self.deaths)


def _bytes(entries: Iterable[_Entry]) -> int:
    return sum(entry.job.size_bytes for entry in entries)


class MemoryJobQueue:
    """The `JobQueue` in memory; the interface documents the methods.

    No version stands in for another, and none is compared with another.
    """

    def __init__(
        self,
        *,
        max_jobs: int,
        max_bytes: int = sys.maxsize,
        cache_ttl_s: int = 0,
        worker_ttl_s: float = WORKER_TTL_S,
        without_worker: bool = False,
    ) -> None:
        self.results = MemoryResults()
        self._result_ids: dict[str, str] = {}  # for the jobs whose outcomes are kept, by job id
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._caches = cache_ttl_s > 0  # for longer than a test takes
        self._worker_ttl_s = worker_ttl_s
        self._needs_worker = not without_worker
        self._entries: dict[str, _Entry] = {}  # by receipt, oldest first
        self._cache: dict[tuple[str, str], Prediction] = {}  # by model and hash
        self._set_aside: dict[str, SetAsideImage] = {}  # by hash, oldest first
        self._model = ""
        self._pools = {DEFAULT_POOL: self}
        self._routes: dict[str, Route] = {}
        self.examined: dict[str, Examined] = {}  # by the model's id
        self.comparisons: dict[str, Comparison] = {}  # of versions, by name, with those that serve
        self._models: dict[str, ModelInfo] = {}  # by id
        self._seen: dict[str, float] = {}
        self._service_times_s: dict[str, float] = {}
        self._reports: dict[str, WorkerReport] = {}
        self._changed = threading.Condition(threading.RLock())
        self._waiters = Waiters()
        self._backlogs: dict[Lane, Backlog] = {"interactive": Backlog(), "bulk": Backlog()}
        self._redeliveries = 0
        self._passed_bulk = 0  # interactive jobs taken since the last bulk job, while one waited
        self._interactive_at = -math.inf  # when the last one came

    def beside(self, version: str) -> "MemoryJobQueue":
        """Return a view of the queue for the workers of another version."""
        pool = self._pools[version] = copy(self)
        pool._entries, pool._seen, pool._service_times_s, pool._model, pool._redeliveries = {}, {}, {}, "", 0
        return pool

    def submit(self, job: ImageJob) -> Admission:
        """Add a job."""
        pools = [self._pools[name] for name in self.versions().pools(job)]
        for canary in pools[:-1]:
            with suppress(QueueFull, NoWorker):
                return canary._submit(job)
        return pools[-1]._submit(job)

    def _submit(self, job: ImageJob) -> Admission:
        with self._changed:
            self._changed.notify_all()  # when this is done
            return self._refuse(job) or self._answer_or_join(job) or self._add(job)

    def submit_kept(self, job: ImageJob, result_id: str) -> Admission:
        """Add a job whose outcome is added to a result."""
        with self._changed:
            self._result_ids[job.id] = result_id
            return self.submit(job)

    def _expect(self, job: ImageJob) -> None:
        if job.id not in self._result_ids:
            self._waiters.add(job)

    def _resolve(self, job: ImageJob, outcome: Outcome) -> None:
        """Deliver a job's outcome to the request that waits for it, or to the result that it belongs to."""
        if result_id := self._result_ids.get(job.id):
            self.results.add(result_id, job.id, outcome)
        else:
            self._waiters.resolve(job.id, outcome)

    def _refuse(self, job: ImageJob) -> Admission | None:
        if job.image_hash not in self._set_aside:
            return None
        self._expect(job)
        self._resolve(job, JobFailure.of(SetAside()))
        return "set-aside"

    def _answer_or_join(self, job: ImageJob) -> Admission | None:
        cached = self._cache.get((self._model, job.image_hash))
        in_flight = [entry for entry in self._lane(job.lane) if entry.job.image_hash == job.image_hash]
        if not self._caches or not (cached or in_flight):
            return None
        if not cached and job.id in self._result_ids and len(in_flight[0].joined) >= MAX_JOINED:
            raise self._refusal_of(job)
        self._expect(job)
        if cached:
            self._resolve(job, replace(cached, timings=None))
            return "cached"
        in_flight[0].joined.append(job)
        return "joined"

    def _add(self, job: ImageJob) -> Admission:
        if self._needs_worker and not self._alive():
            raise NoWorker
        self._backlogs[job.lane].heard(self._wait_s(job.lane), self._room(job))
        if self._is_full(job):
            raise self._refusal_of(job)
        self._expect(job)
        self._entries[job.id] = _Entry(job)
        if job.lane == "interactive":
            self._interactive_at = time.monotonic()
        return "accepted"

    def _lane(self, lane: Lane) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.job.lane == lane]

    def _wait_s(self, lane: Lane) -> float:
        """Return the seconds until the live workers have done the backlog that a job of this lane waits for."""
        jobs: float = len(self._entries)
        if lane == "interactive":
            interactive = len(self._lane("interactive"))
            jobs = interactive + min(jobs - interactive, (interactive + 1) / (BULK_EVERY - 1))
        images_per_s = self._images_per_s()
        return jobs / images_per_s if images_per_s else 0.0

    def _images_per_s(self) -> float:
        return sum(1 / self._service_times_s[worker] for worker in self._alive())

    def _room(self, job: ImageJob) -> float:
        """Return the room for jobs like this one, ignoring their bytes."""
        images_per_s = self._images_per_s()
        spare_s = MAX_WAIT_SHARE * job.timeout_s - self._wait_s(job.lane)
        return min(self._max_jobs - len(self._entries), spare_s * images_per_s if images_per_s else math.inf)

    def _is_full(self, job: ImageJob) -> bool:
        own = self._lane(job.lane)
        own_bytes = _bytes(own)
        others, other_bytes = len(self._entries) - len(own), _bytes(self._entries.values()) - own_bytes
        share = MAX_BULK_SHARE if job.lane == "bulk" or job.id in self._result_ids else 1
        return bool(self._entries) and (
            len(own) >= share * (self._max_jobs - others)
            or own_bytes + job.size_bytes > share * (self._max_bytes - other_bytes)
            or self._wait_s(job.lane) > MAX_WAIT_SHARE * job.timeout_s
        )

    def _refusal_of(self, job: ImageJob) -> QueueFull:
        if job.id in self._result_ids:
            return QueueFull(retry_after_s=self.retry_after_s(job.lane))
        return self._backlogs[job.lane].refuse()

    def refusal(self, ahead: int = 0) -> QueueFull | None:
        """Return the error for an interactive job behind `ahead` others, or None if room is likely."""
        return self._backlogs["interactive"].refusal(ahead)

    def retry_after_s(self, lane: Lane = "interactive") -> int:
        """Return the seconds until the backlog that the last `submit` saw is done."""
        return self._backlogs[lane].retry_after_s()

    def wait(self, job: ImageJob) -> Prediction:
        """Return the prediction of a submitted job."""
        try:
            return self._waiters.wait(job)
        except (ClientGone, DeadlinePassed):
            self._withdraw(job)
            raise

    def cancel(self, job: ImageJob) -> None:
        """End the `wait` of a submitted job."""
        self._waiters.resolve(job.id, JobFailure.of(ClientGone()))

    def _withdraw(self, job: ImageJob) -> None:
        """Remove from the queue a job that nobody waits for."""
        with self._changed:
            for pool in self._pools.values():
                entry = pool._entries.get(job.id)
                if entry and entry.worker is None and not entry.joined:
                    del pool._entries[job.id]

    def live_workers(self, model: str | None = None) -> list[str]:
        """Return the names of the live workers."""
        pools = self._pools if model is None else [self.versions().pool_of(model)]
        return [worker for pool in pools for worker in self._pools[pool]._alive()]

    def _alive(self) -> list[str]:
        return [worker for worker in self._seen if self._is_alive(worker)]

    def versions(self) -> Versions:
        """Return the known versions of all models."""
        with self._changed:
            found = [
                Version(self._models.get(pool._model, ModelInfo(pool._model)), name, len(pool._alive()))
                for name, pool in self._pools.items()
                if pool._model
            ]
            return Versions(found, self._routes)

    def change_route(self, model: str, change: Callable[[Versions], Route]) -> Route:
        """Change which of a model's versions serve."""
        with self._changed:
            self._routes[model] = change(self.versions())
            return self._routes[model]

    def figures(self) -> QueueFigures:
        """Return the present figures of queue and workers."""
        with self._changed:
            versions = self.versions()
            entries = [entry for pool in self._pools.values() for entry in pool._entries.values()]
            return QueueFigures(
                waiting_jobs=sum(entry.worker is None for entry in entries),
                held_jobs=sum(entry.worker is not None for entry in entries),
                queued_bytes=sum(entry.job.size_bytes for entry in entries),
                oldest_job_s=max((entry.waited_ms / 1000 for entry in entries), default=0.0),
                set_aside_images=len(self._set_aside),
                redeliveries=sum(pool._redeliveries for pool in self._pools.values()),
                workers=tuple(
                    pool._worker_figures(worker) for pool in self._pools.values() for worker in sorted(pool._seen)
                ),
                versions=tuple(
                    VersionFigures(
                        each, versions.role(each), self.comparisons.get(each.name), self.examined.get(each.info.id)
                    )
                    for each in versions.listed
                ),
            )

    def _worker_figures(self, worker: str) -> WorkerFigures:
        return WorkerFigures(
            worker,
            silent_s=time.monotonic() - self._seen[worker],
            alive=self._is_alive(worker),
            service_time_s=self._service_times_s.get(worker),
            report=self._reports.get(worker),
        )

    def labels(self) -> Sequence[str]:
        """Return the labels of the model that serves."""
        model = self.model()
        return model.labels if model else ()

    def model(self, model_id: str | None = None) -> ModelInfo | None:
        """Return the information on a model."""
        if model_id is None:
            served = self.versions().served()
            model_id = served.info.id if served else ""
        return self._models.get(model_id)

    def take_batch(self, worker: str, max_jobs: int, wait_s: float, max_bulk: int = sys.maxsize) -> list[Delivery]:
        """Return a dead worker's job, or a share of the waiting jobs."""
        with self._changed:
            abandoned = self._abandoned(worker)
            if abandoned:
                return self._deliver_again(abandoned, worker)
            self._changed.wait_for(self._waiting, wait_s)
            return [self._deliver(entry, worker) for entry in self._share(max_jobs, max_bulk)]

    def _share(self, max_jobs: int, max_bulk: int) -> list[_Entry]:
        """Return the jobs for a worker to take, as `lua/take_share.lua` does."""
        interactive, bulk = self._share_of("interactive", max_jobs), self._share_of("bulk", min(max_bulk, max_jobs))
        if not bulk:
            return interactive
        self._passed_bulk += len(interactive)
        if interactive and self._passed_bulk < BULK_EVERY - 1:
            return interactive
        self._passed_bulk = 0
        if interactive or time.monotonic() < self._interactive_at + LATELY_S:
            bulk = bulk[:1]
        return interactive[: max_jobs - len(bulk)] + bulk

    def _share_of(self, lane: Lane, most: int) -> list[_Entry]:
        waiting = [entry for entry in self._waiting() if entry.job.lane == lane]
        return waiting[: min(most, math.ceil(len(waiting) / max(1, len(self._alive()))))]

    def finish(self, outcomes: Iterable[tuple[Delivery, Outcome]]) -> None:
        """Answer jobs and remove them."""
        with self._changed:
            for delivery, outcome in outcomes:
                entry = self._entries.pop(delivery.receipt, None)
                if entry:
                    self._answer(entry, outcome)

    def _answer(self, entry: _Entry, outcome: Outcome) -> None:
        self._resolve(entry.job, outcome)
        if self._caches and isinstance(outcome, Prediction):
            self._cache[outcome.model, entry.job.image_hash] = outcome
        if entry.joined and isinstance(outcome, JobFailure) and outcome.code == DeadlinePassed.code:
            self._entries[entry.joined[0].id] = _Entry(entry.joined[0], joined=entry.joined[1:])
            return
        for job in entry.joined:
            self._resolve(job, outcome)

    def queued_images(self) -> set[str]:
        """Return the hashes of the images of waiting and processing jobs."""
        with self._changed:
            return {entry.job.image_hash for pool in self._pools.values() for entry in pool._entries.values()}

    def forget(self, image_name: str) -> None:
        """Drop an image's predictions from the cache."""
        for pool in self._pools.values():
            self._cache.pop((pool._model, image_hash(image_name)), None)

    def set_aside_images(self) -> list[SetAsideImage]:
        """Return the quarantined images."""
        return list(self._set_aside.values())

    def release(self, image_hash: str) -> bool:
        """Release an image from quarantine."""
        return self._set_aside.pop(image_hash, None) is not None

    def heartbeat(self, worker: str, service_time_s: float, model: str) -> None:
        """Report that a worker is alive."""
        self._service_times_s[worker] = service_time_s
        self._seen[worker] = time.monotonic()
        self._model = model

    def report(self, worker: str, report: WorkerReport) -> None:
        """Publish a worker's report for operators."""
        self._reports[worker] = report

    def publish(self, model: ModelInfo) -> None:
        """Publish the information on a model."""
        self._models[model.id] = model

    def note_examined(self, model_id: str, examined: Examined) -> None:
        """Store how many corrected images a model gets right."""
        self.examined[model_id] = examined

    def retire(self, worker: str) -> None:
        """Remove a worker that takes no more jobs."""
        self._seen.pop(worker, None)

    def close(self) -> None:
        """Answer all requests that still wait."""
        self._waiters.close()

    def _is_alive(self, worker: str) -> bool:
        return self._seen.get(worker, float("-inf")) > time.monotonic() - self._worker_ttl_s

    def _waiting(self) -> list[_Entry]:
        """Return the entries that no worker holds."""
        return [entry for entry in self._entries.values() if entry.worker is None]

    def _abandoned(self, worker: str) -> _Entry | None:
        """Return an entry whose worker is dead, or that was lost on its way to `worker`, which holds nothing."""
        for entry in self._entries.values():
            if entry.worker is not None and (entry.worker == worker or not self._is_alive(entry.worker)):
                return entry
        return None

    def _deliver_again(self, entry: _Entry, worker: str) -> list[Delivery]:
        former_worker = str(entry.worker)
        entry.deaths += former_worker != worker
        self._redeliveries += former_worker != worker
        if entry.deaths < MAX_DEATHS:
            return [self._deliver(entry, worker)]
        image = SetAsideImage(entry.job.image_name, entry.job.id, former_worker, time.time())
        self._set_aside[image.image_hash] = image
        self.finish([(entry.delivery, JobFailure.of(SetAside()))])
        return []

    def _deliver(self, entry: _Entry, worker: str) -> Delivery:
        entry.worker = worker
        return entry.delivery
