"""Compares WSGI servers on this project's API, whose queue answers at once.

`python -m benchmarks.wsgi` prints one table; `pip install gunicorn gevent waitress` adds the servers that this project
does not use. Each runs one process, and uploads go to memory, so that no disk is measured.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from socket import create_connection
from subprocess import Popen
from typing import NamedTuple

import click

from benchmarks import table
from benchmarks.load import Cell, Load
from benchmarks.simulated_worker import ANSWER
from mlapi.service.redis_server import free_port
from testing import pictures, processes
from testing.errors import CannotRun
from testing.pictures import Expected, Questions

_APP = "benchmarks.wsgi_app:create_app"
_GATEWAY = "benchmarks.wsgi_app:create_gateway"
_GRANIAN = ("granian", "--interface", "wsgi", "--factory", "--no-ws", "--log-level", "error", "--port", "{port}")
_GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "error", "--timeout", "120")
_WAITRESS = ("waitress", "--listen", "127.0.0.1:{port}")
SERVERS: Mapping[str, Sequence[str]] = {
    "granian, the API's gateway": (
        *("granian", "--interface", "rsgi", "--loop", "uvloop", "--http", "1", "--factory", "--no-ws"),
        *("--log-level", "error", "--backpressure", "8192", "--port", "{port}", _GATEWAY),
    ),
    "granian, 256 threads": (*_GRANIAN, "--blocking-threads", "256", _APP),
    "granian, 64 threads": (*_GRANIAN, "--blocking-threads", "64", _APP),
    "granian, 16 threads": (*_GRANIAN, "--blocking-threads", "16", _APP),
    "granian, 256 threads, runtime mt": (*_GRANIAN, "--blocking-threads", "256", "--runtime-mode", "mt", _APP),
    "granian, 1024 threads, backpressure 1024": (
        *(*_GRANIAN, "--blocking-threads", "1024", "--backpressure", "1024", _APP),
    ),
    "gunicorn gthread, 256 threads": (*_GUNICORN, "--worker-class", "gthread", "--threads", "256", f"{_APP}()"),
    "gunicorn gevent": (*_GUNICORN, "--worker-class", "gevent", "--worker-connections", "2000", f"{_APP}()"),
    "waitress, 256 threads": (*_WAITRESS, "--threads", "256", "--connection-limit", "2000", "--call", _APP),
}
_HEADER = (
    *("server", "p50 ms, 1 user", "requests/s, 1 user", "16 users", "64 users", "CPU us/request"),
    *("1,000 wait: MB more", "threads", "answers/s", "p50 s", "errors"),
)
_WAITING, _ANSWER_AFTER_S = 1000, 2.0


class Row(NamedTuple):
    """One server's results; all but the first two are for a thousand clients that wait two seconds for answers."""

    cells: Sequence[Cell]
    cpu_us: float
    memory_mb: float
    threads: int
    waiting: Cell


@contextlib.contextmanager
def _server(name: str, answer_after_s: float = 0) -> Iterator[tuple[Popen[bytes], int]]:
    port = free_port()
    command = processes.python(*(word.replace("{port}", str(port)) for word in SERVERS[name]))
    with tempfile.TemporaryDirectory(prefix="mlapi-wsgi-", dir=processes.memory_folder()) as folder:
        log, uploads = Path(folder) / "log", str(Path(folder) / "uploads")
        environment = {"UPLOAD_FOLDER": uploads, "ANSWER_AFTER_S": str(answer_after_s), "TMPDIR": folder}
        with processes.running(command, environment, log) as process:
            processes.wait_until(lambda: _listens(port), process, log)
            yield process, port


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def questions(files: int = 64) -> Questions:
    """Return requests for pictures that all have the same answer."""
    return Questions(pictures.render(None, files), [Expected(frozenset({ANSWER.label}), ANSWER.score)] * files)


def measure(name: str, asked: Questions, seconds: float, waiting: int = _WAITING) -> Row:
    """Measure a server. Raises `CannotRun` if it does not start."""
    with _server(name) as (process, port):
        load = Load(port, asked)
        load.run(16, seconds / 2)
        before, before_s = load.asked, processes.processor_s(process.pid)
        cells = [load.run(users, seconds) for users in (1, 16, 64)]
        cpu_us = 1e6 * (processes.processor_s(process.pid) - before_s) / (load.asked - before)
    with _server(name, _ANSWER_AFTER_S) as (process, port):
        before_mb = processes.memory_mb(process.pid)
        waited = Load(port, asked).run(waiting, 2 * _ANSWER_AFTER_S)
        memory_mb = processes.memory_mb(process.pid) - before_mb
        return Row(cells, cpu_us, memory_mb, processes.threads(process.pid), waited)


def cells(name: str, row: Row) -> tuple[str, ...]:
    """Return a row of the table."""
    rates = [f"{cell.rate_per_s:,.0f}" for cell in row.cells]
    errors = str(row.waiting.errors + sum(cell.errors for cell in row.cells))
    # A server that leaves some clients unanswered has low latencies for the others, but fewer answers per second.
    waiting = (f"{row.memory_mb:.0f}", str(row.threads), f"{row.waiting.rate_per_s:.0f}")
    times = (f"{row.waiting.p50_ms / 1000:.1f}", errors)
    return (name, f"{row.cells[0].p50_ms:.1f}", *rates, f"{row.cpu_us:,.0f}", *waiting, *times)


@click.command()
@click.option("--seconds", default=3.0, show_default=True, help="How long each number of users is measured.")
@click.option("--only", multiple=True, type=click.Choice(list(SERVERS)), help="Measure this; may be repeated.")
def main(seconds: float, only: Sequence[str]) -> None:
    """Compare the WSGI servers that are installed."""
    processes.stop_on_sigterm()
    asked, rows = questions(), []
    for name in only or SERVERS:
        if not find_spec(SERVERS[name][0]):
            click.echo(f"{name}: not installed", err=True)
            continue
        try:
            rows.append(cells(name, measure(name, asked, seconds)))
        except CannotRun as err:
            click.echo(f"{name}: {err}", err=True)
        click.echo(" | ".join(rows[-1]) if rows else name, err=True)
    print(table.markdown(_HEADER, rows))


if __name__ == "__main__":
    main()
