"""A model worker: takes jobs from the queue in batches, classifies their images, and sends the answers back."""

import hashlib
import logging
import math
import os
import socket
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Protocol
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from jobs import job_trace
from jobs.queue.interface import WORKER_TTL_S, Delivery, JobQueue
from jobs.redis import setup as redis_setup
from jobs.redis.queue import RedisJobQueue
from jobs.schema import JobFailure, ModelInfo, Outcome, Prediction, Timings
from jobs.storage.images import ImageSource
from jobs.storage.opening import open_store
from jobs.versions.rules import DEFAULT_POOL, version_name
from model import answers, batch_trace
from model.classifier import Classifier
from model.decoding_limit import DecodingLimit, unlimited
from model.manifest import LABELS, MANIFEST, ModelError, ModelManifest
from model.metrics import WorkerMetrics, show
from model.preprocessing import preprocess
from model.settings import ModelSettings
from runtime import logs, signals, tracing
from runtime.errors import (
    DeadlinePassed,
    InferenceFailed,
    OutOfMemory,
    QueueUnavailable,
    ServiceError,
    StorageUnavailable,
    TooCostly,
)

log = logging.getLogger(__name__)

# The longest wait for jobs: within this time a worker notices that it is to stop, or that another worker died.
_WAIT_S = 0.5
# The pause between attempts to reach Redis.
_RETRY_S = 0.2
_HEARTBEAT_EVERY_S = WORKER_TTL_S / 4
# The time per image is the median over this many batches. One picture that takes seconds to decode slows one batch,
# which does not change the median; a machine or pictures that became slower show after half of them.
_TIMED_BATCHES = 9
# Decoded images wait no longer than this for the others of their batch.
_DECODE_S = 0.5
# A larger batch makes all its images wait longer; its gain must exceed the noise of the measurement.
_WORTHWHILE = 0.03
# Under load, workers compute all the time, while the API has short bursts of work that clients wait for.
_NICENESS = 10

# Classifies images by name, each until its deadline on the monotonic clock: all of them, or only the first ones.
Classify = Callable[[Sequence[str], Sequence[float]], list[Outcome]]
Pixels = NDArray[np.uint8]


class Limit(Protocol):
    """Calls a function that decodes a picture, and may raise `TooCostly` or `DeadlinePassed` meanwhile."""

    def __call__(self, decode: Callable[[], Pixels], deadline: float) -> Pixels:
        """Return `decode()`'s result."""


def predict(
    image_names: Sequence[str],
    images: ImageSource,
    classifier: Classifier,
    max_image_pixels: int,
    *,
    limit: Limit = unlimited,
    deadlines: Sequence[float] = (),
    decode_s: float = math.inf,
) -> list[Outcome]:
    """Classify one batch of stored images; return their outcomes in the same order. A bad image fails alone.

    Decoding of an image stops at its deadline, on the monotonic clock. After `decode_s` no further image is decoded,
    and only the outcomes of the first ones are returned.
    """
    started = time.monotonic()
    inputs: list[Pixels | JobFailure] = []
    with tracing.span("decode"):
        for name, read, deadline in zip(
            image_names, images.fetch(image_names), deadlines or [math.inf] * len(image_names), strict=True
        ):
            inputs.append(_read_input(name, read, deadline, classifier.manifest, max_image_pixels, limit))
            if time.monotonic() > started + decode_s:
                break
    pixels = [item for item in inputs if not isinstance(item, JobFailure)]
    decoded = time.monotonic()
    with tracing.span("inference"):
        answers = _classify(classifier, pixels)
    timings = Timings(
        queue_ms=0,
        decode_ms=1000 * (decoded - started),
        inference_ms=1000 * (time.monotonic() - decoded),
        batch_size=len(inputs),
    )
    remaining = (_with_timings(answer, timings) for answer in answers)
    return [item if isinstance(item, JobFailure) else next(remaining) for item in inputs]


def _with_timings(outcome: Outcome, timings: Timings) -> Outcome:
    return replace(outcome, timings=timings) if isinstance(outcome, Prediction) else outcome


def _read_input(
    name: str, read: Callable[[], bytes], deadline: float, manifest: ModelManifest, max_pixels: int, limit: Limit
) -> Pixels | JobFailure:
    if time.monotonic() >= deadline:
        return JobFailure.of(DeadlinePassed())
    try:
        data = read()
        return limit(lambda: preprocess(data, manifest, max_pixels), deadline)
    except TooCostly as err:
        log.error("image %s takes too long to decode, and is refused", name)
        return JobFailure.of(err)
    except ServiceError as err:
        return JobFailure.of(err)
    except MemoryError:
        log.error("image %s needs more memory than there is", name)
        return JobFailure.of(OutOfMemory())
    except OSError as err:
        log.error("image %s cannot be read: %s", name, err)
        return JobFailure.of(StorageUnavailable("The stored image cannot be read. Send it again."))


def _classify(classifier: Classifier, pixels: list[Pixels]) -> list[Outcome]:
    """Classify inputs of shape (height, width, 3) as one batch, or one by one if the engine fails on the batch."""
    if not pixels:
        return []
    try:
        return classifier.classify(np.stack(pixels))
    except (InferenceFailed, MemoryError) as err:
        if len(pixels) == 1:
            return [JobFailure.of(err if isinstance(err, InferenceFailed) else OutOfMemory())]
        return [outcome for item in pixels for outcome in _classify(classifier, [item])]


class Worker:
    """One worker: takes jobs from the queue, classifies their images, and measures the time per image."""

    def __init__(
        self,
        queue: JobQueue,
        classify: Classify,
        *,
        model: ModelInfo,
        jobs_at_once: int,
        batch_size: int,
        service_time_s: float,
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:4]}"
        self._times_s = deque([service_time_s] * _TIMED_BATCHES, maxlen=_TIMED_BATCHES)
        # The initial time was measured with the network alone.
        self.metrics = WorkerMetrics(model.id, limit_images_per_s=1 / service_time_s)
        self._queue = queue
        self._classify = classify
        self._model = model
        self._jobs_at_once = jobs_at_once
        self._batch_size = batch_size

    @property
    def service_time_s(self) -> float:
        """The seconds per image, by the latest batches."""
        return median(self._times_s)

    def step(self) -> bool:
        """Take jobs, classify and answer them; return whether there were any. Raises `QueueUnavailable`."""
        taken = self._queue.take_batch(self.name, self._jobs_at_once, _WAIT_S, self._batch_size)
        worked = False
        # While a batch is processed, other jobs taken may expire.
        while wanted := self._answer_untried(taken):
            taken = wanted[self._process(wanted[: self._batch_size]) :]
            worked = True
        return worked

    def _answer_untried(self, taken: Sequence[Delivery]) -> list[Delivery]:
        """Answer the jobs that failed before processing; return the others."""
        failures = [(delivery, failure) for delivery in taken if (failure := delivery.failure())]
        if failures:
            self._finish(failures)
        for delivery, failure in failures:
            log.warning("dropped job %s: %s", delivery.job.id, failure.code)
            self.metrics.dropped(failure)
        failed = {delivery.receipt for delivery, _ in failures}
        return [delivery for delivery in taken if delivery.receipt not in failed]

    def _process(self, batch: list[Delivery]) -> int:
        """Classify and answer a batch, or only its first jobs if decoding takes long; return their number."""
        with batch_trace.traced(batch) as trace:
            started = time.monotonic()
            outcomes = self._classify(
                [delivery.job.image_name for delivery in batch], [delivery.deadline for delivery in batch]
            )
            batch_s = time.monotonic() - started
            batch = batch[: len(outcomes)]
            trace.finished(outcomes)
            self._times_s.append(batch_s / len(batch))
            self._finish(
                [(delivery, self._sign(delivery, outcome)) for delivery, outcome in zip(batch, outcomes, strict=True)]
            )
        self.metrics.finished(batch, outcomes, batch_s)
        _log_batch(batch, outcomes, batch_s)
        return len(batch)

    def _sign(self, delivery: Delivery, outcome: Outcome) -> Outcome:
        """Add the model's id and the queue time to a prediction."""
        if isinstance(outcome, JobFailure):
            return outcome
        timings = outcome.timings and replace(outcome.timings, queue_ms=delivery.waited_ms)
        return replace(outcome, model=self._model.id, timings=timings)

    def _finish(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Send the answers, retrying while Redis is away, as long as a client may wait for them."""
        deadline = time.monotonic() + max(delivery.job.timeout_s for delivery, _ in outcomes)
        while True:
            try:
                return self._queue.finish(outcomes)
            except QueueUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_S)

    def heartbeat(self) -> None:
        """Send the heartbeat and the report; if Redis is away, `step` handles it."""
        with suppress(QueueUnavailable):
            self._queue.publish(self._model)
            self._queue.heartbeat(self.name, self.service_time_s, self._model.id)
            self._queue.report(self.name, self.metrics.report())

    def retire(self) -> None:
        """Tell the queue that this worker takes no more jobs."""
        with suppress(QueueUnavailable):
            self._queue.retire(self.name)


def _log_batch(batch: Sequence[Delivery], outcomes: Sequence[Outcome], batch_s: float) -> None:
    timings = next((outcome.timings for outcome in outcomes if isinstance(outcome, Prediction)), None)
    fields = {
        "ms": round(1000 * batch_s, 1),
        "decode_ms": timings and round(timings.decode_ms, 1),
        "inference_ms": timings and round(timings.inference_ms, 1),
        "failures": sum(isinstance(outcome, JobFailure) for outcome in outcomes),
        "job_ids": [delivery.job.id for delivery in batch],
        "request_ids": [delivery.job.request_id for delivery in batch],
    }
    if trace_ids := job_trace.trace_ids(delivery.job for delivery in batch):
        fields["trace_ids"] = trace_ids
    log.info("batch of %d", len(batch), extra=fields)


def classify_process(worker: Worker, stopped: threading.Event) -> None:
    """Process batches until `stopped` is set; the current batch is finished first."""
    with _heartbeats(worker):
        while not stopped.is_set():
            try:
                worker.step()
            except QueueUnavailable:
                stopped.wait(_RETRY_S)


@contextmanager
def _heartbeats(worker: Worker) -> Iterator[None]:
    """Send heartbeats from a separate thread until the worker has finished."""
    finished = threading.Event()

    def beat() -> None:
        while not finished.wait(_HEARTBEAT_EVERY_S):
            worker.heartbeat()

    worker.heartbeat()
    thread = threading.Thread(target=beat, name="heartbeats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        worker.retire()


def knee(batch_times_s: Mapping[int, float]) -> int:
    """Return the smallest batch size that classifies nearly as many images per second as the best one.

    `batch_times_s` maps batch sizes to seconds per batch.
    """
    speeds = {size: size / seconds for size, seconds in batch_times_s.items()}
    return min(size for size, speed in speeds.items() if speed >= (1 - _WORTHWHILE) * max(speeds.values()))


def load_classifier(settings: ModelSettings) -> Classifier:
    """Load the model, and check its answers to its sample and the pictures kept with it. Raises `ModelError`."""
    manifest = ModelManifest.load(settings.model)
    classifier = Classifier.load(manifest, threads=settings.threads, precision=settings.precision)
    if manifest.sample:
        _check_sample(classifier, manifest.folder / manifest.sample.file, manifest.sample.label)
    answers.check(classifier)
    return classifier


def _check_sample(classifier: Classifier, file: Path, label: str) -> None:
    """Raise `ModelError` if a picture does not get its label."""
    try:
        data = file.read_bytes()
        [answer] = classifier.classify(preprocess(data, classifier.manifest, max_pixels=sys.maxsize)[np.newaxis])
    except (OSError, ServiceError) as err:
        raise ModelError(f"{file}: the sample cannot be classified: {err}") from err
    if not isinstance(answer, Prediction) or answer.label != label:
        said = f"{answer.label!r} ({answer.score:.2f})" if isinstance(answer, Prediction) else answer.message
        raise ModelError(
            f"{file}: the network says {said}, and {MANIFEST} {label!r}: its input is not prepared as in training, its "
            "labels are in another order, or it is another network"
        )


def identity(manifest: ModelManifest, precision: str) -> str:
    """Return an id that changes with anything that changes the model's answers, even if its version does not."""
    digest = hashlib.sha256()
    for file in (*manifest.network_files(), manifest.folder / MANIFEST, manifest.folder / LABELS):
        digest.update(file.read_bytes())
    return f"{manifest.name}-{manifest.version}-{precision}-{digest.hexdigest()[:12]}"


def _info(manifest: ModelManifest, precision: str) -> ModelInfo:
    """Return the model's information for the API."""
    return ModelInfo(
        id=identity(manifest, precision),
        name=manifest.name,
        version=manifest.version,
        precision=precision,
        height=manifest.height,
        width=manifest.width,
        resize=manifest.resize,
        labels=manifest.labels,
    )


def main() -> None:
    """Run a worker until SIGTERM or SIGINT. Raises `SettingsError` or `ModelError`."""
    settings = ModelSettings.from_env()
    logs.configure(settings.log_level, settings.log_format)
    tracing.start(settings, "mlapi-worker")
    os.nice(_NICENESS)  # applies to all later threads, too
    # Pillow's, about damaged metadata: one image may cause thousands, and there is nothing to do about them.
    warnings.filterwarnings("ignore", module="PIL")
    stopped = signals.stop_event()
    classifier = load_classifier(settings)
    batch_times_s = classifier.warm_up(settings.batch_size)
    batch_size = knee(batch_times_s)
    images = open_store(settings)
    model = _info(classifier.manifest, classifier.precision)
    queue = RedisJobQueue.from_settings(settings, version_name(model) if settings.beside else DEFAULT_POOL)
    limit = DecodingLimit(settings.max_decode_s)
    worker = Worker(
        queue,
        lambda names, deadlines: predict(
            names,
            images,
            classifier,
            settings.max_image_pixels,
            limit=limit,
            deadlines=deadlines,
            decode_s=_DECODE_S,
        ),
        model=model,
        jobs_at_once=settings.jobs_at_once,
        batch_size=batch_size,
        service_time_s=batch_times_s[batch_size] / batch_size,
    )
    show(worker.metrics, settings)
    log.info(
        "worker %s serves %s %s in %s, in batches of up to %d",
        worker.name,
        model.name,
        model.version,
        classifier.precision,
        batch_size,
    )
    threading.Thread(target=redis_setup.warn, args=[settings.redis_login, stopped], daemon=True).start()
    classify_process(worker, stopped)
    queue.close()
    tracing.stop()
