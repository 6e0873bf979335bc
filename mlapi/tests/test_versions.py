"""`mlapi model serve`, `canary`, `shadow`, `rollback` and `status`, with two versions of a model and another model."""

import json

import pytest
from click.testing import CliRunner

from jobs.queue.figures import Examined
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ModelInfo
from jobs.versions.comparison import Comparison
from jobs.versions.rules import CannotRoute, Route
from mlapi import cli
from mlapi.operating import versions


@pytest.fixture
def queue() -> MemoryJobQueue:
    return MemoryJobQueue(max_jobs=10, worker_ttl_s=600)


@pytest.fixture(autouse=True)
def pets_2(queue: MemoryJobQueue, monkeypatch: pytest.MonkeyPatch) -> MemoryJobQueue:
    """Return the queue as that version's workers use it; one of them is alive, as for the others."""
    pets_2 = queue.beside("pets@2")
    for each, name, version in ((queue, "pets", "1"), (pets_2, "pets", "2"), (queue.beside("cars@1"), "cars", "1")):
        each.publish(ModelInfo(f"{name}-{version}-id", name, version))
        each.heartbeat(f"{name}-{version}", 0.01, f"{name}-{version}-id")
    monkeypatch.setattr(cli, "_queue", lambda: queue)
    return pets_2


def run(*words: str) -> str:
    done = CliRunner().invoke(cli.cli, ["model", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*words: str) -> str:
    """Return the error of a refused command."""
    done = CliRunner().invoke(cli.cli, ["model", *words])
    assert done.exception, done.output
    return str(done.exception)


def test_the_status_says_what_each_version_is_for() -> None:
    run("shadow", "pets@2", "--percent", "10")
    assert run("status").splitlines() == [
        "pets@1  1 worker  serves 100 %",
        "pets@2  1 worker  shadow 10 %",
        "cars@1  1 worker  serves 100 %",
    ]
    found = json.loads(run("status", "--json"))
    told = {"name": "pets", "version": "2", "workers": 1, "role": "shadow", "percent": 10}
    assert found[1] == {**told, "comparison": None, "examined": None}


def test_the_status_says_that_no_worker_has_been_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_queue", lambda: MemoryJobQueue(max_jobs=10))
    assert run("status") == "No worker has made itself known yet.\n"
    assert json.loads(run("status", "--json")) == []


def test_the_status_says_how_a_version_does(queue: MemoryJobQueue) -> None:
    queue.comparisons["pets@2"] = Comparison(
        images=20, agreeing=19, failures=1, dropped=3, score_difference=0.5, ms=300, served_ms=250
    )
    queue.note_examined("pets-2-id", Examined(3, 4))
    assert run("status").splitlines()[1] == (
        "pets@2  1 worker  idle  agrees on 19 of 20 images  scores differ by 0.025  "
        "15.0 ms for an image, serving 12.5 ms  right on 3 of 4 corrected images"
    )
    found = json.loads(run("status", "--json"))[1]
    assert (found["comparison"]["agreeing"], found["examined"]) == (19, {"right": 3, "images": 4})


def test_a_version_becomes_a_canary_then_serves_and_is_rolled_back(queue: MemoryJobQueue) -> None:
    assert run("canary", "pets@2", "--percent", "5") == "pets: 1 serves, 2 canary 5 %\n"
    assert run("serve", "pets@2") == "pets: 2 serves\n"
    assert queue.versions().routes == {"pets": Route("2", ("1",))}
    assert run("rollback", "pets") == "pets: 1 serves\n"


def test_rolling_back_ends_a_canary() -> None:
    run("canary", "pets@2", "--percent", "50")
    assert run("rollback", "pets") == "pets: 1 serves\n"
    assert refused("rollback", "pets") == "No version served before 1."


@pytest.mark.parametrize("words", [("serve",), ("canary", "--percent", "5"), ("shadow", "--percent", "5")])
def test_a_version_without_live_workers_gets_nothing(
    queue: MemoryJobQueue, pets_2: MemoryJobQueue, words: tuple[str, ...]
) -> None:
    pets_2.retire("pets-2")
    command, *options = words
    assert refused(command, "pets@2", *options).startswith("No worker of pets@2 is alive")
    assert queue.versions().routes == {}


def test_a_version_that_is_gone_can_be_kept_from_coming_back_as_a_canary(pets_2: MemoryJobQueue) -> None:
    run("canary", "pets@2", "--percent", "5")
    pets_2.retire("pets-2")
    assert run("canary", "pets@2", "--percent", "0") == "pets: 1 serves\n"


def test_rolling_back_to_a_version_without_live_workers_is_refused(queue: MemoryJobQueue) -> None:
    versions.serve(queue, "pets@2")
    queue.retire("pets-1")
    with pytest.raises(CannotRoute, match="No worker of pets@1"):
        versions.roll_back(queue, "pets")
    assert queue.versions().routes == {"pets": Route("2", ("1",))}


@pytest.mark.parametrize("words", [("serve", "pets@3"), ("serve", "pets"), ("rollback", "birds")])
def test_what_there_is_not_is_named_with_what_there_is(words: tuple[str, ...]) -> None:
    said = refused(*words)
    assert words[1] in said
    assert "pets" in said.partition("There are: ")[2]


def test_the_version_that_serves_is_no_canary_of_its_own() -> None:
    assert refused("canary", "pets@1", "--percent", "5").startswith("1 serves")
