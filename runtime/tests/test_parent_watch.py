"""Processes end when those that started them are killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from runtime import parent_watch

WAIT = [sys.executable, "-c", "import time; time.sleep(600)"]
START_AND_WAIT = f"""
import subprocess, time
from runtime import parent_watch
print(subprocess.Popen({WAIT!r}, preexec_fn=parent_watch.ending_with_starter()).pid, flush=True)
time.sleep(600)
"""


def ends(pid: int) -> bool:
    """Return whether a process has ended, or ends within a minute."""
    deadline = time.monotonic() + 60
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not runs(pid)


def runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_process_ends_when_the_one_that_started_it_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", START_AND_WAIT], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        started = int(starter.stdout.readline())
        assert runs(started)
        starter.kill()
    assert ends(started)


def test_a_process_whose_starter_is_gone_already_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    ending_with_another = parent_watch.ending_with_starter()
    monkeypatch.undo()
    with subprocess.Popen(WAIT, preexec_fn=ending_with_another) as process:
        assert process.wait(60) == 1


def test_where_the_kernel_cannot_do_it_processes_are_started_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert parent_watch.ending_with_starter() is None


def _wait_with_lifeline(method: str, pids: Connection, more: int) -> None:
    """Send this process's id, then those of `more` others, each started by the one before."""
    parent_watch.end_with_parent()
    pids.send(os.getpid())
    if more:
        context: Any = multiprocessing.get_context(method)
        context.Process(target=_wait_with_lifeline, args=(method, pids, more - 1)).start()
    time.sleep(600)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_of_processes_that_started_each_other_all_end_when_the_first_is_killed(method: str) -> None:
    pids, theirs = multiprocessing.Pipe()
    first = multiprocessing.get_context("spawn").Process(target=_wait_with_lifeline, args=(method, theirs, 2))
    first.start()
    theirs.close()
    found = [pids.recv() for _ in range(3)]
    os.kill(found[0], signal.SIGKILL)
    first.join()
    assert all(ends(pid) for pid in found)
