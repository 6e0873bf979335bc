"""Scoring every version on the images that users have corrected."""

import json
import threading
from pathlib import Path

import pytest
from flask import Flask

from api.background.examiner import Examiner
from api.tests.conftest import FakeWorker, MakeApp
from api.views import Services
from jobs.queue.figures import Examined
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import JobFailure, ModelInfo, Prediction
from runtime.errors import InferenceFailed

FIRST, SECOND, THIRD = "a" * 64, "b" * 64, "c" * 64
LABELS = ("Eskimo_dog", "cat", "bird")


@pytest.fixture
def queue() -> MemoryJobQueue:
    queue = MemoryJobQueue(max_jobs=8, worker_ttl_s=60)
    queue.publish(ModelInfo("m1", "pets", "1", labels=LABELS))
    return queue


@pytest.fixture
def candidate(queue: MemoryJobQueue) -> MemoryJobQueue:
    """Add a second version beside the first."""
    beside = queue.beside("pets@2")
    beside.publish(ModelInfo("m2", "pets", "2", labels=LABELS))
    return beside


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


def services(app: Flask) -> Services:
    found: Services = app.extensions["services"]
    return found


def correct(app: Flask, image_hash: str, label: str | None, *, kept: bool = True, model: str = "pets") -> None:
    """Store feedback that an image was taken for an Eskimo dog, with its correct class."""
    record = {"image": image_hash, "predicted_label": "Eskimo_dog", "correct": False, "label": label, "model": model}
    services(app).records.append(record)
    if kept:
        services(app).feedback.images.put(f"{image_hash}.jpg", b"an image")


@pytest.mark.usefixtures("worker")
def test_each_version_is_asked_once_about_each_image_and_what_it_gets_right_is_counted(
    app: Flask, queue: MemoryJobQueue, candidate: MemoryJobQueue, worker: FakeWorker
) -> None:
    better = FakeWorker(candidate, "m2")
    better.outcome = Prediction("cat", 1, 0.9, "m2")
    correct(app, FIRST, "cat")
    correct(app, SECOND, "bird")
    examiner = Examiner(services(app))
    for _ in range(2):
        examiner.step()
        assert queue.examined == {"m1": Examined(0, 2), "m2": Examined(1, 2)}
    assert sorted(worker.image_names) == sorted(better.image_names) == [f"{FIRST}.jpg", f"{SECOND}.jpg"]
    assert set(better.lanes) == {"bulk"}
    correct(app, THIRD, "cat")
    correct(app, SECOND, "cat")  # a later correction
    examiner.step()
    assert queue.examined == {"m1": Examined(0, 3), "m2": Examined(3, 3)}
    assert len(better.image_names) == 3
    better.stop()


@pytest.mark.usefixtures("worker")
def test_images_that_nobody_says_the_class_of_or_that_are_not_kept_are_left_out(
    app: Flask, queue: MemoryJobQueue, candidate: MemoryJobQueue
) -> None:
    beside = FakeWorker(candidate, "m2")
    correct(app, FIRST, None)
    correct(app, SECOND, "cat", kept=False)
    services(app).feedback.append(json.dumps({"filename": f"{THIRD}.jpg", "prediction": "x", "label": None, "id": "1"}))
    Examiner(services(app)).step()
    assert queue.examined == {}
    beside.stop()


@pytest.mark.usefixtures("worker")
def test_a_version_is_asked_about_images_of_its_model_whose_right_class_it_has(
    app: Flask, queue: MemoryJobQueue, worker: FakeWorker
) -> None:
    cars = queue.beside("cars@1")
    cars.publish(ModelInfo("c1", "cars", "1", labels=("truck", "cat")))
    of_cars = FakeWorker(cars, "c1")
    of_cars.outcome = Prediction("truck", 0, 0.9, "c1")
    correct(app, FIRST, "truck", model="cars")
    correct(app, FIRST, "cat", model="pets")
    correct(app, SECOND, "Eskimo_dog", model="")  # in a report, which does not name the model
    correct(app, THIRD, "wolf")  # a class of no version
    Examiner(services(app)).step()
    assert queue.examined == {"m1": Examined(1, 2), "c1": Examined(1, 1)}
    assert worker.image_names == [f"{SECOND}.jpg", f"{FIRST}.jpg"]
    assert of_cars.image_names == [f"{FIRST}.jpg"]
    of_cars.stop()


def test_an_image_that_a_version_cannot_classify_is_not_right(
    app: Flask, queue: MemoryJobQueue, candidate: MemoryJobQueue, worker: FakeWorker
) -> None:
    beside = FakeWorker(candidate, "m2")
    worker.outcome = JobFailure.of(InferenceFailed())
    correct(app, FIRST, "Eskimo_dog")
    Examiner(services(app)).step()
    assert queue.examined == {"m1": Examined(0, 1), "m2": Examined(1, 1)}
    beside.stop()


@pytest.mark.usefixtures("worker")
def test_where_there_is_one_version_nothing_is_asked(app: Flask, queue: MemoryJobQueue, worker: FakeWorker) -> None:
    correct(app, FIRST, "cat")
    Examiner(services(app)).step()
    assert (queue.examined, worker.image_names) == ({}, [])


@pytest.mark.usefixtures("worker")
def test_one_process_asks(app: Flask, queue: MemoryJobQueue, candidate: MemoryJobQueue) -> None:
    beside = FakeWorker(candidate, "m2")
    correct(app, FIRST, "cat")
    Examiner(services(app)).step()
    queue.examined.clear()
    Examiner(services(app)).step()
    assert queue.examined == {}
    beside.stop()


@pytest.mark.usefixtures("worker")
def test_a_kept_image_that_cannot_be_read_for_a_while_is_asked_about_later(
    app: Flask, queue: MemoryJobQueue, candidate: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = FakeWorker(candidate, "m2")
    correct(app, FIRST, "cat")
    failures, stopped = [FileNotFoundError(), PermissionError()], threading.Event()

    def get(_: str) -> bytes:
        if failures:
            raise failures.pop()
        stopped.set()
        return b"an image"

    monkeypatch.setattr(services(app).feedback.images, "get", get)
    monkeypatch.setattr("api.background.examiner._EVERY_S", 0)
    Examiner(services(app)).run(stopped)
    assert queue.examined == {"m1": Examined(0, 1), "m2": Examined(0, 1)}
    beside.stop()


def test_uploads_that_are_gone_are_stored_again(
    app: Flask, candidate: MemoryJobQueue, worker: FakeWorker, tmp_path: Path
) -> None:
    beside = FakeWorker(candidate, "m2")
    correct(app, FIRST, "cat")
    Examiner(services(app)).step()
    assert worker.image_names == [f"{FIRST}.jpg"]
    assert (tmp_path / "uploads" / f"{FIRST}.jpg").read_bytes() == b"an image"
    beside.stop()
