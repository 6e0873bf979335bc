"""What scales the workers: the streams that it looks at, and that their length is what there is to do."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from api.settings import ApiSettings
from deploy.tests.keda import Queue, ScaledObject
from deploy.tests.manifests import of_kind, overlay, workloads
from jobs.redis.queue import RedisJobQueue
from jobs.schema import ImageJob, Prediction
from model.settings import ModelSettings
from runtime.errors import ClientGone
from testing.redis_servers import RedisServer

SCALED = ("autoscaled", "managed-redis", "scale-to-zero")
STREAMS = {"jobs": "{mlapi}:jobs", "bulk": "{mlapi}:jobs:bulk"}


def scaled_object(name: str) -> ScaledObject:
    """Return what scales the workers of an overlay."""
    [item] = of_kind(overlay(name), "ScaledObject").values()
    return ScaledObject.model_validate(item)


def queues(name: str) -> dict[str, Queue]:
    """Return the streams that an overlay scales by."""
    return {trigger.name: trigger.metadata for trigger in scaled_object(name).spec.triggers}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.mark.parametrize("name", SCALED)
def test_workers_are_scaled_by_both_lanes_of_the_queue(name: str) -> None:
    assert {lane: queue.stream for lane, queue in queues(name).items()} == STREAMS
    spec = scaled_object(name).spec
    assert spec.scaleTargetRef.name in of_kind(overlay(name), "Deployment")
    assert spec.scaleTargetRef.name == "model"


@pytest.mark.parametrize("name", SCALED)
def test_a_worker_is_always_there_unless_jobs_are_taken_without_one(name: str) -> None:
    spec, resources = scaled_object(name).spec, overlay(name)
    settings = ApiSettings.model_validate(
        {
            key.lower(): value
            for key, value in workloads(resources)["api"].settings(resources).items()
            if "FILE" not in key
        }
    )
    assert spec.minReplicaCount == (0 if settings.queue_without_worker else 1)
    assert spec.minReplicaCount <= spec.maxReplicaCount
    assert spec.fallback.replicas >= 1


@pytest.mark.parametrize("name", SCALED)
def test_the_first_worker_stays_until_it_has_made_its_model_known(name: str) -> None:
    spec = scaled_object(name).spec
    assert spec.minReplicaCount or spec.initialCooldownPeriod >= 60


@pytest.mark.parametrize("name", SCALED)
def test_more_workers_are_asked_for_when_more_waits_than_those_take_at_once(name: str) -> None:
    jobs_at_once = ModelSettings().jobs_at_once
    lengths = {lane: int(queue.streamLength) for lane, queue in queues(name).items()}
    assert jobs_at_once < lengths["jobs"] < lengths["bulk"]


@pytest.mark.parametrize("name", SCALED)
def test_the_queue_has_places_for_so_many_jobs_that_every_worker_is_asked_for(name: str) -> None:
    places = int(workloads(overlay(name))["api"].settings(overlay(name))["MAX_QUEUED_JOBS"])
    shares = {"jobs": 1, "bulk": 0.5}  # jobs that nobody waits for take half of the places at most
    for lane, queue in queues(name).items():
        assert scaled_object(name).spec.maxReplicaCount * int(queue.streamLength) <= shares[lane] * places


@pytest.mark.parametrize("name", SCALED)
def test_keda_asks_the_redis_of_the_services_with_their_password(name: str) -> None:
    made = workloads(overlay(name))["model"]
    url = urlsplit(made.settings(overlay(name))["REDIS_URL"])
    [namespace] = of_kind(overlay(name), "Namespace")
    inside = url.hostname in of_kind(overlay(name), "Service")
    host = f"{url.hostname}.{namespace}.svc.cluster.local" if inside else url.hostname
    for queue in queues(name).values():
        assert queue.address == f"{host}:{url.port}"
        assert queue.enableTLS == str(url.scheme == "rediss").lower()

    [login] = of_kind(overlay(name), "TriggerAuthentication").values()
    assert {trigger.authenticationRef.name for trigger in scaled_object(name).spec.triggers} == {
        login["metadata"]["name"]
    }
    [secret] = login["spec"]["secretTargetRef"]
    assert {"secretName": secret["name"], "defaultMode": 0o440} in [
        volume.get("secret") for volume in made.pod["volumes"]
    ]
    password_file = made.settings(overlay(name))["REDIS_PASSWORD_FILE"]
    assert password_file.endswith(f"/{secret['key']}")


@pytest.mark.parametrize("name", SCALED)
def test_the_api_is_scaled_by_what_one_process_can_use(name: str) -> None:
    [scaler] = of_kind(overlay(name), "HorizontalPodAutoscaler").values()
    assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}
    assert 2 <= scaler["spec"]["minReplicas"] <= scaler["spec"]["maxReplicas"]
    [metric] = scaler["spec"]["metrics"]
    target = metric["resource"]["target"]
    assert metric["resource"]["name"] == "cpu"
    assert int(target["averageValue"].removesuffix("m")) < 1000  # else none would ever be added


def test_the_length_of_the_stream_is_what_waits_and_what_is_in_work(server: RedisServer) -> None:
    queue, stream = RedisJobQueue(server.url, max_jobs=10), STREAMS["jobs"]
    lengths = []
    with redis.Redis.from_url(server.url) as connection:
        queue.heartbeat("w1", 0.01, "m1")
        lengths.append(connection.xlen(stream))
        jobs = [ImageJob.create(f"{letter}.png", 60) for letter in "abc"]
        for job in jobs:
            queue.submit(job)
        lengths.append(connection.xlen(stream))
        taken = queue.take_batch("w1", 1, 0.1)
        lengths.append(connection.xlen(stream))
        queue.finish([(delivery, Prediction("dog", 0, 0.9, "m1")) for delivery in taken])
        lengths.append(connection.xlen(stream))
        queue.cancel(jobs[-1])
        with pytest.raises(ClientGone):
            queue.wait(jobs[-1])
        lengths.append(connection.xlen(stream))
    queue.close()
    assert lengths == [0, 3, 3, 2, 1]
