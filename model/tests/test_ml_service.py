"""The worker's loop, and one batch of it."""

import ctypes
import io
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import redis
from numpy.typing import NDArray
from PIL import Image
from prometheus_client import generate_latest

from jobs.queue.interface import WORKER_TTL_S, Delivery
from jobs.queue.memory import MemoryJobQueue
from jobs.redis.queue import RedisJobQueue
from jobs.schema import ImageJob, ModelInfo, Outcome, Prediction
from jobs.storage.images import FolderImageStore
from model.decoding_limit import DecodingLimit
from model.manifest import ModelManifest
from model.ml_service import Worker, classify_process, identity, knee, predict
from model.preprocessing import preprocess
from runtime.errors import DeadlinePassed, InferenceFailed, NotAnImage, QueueUnavailable, SetAside, TooCostly
from testing.networks import move_weights, save_network

MAX_PIXELS = 1_000_000
# Longer than a test takes, even on a slow machine.
LONG_TTL_S = 60


class FakeClassifier:
    """Classifies an image as red, green or blue, as a network would, and fails on black."""

    def __init__(self, manifest: ModelManifest) -> None:
        self.manifest = manifest
        self.batch_sizes: list[int] = []

    def classify(self, pixels: NDArray[np.uint8]) -> list[Outcome]:
        self.batch_sizes.append(len(pixels))
        if (pixels.reshape(len(pixels), -1).max(axis=1) == 0).any():
            raise InferenceFailed
        return [Prediction("rgb"[int(image.sum(axis=(0, 1)).argmax())], 0, 1.0) for image in pixels]


@pytest.fixture
def classifier(manifest: ModelManifest) -> Any:
    return FakeClassifier(manifest)


@pytest.fixture
def images(tmp_path: Path) -> FolderImageStore:
    """Return a store that holds images named after their colours, and a broken one."""
    store = FolderImageStore(tmp_path)
    for colour in ("red", "green", "blue", "black"):
        file = io.BytesIO()
        Image.new("RGB", (9, 7), colour).save(file, "PNG")
        store.put(f"{colour}.png", file.getvalue())
    store.put("broken.png", b"no image")
    return store


def label(outcome: Outcome) -> str:
    return outcome.label if isinstance(outcome, Prediction) else outcome.code


def test_a_batch_is_classified_in_one_pass_and_in_order(classifier: Any, images: FolderImageStore) -> None:
    outcomes = predict(["blue.png", "red.png", "green.png"], images, classifier, MAX_PIXELS)
    assert [label(outcome) for outcome in outcomes] == ["b", "r", "g"]
    assert classifier.batch_sizes == [3]


@pytest.mark.parametrize(
    ("bad_image", "code"),
    [("broken.png", "not-an-image"), ("missing.png", "storage-unavailable"), ("black.png", "inference-failed")],
)
def test_a_bad_image_fails_alone(classifier: Any, images: FolderImageStore, bad_image: str, code: str) -> None:
    outcomes = predict(["red.png", bad_image, "blue.png"], images, classifier, MAX_PIXELS)
    assert [label(outcome) for outcome in outcomes] == ["r", code, "b"]


def test_a_lack_of_memory_is_the_services_fault_and_not_the_images(
    classifier: Any, images: FolderImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(data: bytes, *limits: Any) -> NDArray[np.uint8]:
        if data == images.get("green.png"):
            raise MemoryError
        return preprocess(data, *limits)

    monkeypatch.setattr("model.ml_service.preprocess", short_of_memory)
    outcomes = predict(["red.png", "green.png", "blue.png"], images, classifier, MAX_PIXELS)
    assert [label(outcome) for outcome in outcomes] == ["r", "out-of-memory", "b"]


def test_a_batch_that_is_more_than_the_memory_is_tried_one_by_one(classifier: Any, images: FolderImageStore) -> None:
    def classify(pixels: NDArray[np.uint8]) -> list[Outcome]:
        if len(pixels) > 1 or pixels.max(axis=(1, 2)).argmax() == 1:  # green
            raise MemoryError
        return FakeClassifier.classify(classifier, pixels)

    short_of_memory = SimpleNamespace(manifest=classifier.manifest, classify=classify)
    outcomes = predict(["red.png", "green.png", "blue.png"], images, cast("Any", short_of_memory), MAX_PIXELS)
    assert [label(outcome) for outcome in outcomes] == ["r", "out-of-memory", "b"]


def test_an_image_whose_deadline_has_passed_is_not_decoded(classifier: Any, images: FolderImageStore) -> None:
    now = time.monotonic()
    outcomes = predict(["red.png", "broken.png"], images, classifier, MAX_PIXELS, deadlines=[now + 60, now])
    assert [label(outcome) for outcome in outcomes] == ["r", "deadline-passed"]


def test_where_decoding_takes_long_the_first_images_are_answered_before_the_others_are_decoded(
    classifier: Any, images: FolderImageStore
) -> None:
    queue = MemoryJobQueue(max_jobs=100, worker_ttl_s=LONG_TTL_S)
    worker = make_worker(queue, lambda names, _: predict(names, images, classifier, MAX_PIXELS, decode_s=0))
    jobs = submit(queue, "red.png", "broken.png", "blue.png")
    worker.step()
    assert classifier.batch_sizes == [1, 1]
    assert [queue.wait(job).label for job in (jobs[0], jobs[2])] == ["r", "b"]
    with pytest.raises(NotAnImage):
        queue.wait(jobs[1])


def test_an_image_that_takes_too_long_to_decode_fails_alone(
    classifier: Any, images: FolderImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(data: bytes, *limits: Any) -> NDArray[np.uint8]:
        if data == images.get("green.png"):
            raise TooCostly  # as the limit does
        return preprocess(data, *limits)

    monkeypatch.setattr("model.ml_service.preprocess", slow)
    outcomes = predict(["red.png", "green.png", "blue.png"], images, classifier, MAX_PIXELS)
    assert [label(outcome) for outcome in outcomes] == ["r", "too-costly", "b"]


def test_a_batch_of_bad_images_needs_no_network(classifier: Any, images: FolderImageStore) -> None:
    assert [label(outcome) for outcome in predict(["broken.png"], images, classifier, MAX_PIXELS)] == ["not-an-image"]
    assert classifier.batch_sizes == []


class Recorder:
    """Classifies everything as a dog and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, names: Sequence[str], _: Sequence[float] = ()) -> list[Outcome]:
        self.batches.append(list(names))
        return [Prediction("dog", 0, 1.0) for _ in names]


def make_worker(queue: Any, classify: Any, jobs_at_once: int = 10, batch_size: int = 10) -> Worker:
    worker = Worker(
        queue,
        classify,
        model=ModelInfo("m1", "pets", labels=("dog", "cat")),
        jobs_at_once=jobs_at_once,
        batch_size=batch_size,
        service_time_s=0.01,
    )
    worker.heartbeat()
    return worker


def submit(queue: MemoryJobQueue, *names: str) -> list[ImageJob]:
    jobs = [ImageJob.create(name, 60) for name in names]
    for job in jobs:
        queue.submit(job)
    return jobs


def test_a_step_answers_what_waits_in_batches_of_the_set_size() -> None:
    queue, recorder = MemoryJobQueue(max_jobs=100, worker_ttl_s=LONG_TTL_S), Recorder()
    worker = make_worker(queue, recorder, jobs_at_once=5, batch_size=2)
    jobs = submit(queue, *"abcdefg")
    assert worker.step()
    assert recorder.batches == [["a", "b"], ["c", "d"], ["e"]]
    assert queue.wait(jobs[4]).label == "dog"


def test_a_job_that_expires_while_others_are_computed_is_not_computed_for_nobody() -> None:
    queue, recorder = MemoryJobQueue(max_jobs=100), Recorder()

    def slow(names: Sequence[str], _: Sequence[float]) -> list[Outcome]:
        threading.Event().wait(0.1)
        return recorder(names)

    worker = make_worker(queue, slow, batch_size=1)
    patient, hasty = ImageJob.create("patient", 10), ImageJob.create("hasty", 0.05)
    for job in (patient, hasty):
        queue.submit(job)
    worker.step()
    assert recorder.batches == [["patient"]]
    assert queue.wait(patient).label == "dog"
    with pytest.raises(DeadlinePassed):
        queue.wait(hasty)


def work(batches_s: Sequence[float]) -> float:
    """Let a worker process one-image batches of these durations; return its time per image."""
    queue, times_s = MemoryJobQueue(max_jobs=100, worker_ttl_s=LONG_TTL_S), iter(batches_s)

    def classify(names: Sequence[str], _: Sequence[float]) -> list[Outcome]:
        threading.Event().wait(next(times_s))
        return [Prediction("dog", 0, 1.0) for _ in names]

    worker = make_worker(queue, classify)
    for number, _ in enumerate(batches_s):
        submit(queue, str(number))
        worker.step()
    return worker.service_time_s


@pytest.mark.parametrize("batches_s", [[0.3], [0.3, 0.3], [0, 0, 0.3, 0, 0.3, 0]])
def test_a_few_slow_images_do_not_make_a_worker_count_as_slow(batches_s: Sequence[float]) -> None:
    assert work(batches_s) < 0.1


def test_a_worker_that_has_become_slower_says_so() -> None:
    assert work([0.1] * 5) >= 0.1


def test_jobs_that_fail_untried_are_answered_and_counted() -> None:
    queue, recorder = MemoryJobQueue(max_jobs=100, worker_ttl_s=LONG_TTL_S), Recorder()
    worker = make_worker(queue, recorder, batch_size=2)
    jobs = [ImageJob.create(name, 0.1) for name in "abc"]
    for job in jobs:
        queue.submit_kept(job, "r1")  # nobody withdraws it
    threading.Event().wait(0.15)
    assert not worker.step()
    assert queue.figures().held_jobs == queue.figures().waiting_jobs == 0
    assert recorder.batches == []
    told = generate_latest(worker.metrics.registry).decode()
    assert 'mlapi_worker_jobs_total{outcome="deadline-passed"} 3.0' in told


def test_a_worker_tells_operators_what_it_does() -> None:
    queue = MemoryJobQueue(max_jobs=100, worker_ttl_s=LONG_TTL_S)
    worker = make_worker(queue, Recorder(), batch_size=2)
    submit(queue, "a", "b", "c")
    worker.step()
    worker.heartbeat()
    [report] = queue.figures().reports
    assert (report.model, report.limit_images_per_s, report.images) == ("m1", 100, 3)
    assert report.batches == {1: 1, 2: 1}


def test_a_worker_says_which_classes_its_model_knows() -> None:
    queue = MemoryJobQueue(max_jobs=100)
    make_worker(queue, Recorder())
    assert list(queue.labels()) == ["dog", "cat"]
    assert queue.model() == ModelInfo("m1", "pets", labels=("dog", "cat"))


def test_a_batch_is_one_log_line_with_the_requests_in_it(caplog: pytest.LogCaptureFixture) -> None:
    queue = MemoryJobQueue(max_jobs=100, worker_ttl_s=LONG_TTL_S)
    worker = make_worker(queue, Recorder())
    jobs = [ImageJob.create(name, 60, f"request-{name}") for name in "ab"]
    for job in jobs:
        queue.submit(job)
    caplog.set_level("INFO")
    worker.step()
    [line] = caplog.records
    assert line.getMessage() == "batch of 2"
    assert vars(line)["request_ids"] == ["request-a", "request-b"]
    assert vars(line)["job_ids"] == [job.id for job in jobs]


@pytest.mark.parametrize(
    ("speeds", "size"),
    [
        ([100], 1),
        ([100, 101, 102], 1),
        ([100, 150, 180, 195, 200, 199, 201, 198], 4),
        ([100, 150, 90, 200], 4),
        ([200, 190, 180, 170], 1),
    ],
)
def test_batches_are_no_larger_than_pays(speeds: list[float], size: int) -> None:
    """`speeds` are images per second, by batch sizes from 1."""
    assert knee({count: count / speed for count, speed in enumerate(speeds, 1)}) == size


def test_a_prediction_says_which_model_made_it_and_where_the_time_went(
    classifier: Any, images: FolderImageStore
) -> None:
    queue = MemoryJobQueue(max_jobs=100, worker_ttl_s=LONG_TTL_S)
    worker = make_worker(queue, lambda names, _: predict(names, images, classifier, MAX_PIXELS))
    [job, _] = submit(queue, "red.png", "blue.png")
    worker.step()
    prediction = queue.wait(job)
    assert prediction.model == "m1"
    assert prediction.timings is not None
    assert prediction.timings.batch_size == 2
    assert prediction.timings.queue_ms > 0
    assert prediction.timings.decode_ms > 0
    assert prediction.timings.inference_ms > 0


def test_a_step_without_a_job_does_nothing() -> None:
    recorder = Recorder()
    assert not make_worker(MemoryJobQueue(max_jobs=100, worker_ttl_s=LONG_TTL_S), recorder).step()
    assert recorder.batches == []


def test_the_batch_in_hand_is_finished_when_the_worker_is_stopped() -> None:
    queue, stopped = MemoryJobQueue(max_jobs=100, worker_ttl_s=LONG_TTL_S), threading.Event()

    def classify(names: Sequence[str], _: Sequence[float]) -> list[Outcome]:
        stopped.set()
        return [Prediction("dog", 0, 1.0) for _ in names]

    worker = make_worker(queue, classify)
    [job] = submit(queue, "a")
    classify_process(worker, stopped)
    assert queue.wait(job).label == "dog"
    assert queue.live_workers() == []


def test_a_worker_stays_alive_through_a_batch_that_takes_longer_than_its_time_to_live() -> None:
    queue, stopped = MemoryJobQueue(max_jobs=100, worker_ttl_s=WORKER_TTL_S), threading.Event()
    seen: list[bool] = []

    def classify(names: Sequence[str], _: Sequence[float]) -> list[Outcome]:
        deadline = time.monotonic() + 1.5 * WORKER_TTL_S
        while time.monotonic() < deadline:
            seen.append(bool(queue.live_workers()))
            stopped.wait(0.05)
        stopped.set()
        return [Prediction("dog", 0, 1.0) for _ in names]

    worker = make_worker(queue, classify)
    submit(queue, "a")
    classify_process(worker, stopped)
    assert seen
    assert all(seen)


class FlakyQueue(MemoryJobQueue):
    """A queue that is away for the next calls."""

    def __init__(self) -> None:
        super().__init__(max_jobs=100, worker_ttl_s=LONG_TTL_S)
        self.failures_left = 0

    def finish(self, outcomes: Any) -> None:
        self._fail()
        super().finish(outcomes)

    def take_batch(self, worker: str, max_jobs: int, wait_s: float, max_bulk: int = sys.maxsize) -> list[Delivery]:
        self._fail()
        return super().take_batch(worker, max_jobs, wait_s, max_bulk)

    def _fail(self) -> None:
        self.failures_left -= 1
        if self.failures_left >= 0:
            raise QueueUnavailable


def test_answers_are_sent_when_the_queue_is_back() -> None:
    queue = FlakyQueue()

    def classify(names: Sequence[str], _: Sequence[float]) -> list[Outcome]:
        queue.failures_left = 2
        return [Prediction("dog", 0, 1.0) for _ in names]

    worker = make_worker(queue, classify)
    [job] = submit(queue, "a")
    worker.step()
    assert queue.wait(job).label == "dog"


def test_a_worker_outlives_an_absence_of_the_queue() -> None:
    queue, stopped = FlakyQueue(), threading.Event()

    def classify(names: Sequence[str], _: Sequence[float]) -> list[Outcome]:
        stopped.set()
        return [Prediction("dog", 0, 1.0) for _ in names]

    worker = make_worker(queue, classify)
    [job] = submit(queue, "a")
    queue.failures_left = 2
    classify_process(worker, stopped)
    assert queue.wait(job).label == "dog"


def _work_without_letting_go(url: str) -> None:
    """Run a worker that holds the interpreter's lock, and so blocks its heartbeats, for longer than the limit."""

    def classify(names: Sequence[str], _: Sequence[float]) -> list[Outcome]:
        ctypes.PyDLL(None).usleep(int(4 * WORKER_TTL_S * 1e6))
        return [Prediction("late", 0, 1.0) for _ in names]

    classify_process(make_worker(RedisJobQueue(url, max_jobs=100), classify), threading.Event())


def test_a_worker_that_cannot_speak_up_is_overtaken_and_its_late_answer_dropped(redis_url: str) -> None:
    connection: Any = redis.Redis.from_url(redis_url)
    connection.flushall()
    queue = RedisJobQueue(redis_url, max_jobs=100)
    queue.heartbeat("starting", 0.01, "m1")
    slow = get_context("spawn").Process(target=_work_without_letting_go, args=(redis_url,))
    try:
        slow.start()
        first, second = (ImageJob.create(name, 120) for name in "ab")
        queue.submit(first)
        assert until(lambda: any(group["pending"] for group in connection.xinfo_groups("{mlapi}:jobs")))
        fast = make_worker(queue, Recorder())

        def step() -> bool:
            fast.heartbeat()
            return fast.step()

        assert until(step)
        assert queue.wait(first).label == "dog"
        fast.heartbeat()
        queue.submit(second)  # the slow one takes it, alive again, after the first
        assert queue.wait(second).label == "late"
        [replies] = connection.scan_iter("{mlapi}:replies:*")
        assert connection.xlen(replies) == 2
        assert queue.set_aside_images() == []
    finally:
        slow.kill()
        slow.join()
        queue.close()
        connection.close()


def until(condition: Callable[[], Any], timeout_s: float = 60) -> bool:
    """Return whether the condition became true before the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        pass
    return time.monotonic() < deadline


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF"])
def test_the_heartbeat_has_its_turn_while_a_large_image_is_decoded(image_format: str, manifest: ModelManifest) -> None:
    file = io.BytesIO()
    Image.effect_noise((4000, 3000), 50).save(file, image_format)
    # A busy machine may keep the threads waiting as well, but not each time; a lock would.
    shares = (longest_silence(lambda: preprocess(file.getvalue(), manifest, 50_000_000)) for _ in range(10))
    assert any(share < 0.5 for share in shares)


def longest_silence(work: Callable[[], object]) -> float:
    """Return the share of `work`'s duration, from 0 to 1, during which another thread could not run."""
    beats, done = [time.monotonic()], threading.Event()

    def beat() -> None:
        while not done.wait(0.001):
            beats.append(time.monotonic())

    thread = threading.Thread(target=beat)
    thread.start()
    started = time.monotonic()
    work()
    ended = time.monotonic()
    done.set()
    thread.join()
    return max(later - earlier for earlier, later in pairwise([*beats, ended])) / (ended - started)


def crash() -> None:
    """Act as a decoder that crashes."""
    signal.raise_signal(signal.SIGKILL)


def decode_for_ever() -> None:
    """Act as a decoder that never ends, blocks all other threads, and ignores signals."""
    DecodingLimit(0.1)(lambda: sum(range(sys.maxsize)))


def _work_until_killed(url: str, explode: Callable[[], None]) -> None:
    """Run a worker on Redis that dies of any image named "bomb"."""

    def classify(names: Sequence[str], _: Sequence[float]) -> list[Outcome]:
        if "bomb" in names:
            explode()
        return [Prediction("dog", 0, 1.0) for _ in names]

    classify_process(make_worker(RedisJobQueue(url, max_jobs=100), classify), threading.Event())


@pytest.mark.parametrize("explode", [crash, decode_for_ever])
def test_an_image_that_ends_its_workers_is_set_aside_and_its_neighbours_are_answered(
    redis_url: str, explode: Callable[[], None]
) -> None:
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushall()
    queue = RedisJobQueue(redis_url, max_jobs=100)
    queue.heartbeat("starting", 0.01, "m1")
    jobs = {name: ImageJob.create(name, 120) for name in ("a", "bomb", "b")}
    for job in jobs.values():
        queue.submit(job)
    workers = [get_context("spawn").Process(target=_work_until_killed, args=(redis_url, explode)) for _ in range(3)]
    try:
        for worker in workers:
            worker.start()
        with pytest.raises(SetAside):
            queue.wait(jobs["bomb"])
        assert [queue.wait(jobs[name]).label for name in "ab"] == ["dog", "dog"]
        assert until(lambda: sum(worker.is_alive() for worker in workers) == 1)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
        queue.close()


@pytest.mark.parametrize("file", ["model.onnx", "model.onnx.data", "model.toml", "labels.txt"])
def test_a_models_identity_changes_with_each_file_that_decides_its_answers(manifest: ModelManifest, file: str) -> None:
    manifest.write(manifest.folder)
    save_network(manifest.network_path, ("N", 3, 24, 32))
    move_weights(manifest.network_path, "model.onnx.data")
    before = identity(manifest, "f32")
    changed = bytearray((manifest.folder / file).read_bytes())
    changed[-1] ^= 1
    (manifest.folder / file).write_bytes(changed)
    assert identity(manifest, "f32") != before
    assert before.startswith("colours-1-f32-")
