"""The supervisor; `tests/test_serve.py` tests the same with the whole service."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mlapi.service.supervisor import CannotStart, Program, Supervisor

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_group_is_up_when_it_is_ready() -> None:
    with Supervisor() as supervisor:
        supervisor.start(Program("sleeper", SLEEP))
        assert supervisor.wait_until(lambda: True, "not ready", 1)


def test_a_program_that_ends_before_the_group_is_up_is_named_with_its_exit() -> None:
    with Supervisor() as supervisor:
        supervisor.start(Program("sleeper", SLEEP), Program("quitter", python("raise SystemExit(3)")))
        with pytest.raises(CannotStart, match="quitter ended with exit status 3"):
            supervisor.wait_until(lambda: False, "not ready", 60)


def test_what_a_program_wrote_to_its_log_file_is_the_reason(tmp_path: Path) -> None:
    log_file = tmp_path / "log"
    log_file.write_text("the port is taken")
    with Supervisor() as supervisor:
        supervisor.start(Program("quitter", python("raise SystemExit(1)"), log_file=log_file))
        with pytest.raises(CannotStart, match="the port is taken"):
            supervisor.wait_until(lambda: False, "not ready", 60)


def test_a_group_that_is_never_ready_is_given_up() -> None:
    with Supervisor() as supervisor:
        supervisor.start(Program("sleeper", SLEEP))
        with pytest.raises(CannotStart, match="was not ready within"):
            supervisor.wait_until(lambda: False, "The service was not ready", 0.1)


def test_a_signal_during_the_start_ends_the_waiting() -> None:
    with Supervisor() as supervisor:
        os.kill(os.getpid(), signal.SIGTERM)
        assert not supervisor.wait_until(lambda: False, "not ready", 60)


def test_a_program_that_keeps_ending_is_started_again_and_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    stop_after_three = threading.Thread(
        target=lambda: _stop_when(lambda: starts.exists() and len(starts.read_bytes()) >= 3)
    )
    with Supervisor() as supervisor:
        supervisor.start(Program("quitter", python(f"open({str(starts)!r}, 'ab').write(b'x')")))
        stop_after_three.start()
        supervisor.run()
    stop_after_three.join()
    assert len(starts.read_bytes()) >= 3


def test_what_the_last_program_needs_to_end_is_started_again_though_a_signal_reached_all(tmp_path: Path) -> None:
    needed, needing = tmp_path / "needed", tmp_path / "needing"
    waits = f"""
import pathlib, signal, time
def end(*_):
    while len(pathlib.Path({str(needed)!r}).read_text().split()) < 2:
        time.sleep(0.01)
    pathlib.Path({str(needing)!r}).write_text("ended")
    raise SystemExit
signal.signal(signal.SIGTERM, end)
pathlib.Path({str(needing)!r}).write_text(str(__import__("os").getpid()))
time.sleep(600)
"""
    writes = f"import os, time; open({str(needed)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(600)"

    def signal_all() -> None:
        for pid in (int(needing.read_text()), *map(int, needed.read_text().split()), os.getpid()):
            os.kill(pid, signal.SIGTERM)

    with Supervisor() as supervisor:
        supervisor.start(Program("needed", python(writes)), Program("needing", python(waits), stop_timeout_s=60))
        both_run = supervisor.wait_until(
            lambda: all(file.exists() and file.read_text() for file in (needed, needing)), "not started", 60
        )
        assert both_run
        signal_all()
        supervisor.run()
    assert needing.read_text() == "ended"
    pids = [int(pid) for pid in needed.read_text().split()]
    assert len(pids) == 2
    assert not any(_runs(pid) for pid in pids)


def test_what_is_tried_out_is_not_started_again_and_says_why_it_ended(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    ends = f"open({str(starts)!r}, 'ab').write(b'x'); raise SystemExit('mlapi: the folder is empty')"
    steps_after = iter(range(2))  # in which it could be restarted
    with Supervisor() as supervisor:
        child = supervisor.try_out(Program("trial", python(ends), keeps_last_words=True))
        _run_until(supervisor, lambda: not child.is_running and next(steps_after, None) is None)
        assert child.failure() == "The trial ended with exit status 1; the folder is empty"
    assert starts.read_bytes() == b"x"


def test_what_was_tried_out_and_is_kept_is_started_again_until_it_is_stopped(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    writes = f"import os, time; open({str(pids)!r}, 'a').write(f'{{os.getpid()}} '); time.sleep(600)"

    def runs_again() -> bool:
        written = pids.read_text().split() if pids.exists() else []
        if len(written) == 1:
            with suppress(ProcessLookupError):  # it was killed a step before
                os.kill(int(written[0]), signal.SIGKILL)
        return len(written) == 2

    with Supervisor() as supervisor:
        child = supervisor.try_out(Program("trial", python(writes)))
        child.may_end = False
        _run_until(supervisor, runs_again)
        supervisor.stop(child)
        assert not _runs(int(pids.read_text().split()[1]))


def test_what_is_tried_out_is_there_until_the_one_that_was_started_last_has_ended(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    with Supervisor() as supervisor:
        for name, start in (("last", supervisor.start), ("trial", supervisor.try_out)):
            start(Program(name, python(_ENDS_WITH_A_LINE.format(file=str(ended), name=name))))
        _run_until(supervisor, lambda: ended.exists() and len(ended.read_text().splitlines()) == 2)
    assert ended.read_text().splitlines()[2:] == ["last ended", "trial ended"]


def test_a_signal_that_comes_while_a_program_is_stopped_for_good_stops_the_others_too() -> None:
    with Supervisor() as supervisor:
        child = supervisor.try_out(Program("trial", SLEEP))

        def step() -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            supervisor.stop(child)

        supervisor.run(step)
        assert supervisor.names == set()


_ENDS_WITH_A_LINE = """
import signal, time
def write(word):
    with open({file!r}, "a") as file:
        print("{name}", word, file=file)
def end(*_):
    write("ended")
    raise SystemExit
signal.signal(signal.SIGTERM, end)
write("runs")
time.sleep(600)
"""


def _run_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    """Run a supervisor until a condition, checked in each of its steps, holds."""
    give_up_at = time.monotonic() + 60

    def step() -> None:
        if condition() or time.monotonic() > give_up_at:
            os.kill(os.getpid(), signal.SIGTERM)

    supervisor.run(step)
    assert time.monotonic() < give_up_at


def _stop_when(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_program_that_ignores_the_signal_is_killed_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stubborn = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
time.sleep(600)
"""
    with Supervisor() as supervisor:
        supervisor.start(Program("stubborn", python(stubborn), stop_timeout_s=0.2))
        supervisor.wait_until(lambda: pids.exists() and " " in pids.read_text(), "not started", 60)
    deadline = time.monotonic() + 60
    while any(_runs(int(pid)) for pid in pids.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_runs(int(pid)) for pid in pids.read_text().split())


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
