"""Starts and ends processes, and measures their resource use."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from testing.errors import CannotRun

ROOT = Path(__file__).parent.parent
_START_TIMEOUT_S, _STOP_TIMEOUT_S = 120.0, 30.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in the project's folder with its output in `log`, and end it with all its child processes."""
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only the benchmark, which ends the others in order
        )
    try:
        yield process
    finally:
        _stop(process)


def stop_on_sigterm() -> None:
    """Make SIGTERM end this process as Ctrl-C does, so that it ends its child processes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def memory_folder() -> str | None:
    """Return a folder in memory, if there is one, so that a benchmark does not measure a disk.

    ext4 without a journal takes up to 0.9 ms of processor time to create a file after thousands were deleted recently,
    as by a benchmark that cleans up: it searches all of them for an inode deleted more than a minute ago.
    """
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - only a parent of temporary folders


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module."""
    return [sys.executable, "-m", module, *arguments]


def wait_until(ready: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when `ready()` holds. Raises `CannotRun` with what the process printed if that never is."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise CannotRun(f"{process.args!r} did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents = {int(entry.name): int(_stat(entry.name)[1]) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    return [child for child in tree(pid) if int(_stat(child)[1]) == pid]


def command(pid: int) -> str:
    """Return the command of a process, empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def _stat(pid: object) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; zeros for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ["0"] * 50


def processor_s(pid: int) -> float:
    """Return the processor time that a process and its descendants have used."""
    stats = [_stat(one) for one in tree(pid)]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / _TICKS_PER_S


def memory_mb(pid: int) -> float:
    """Return the memory of a process and its descendants, with shared pages counted once."""
    lines = [line for one in tree(pid) for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def threads(pid: int) -> int:
    """Return the number of threads of a process and its descendants."""
    return sum(len(list(Path(f"/proc/{one}/task").iterdir())) for one in tree(pid))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
