"""The worker's side of the job queue on Redis: takes jobs, claims those of dead workers, and finishes them."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from redis.commands.core import Script
from redis.exceptions import RedisError, ResponseError

from jobs.queue.figures import WorkerReport
from jobs.queue.interface import BULK_EVERY, LATELY_S, MAX_COPIES, MAX_DEATHS, MAX_SET_ASIDE, WORKER_TTL_S, Delivery
from jobs.redis import keys
from jobs.redis.connection import ScriptCall, call_all, connect, lacks_group, reaching_redis, script, time_of
from jobs.redis.keys import PoolKeys
from jobs.redis.versions import RedisVersions
from jobs.schema import ImageJob, JobFailure, Lane, ModelInfo, Outcome, SetAsideImage, encode_outcome
from jobs.versions.comparison import compared, copy_of
from jobs.versions.rules import DEFAULT_POOL, Copies, Version
from runtime import waiting
from runtime.errors import DeadlinePassed, NoWorker, QueueUnavailable, SetAside, UnreadableMessage
from runtime.reading import understood

log = logging.getLogger(__name__)

# How often a worker looks for jobs of dead ones.
_CLAIM_EVERY_S = WORKER_TTL_S / 4
# The number of replies that Redis keeps for one API process. It removes the replies it has read, and no more are unread
# than it has waiting requests; this limits the replies for a process of an earlier version, which removes none.
MAX_REPLIES = 100_000
# An unread reply (its API process died) expires after this.
_REPLY_TTL_S = 300
# A report of a worker without a heartbeat expires after this.
_REPORT_TTL_S = 60
# The information on a model, and which model the default workers serve, expire this long after the last worker: a
# request that names the model may be the very thing that starts a worker.
_MODEL_TTL_S = 365 * 86_400
# The entry of another version expires earlier.
_BESIDE_TTL_S = 86_400
# A comparison expires this long after its last image.
_COMPARISON_TTL_S = 30 * 86_400
# The list of requests that wait for an image is kept this much longer than the image's job lives, since a worker may be
# late to drop an expired one.
IN_FLIGHT_SPARE_S = 60

# A reply stream that no API process reads; it expires.
_NOBODY = keys.REPLIES


class _Entry(NamedTuple):
    """An entry of a lane's stream: its id, and its fields."""

    lane: Lane
    receipt: bytes
    fields: Mapping[bytes, bytes]


class RedisTaking:
    """The workers' methods of the `JobQueue` on Redis at `url`; the interface documents them.

    It connects at first use. Predictions are cached for `cache_ttl_s` seconds, the latest `cache_entries` of them.
    Workers take the jobs of their `pool`.
    """

    def __init__(
        self, url: str, *, cache_ttl_s: int, cache_entries: int, worker_ttl_s: float, pool: str = DEFAULT_POOL
    ) -> None:
        self._redis: Any = connect(url)
        self._pool = pool
        self._own = keys.pool(pool)
        self._cache_ttl_s = cache_ttl_s
        self._cache_entries = cache_entries
        self._worker_ttl_s = worker_ttl_s
        self._worker_ttl_ms = int(worker_ttl_s * 1000)
        self._claim_every_s = min(_CLAIM_EVERY_S, worker_ttl_s / 4)
        self._next_claim = self._knows_workers_from = 0.0
        self._take_share = script(self._redis, "take_share")
        self._claim_abandoned = script(self._redis, "claim_abandoned")
        self._finish = script(self._redis, "finish")
        self._heartbeat = script(self._redis, "heartbeat")
        self._copy = script(self._redis, "copy")
        self._compare = script(self._redis, "compare")
        self._versions = RedisVersions(self._redis, self._worker_ttl_ms)
        self._copies: list[Copies] = []  # of this pool's jobs, for comparison

    @contextmanager
    def _reaching_redis(self) -> Iterator[None]:
        """Turn any failure of Redis to answer into `QueueUnavailable`."""
        try:
            with reaching_redis():
                yield
        except QueueUnavailable:
            self._redis_was_away()
            raise

    def _redis_was_away(self) -> None:
        """Give the workers time to send heartbeats before any counts as dead, or none as alive."""
        self._next_claim = self._knows_workers_from = time.monotonic() + self._worker_ttl_s

    def take_batch(self, worker: str, max_jobs: int, wait_s: float, max_bulk: int = sys.maxsize) -> list[Delivery]:
        """Return up to `max_jobs` jobs: abandoned ones, or else a share of the waiting jobs."""
        with self._reaching_redis():
            try:
                return self._take_abandoned(worker, max_jobs) or self._take_waiting(worker, max_jobs, wait_s, max_bulk)
            except ResponseError as err:
                if not lacks_group(err):
                    raise
                self._create_groups()
                return self.take_batch(worker, max_jobs, wait_s, max_bulk)

    def finish(self, outcomes: Iterable[tuple[Delivery, Outcome]]) -> None:
        """Answer jobs and remove them."""
        finished = list(outcomes)
        with self._reaching_redis():
            self._call_all(self._finish, [self._finish_call(*each) for each in finished if not each[0].job.served])
            self._call_all(self._compare, [call for each in finished for call in _compare_calls(*each)])
            # Whatever keeps copies from being made, the jobs are answered.
            call_all(self._copy, [call for each in finished for call in self._copy_calls(*each)])

    def _call_all(self, called: Script, calls: Sequence[ScriptCall]) -> None:
        """Call a script many times, and raise the first error."""
        for answer in call_all(called, calls):
            if isinstance(answer, RedisError):
                raise answer

    def _finish_call(self, delivery: Delivery, outcome: Outcome) -> ScriptCall:
        lane = keys.pool(delivery.pool).lanes[delivery.job.lane]
        in_flight = lane.in_flight + delivery.job.image_hash
        return ScriptCall(
            keys=[lane.jobs, delivery.reply_to, in_flight, keys.CACHED, lane.queued_bytes],
            args=[
                keys.GROUP,
                delivery.receipt,
                delivery.job.id,
                delivery.job.size_bytes,
                encode_outcome(outcome),
                int(isinstance(outcome, JobFailure) and outcome.code == DeadlinePassed.code),
                _REPLY_TTL_S,
                MAX_REPLIES,
                IN_FLIGHT_SPARE_S,
                self._key_to_cache(delivery, outcome),
                self._cache_ttl_s,
                self._cache_entries,
            ],
        )

    def _copy_calls(self, delivery: Delivery, outcome: Outcome) -> Iterator[ScriptCall]:
        """Yield the calls that copy the job to other versions for comparison, but no job that may end its worker."""
        job = delivery.job
        if job.served or delivery.deaths or isinstance(outcome, JobFailure):
            return
        for wanted in self._copies:
            if wanted.has(job.image_hash):
                candidate, pool = wanted.version.info.id, keys.pool(wanted.version.pool)
                copied = copy_of(job, outcome, candidate).encode()
                served_jobs = self._own.lanes["interactive"].jobs
                yield ScriptCall(
                    keys=[
                        *(pool.lanes["bulk"].jobs, pool.workers, served_jobs, self._own.workers),
                        keys.comparison_key(outcome.model, candidate),
                    ],
                    args=[self._worker_ttl_ms, keys.GROUP, MAX_COPIES, copied, _COMPARISON_TTL_S],
                )

    def _key_to_cache(self, delivery: Delivery, outcome: Outcome) -> str:
        """Return the key to cache an outcome under, "" if it is not to be cached."""
        if not self._cache_ttl_s or isinstance(outcome, JobFailure):
            return ""
        return keys.prediction_key(outcome.model, delivery.job.image_hash)

    def heartbeat(self, worker: str, service_time_s: float, model: str) -> None:
        """Report that a worker is alive."""
        with self._reaching_redis():
            self._heartbeat(
                keys=[
                    *(self._own.workers, self._own.service_times, self._own.model, self._own.images_per_s),
                    *(keys.ALIVE, keys.VERSIONS),
                ],
                args=[
                    *(self._worker_ttl_ms, worker, service_time_s, model, self._pool),
                    _BESIDE_TTL_S if self._pool else _MODEL_TTL_S,
                ],
            )

    def report(self, worker: str, report: WorkerReport) -> None:
        """Publish a worker's report for operators."""
        with self._reaching_redis():
            self._redis.set(keys.WORKER_REPORT + worker, report.encode(), ex=_REPORT_TTL_S)

    def publish(self, model: ModelInfo) -> None:
        """Publish the information on a model."""
        with self._reaching_redis():
            if not self._redis.expire(keys.MODEL_INFO + model.id, _MODEL_TTL_S):
                self._redis.set(keys.MODEL_INFO + model.id, model.encode(), ex=_MODEL_TTL_S)

    def retire(self, worker: str) -> None:
        """Remove a worker that takes no more jobs."""
        with self._reaching_redis():
            self._redis.zrem(self._own.workers, worker)
            self._redis.zrem(keys.ALIVE, worker)
            self._redis.hdel(self._own.service_times, worker)

    @waiting.blocking
    def set_aside_images(self) -> list[SetAsideImage]:
        """Return the quarantined images, oldest first."""
        with self._reaching_redis():
            images = [_set_aside_image(*each) for each in self._redis.hgetall(keys.SET_ASIDE).items()]
        return sorted(images, key=lambda image: image.at_s)

    @waiting.blocking
    def release(self, image_hash: str) -> bool:
        """Release an image from quarantine."""
        with self._reaching_redis():
            return bool(self._redis.hdel(keys.SET_ASIDE, image_hash))

    def _create_groups(self) -> None:
        """Create each lane's group if Redis has none yet, or has lost it; also those of versions to stand in for."""
        pools = {self._pool, *self._versions.read().all_pools}
        for lane in (lane for pool in pools for lane in keys.pool(pool).lanes.values()):
            try:
                self._redis.xgroup_create(lane.jobs, keys.GROUP, id="0", mkstream=True)
            except ResponseError as err:
                if "BUSYGROUP" not in str(err):  # otherwise another worker was faster
                    raise

    def _take_waiting(self, worker: str, max_jobs: int, wait_s: float, max_bulk: int) -> list[Delivery]:
        now_ms, entries = self._share(self._own, worker, max_jobs, max_bulk)
        if not entries:
            first = self._wait_for_one(worker, wait_s)
            if not first:
                return []
            now_ms, others = self._share(self._own, worker, max_jobs - len(first), max_bulk - len(first))
            entries = first + others
        return [_delivery(entry, now_ms, self._pool) for entry in entries]

    def _share(self, pool: PoolKeys, worker: str, max_jobs: int, max_bulk: int) -> tuple[int, list[_Entry]]:
        """Return Redis's time in milliseconds, and this worker's share of the waiting jobs."""
        now_ms, *by_lane = self._take_share(
            keys=[*(lane.jobs for lane in pool.lanes.values()), pool.passed_bulk, pool.workers],
            args=[self._worker_ttl_ms, keys.GROUP, worker, max_jobs, max_bulk, BULK_EVERY, int(1000 * LATELY_S)],
        )
        taken = zip(pool.lanes, by_lane, strict=True)
        return now_ms, [_Entry(lane, receipt, _pairs(flat)) for lane, entries in taken for receipt, flat in entries]

    def _wait_for_one(self, worker: str, wait_s: float) -> list[_Entry]:
        """Return the first job that comes, or one of each lane if both come before this worker's first heartbeat."""
        block_ms = max(1, int(wait_s * 1000))  # to Redis, 0 means for ever
        lanes: dict[bytes, Lane] = {lane.jobs.encode(): name for name, lane in self._own.lanes.items()}
        streams = self._redis.xreadgroup(keys.GROUP, worker, dict.fromkeys(lanes, ">"), count=1, block=block_ms)
        return [_Entry(lanes[stream], *entry) for stream, entries in streams for entry in entries]

    def _take_abandoned(self, worker: str, max_jobs: int) -> list[Delivery]:
        """Return an abandoned job, or several of a version without workers. Looks only every `_claim_every_s`."""
        if time.monotonic() < self._next_claim:
            return []
        if claimed := self._claim(worker, self._pool):
            return claimed
        versions = self._versions.read()
        self._copies = versions.copies(self._pool)
        for orphan in versions.orphans(self._pool):
            if taken := self._stand_in(worker, orphan, max_jobs):
                return taken
        self._next_claim = time.monotonic() + self._claim_every_s
        return []

    def _stand_in(self, worker: str, orphan: Version, max_jobs: int) -> list[Delivery]:
        """Return jobs of a version without workers; those that no other version may answer get a refusal."""
        taken = self._claim(worker, orphan.pool)
        if not taken:
            now_ms, entries = self._share(keys.pool(orphan.pool), worker, max_jobs, max_jobs)
            taken = [_delivery(entry, now_ms, orphan.pool) for entry in entries]
        refusal = JobFailure.of(NoWorker())
        return [
            replace(each, refusal=refusal) if each.job.served or each.job.model == orphan.name else each
            for each in taken
        ]

    def _claim(self, worker: str, pool_name: str) -> list[Delivery]:
        """Return one abandoned job of a pool, or quarantine its image if it has ended `MAX_DEATHS` workers."""
        pool = keys.pool(pool_name)
        now_ms, stream, entry, deaths, former_worker = self._claim_abandoned(
            keys=[
                *(lane.jobs for lane in pool.lanes.values()),
                *(pool.workers, pool.service_times, keys.ALIVE, keys.REDELIVERIES),
            ],
            args=[self._worker_ttl_ms, keys.GROUP, worker],
        )
        if not entry:
            return []
        lane: Lane = "bulk" if stream.decode() == pool.lanes["bulk"].jobs else "interactive"
        delivery = replace(_delivery(_Entry(lane, entry[0], _pairs(entry[1])), now_ms, pool_name), deaths=deaths)
        log.warning("job %s was left by worker %s; claimed by %s", delivery.job.id, former_worker.decode(), worker)
        if deaths >= MAX_DEATHS:
            self._set_aside(delivery, former_worker.decode(), now_ms / 1000)
            return []
        return [delivery]

    def _set_aside(self, delivery: Delivery, former_worker: str, at_s: float) -> None:
        job = delivery.job
        log.error("job %s ended %d workers; image %s is set aside", job.id, MAX_DEATHS, job.image_name)
        image = SetAsideImage(job.image_name, job.id, former_worker, at_s)
        if job.image_name and not job.served:  # otherwise the candidate may be at fault
            self._redis.hset(keys.SET_ASIDE, image.image_hash, image.encode())
            for oldest in self.set_aside_images()[:-MAX_SET_ASIDE]:
                self.release(oldest.image_hash)
        self.finish([(delivery, JobFailure.of(SetAside()))])


def _compare_calls(delivery: Delivery, outcome: Outcome) -> Iterator[ScriptCall]:
    """Yield the call that counts an outcome, if it is a copy's."""
    if served := delivery.job.served:
        lane = keys.pool(delivery.pool).lanes[delivery.job.lane]
        amounts = [part for name, amount in asdict(compared(served, outcome)).items() for part in (name, float(amount))]
        yield ScriptCall(
            keys=[lane.jobs, keys.comparison_key(served.model, served.candidate)],
            args=[keys.GROUP, delivery.receipt, _COMPARISON_TTL_S, *amounts],
        )


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    """Return the fields of a stream entry from a script's flat list of names and values."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _delivery(entry: _Entry, now_ms: int, pool: str) -> Delivery:
    """Return a job as a delivery; one that cannot be read gets a refusal."""
    written, receipt = entry.fields.get(b"job", b""), entry.receipt.decode()
    job = understood(f"job {receipt}", ImageJob.decode, written)
    return Delivery(
        replace(job or ImageJob.salvage(written), lane=entry.lane),
        receipt,
        _reply_to(entry.fields.get(b"reply_to", b"")),
        waited_ms=now_ms - time_of(entry.receipt),
        pool=pool,
        refusal=None if job else JobFailure.of(UnreadableMessage()),
    )


def _reply_to(written: bytes) -> str:
    """Return the stream for a job's outcome, or `_NOBODY` if the field names none."""
    stream = written.decode(errors="replace")
    return stream if stream.startswith((keys.REPLIES, keys.RESULT)) else _NOBODY


def _set_aside_image(image_hash: bytes, data: bytes) -> SetAsideImage:
    """Return the record of a quarantined image; if it cannot be read, its hash alone."""
    name = image_hash.decode(errors="replace")
    return understood(f"why {name} is set aside", SetAsideImage.decode, data) or SetAsideImage(name, "", "", 0)
