"""Measures the service under overload: more requests than it can process.

`python -m benchmarks.overload` finds its peak, then sends clients at four times that rate for a minute, and prints one
table. With two cores or more, the clients have the last one to themselves, as if they were on another machine.
"""

import contextlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import click

from api.settings import ApiSettings
from benchmarks import quiet
from benchmarks.arrivals import Arrivals, Outcomes
from benchmarks.load import Cell, Load
from benchmarks.raw import Limit
from benchmarks.table import hardware, markdown
from mlapi.service.redis_server import free_port
from model.manifest import ModelManifest
from model.settings import ModelSettings
from runtime.errors import SetupError
from stress_test.report import percentile
from testing import pictures, processes
from testing.errors import CannotRun
from testing.pictures import Questions

_READY = "Ctrl-C stops it."
_PICTURES = 64
# Enough users that a batch waits whenever a worker is free.
_PEAK_USERS = (16, 32, 64)
_WARM_UP_S = 3.0
_PATIENCE_S = 10.0
_PARTS = {"API": "mlapi api", "workers": "mlapi worker", "Redis": "redis-server"}
_HEADER = (
    *("clients", "a second", "right answers/s", "of the peak", "p50 ms", "p99 ms"),
    *("refused", "p50 ms", "p99 ms", "errors", *(f"{part} MB" for part in _PARTS)),
)

_Memory = Mapping[str, float]  # megabytes by part


class Service(NamedTuple):
    """A running `mlapi serve`."""

    port: int
    pid: int

    def memory_mb(self) -> _Memory:
        """Return the memory of each part, shared pages counted once."""
        parts = {pid: processes.command(pid) for pid in processes.children(self.pid)}
        return {
            part: sum(processes.memory_mb(pid) for pid, command in parts.items() if words in command)
            for part, words in _PARTS.items()
        }


class Peak(NamedTuple):
    """The highest rate of right answers, and its number of users in a closed loop."""

    users: int
    cell: Cell
    memory_mb: _Memory


class Overload(NamedTuple):
    """The outcomes of clients that arrived at `per_s` for `seconds`, and the memory halfway through and at the end."""

    per_s: float
    seconds: float
    outcomes: Outcomes
    memories_mb: Sequence[_Memory]


@contextlib.contextmanager
def _running() -> Iterator[Service]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mlapi-overload-", dir=processes.memory_folder()) as name:
        log = Path(name) / "log"
        environment = {"PORT": str(port), "UPLOAD_FOLDER": f"{name}/uploads", "TMPDIR": name}
        with processes.running(processes.python("mlapi", "serve"), environment, log) as process:
            processes.wait_until(lambda: _READY in log.read_text(errors="replace"), process, log)
            yield Service(port, process.pid)


def split(cores: set[int]) -> tuple[set[int], set[int]]:
    """Return the cores of the service and those of its clients; a single core is shared."""
    return (cores - {max(cores)} or cores), {max(cores)}


def measure(times: float, seconds: float, peak_seconds: float) -> tuple[Peak, Overload]:
    """Measure the peak, then `times` that rate. Raises `CannotRun`."""
    files = pictures.render(None, _PICTURES)
    questions = Questions(files, Limit(files, ModelSettings.from_env()).answers())
    service_cores, client_cores = split(os.sched_getaffinity(0))
    os.sched_setaffinity(0, service_cores)  # which the service inherits
    with _running() as service:
        os.sched_setaffinity(0, client_cores)
        peak = _peak(service, questions, peak_seconds)
        return peak, _overload(service, questions, times * peak.cell.rate_per_s, seconds)


def _peak(service: Service, questions: Questions, seconds: float) -> Peak:
    load = Load(service.port, questions)
    load.run(max(_PEAK_USERS), min(_WARM_UP_S, seconds))
    peaks = []
    for users in _PEAK_USERS:
        quiet.wait(_PATIENCE_S)
        peaks.append(Peak(users, load.run(users, seconds), service.memory_mb()))
        _say(f"{users} users: {peaks[-1].cell.rate_per_s:.1f} right answers/s")
    return max(peaks, key=lambda peak: peak.cell.rate_per_s)


def _overload(service: Service, questions: Questions, per_s: float, seconds: float) -> Overload:
    quiet.wait(_PATIENCE_S)
    _say(f"{per_s:.0f} clients a second for {seconds:g} s")
    with ThreadPoolExecutor(1) as looker:
        memories = looker.submit(_look, service, (seconds / 2, seconds))
        outcomes = Arrivals(service.port, questions).run(per_s, seconds, ApiSettings.from_env().predict_timeout_s + 5)
        return Overload(per_s, seconds, outcomes, memories.result())


def _look(service: Service, at_s: Sequence[float]) -> list[_Memory]:
    """Return the memory at these times from now."""
    started, memories = time.monotonic(), []
    for moment in at_s:
        time.sleep(max(0.0, started + moment - time.monotonic()))
        memories.append(service.memory_mb())
    return memories


def rows(peak: Peak, overload: Overload) -> list[tuple[str, ...]]:
    """Return the two rows of the table."""
    cell, outcomes = peak.cell, overload.outcomes
    rate = sum(at_s <= overload.seconds for at_s in outcomes.right_at_s) / overload.seconds
    return [
        (
            *(f"{peak.users} in turn", f"{cell.rate_per_s:.0f}", f"{cell.rate_per_s:.1f}", "100 %"),
            *(_ms(cell.p50_ms), _ms(cell.p99_ms), "0 %", "-", "-", str(cell.errors)),
            *(f"{peak.memory_mb[part]:.0f}" for part in _PARTS),
        ),
        (
            *(f"for {overload.seconds:g} s", f"{overload.per_s:.0f}", f"{rate:.1f}"),
            f"{rate / cell.rate_per_s:.0%}".replace("%", " %"),
            *_times(outcomes.right_s),
            f"{len(outcomes.refused_s) / max(1, outcomes.sent):.0%}".replace("%", " %"),
            *_times(outcomes.refused_s),
            str(outcomes.errors.total()),
            *(" -> ".join(f"{memory[part]:.0f}" for memory in overload.memories_mb) for part in _PARTS),
        ),
    ]


def _times(times_s: Sequence[float]) -> tuple[str, str]:
    if not times_s:
        return "-", "-"
    return _ms(1000 * percentile(times_s, 50)), _ms(1000 * percentile(times_s, 99))


def _ms(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _about(overload: Overload) -> str:
    settings, manifest = ApiSettings.from_env(), ModelManifest.load(ModelSettings.from_env().model)
    service_cores, client_cores = split(os.sched_getaffinity(0))
    return (
        f"{datetime.now().astimezone().date().isoformat()}, {hardware()}; {manifest.name}. Deadline "
        f"{settings.predict_timeout_s:g} s, {settings.max_queued_jobs} jobs at most. Service on {len(service_cores)} "
        f"core(s), clients on {len(client_cores)}, of which they took {overload.outcomes.generator_cores:.2f}. "
        "Memory under overload: halfway through, and at the end."
    )


def _say(what: str) -> None:
    click.echo(what, err=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--times", type=click.FloatRange(min=1), default=4.0, help="How many times the peak is asked for.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=60.0, help="How long.")
@click.option(
    "--peak-seconds", type=click.FloatRange(min=0, min_open=True), default=10.0, help="How long for the peak."
)
def main(times: float, seconds: float, peak_seconds: float) -> None:
    """Measure goodput, refusals, waits and memory under overload; progress goes to stderr, the table to stdout.

    The service has its usual settings: PREDICT_TIMEOUT_S, MAX_QUEUED_JOBS, MODEL and the others change them.
    """
    processes.stop_on_sigterm()
    cores = os.sched_getaffinity(0)
    try:
        peak, overload = measure(times, seconds, peak_seconds)
    except (CannotRun, SetupError) as err:
        sys.exit(f"overload: {err}")
    finally:
        os.sched_setaffinity(0, cores)
    for reason, count in overload.outcomes.errors.most_common(5):
        _say(f"{count} x {reason}")
    print(f"{markdown(_HEADER, rows(peak, overload))}\n\n{_about(overload)}")


if __name__ == "__main__":
    main()
