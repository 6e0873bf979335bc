"""Several machines: workers come, go, die and are cut off under load, and more workers give more throughput.

`make test-hosts` ends with what the callers noticed, and with throughput by number of workers.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pytest

from benchmarks.load import Cell, Load
from benchmarks.raw import Limit
from benchmarks.simulated_worker import ANSWER, BATCH_SIZE
from benchmarks.table import markdown
from chaos import table
from chaos.faults import Fault
from chaos.run import Result, measure
from model.settings import ModelSettings
from testing import pictures
from testing.pictures import Expected, Questions
from tests.hosts import Hosts
from tests.stack import BUILD_TIMEOUT_S

CALLERS = 8
PICTURES = 32
SECONDS = 8.0
# Two full batches: one processing, one waiting.
USERS_PER_WORKER = 2 * BATCH_SIZE
TIMES = int(os.environ.get("TIMES", "1"))


def fault(
    name: str, strike: Callable[[Hosts], AbstractContextManager[None]], lasts_s: float = 0.0, blocks: bool = False
) -> Fault[Hosts]:
    """Return a fault that needs no preparation."""
    return Fault(name, lambda hosts: nullcontext(partial(strike, hosts)), lasts_s, blocks=blocks)


@contextmanager
def one_more(hosts: Hosts) -> Iterator[None]:
    """Have a third worker."""
    hosts.scale(3)
    yield
    hosts.scale(2)


# These leave a worker that reaches Redis and storage, or last no longer than callers wait.
ALL_IS_ANSWERED = (
    fault("a worker added, and removed by SIGTERM", one_more, lasts_s=2),
    fault("SIGTERM to a worker, back after 4 s", lambda hosts: hosts.stopped("stop", hosts.first("model")), lasts_s=4),
    fault("kill -9 a worker, back after 4 s", lambda hosts: hosts.stopped("kill", hosts.first("model")), lasts_s=4),
    fault("a worker cut off from Redis for 8 s", lambda hosts: hosts.cut_off("model", "queue"), lasts_s=8),
    fault(
        "a worker cut off from Redis and storage for 8 s",
        lambda hosts: hosts.cut_off("model", "queue", "storage"),
        lasts_s=8,
    ),
    fault("kill -9 the API, back at once", lambda hosts: hosts.stopped("kill", hosts.first("api"))),
)
SOME_IS_REFUSED = (
    fault("a worker cut off from storage for 8 s", lambda hosts: hosts.cut_off("model", "storage"), lasts_s=8),
    fault(
        "kill -9 both workers, back after 4 s",
        lambda hosts: hosts.stopped("kill", *hosts.containers("model")),
        lasts_s=4,
        blocks=True,
    ),
    fault(
        "kill -9 Redis, back after 4 s",
        lambda hosts: hosts.stopped("kill", hosts.first("redis")),
        lasts_s=4,
        blocks=True,
    ),
    fault("Redis cut off for 8 s", lambda hosts: hosts.cut_off("redis", "queue"), lasts_s=8, blocks=True),
    fault("the API cut off from Redis for 8 s", lambda hosts: hosts.cut_off("api", "queue"), lasts_s=8, blocks=True),
    fault("storage cut off for 8 s", lambda hosts: hosts.cut_off("storage", "storage"), lasts_s=8, blocks=True),
)


@contextmanager
def started(hosts: Hosts) -> Iterator[Hosts]:
    try:
        hosts.compose("build", timeout_s=BUILD_TIMEOUT_S)
        hosts.up()
        yield hosts
    finally:
        hosts.remove()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with started(Hosts(tmp_path_factory.mktemp("hosts"))) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def questions() -> Questions:
    files = pictures.render(None, PICTURES)
    return Questions(files, Limit(files, ModelSettings.from_env()).answers())


@pytest.fixture(scope="module")
def results(figures: list[str]) -> Iterator[list[Result]]:
    """Collect the faults' results, to be printed at the end."""
    results: list[Result] = []
    yield results
    figures.append(table.render(results, []))


@pytest.mark.hosts
def test_no_two_machines_share_a_volume(hosts: Hosts) -> None:
    template = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}'
    mounted = [name for container in hosts.containers() for name in hosts.inspect(container, template).split()]
    assert len(mounted) == len(set(mounted)) > 0


@pytest.mark.hosts
@pytest.mark.parametrize("fault", ALL_IS_ANSWERED, ids=lambda fault: fault.name)
def test_every_request_is_answered_right(
    hosts: Hosts, questions: Questions, results: list[Result], fault: Fault[Hosts]
) -> None:
    results.append(measure(fault, hosts, TIMES, questions, CALLERS))
    assert results[-1].passed
    assert not results[-1].refusals


@pytest.mark.hosts
@pytest.mark.parametrize("fault", SOME_IS_REFUSED, ids=lambda fault: fault.name)
def test_every_request_is_answered_right_or_refused(
    hosts: Hosts, questions: Questions, results: list[Result], fault: Fault[Hosts]
) -> None:
    results.append(measure(fault, hosts, TIMES, questions, CALLERS))
    assert results[-1].passed


@pytest.mark.hosts
def test_throughput_follows_the_number_of_workers(tmp_path: Path, figures: list[str]) -> None:
    answer = Expected(frozenset({ANSWER.label}), ANSWER.score)
    questions = Questions(pictures.render(None, PICTURES), [answer] * PICTURES)
    with started(Hosts(tmp_path, "tests/compose.simulated.yml")) as hosts:
        cells = {workers: measure_workers(hosts, workers, questions) for workers in (1, 2, 4, 8)}
    header = ("simulated workers", "users", "images/s", "p50 ms", "p99 ms", "errors")
    figures.append(markdown(header, [row(*each) for each in cells.items()]))
    assert {cell.errors for cell in cells.values()} == {0}
    # Ideally nearly four times as many; half of that is distinguishable from no gain even on a busy machine.
    assert cells[4].rate_per_s > 2 * cells[1].rate_per_s


def measure_workers(hosts: Hosts, workers: int, questions: Questions) -> Cell:
    """Return the throughput of this many simulated workers."""
    hosts.scale(workers)
    return Load(hosts.port, questions).run(USERS_PER_WORKER * workers, SECONDS)


def row(workers: int, cell: Cell) -> tuple[str, ...]:
    """Return a row of the table."""
    figures = (USERS_PER_WORKER * workers, cell.rate_per_s, cell.p50_ms, cell.p99_ms, cell.errors)
    return (str(workers), *(f"{figure:.0f}" for figure in figures))
