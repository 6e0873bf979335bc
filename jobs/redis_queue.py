"""The job queue on Redis Streams; every Redis key of the project is named here; what must happen at once is in `lua/`.

    mlapi:jobs                        stream: what waits and what workers hold; group "workers"
    mlapi:workers                     sorted set: worker -> when it was last heard of, in milliseconds
    mlapi:service-times               hash: worker -> seconds for one image
    mlapi:images-per-s                what the live workers do together, by these times
    mlapi:queued-bytes                bytes of the images of mlapi:jobs; the scripts that add and remove jobs count them
                                      in the same step
    mlapi:replies:<id>                stream: the outcomes for one API process
    mlapi:result:<id>                 stream: what a request asked for, then the outcomes of its jobs (redis_results.py)
    mlapi:results:answered            sorted set: the keys of those that came with all outcomes -> when, in ms
    mlapi:results:submitted           sorted set: the keys of the others
    mlapi:text:<key>                  a text that is kept for a while
    mlapi:texts                       sorted set: the keys of these
    mlapi:reminders                   sorted set: what is to be done later -> when, in milliseconds
    mlapi:set-aside                   hash: hash of an image that ended its workers -> what is known of that
    mlapi:model                       the model that the workers serve
    mlapi:model:<id>                  what is known of a model
    mlapi:prediction:<model>:<hash>   an image's cached prediction
    mlapi:cached                      sorted set: the keys of these -> when they were stored, in milliseconds
    mlapi:in-flight:<hash>            list: the job that computes an image, then job and reply stream of each that waits
                                      for the same one
    mlapi:rate:...                    the API's counts of requests, by api/rates.py

Time is Redis's own, so hosts need not agree on theirs. Redis 6.2 suffices.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

from redis.exceptions import RedisError, ResponseError

from jobs import waiting
from jobs.backlog import Backlog
from jobs.errors import ClientGone, DeadlinePassed, NoWorker, QueueFull, QueueUnavailable, SetAside
from jobs.queue import MAX_DEATHS, MAX_KEPT_SHARE, MAX_SET_ASIDE, MAX_WAIT_SHARE, WORKER_TTL_S, Delivery
from jobs.redis_connection import connect, reaching_redis, script
from jobs.redis_results import RESULT
from jobs.redis_shared_script import SharedScript
from jobs.schema import (
    ImageJob,
    JobFailure,
    ModelInfo,
    Outcome,
    Prediction,
    SetAsideImage,
    decode_outcome,
    encode_outcome,
    image_hash,
)
from jobs.settings import SharedSettings
from jobs.waiters import Waiters

log = logging.getLogger(__name__)

_JOBS = "mlapi:jobs"
_GROUP = "workers"
_WORKERS = "mlapi:workers"
_SERVICE_TIMES = "mlapi:service-times"
_IMAGES_PER_S = "mlapi:images-per-s"
_QUEUED_BYTES = "mlapi:queued-bytes"
_REPLIES = "mlapi:replies:"
_SET_ASIDE = "mlapi:set-aside"
_MODEL = "mlapi:model"
_MODEL_INFO = "mlapi:model:"
_PREDICTION = "mlapi:prediction:"
_CACHED = "mlapi:cached"
_IN_FLIGHT = "mlapi:in-flight:"

# How often a worker looks for jobs of dead ones.
_CLAIM_EVERY_S = WORKER_TTL_S / 4
# Replies of one API process that Redis keeps, read or not: many times what comes between two reads of the listener. To
# delete each after reading would cost the API as much as the reading.
_MAX_REPLIES = 5000
# A reply nobody reads (its API process died) is forgotten after this.
_REPLY_TTL_S = 300
# A model that no worker serves any more is forgotten after this.
_MODEL_TTL_S = 86_400
# Who waits for an image in flight is remembered this much longer than the image's job lives, since a worker may be late
# to drop an expired one.
_IN_FLIGHT_SPARE_S = 60
# One blocking read; a stopped listener notices within this time.
_LISTEN_S = 0.5
# A pause between attempts to listen.
_RETRY_S = 0.1

_Entry = tuple[bytes, dict[bytes, bytes]]  # of a stream: its id and its fields


class RedisJobQueue:
    """The `JobQueue` on Redis at `url`; see there for what each method does.

    The connection is made at first use. `max_jobs` and `max_bytes` of images bound what waits and is in work together.
    Predictions are cached for `cache_ttl_s` seconds, the latest `cache_entries` of them.
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
    ) -> None:
        self._redis: Any = connect(url)
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._cache_ttl_s = cache_ttl_s
        self._cache_entries = cache_entries
        self._worker_ttl_s = worker_ttl_s
        self._worker_ttl_ms = int(worker_ttl_s * 1000)
        self._claim_every_s = min(_CLAIM_EVERY_S, worker_ttl_s / 4)
        self._next_claim = 0.0
        self._submit = SharedScript(script(self._redis, "submit"))
        self._withdraw = script(self._redis, "withdraw")
        self._take_share = script(self._redis, "take_share")
        self._claim_abandoned = script(self._redis, "claim_abandoned")
        self._finish = script(self._redis, "finish")
        self._heartbeat = script(self._redis, "heartbeat")
        self._replies = _REPLIES + uuid4().hex
        self._latest_model: ModelInfo | None = None
        self._waiters = Waiters()
        self._backlog = Backlog()
        self._receipts: dict[str, bytes] = {}  # of the jobs that wait on their own account, by job id
        self._listener: threading.Thread | None = None
        self._listener_lock = threading.Lock()
        self._closed = threading.Event()

    @classmethod
    def from_settings(cls, settings: SharedSettings) -> "RedisJobQueue":
        """Return the queue that the settings describe."""
        return cls(
            settings.redis_login,
            max_jobs=settings.max_queued_jobs,
            max_bytes=settings.max_queued_bytes,
            cache_ttl_s=settings.cache_ttl_s,
            cache_entries=settings.cache_entries,
        )

    @contextmanager
    def _reaching_redis(self) -> Iterator[None]:
        """Turn whatever keeps Redis from answering into `QueueUnavailable`.

        When it is back, the others need their time to speak up before anybody can tell who is dead.
        """
        try:
            with reaching_redis():
                yield
        except QueueUnavailable:
            self._next_claim = time.monotonic() + self._worker_ttl_s
            raise

    # What the API calls

    def submit(self, job: ImageJob) -> None:
        """Add a job."""
        self._ensure_listener()
        self._waiters.add(job)
        try:
            with self._reaching_redis():
                self._submit_waiting(job)
        except BaseException:
            self._waiters.remove(job)
            raise

    def _submit_waiting(self, job: ImageJob, *, before: bool = False) -> None:
        status, detail = self._add(job, self._replies, before=before)
        if status == b"accepted":
            self._receipts[job.id] = detail
        elif status == b"full":
            raise self._backlog.refuse()
        elif outcome := _outcome(status, detail):
            self._waiters.resolve(job.id, outcome)

    def submit_kept(self, job: ImageJob, result_id: str) -> None:
        """Add a job whose outcome is added to a result."""
        with self._reaching_redis():
            self._submit_kept(job, RESULT + result_id)

    def _submit_kept(self, job: ImageJob, result: str) -> None:
        max_jobs = max(1, int(MAX_KEPT_SHARE * self._max_jobs))
        status, detail = self._add(job, result, max_jobs=max_jobs)
        if status == b"full":
            raise QueueFull(retry_after_s=self._backlog.retry_after_s())
        if outcome := _outcome(status, detail):
            self._add_outcome(result, job, outcome)

    @waiting.blocking
    def _add_outcome(self, result: str, job: ImageJob, outcome: Outcome) -> None:
        self._redis.xadd(result, {"job_id": job.id, "outcome": encode_outcome(outcome)}, nomkstream=True)

    def _add(
        self, job: ImageJob, reply_to: str, *, before: bool = False, max_jobs: int | None = None
    ) -> tuple[bytes, bytes]:
        """Add a job, if it is not answered at once, and return what came of that: see `lua/submit.lua`.

        One that was accepted `before` is not refused. It does no harm to add a job twice, as when Redis is away in
        between: the first answer counts. Raises `NoWorker`.
        """
        status, detail, wait_s = self._submit(
            keys=[_JOBS, _WORKERS, _MODEL, _IN_FLIGHT + job.image_hash, _SET_ASIDE, _IMAGES_PER_S, _QUEUED_BYTES],
            args=[
                self._worker_ttl_ms,
                max_jobs or self._max_jobs,
                self._max_bytes,
                MAX_WAIT_SHARE * job.timeout_s,
                job.encode(),
                job.id,
                job.size_bytes,
                job.image_hash,
                reply_to,
                int(before),
                int(self._cache_ttl_s > 0),
                _PREDICTION,
                int(job.timeout_s) + _IN_FLIGHT_SPARE_S,
            ],
        )
        self._backlog.heard(float(wait_s))
        if status == b"no-worker":
            raise NoWorker
        return status, detail

    def refusal(self) -> QueueFull | None:
        """Return what a job was refused with a moment ago."""
        return self._backlog.refusal()

    def retry_after_s(self) -> int:
        """Return in how many seconds what waited at the last `submit` will be done."""
        return self._backlog.retry_after_s()

    def wait(self, job: ImageJob) -> Prediction:
        """Return the prediction of a submitted job."""
        try:
            return self._waiters.wait(job)
        except (ClientGone, DeadlinePassed):
            self._give_place_free(job)
            raise
        finally:
            self._receipts.pop(job.id, None)

    def cancel(self, job: ImageJob) -> None:
        """Have the `wait` of a submitted job end."""
        self._waiters.resolve(job.id, JobFailure.of(ClientGone()))

    @waiting.blocking
    def _give_place_free(self, job: ImageJob) -> None:
        """Take a job that nobody waits for out of the queue; one that joined another has no place of its own."""
        receipt = self._receipts.get(job.id)
        if receipt is None:
            return
        with suppress(QueueUnavailable), self._reaching_redis():
            self._withdraw(
                keys=[_JOBS, _IN_FLIGHT + job.image_hash, _QUEUED_BYTES],
                args=[_GROUP, receipt, job.id, job.size_bytes],
            )

    @waiting.blocking
    def live_workers(self) -> list[str]:
        """Return the names of the workers that were heard of lately."""
        with self._reaching_redis():
            seconds, microseconds = self._redis.time()
            alive_since_ms = seconds * 1000 + microseconds // 1000 - self._worker_ttl_ms
            return [name.decode() for name in self._redis.zrangebyscore(_WORKERS, alive_since_ms, "+inf")]

    @waiting.blocking
    def forget(self, image_name: str) -> None:
        """Drop an image's prediction from the cache."""
        with self._reaching_redis():
            model = self._redis.get(_MODEL)
            if model:
                self._redis.delete(_prediction_key(model.decode(), image_hash(image_name)))

    def labels(self) -> Sequence[str]:
        """Return the labels of the model that the workers serve."""
        model = self.model()
        return model.labels if model else ()

    def model(self, model_id: str | None = None) -> ModelInfo | None:
        """Return what is known of a model, which is fetched once as long as it is the one that is asked for."""
        latest = self._latest_model
        return latest if latest and latest.id == model_id else self._fetch_model(model_id)

    @waiting.blocking
    def _fetch_model(self, model_id: str | None) -> ModelInfo | None:
        with self._reaching_redis():
            if model_id is None:
                model_id = (self._redis.get(_MODEL) or b"").decode()
            if self._latest_model is None or model_id != self._latest_model.id:
                data = self._redis.get(_MODEL_INFO + model_id)
                if data is None:
                    return None
                self._latest_model = ModelInfo.decode(data)
        return self._latest_model

    @waiting.blocking
    def set_aside_images(self) -> list[SetAsideImage]:
        """Return the images that are set aside, oldest first."""
        with self._reaching_redis():
            images = [SetAsideImage.decode(data) for data in self._redis.hvals(_SET_ASIDE)]
        return sorted(images, key=lambda image: image.at_s)

    @waiting.blocking
    def release(self, image_hash: str) -> bool:
        """Let an image be tried again when it is sent."""
        with self._reaching_redis():
            return bool(self._redis.hdel(_SET_ASIDE, image_hash))

    def close(self) -> None:
        """End the listener and the connections; answer who still waits."""
        self._closed.set()
        self._waiters.close()
        if self._listener:
            self._listener.join(2 * _LISTEN_S)
        self._submit.close()
        self._redis.close()

    # What a worker calls

    def take_batch(self, worker: str, max_jobs: int, wait_s: float) -> list[Delivery]:
        """Return up to `max_jobs` jobs: first what dead workers left, one at a time, then the share of what waits."""
        with self._reaching_redis():
            try:
                return self._take_abandoned(worker) or self._take_waiting(worker, max_jobs, wait_s)
            except ResponseError as err:
                if "NOGROUP" not in str(err) and "no such key" not in str(err):
                    raise
                self._create_group()
                return self.take_batch(worker, max_jobs, wait_s)

    def finish(self, outcomes: Iterable[tuple[Delivery, Outcome]]) -> None:
        """Answer jobs and remove them."""
        with self._reaching_redis():
            pipeline = self._redis.pipeline(transaction=False)
            for delivery, outcome in outcomes:
                self._finish(
                    keys=[_JOBS, delivery.reply_to, _IN_FLIGHT + delivery.job.image_hash, _CACHED, _QUEUED_BYTES],
                    args=[
                        _GROUP,
                        delivery.receipt,
                        delivery.job.id,
                        delivery.job.size_bytes,
                        encode_outcome(outcome),
                        int(isinstance(outcome, JobFailure) and outcome.code == DeadlinePassed.code),
                        _REPLY_TTL_S,
                        _MAX_REPLIES,
                        _IN_FLIGHT_SPARE_S,
                        self._key_to_cache(delivery, outcome),
                        self._cache_ttl_s,
                        self._cache_entries,
                    ],
                    client=pipeline,
                )
            pipeline.execute()

    def _key_to_cache(self, delivery: Delivery, outcome: Outcome) -> str:
        """Return the key to cache an outcome under, "" where it is not to be cached."""
        if not self._cache_ttl_s or isinstance(outcome, JobFailure):
            return ""
        return _prediction_key(outcome.model, delivery.job.image_hash)

    def heartbeat(self, worker: str, service_time_s: float, model: str) -> None:
        """Say that a worker is alive."""
        with self._reaching_redis():
            self._heartbeat(
                keys=[_WORKERS, _SERVICE_TIMES, _MODEL, _IMAGES_PER_S],
                args=[self._worker_ttl_ms, worker, service_time_s, model],
            )

    def publish(self, model: ModelInfo) -> None:
        """Say what there is to know of a model."""
        with self._reaching_redis():
            if not self._redis.expire(_MODEL_INFO + model.id, _MODEL_TTL_S):
                self._redis.set(_MODEL_INFO + model.id, model.encode(), ex=_MODEL_TTL_S)

    def retire(self, worker: str) -> None:
        """Say that a worker takes no more jobs."""
        with self._reaching_redis():
            self._redis.zrem(_WORKERS, worker)
            self._redis.hdel(_SERVICE_TIMES, worker)

    # Taking

    def _create_group(self) -> None:
        """Create the group where Redis has none yet, or has lost it."""
        try:
            self._redis.xgroup_create(_JOBS, _GROUP, id="0", mkstream=True)
        except ResponseError as err:
            if "BUSYGROUP" not in str(err):  # else another worker was faster
                raise

    def _take_waiting(self, worker: str, max_jobs: int, wait_s: float) -> list[Delivery]:
        now_ms, entries = self._share(worker, max_jobs)
        if not entries:
            first = self._wait_for_one(worker, wait_s)
            if not first:
                return []
            now_ms, others = self._share(worker, max_jobs - 1)
            entries = first + others
        return self._deliver(entries, now_ms)

    def _share(self, worker: str, max_jobs: int) -> tuple[int, list[_Entry]]:
        """Return Redis's time in milliseconds, and this worker's share of the jobs that wait."""
        now_ms, entries = self._take_share(keys=[_JOBS, _WORKERS], args=[self._worker_ttl_ms, _GROUP, worker, max_jobs])
        return now_ms, [(receipt, _pairs(flat)) for receipt, flat in entries]

    def _wait_for_one(self, worker: str, wait_s: float) -> list[_Entry]:
        block_ms = max(1, int(wait_s * 1000))  # Redis takes 0 for ever
        streams = self._redis.xreadgroup(_GROUP, worker, {_JOBS: ">"}, count=1, block=block_ms)
        return [entry for _, entries in streams for entry in entries]

    def _take_abandoned(self, worker: str) -> list[Delivery]:
        """Return one job that nobody alive holds; set aside one that has ended its workers."""
        if time.monotonic() < self._next_claim:
            return []
        now_ms, entry, deaths, former_worker = self._claim_abandoned(
            keys=[_JOBS, _WORKERS, _SERVICE_TIMES], args=[self._worker_ttl_ms, _GROUP, worker]
        )
        if not entry:
            self._next_claim = time.monotonic() + self._claim_every_s
            return []
        delivery = _delivery((entry[0], _pairs(entry[1])), now_ms)
        log.warning("job %s was left by worker %s; claimed by %s", delivery.job.id, former_worker.decode(), worker)
        if deaths >= MAX_DEATHS:
            self._set_aside(delivery, former_worker.decode(), now_ms / 1000)
            return []
        return self._drop_expired([delivery])

    def _set_aside(self, delivery: Delivery, former_worker: str, at_s: float) -> None:
        job = delivery.job
        log.error("job %s ended %d workers; image %s is set aside", job.id, MAX_DEATHS, job.image_name)
        image = SetAsideImage(job.image_name, job.id, former_worker, at_s)
        self._redis.hset(_SET_ASIDE, image.image_hash, image.encode())
        for oldest in self.set_aside_images()[:-MAX_SET_ASIDE]:
            self.release(oldest.image_hash)
        self.finish([(delivery, JobFailure.of(SetAside()))])

    def _deliver(self, entries: list[_Entry], now_ms: int) -> list[Delivery]:
        return self._drop_expired([_delivery(entry, now_ms) for entry in entries])

    def _drop_expired(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Return the jobs that somebody still waits for; finish the others without computing them."""
        expired = [delivery for delivery in deliveries if delivery.has_expired()]
        if not expired:
            return deliveries
        log.warning("dropped %d expired jobs: %s", len(expired), ", ".join(d.job.id for d in expired))
        failure = JobFailure.of(DeadlinePassed())
        self.finish((delivery, failure) for delivery in expired)
        return [delivery for delivery in deliveries if delivery not in expired]

    # Listening

    def _ensure_listener(self) -> None:
        """Start the thread that receives replies, in the process that submits, at its first job."""
        with self._listener_lock:
            if self._listener is None:
                self._listener = threading.Thread(target=self._listen, name="replies", daemon=True)
                self._listener.start()

    def _listen(self) -> None:
        last_id, lost_sight = b"0", False
        while not self._closed.is_set():
            try:
                last_id = self._catch_up() if lost_sight else self._receive(last_id, _LISTEN_S)
                lost_sight = False
            except RedisError as err:
                if not lost_sight:
                    log.warning("replies cannot be read, trying again until they can: %s", err)
                lost_sight = True
                self._closed.wait(_RETRY_S)

    def _catch_up(self) -> bytes:
        """Receive what there is, and submit again the jobs that are still waited for and that Redis does not have.

        While it was away, it may have lost its memory, or the last second of its log; a replica may be in its place.
        """
        # Others' jobs are among them, which may be of another version of this code.
        present = {json.loads(fields[b"job"])["id"] for _, fields in self._redis.xrange(_JOBS)}
        # From the first reply on, as the ids are times, and this may be another host's clock.
        last_id = self._receive(b"0")
        missing = [job for job in self._waiters.waiting() if job.id not in present]
        for job in missing:
            self._submit_waiting(job, before=True)
        log.warning("Redis is back; submitted %d jobs again that it did not have", len(missing))
        return last_id

    def _receive(self, last_id: bytes, wait_s: float = 0) -> bytes:
        """Hand the replies after `last_id` to the requests that wait for them; return the id of the last."""
        block_ms = int(wait_s * 1000) or None  # Redis takes 0 for ever
        streams = self._redis.xread({self._replies: last_id}, count=2 * _MAX_REPLIES, block=block_ms)
        if not streams:
            return last_id
        entries = streams[0][1]
        for _, reply in entries:
            self._waiters.resolve(reply[b"job_id"].decode(), decode_outcome(reply[b"outcome"]))
        newest: bytes = entries[-1][0]
        return newest


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    """Return the fields of a stream entry as a script gives them: names and values in turn."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _outcome(status: bytes, detail: bytes) -> Outcome | None:
    """Return the outcome of a job that was answered at once."""
    if status == b"cached":
        return _from_cache(detail)
    return JobFailure.of(SetAside()) if status == b"set-aside" else None


def _from_cache(data: bytes) -> Outcome:
    """Return a cached prediction; its timings were another request's."""
    outcome = decode_outcome(data)
    return replace(outcome, timings=None) if isinstance(outcome, Prediction) else outcome


def _prediction_key(model: str, image_hash: str) -> str:
    return f"{_PREDICTION}{model}:{image_hash}"


def _delivery(entry: _Entry, now_ms: int) -> Delivery:
    receipt, fields = entry
    # A stream entry's id begins with the time it was added, in milliseconds.
    waited_ms = now_ms - int(receipt.split(b"-")[0])
    return Delivery(ImageJob.decode(fields[b"job"]), receipt.decode(), fields[b"reply_to"].decode(), waited_ms)
