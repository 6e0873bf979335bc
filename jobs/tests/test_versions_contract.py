"""The contract of every job queue with several versions of models side by side."""

from collections.abc import Callable, Iterator

import pytest
import redis

from jobs.queue.interface import MAX_COPIES, Delivery, JobQueue
from jobs.queue.memory import MemoryJobQueue
from jobs.redis.queue import RedisJobQueue
from jobs.schema import ImageJob, JobFailure, ModelInfo, Outcome, Prediction, Served, Timings
from jobs.versions.comparison import Comparison
from jobs.versions.rules import Route
from runtime.errors import NoSuchModel, NotAnImage, NoWorker
from testing.queues import MakeQueue, names, until

PETS, PETS_2, CARS = (
    ModelInfo(f"{name}-{version}-id", name, version, labels=("dog",))
    for name, version in (("pets", "1"), ("pets", "2"), ("cars", "1"))
)
ALL = (PETS, PETS_2, CARS)
# A worker without a heartbeat for this long is dead: many times the interval between two steps of a test.
SOON_S = 2


class Workers:
    """A worker of every version, the first version's in the default pool."""

    def __init__(self, queue: JobQueue, make_beside: Callable[[str], JobQueue]) -> None:
        self._api = queue
        self.queues = {PETS.id: queue, PETS_2.id: make_beside("pets@2"), CARS.id: make_beside("cars@1")}
        for model in ALL:
            self.queues[model.id].publish(model)
            self.live(model)

    def live(self, *models: ModelInfo) -> None:
        """Send the heartbeats of some versions' workers."""
        for model in models:
            self.queues[model.id].heartbeat(f"worker of {model.id}", 0.01, model.id)

    def take(self, model: ModelInfo, most: int = 10) -> list[Delivery]:
        """Return the jobs that a version's worker takes."""
        self.live(model)
        return self.queues[model.id].take_batch(f"worker of {model.id}", most, 0.05)

    def answer(
        self, model: ModelInfo, label: str = "dog", score: float = 0.5, timings: Timings | None = None
    ) -> list[str]:
        """Let a version's worker answer the jobs it gets; return the images."""
        prediction = Prediction(label, 0, score, model.id, timings)
        answered = [(delivery, delivery.failure() or prediction) for delivery in self.take(model)]
        self.queues[model.id].finish(answered)
        return names([delivery for delivery, outcome in answered if outcome == prediction])

    def finish(self, model: ModelInfo, taken: list[Delivery], outcome: Outcome) -> None:
        """Let a version's worker answer the jobs it took."""
        self.queues[model.id].finish([(delivery, outcome) for delivery in taken])

    def retire(self, model: ModelInfo) -> None:
        """Retire a version's worker."""
        self.queues[model.id].retire(f"worker of {model.id}")


@pytest.fixture
def beside_ttl_s(worker_ttl_s: float) -> float:
    return worker_ttl_s


@pytest.fixture
def make_beside(queue: JobQueue, request: pytest.FixtureRequest) -> Iterator[Callable[[str], JobQueue]]:
    made: list[JobQueue] = []

    def beside(version: str) -> JobQueue:
        if isinstance(queue, MemoryJobQueue):
            return queue.beside(version)
        url, worker_ttl_s = request.getfixturevalue("redis_url"), request.getfixturevalue("beside_ttl_s")
        made.append(RedisJobQueue(url, max_jobs=1, worker_ttl_s=worker_ttl_s, pool=version))
        return made[-1]

    yield beside
    for other in made:
        other.close()


@pytest.fixture
def workers(queue: JobQueue, make_beside: Callable[[str], JobQueue]) -> Workers:
    return Workers(queue, make_beside)


def submit(queue: JobQueue, image_name: str = "dog.jpg", model: str = "") -> ImageJob:
    job = ImageJob.create(image_name, 60, model=model)
    queue.submit(job)
    return job


def route(queue: JobQueue, model: str, wanted: Route) -> None:
    """Give a model a route, and wait until it takes effect."""
    queue.change_route(model, lambda _: wanted)
    queue.versions()


@pytest.mark.usefixtures("workers")
def test_versions_are_known_by_their_workers_that_of_the_default_pool_first(queue: JobQueue) -> None:
    found = queue.versions()
    assert [(each.info, each.pool, each.workers) for each in found.all] == [
        (PETS, "", 1),
        (PETS_2, "pets@2", 1),
        (CARS, "cars@1", 1),
    ]
    assert queue.model() == PETS


@pytest.mark.parametrize(
    ("asked", "model"), [("", PETS), ("pets", PETS), ("pets@1", PETS), ("pets@2", PETS_2), ("cars", CARS)]
)
def test_a_job_is_answered_by_the_version_that_it_asks_for(
    queue: JobQueue, workers: Workers, asked: str, model: ModelInfo
) -> None:
    job = submit(queue, model=asked)
    assert queue.queued_images() == {"dog"}
    for each in ALL:
        assert workers.answer(each) == (["dog.jpg"] if each == model else [])
    assert queue.wait(job).model == model.id


@pytest.mark.usefixtures("workers")
def test_a_job_for_a_model_that_there_is_not_is_refused(queue: JobQueue) -> None:
    with pytest.raises(NoSuchModel):
        submit(queue, model="birds")
    with pytest.raises(NoSuchModel):
        submit(queue, model="pets@3")


def test_after_a_switch_new_jobs_are_for_the_new_version_and_earlier_ones_are_answered_by_the_old(
    queue: JobQueue, workers: Workers
) -> None:
    earlier = submit(queue, "earlier.jpg")
    route(queue, "pets", Route("2", ("1",)))
    later = submit(queue, "later.jpg")
    assert workers.answer(PETS) == ["earlier.jpg"]
    assert workers.answer(PETS_2) == ["later.jpg"]
    assert (queue.wait(earlier).model, queue.wait(later).model) == (PETS.id, PETS_2.id)
    assert queue.model() == PETS_2


def test_a_canary_that_is_gone_leaves_its_images_to_the_version_that_serves(queue: JobQueue, workers: Workers) -> None:
    route(queue, "pets", Route("1", canary={"2": 100}))
    submit(queue, "canary.jpg")
    assert workers.answer(PETS_2) == ["canary.jpg"]
    workers.retire(PETS_2)
    submit(queue, "served.jpg")
    assert workers.answer(PETS) == ["served.jpg"]


@pytest.mark.parametrize("worker_ttl_s", [1])
def test_a_version_that_is_named_and_gone_has_no_worker(queue: JobQueue, workers: Workers) -> None:
    workers.retire(PETS_2)
    assert until(lambda: is_refused(queue, "pets@2"))  # a Redis that has just started does not refuse


def is_refused(queue: JobQueue, model: str) -> bool:
    try:
        submit(queue, model=model)
    except NoWorker:
        return True
    return False


class TestBesideAlone:
    """Workers beside others that have not come yet, by an API that takes images without a worker, too."""

    @pytest.fixture
    def queue(self, make_queue: MakeQueue) -> JobQueue:
        return make_queue(without_worker=True)

    def test_they_answer_only_what_names_their_version(
        self, queue: JobQueue, make_beside: Callable[[str], JobQueue]
    ) -> None:
        beside = make_beside("pets@2")
        beside.publish(PETS_2)
        beside.heartbeat("w1", 0.01, PETS_2.id)
        submit(queue, "unnamed.jpg")
        submit(queue, "named.jpg", "pets@2")
        assert names(beside.take_batch("w1", 10, 0.05)) == ["named.jpg"]
        assert (queue.live_workers(""), queue.model()) == ([], None)
        with pytest.raises(NoSuchModel):
            submit(queue, model="pets")


def test_live_workers_are_told_of_all_versions_or_of_one(queue: JobQueue, workers: Workers) -> None:
    of_pets, of_pets_2, of_cars = (f"worker of {model.id}" for model in ALL)
    assert set(queue.live_workers()) == {of_pets, of_pets_2, of_cars}
    assert [queue.live_workers(each) for each in ("", "pets@2", "cars")] == [[of_pets], [of_pets_2], [of_cars]]
    workers.retire(PETS)
    assert queue.live_workers("") == []


def test_each_version_has_predictions_of_its_own_in_the_cache_and_all_are_forgotten_together(
    make_queue: MakeQueue, request: pytest.FixtureRequest
) -> None:
    queue = make_queue(cache_ttl_s=60)
    others: list[JobQueue] = []

    def beside(version: str) -> JobQueue:
        if isinstance(queue, MemoryJobQueue):
            return queue.beside(version)
        url = request.getfixturevalue("redis_url")
        others.append(RedisJobQueue(url, max_jobs=1, worker_ttl_s=60, pool=version, cache_ttl_s=60, cache_entries=3))
        return others[-1]

    workers = Workers(queue, beside)
    queue.versions()
    for asked, model in (("pets@1", PETS), ("pets@2", PETS_2)):
        submit(queue, model=asked)
        assert workers.answer(model) == ["dog.jpg"]
        assert queue.wait(submit(queue, model=asked)).model == model.id
    queue.forget("dog.jpg")
    for asked, model in (("pets@1", PETS), ("pets@2", PETS_2)):
        submit(queue, model=asked)
        assert workers.answer(model) == ["dog.jpg"]
    for other in others:
        other.close()


def test_a_route_is_changed_with_what_there_is_in_view(queue: JobQueue, workers: Workers) -> None:
    workers.live(*ALL)
    changed = queue.change_route("pets", lambda versions: Route(versions.all[1].info.version))
    assert changed == Route("2") == queue.versions().routes["pets"]


class TestStandIns:
    """Jobs of a version whose workers are gone, on the Redis queue."""

    @pytest.fixture
    def beside_ttl_s(self) -> float:
        return SOON_S

    @pytest.fixture
    def queue(self, redis_url: str) -> Iterator[JobQueue]:
        with redis.Redis.from_url(redis_url) as connection:
            connection.flushall()
        queue = RedisJobQueue(redis_url, max_jobs=100, worker_ttl_s=SOON_S)
        yield queue
        queue.close()

    def test_the_version_that_serves_answers_what_was_submitted_to_it(self, queue: JobQueue, workers: Workers) -> None:
        route(queue, "pets", Route("2", ("1",)))
        jobs = [submit(queue, name) for name in ("held.jpg", "waits.jpg")]
        assert names(workers.take(PETS_2, most=1)) == ["held.jpg"]  # it sends no more heartbeats
        assert until(lambda: workers.answer(PETS)) == ["held.jpg"]  # alone, since it may have ended its worker
        assert until(lambda: workers.answer(PETS)) == ["waits.jpg"]
        assert [queue.wait(job).model for job in jobs] == [PETS.id] * 2

    def test_who_named_the_version_is_told_that_it_has_no_worker(self, queue: JobQueue, workers: Workers) -> None:
        job = submit(queue, model="pets@2")
        workers.retire(PETS_2)
        workers.answer(PETS)
        with pytest.raises(NoWorker):
            queue.wait(job)

    def test_new_jobs_go_to_the_version_that_served_before_at_once(self, queue: JobQueue, workers: Workers) -> None:
        route(queue, "pets", Route("2", ("1",)))
        workers.retire(PETS_2)
        submit(queue, "dog.jpg")
        assert workers.answer(PETS) == ["dog.jpg"]


class TestComparison:
    """Copies that a shadow processes, on the Redis queue."""

    @pytest.fixture
    def queue(self, redis_url: str) -> Iterator[JobQueue]:
        with redis.Redis.from_url(redis_url) as connection:
            connection.flushall()
        queue = RedisJobQueue(redis_url, max_jobs=100, worker_ttl_s=60, cache_ttl_s=60, cache_entries=100)
        yield queue
        queue.close()

    @pytest.fixture(autouse=True)
    def shadow(self, queue: JobQueue, workers: Workers) -> None:
        """Copy all answers of the first version to the second, and let the first one's worker read the route."""
        route(queue, "pets", Route("1", shadow={"2": 100}))
        workers.take(PETS)

    def compared(self, queue: JobQueue) -> Comparison:
        """Return the comparison of the second version with the first."""
        [found] = [each.comparison for each in queue.figures().versions if each.version.info == PETS_2]
        return found or Comparison()

    def test_a_shadow_gets_a_copy_when_the_job_is_answered_and_answers_nobody(
        self, queue: JobQueue, workers: Workers
    ) -> None:
        job = submit(queue)
        assert workers.take(PETS_2) == []
        workers.answer(PETS, "dog", 0.75, Timings(1, 10, 30, 4))
        assert queue.wait(job).model == PETS.id
        [copied] = workers.take(PETS_2)
        assert (copied.job.image_name, copied.job.lane) == ("dog.jpg", "bulk")
        assert copied.job.served == Served(PETS.id, PETS_2.id, "dog", 0.75, 10)
        workers.finish(PETS_2, [copied], Prediction("cat", 0, 0.5, PETS_2.id, Timings(1, 5, 15, 2)))
        assert self.compared(queue) == Comparison(images=1, score_difference=0.25, ms=10, served_ms=10)
        assert (queue.figures().waiting_jobs, queue.figures().held_jobs) == (0, 0)

    def test_agreement_and_failures_are_counted(self, queue: JobQueue, workers: Workers) -> None:
        outcomes: list[Outcome] = [Prediction("dog", 0, 0.5), Prediction("cat", 1, 0.5), JobFailure.of(NotAnImage())]
        for number, outcome in enumerate(outcomes):
            submit(queue, f"{number}.jpg")
            workers.answer(PETS)
            workers.finish(PETS_2, workers.take(PETS_2), outcome)
        found = self.compared(queue)
        assert (found.images, found.agreeing, found.failures) == (2, 1, 1)

    def test_a_copys_answer_is_not_cached(self, queue: JobQueue, workers: Workers) -> None:
        submit(queue)
        workers.answer(PETS)
        workers.answer(PETS_2)
        submit(queue, model="pets@2")
        assert names(workers.take(PETS_2)) == ["dog.jpg"]

    def test_answers_from_the_cache_and_failures_are_not_copied(self, queue: JobQueue, workers: Workers) -> None:
        submit(queue, "bad.jpg")
        workers.finish(PETS, workers.take(PETS), JobFailure.of(NotAnImage()))
        submit(queue)
        workers.answer(PETS)
        assert names(workers.take(PETS_2)) == ["dog.jpg"]
        submit(queue)
        assert workers.take(PETS) == []

    def test_copies_are_not_made_while_the_shadow_has_enough_to_do(self, queue: JobQueue, workers: Workers) -> None:
        for number in range(MAX_COPIES + 3):
            submit(queue, f"{number}.jpg")
            workers.answer(PETS)
        assert self.compared(queue).dropped == 3
        assert len(workers.take(PETS_2)) == MAX_COPIES

    def test_copies_are_not_made_while_jobs_wait_for_the_version_that_serves(
        self, queue: JobQueue, workers: Workers
    ) -> None:
        for number in range(4):
            submit(queue, f"{number}.jpg")
        workers.finish(PETS, workers.take(PETS, most=1), Prediction("dog", 0, 0.5, PETS.id))
        assert (self.compared(queue).dropped, workers.take(PETS_2)) == (1, [])

    def test_copies_are_not_made_for_a_shadow_without_workers(self, queue: JobQueue, workers: Workers) -> None:
        workers.retire(PETS_2)
        submit(queue)
        workers.answer(PETS)
        assert self.compared(queue).dropped == 1
        workers.live(PETS_2)
        assert workers.take(PETS_2) == []

    def test_copies_of_a_shadow_that_is_gone_are_computed_by_nobody(self, queue: JobQueue, workers: Workers) -> None:
        submit(queue)
        workers.answer(PETS)
        workers.retire(PETS_2)
        assert until(lambda: workers.answer(PETS) or self.compared(queue).failures) == 1
