"""`mlapi set-aside`, with a queue in which two images have crashed their workers."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from jobs.redis.queue import RedisJobQueue
from jobs.schema import ImageJob
from jobs.storage.images import FolderImageStore
from mlapi import cli
from runtime.errors import NoWorker

BOMB, OTHER = "a1" * 32 + ".png", "b2" * 32 + ".jpg"


@pytest.fixture(autouse=True)
def queue(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisJobQueue]:
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushall()
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("UPLOAD_FOLDER", str(tmp_path))
    FolderImageStore(tmp_path).put(BOMB, b"the image")
    queue = RedisJobQueue(redis_url, max_jobs=10, worker_ttl_s=0.05)
    for name in (BOMB, OTHER):
        set_aside(queue, name)
    yield queue
    queue.close()


def set_aside(queue: RedisJobQueue, image_name: str) -> None:
    """Let workers take the image and send no more heartbeats, until one quarantines it."""
    while not is_accepted(queue, ImageJob.create(image_name, 600)):
        pass
    known = len(queue.set_aside_images())
    for number in range(10_000):
        queue.heartbeat(f"w{number}", 0.01, "m1")
        queue.take_batch(f"w{number}", 1, 0.01)
        if len(queue.set_aside_images()) > known:
            return
    raise AssertionError(f"{image_name} is not set aside")


def is_accepted(queue: RedisJobQueue, job: ImageJob) -> bool:
    """Submit a job; return False if the worker has already been presumed dead again."""
    queue.heartbeat("w0", 0.01, "m1")
    try:
        queue.submit(job)
    except NoWorker:
        return False
    return True


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.cli, ["set-aside", *words])


def test_the_images_are_listed_with_the_time_oldest_first() -> None:
    lines = run("list").output.splitlines()
    assert [line.split()[-1] for line in lines] == [BOMB, OTHER]
    assert all(" UTC  " in line for line in lines)


def test_what_is_known_of_an_image_is_shown_by_the_beginning_of_its_name(queue: RedisJobQueue) -> None:
    [bomb, _] = queue.set_aside_images()
    shown = run("show", "a1").output
    assert all(fact in shown for fact in (BOMB, "9 bytes", bomb.job_id, bomb.worker, " UTC"))
    assert "no longer stored" in run("show", "b2").output


def test_images_are_told_as_json(queue: RedisJobQueue) -> None:
    listed = json.loads(run("list", "--json").output)
    assert [image["image"] for image in listed] == [BOMB, OTHER]
    [bomb, _] = queue.set_aside_images()
    at = datetime.fromisoformat(listed[0].pop("set_aside"))
    assert at.timestamp() == pytest.approx(bomb.at_s, abs=0.001)
    assert listed[0] == {"image": BOMB, "job": bomb.job_id, "worker": bomb.worker}
    shown = [json.loads(run("show", beginning, "--json").output) for beginning in ("a1", "b2")]
    assert [image["bytes"] for image in shown] == [9, None]


def test_an_image_can_be_saved(tmp_path: Path) -> None:
    assert run("show", "a1", "--save", str(tmp_path / "bomb.png")).exit_code == 0
    assert (tmp_path / "bomb.png").read_bytes() == b"the image"
    assert "cannot be saved" in str(run("show", "b2", "--save", str(tmp_path / "other.jpg")).exception)


def test_an_image_is_released_and_the_other_is_not(queue: RedisJobQueue) -> None:
    assert f"{BOMB} is tried again" in run("release", "a1").output
    assert [image.image_name for image in queue.set_aside_images()] == [OTHER]


def test_all_are_released(queue: RedisJobQueue) -> None:
    assert run("release", "--all").exit_code == 0
    assert queue.set_aside_images() == []


@pytest.mark.parametrize(
    ("words", "said"), [(["release"], "Name the images"), (["release", "a1", "--all"], "Name the")]
)
def test_what_to_release_must_be_said_in_one_way(words: list[str], said: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(("beginning", "said"), [("c3", "No image"), ("", "Several images")])
def test_a_name_that_is_not_clear_changes_nothing(queue: RedisJobQueue, beginning: str, said: str) -> None:
    assert said in str(run("release", beginning).exception)
    assert len(queue.set_aside_images()) == 2
