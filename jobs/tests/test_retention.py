"""Which uploads are removed, and which stay."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Set
from pathlib import Path

import pytest

from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ImageJob
from jobs.storage.images import FolderImageStore
from jobs.storage.retention import FolderUploads, Swept, UploadSweeper
from runtime.errors import QueueUnavailable
from testing.queues import DOG

DAY_S = 86_400
BLOCK = 4096


def name(number: int) -> str:
    return f"{number:064x}.png"


class Uploads:
    """A folder of uploads that were stored at given times."""

    def __init__(self, folder: Path) -> None:
        self.store = FolderImageStore(folder)

    def add(self, file_name: str, age_s: float, size: int = BLOCK) -> None:
        self.store.put(file_name, os.urandom(size))
        self.make_older(file_name, age_s)

    def make_older(self, file_name: str, age_s: float) -> None:
        os.utime(self.store.folder / file_name, (time.time() - age_s,) * 2)

    def sweep(
        self,
        max_age_s: float = DAY_S,
        max_bytes: int = 10**9,
        needed_s: float = 90,
        queued: Callable[[], Set[str]] = frozenset,
    ) -> Swept | None:
        return UploadSweeper(
            FolderUploads(self.store), queued, max_age_s=max_age_s, max_bytes=max_bytes, needed_s=needed_s
        ).sweep()

    def names(self) -> set[str]:
        return {path.name for path in self.store.folder.iterdir()} - {".sweep"}

    def size_on_disk(self, file_name: str) -> int:
        return 512 * (self.store.folder / file_name).stat().st_blocks


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


def test_an_image_that_was_not_sent_for_too_long_goes(uploads: Uploads) -> None:
    uploads.add(name(1), age_s=DAY_S + 10)
    uploads.add(name(2), age_s=DAY_S - 10)
    swept = uploads.sweep()
    assert uploads.names() == {name(2)}
    assert swept == Swept(1, uploads.size_on_disk(name(2)))


def test_an_image_that_was_sent_again_counts_as_new(uploads: Uploads) -> None:
    uploads.add(name(1), age_s=2 * DAY_S)
    uploads.store.put(name(1), b"the same")
    uploads.sweep()
    assert uploads.names() == {name(1)}


def test_of_more_than_fit_the_oldest_go(uploads: Uploads) -> None:
    for number in range(5):
        uploads.add(name(number), age_s=1000 - 100 * number)
    uploads.sweep(max_bytes=2 * uploads.size_on_disk(name(0)))
    assert uploads.names() == {name(3), name(4)}


def test_what_a_job_may_be_about_to_need_stays_though_it_is_too_much_and_too_old(
    uploads: Uploads, caplog: pytest.LogCaptureFixture
) -> None:
    uploads.add(name(1), age_s=80)
    uploads.add(name(2), age_s=100)
    uploads.sweep(max_age_s=1, max_bytes=1, needed_s=90)
    assert uploads.names() == {name(1)}
    assert "more than UPLOAD_MAX_BYTES" in caplog.text


def test_the_image_of_a_job_that_waits_or_is_in_work_stays_however_long_that_takes(uploads: Uploads) -> None:
    queue = MemoryJobQueue(max_jobs=10, without_worker=True)
    uploads.add(name(1), age_s=2 * DAY_S)
    uploads.add(name(2), age_s=2 * DAY_S)
    job = ImageJob.create(name(1), 7 * DAY_S)
    queue.submit_kept(job, "r1")
    kept = uploads.size_on_disk(name(1))
    assert uploads.sweep(max_bytes=1, queued=queue.queued_images) == Swept(1, kept)
    assert uploads.names() == {name(1)}
    queue.heartbeat("w1", 0.01, "m1")
    queue.finish((delivery, DOG) for delivery in queue.take_batch("w1", 1, 5))
    assert uploads.sweep(max_bytes=1, queued=queue.queued_images) == Swept(1, 0)


def test_while_nobody_can_tell_which_jobs_wait_nothing_goes_and_the_sweeper_goes_on(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderUploads, "sweep_every_s", 0.01)
    uploads.add(name(1), age_s=2 * DAY_S)
    stopped, asked = threading.Event(), iter(range(2))

    def queued() -> Set[str]:
        assert uploads.names() == {name(1)}
        if next(asked) == 0:
            raise QueueUnavailable
        stopped.set()
        return set()

    UploadSweeper(FolderUploads(uploads.store), queued, max_age_s=1, max_bytes=1, needed_s=1).run(stopped)
    assert uploads.names() == set()


def test_the_disk_space_of_many_small_files_counts(uploads: Uploads) -> None:
    for number in range(10):
        uploads.add(name(number), age_s=1000 - number, size=1)
    uploads.sweep(max_bytes=10 * 100)
    assert uploads.names() == set()


def test_what_a_killed_process_left_goes(uploads: Uploads) -> None:
    uploads.add(".upload-abc", age_s=2 * DAY_S)
    uploads.sweep()
    assert uploads.names() == set()


@pytest.mark.parametrize("other", ["notes.txt", "holiday.jpeg", f"{1:063x}.png", ".hidden"])
def test_other_files_stay(uploads: Uploads, other: str) -> None:
    uploads.add(other, age_s=2 * DAY_S)
    assert uploads.sweep(max_bytes=1) == Swept(0, 0)
    assert uploads.names() == {other}


def test_a_file_that_cannot_be_removed_keeps_no_other_from_it(uploads: Uploads) -> None:
    uploads.add(name(1), age_s=2 * DAY_S)
    uploads.add(name(2), age_s=2 * DAY_S)
    (uploads.store.folder / name(3)).mkdir()
    uploads.make_older(name(3), 2 * DAY_S)
    uploads.sweep()
    assert uploads.names() == {name(3)}


def test_a_file_that_vanishes_while_it_is_looked_at_keeps_no_other_from_going(uploads: Uploads) -> None:
    uploads.add(name(1), age_s=2 * DAY_S)
    (uploads.store.folder / ".upload-renamed").symlink_to("gone")
    assert uploads.sweep() == Swept(1, 0)


def test_before_the_first_upload_there_is_nothing_to_sweep(uploads: Uploads) -> None:
    assert uploads.sweep() is None


def test_one_process_sweeps_at_a_time(uploads: Uploads) -> None:
    uploads.add(name(1), age_s=2 * DAY_S)
    with (uploads.store.folder / ".sweep").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert uploads.sweep() is None
    assert uploads.sweep() == Swept(1, 0)


def test_it_sweeps_until_it_is_stopped(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderUploads, "sweep_every_s", 0.01)
    stopped, sweeps = threading.Event(), iter(range(3))

    def sweep(_: UploadSweeper) -> None:
        if next(sweeps) == 2:
            stopped.set()
        raise OSError("the disk is away")

    monkeypatch.setattr(UploadSweeper, "sweep", sweep)
    UploadSweeper(FolderUploads(uploads.store), frozenset, max_age_s=1, max_bytes=1, needed_s=1).run(stopped)
    assert list(sweeps) == []
