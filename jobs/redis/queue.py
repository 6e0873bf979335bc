"""The job queue on Redis Streams: the API's side. The workers' side is in taking.py."""

import logging
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, cast
from uuid import uuid4

from redis.exceptions import RedisError

from jobs.queue.backlog import Backlog
from jobs.queue.figures import Examined, QueueFigures
from jobs.queue.interface import BULK_EVERY, MAX_BULK_SHARE, MAX_JOINED, MAX_WAIT_SHARE, WORKER_TTL_S, Admission
from jobs.queue.waiters import Waiters
from jobs.redis import figures as redis_figures
from jobs.redis import keys
from jobs.redis.connection import milliseconds, script
from jobs.redis.shared_script import SharedScript
from jobs.redis.taking import IN_FLIGHT_SPARE_S, RedisTaking
from jobs.schema import (
    ImageJob,
    JobFailure,
    Lane,
    ModelInfo,
    Outcome,
    Prediction,
    decode_outcome,
    encode_outcome,
    image_hash,
    outcome_or_failure,
)
from jobs.settings import SharedSettings
from jobs.versions.rules import DEFAULT_POOL, Route, Versions
from runtime import waiting
from runtime.errors import ClientGone, DeadlinePassed, NoWorker, QueueFull, QueueUnavailable, SetAside
from runtime.reading import understood

log = logging.getLogger(__name__)

# The duration of one blocking read; a stopped listener notices within this time.
_LISTEN_S = 0.5
# How often to read which versions there are, and which of them serve.
_LOOK_EVERY_S = 0.5
# The number of replies read at once, and after which read replies are removed.
_REPLIES_AT_ONCE = 1000
# The pause between attempts to listen.
_RETRY_S = 0.1


# Statuses by which a canary refuses a job, which then goes to the version that serves.
_REFUSED = (b"full", b"no-worker")


class RedisJobQueue(RedisTaking):
    """The `JobQueue` on Redis at `url`; the interface documents the methods.

    It connects at first use. `max_jobs` and `max_bytes` of images limit waiting and processing jobs together.
    Predictions are cached for `cache_ttl_s` seconds, the latest `cache_entries` of them. With `without_worker`, jobs
    are accepted even if no worker is alive. Workers take the jobs of their `pool`.
    """

    def __init__(
        self,
        url: str,
        *,
        max_jobs: int,
        max_bytes: int = sys.maxsize,
        cache_ttl_s: int = 0,
        cache_entries: int = 0,
        worker_ttl_s: float = WORKER_TTL_S,
        without_worker: bool = False,
        pool: str = DEFAULT_POOL,
    ) -> None:
        super().__init__(
            url, cache_ttl_s=cache_ttl_s, cache_entries=cache_entries, worker_ttl_s=worker_ttl_s, pool=pool
        )
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._needs_worker = not without_worker
        self._submit = SharedScript(script(self._redis, "submit"))
        self._withdraw = script(self._redis, "withdraw")
        self._replies = keys.REPLIES + uuid4().hex
        self._read_replies = 0  # since the last removal
        self._known = Versions()  # as last read
        self._look_at = 0.0  # when to read them again, on the monotonic clock
        self._waiters = Waiters()
        self._backlogs: defaultdict[tuple[str, Lane], Backlog] = defaultdict(Backlog)
        self._places: dict[str, tuple[str, bytes]] = {}  # pool and receipt of jobs with their own entry, by id
        self._listener: threading.Thread | None = None
        self._listener_lock = threading.Lock()
        self._closed = threading.Event()

    @classmethod
    def from_settings(cls, settings: SharedSettings, pool: str = DEFAULT_POOL) -> "RedisJobQueue":
        """Return the queue that the settings describe."""
        return cls(
            settings.redis_login,
            max_jobs=settings.max_queued_jobs,
            max_bytes=settings.max_queued_bytes,
            cache_ttl_s=settings.cache_ttl_s,
            cache_entries=settings.cache_entries,
            without_worker=settings.queue_without_worker,
            pool=pool,
        )

    def submit(self, job: ImageJob) -> Admission:
        """Add a job."""
        self._ensure_listener()
        self._waiters.add(job)
        try:
            with self._reaching_redis():
                return self._submit_waiting(job)
        except BaseException:
            self._waiters.remove(job)
            raise

    def _submit_waiting(self, job: ImageJob, *, before: bool = False) -> Admission:
        pool, status, detail = self._add(job, self._replies, before=before)
        if status == b"accepted":
            self._places[job.id] = pool, detail
        elif status == b"full":
            raise self._backlogs[pool, job.lane].refuse()
        elif outcome := _outcome(status, detail):
            self._waiters.resolve(job.id, outcome)
        return _admission(status)

    def submit_kept(self, job: ImageJob, result_id: str) -> Admission:
        """Add a job whose outcome is added to a result."""
        self._ensure_listener()  # which reads the versions
        with self._reaching_redis():
            return self._submit_kept(job, keys.RESULT + result_id)

    def _submit_kept(self, job: ImageJob, result: str) -> Admission:
        pool, status, detail = self._add(job, result, kept=True)
        if status == b"full":
            raise QueueFull(retry_after_s=self._backlogs[pool, job.lane].retry_after_s())
        if outcome := _outcome(status, detail):
            self._add_outcome(result, job, outcome)
        return _admission(status)

    @waiting.blocking
    def _add_outcome(self, result: str, job: ImageJob, outcome: Outcome) -> None:
        self._redis.xadd(result, {"job_id": job.id, "outcome": encode_outcome(outcome)}, nomkstream=True)

    def _add(
        self, job: ImageJob, reply_to: str, *, before: bool = False, kept: bool = False
    ) -> tuple[str, bytes, bytes]:
        """Add a job, unless it is answered at once; return the pool, status and detail: see `lua/submit.lua`.

        A job that was accepted `before` is not refused. Adding a job twice, as when Redis is away in between, does no
        harm: the first answer counts. Raises `NoWorker` or `NoSuchModel`.
        """
        add_to = partial(self._add_to, job, reply_to, before=before, kept=kept)
        pools = self._known.pools(job)
        place = _first_to_take(pools, add_to)
        if place[1] == b"cached" and not _is_readable(job, place[2]):
            self.forget(job.image_name)
            place = _first_to_take(pools, add_to)
        if place[1] == b"no-worker" and len(self._known.all) > 1 and (others := self._look_again().pools(job)) != pools:
            place = _first_to_take(others, add_to)  # the pools that stand in
        if place[1] == b"no-worker":
            raise NoWorker
        return place

    def _add_to(self, job: ImageJob, reply_to: str, pool: str, *, before: bool, kept: bool) -> tuple[str, bytes, bytes]:
        is_bulk = job.lane == "bulk"
        own_keys = keys.pool(pool)
        own, other = own_keys.lanes[job.lane], own_keys.lanes["interactive" if is_bulk else "bulk"]
        status, detail, wait_s, room = self._submit(
            keys=[
                *(own.jobs, own.queued_bytes, own.in_flight + job.image_hash, other.jobs, other.queued_bytes),
                *(own_keys.workers, own_keys.model, keys.SET_ASIDE, own_keys.images_per_s),
            ],
            args=[
                self._worker_ttl_ms,
                int(self._needs_worker and time.monotonic() >= self._knows_workers_from),
                self._max_jobs,
                self._max_bytes,
                MAX_BULK_SHARE if is_bulk or kept else 1,
                sys.maxsize if is_bulk else 1 / (BULK_EVERY - 1),
                MAX_WAIT_SHARE * job.timeout_s,
                job.encode(),
                job.id,
                job.size_bytes,
                job.image_hash,
                reply_to,
                int(before),
                int(self._cache_ttl_s > 0),
                keys.PREDICTION,
                int(job.timeout_s) + IN_FLIGHT_SPARE_S,
                MAX_JOINED if kept else sys.maxsize,
            ],
        )
        self._backlogs[pool, job.lane].heard(float(wait_s), float(room))
        return pool, status, detail

    def refusal(self, ahead: int = 0) -> QueueFull | None:
        """Return the error for an interactive job behind `ahead` others, or None if room is likely."""
        return self._backlogs[self._known.default_pool, "interactive"].refusal(ahead)

    def retry_after_s(self, lane: Lane = "interactive") -> int:
        """Return the seconds until the backlog that the last `submit` saw is done."""
        return self._backlogs[self._known.default_pool, lane].retry_after_s()

    def wait(self, job: ImageJob) -> Prediction:
        """Return the prediction of a submitted job."""
        try:
            return self._waiters.wait(job)
        except (ClientGone, DeadlinePassed):
            self._give_place_free(job)
            raise
        finally:
            self._places.pop(job.id, None)

    def cancel(self, job: ImageJob) -> None:
        """End the `wait` of a submitted job."""
        self._waiters.resolve(job.id, JobFailure.of(ClientGone()))

    @waiting.blocking
    def _give_place_free(self, job: ImageJob) -> None:
        """Remove a job that nobody waits for from the queue; one that joined another has no entry of its own."""
        if job.id not in self._places:
            return
        pool, receipt = self._places[job.id]
        lane = keys.pool(pool).lanes[job.lane]
        with suppress(QueueUnavailable), self._reaching_redis():
            self._withdraw(
                keys=[lane.jobs, lane.in_flight + job.image_hash, lane.queued_bytes],
                args=[keys.GROUP, receipt, job.id, job.size_bytes],
            )

    @waiting.blocking
    def live_workers(self, model: str | None = None) -> list[str]:
        """Return the names of the live workers."""
        with self._reaching_redis():
            versions = self._look()
            pools = versions.all_pools if model is None else [versions.pool_of(model)]
            alive_since_ms = milliseconds(self._redis.time()) - self._worker_ttl_ms
            pipeline = self._redis.pipeline(transaction=False)
            for pool in pools:
                pipeline.zrangebyscore(keys.pool(pool).workers, alive_since_ms, "+inf")
            return [name.decode(errors="replace") for names in pipeline.execute() for name in names]

    def versions(self) -> Versions:
        """Return the known versions of all models, as of a moment ago."""
        return self._known if time.monotonic() < self._look_at else self._look_again()

    @waiting.blocking
    def _look_again(self) -> Versions:
        with self._reaching_redis():
            return self._look()

    def _look(self) -> Versions:
        """Read the versions; remember them, except after an outage until heartbeats have had time to come back."""
        found = self._versions.read()
        if time.monotonic() >= self._knows_workers_from:
            self._known = found
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        return found

    @waiting.blocking
    def change_route(self, model: str, change: Callable[[Versions], Route]) -> Route:
        """Change which of a model's versions serve."""
        self._look_at = 0.0
        with self._reaching_redis():
            return self._versions.change(model, change)

    @waiting.blocking
    def figures(self) -> QueueFigures:
        """Return the present figures of queue and workers."""
        with self._reaching_redis():
            return redis_figures.read(self._redis, self._worker_ttl_ms, self._look())

    @waiting.blocking
    def note_examined(self, model_id: str, examined: Examined) -> None:
        """Store how many corrected images a model gets right."""
        with self._reaching_redis():
            self._redis.hset(keys.EXAMINED, model_id, examined.encode())

    @waiting.blocking
    def queued_images(self) -> set[str]:
        """Return the hashes of the images of waiting and processing jobs."""
        with self._reaching_redis():
            jobs = _queued_jobs(self._redis, self._versions.read().all_pools)
            return {job.image_hash for job in jobs}

    @waiting.blocking
    def forget(self, image_name: str) -> None:
        """Drop an image's predictions from the cache."""
        with self._reaching_redis():
            models = {version.info.id for version in self.versions().all}
            if models:
                self._redis.delete(*(keys.prediction_key(model, image_hash(image_name)) for model in models))

    def labels(self) -> Sequence[str]:
        """Return the labels of the model that serves."""
        model = self.model()
        return model.labels if model else ()

    def model(self, model_id: str | None = None) -> ModelInfo | None:
        """Return the information on a model, which is fetched once."""
        if model_id is None:
            served = self.versions().served() or self._look_again().served()  # the first may have come just now
            return self._versions.known(served.info.id) if served else None
        return self._versions.known(model_id) or self._fetch_model(model_id)

    @waiting.blocking
    def _fetch_model(self, model_id: str) -> ModelInfo | None:
        with self._reaching_redis():
            return self._versions.model(model_id)

    def close(self) -> None:
        """End the listener and the connections; answer all requests that still wait."""
        self._closed.set()
        self._waiters.close()
        if self._listener:
            self._listener.join(2 * _LISTEN_S)
        self._submit.close()
        self._redis.close()

    # Listening

    def _ensure_listener(self) -> None:
        """Start the thread that receives replies, in the process that submits, at its first job."""
        if self._listener is None:
            self._listen_from_now_on()

    @waiting.blocking
    def _listen_from_now_on(self) -> None:
        """Read the versions, and start the thread that receives replies and keeps reading the versions."""
        with self._listener_lock:
            if self._listener is None:
                with suppress(RedisError):  # it is away; the submit that follows reports it
                    self._look()
                self._listener = threading.Thread(target=self._listen, name="replies", daemon=True)
                self._listener.start()

    def _listen(self) -> None:
        lost_sight = False
        while not self._closed.is_set():
            try:
                # A separate connection, whose loss is always noticed: the next one may lead to another Redis.
                with self._redis.client() as listening:
                    last_id = self._catch_up(listening) if lost_sight else b"0"
                    lost_sight = False
                    while not self._closed.is_set():
                        last_id = self._receive(listening, last_id, _LISTEN_S)
                        if time.monotonic() >= self._look_at:
                            self._look()
            except RedisError as err:
                if not lost_sight:
                    log.warning("replies cannot be read, trying again until they can: %s", err)
                lost_sight = True
                self._redis_was_away()
                self._closed.wait(_RETRY_S)

    def _catch_up(self, listening: Any) -> bytes:  # noqa: ANN401 - what `connect` returns
        """Receive the replies there are, and resubmit the jobs that are still waited for but missing in Redis.

        While it was away, Redis may have lost its memory, or the last second of its log, or a replica may have replaced
        it.
        """
        present = {job.id for job in _queued_jobs(listening, self._known.all_pools)}
        # From the first reply on: the ids are times, and this may be another host's clock.
        last_id, newer = b"", b"0"
        while newer != last_id:
            last_id, newer = newer, self._receive(listening, newer)
        missing = [job for job in self._waiters.waiting() if job.id not in present]
        for job in missing:
            self._submit_waiting(job, before=True)
        log.warning("Redis is back; submitted %d jobs again that it did not have", len(missing))
        return last_id

    def _receive(self, listening: Any, last_id: bytes, wait_s: float = 0) -> bytes:  # noqa: ANN401
        """Hand the next replies after `last_id` to the requests that wait for them; return the last reply's id.

        From time to time the replies handed out are removed: no other process knows which they are.
        """
        block_ms = int(wait_s * 1000) or None  # to Redis, 0 means for ever
        streams = listening.xread({self._replies: last_id}, count=_REPLIES_AT_ONCE, block=block_ms)
        if not streams:
            return last_id
        entries = streams[0][1]
        for entry_id, reply in entries:
            job_id = reply.get(b"job_id", b"").decode(errors="replace")
            outcome = outcome_or_failure(f"reply {entry_id.decode()}", reply.get(b"outcome", b""))
            self._waiters.resolve(job_id, outcome)
        newest: bytes = entries[-1][0]
        self._read_replies += len(entries)
        if self._read_replies >= _REPLIES_AT_ONCE:
            self._read_replies = 0
            listening.xtrim(self._replies, minid=newest, approximate=False)
        return newest


def _queued_jobs(connection: Any, pools: Iterable[str]) -> Iterator[ImageJob]:  # noqa: ANN401 - what `connect` returns
    """Yield what can be read of the jobs of pools: some may come from another version of this code."""
    lanes = (lane for pool in pools for lane in keys.pool(pool).lanes.values())
    return (ImageJob.salvage(fields.get(b"job", b"")) for lane in lanes for _, fields in connection.xrange(lane.jobs))


def _first_to_take(pools: Sequence[str], add_to: Callable[[str], tuple[str, bytes, bytes]]) -> tuple[str, bytes, bytes]:
    """Add a job to the first pool that takes it; return that pool, or the last one, with status and detail."""
    for pool in pools:
        place = add_to(pool)
        if place[1] not in _REFUSED:
            break
    return place


def _is_readable(job: ImageJob, cached: bytes) -> bool:
    return understood(f"the cached prediction of image {job.image_name}", decode_outcome, cached) is not None


def _admission(status: bytes) -> Admission:
    return cast("Admission", status.decode())


def _outcome(status: bytes, detail: bytes) -> Outcome | None:
    """Return the outcome of a job that was answered at once, or None."""
    if status == b"cached":
        return _from_cache(detail)
    return JobFailure.of(SetAside()) if status == b"set-aside" else None


def _from_cache(data: bytes) -> Outcome:
    """Return a cached prediction without its timings, which were another request's."""
    outcome = decode_outcome(data)
    return replace(outcome, timings=None) if isinstance(outcome, Prediction) else outcome
