"""Measures how a bulk job and interactive users affect each other: latencies and rates, alone and together.

`python -m benchmarks.lanes` starts the service, measures each alone and both together, and prints one table.
"""

import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import click

from benchmarks import quiet, systems
from benchmarks.bulk import Sender
from benchmarks.load import Cell, Load
from benchmarks.raw import Limit
from benchmarks.table import conditions, markdown
from model.settings import ModelSettings
from runtime.errors import SetupError
from testing import pictures, processes
from testing.errors import CannotRun
from testing.pictures import Questions

_PICTURES = 64
_WARM_UP_IMAGES, _WARM_UP_S = 200, 2.0
_HEADER = ("what runs", "requests/s", "p50 ms", "p99 ms", "bulk images/s", "errors")


class Round(NamedTuple):
    """Users alone, the bulk job alone, and users for as long as a bulk job runs beside them."""

    users: Cell
    bulk_per_s: float
    users_beside: Cell
    bulk_beside_per_s: float
    bulk_errors: int


class Bench:
    """A running service and its clients: users in this process, the bulk job in another."""

    def __init__(
        self, load: Load, sender: Sender, sending: ProcessPoolExecutor, users: int, images: int, patience_s: float
    ) -> None:
        self._load = load
        self._sender = sender
        self._sending = sending
        self._users = users
        self._images = images
        self._patience_s = patience_s

    def warm_up(self) -> None:
        """Use every part once, without measuring."""
        self._sending.submit(self._sender.send, _WARM_UP_IMAGES).result()
        self._load.run(self._users, _WARM_UP_S)

    def measure(self, seconds: float) -> Round:
        """Measure the users for `seconds`, the bulk job, and both."""
        quiet.wait(self._patience_s)
        users = self._load.run(self._users, seconds)
        quiet.wait(self._patience_s)
        bulk = self._sending.submit(self._sender.send, self._images).result()
        quiet.wait(self._patience_s)
        sending = self._sending.submit(self._sender.send, self._images)
        users_beside = self._load.run_while(self._users, lambda: not sending.done())
        beside = sending.result()
        errors = bulk.errors + beside.errors
        for reason, count in (errors + self._load.failures).most_common(5):
            click.echo(f"  {count} x {reason}", err=True)
        return Round(users, bulk.per_s, users_beside, beside.per_s, errors.total())


def rows(rounds: Sequence[Round], users: int) -> list[tuple[str, ...]]:
    """Return the rows of the table: the medians of the rounds."""
    alone, beside = [each.users for each in rounds], [each.users_beside for each in rounds]
    bulk, bulk_beside = [each.bulk_per_s for each in rounds], [each.bulk_beside_per_s for each in rounds]
    name = "one user" if users == 1 else f"{users} users"
    bulk_errors, user_errors = sum(each.bulk_errors for each in rounds), sum(cell.errors for cell in beside)
    return [
        (name, *_times(alone), "-", str(sum(cell.errors for cell in alone))),
        ("a bulk job", "-", "-", "-", _whole(bulk), str(bulk_errors)),
        (f"{name} and a bulk job", *_times(beside), _whole(bulk_beside), str(user_errors)),
        ("ratio", *_ratios(alone, beside), f"{statistics.median(bulk_beside) / statistics.median(bulk):.2f}", ""),
    ]


def _whole(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f}"


def _medians(cells: Sequence[Cell]) -> list[float]:
    return [statistics.median(getattr(cell, name) for cell in cells) for name in ("rate_per_s", "p50_ms", "p99_ms")]


def _times(cells: Sequence[Cell]) -> list[str]:
    return [f"{value:.1f}" for value in _medians(cells)]


def _ratios(before: Sequence[Cell], after: Sequence[Cell]) -> list[str]:
    return [f"{new / old:.2f}" for old, new in zip(_medians(before), _medians(after), strict=True)]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--images", type=click.IntRange(min=1), default=10_000, help="Of the bulk job.")
@click.option("--urgency", type=click.IntRange(0, 7), default=6, help="Of the bulk job; below 5, all is one lane.")
@click.option("--users", type=click.IntRange(min=1), default=1, help="How many ask, each when it has its answer.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=20.0, help="How long without bulk job.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="How often; the table has the medians.")
@click.option("--patience", default=10.0, help="Seconds to wait for a quiet processor before each measurement.")
@click.option("--photos", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Else the project's dog.")
def main(
    images: int, urgency: int, users: int, seconds: float, rounds: int, patience: float, photos: Path | None
) -> None:
    """Measure users and a bulk job, each alone and both together; progress goes to stderr, the table to stdout."""
    processes.stop_on_sigterm()
    try:
        files = pictures.render(photos, _PICTURES)
        questions = Questions(files, Limit(files, ModelSettings.from_env()).answers())
        measured: list[Round] = []
        # The cache would answer a picture that was classified before.
        with (
            systems.running("this service", {"CACHE_TTL_S": "0"}) as port,
            ProcessPoolExecutor(1, get_context("spawn")) as sending,
        ):
            bench = Bench(Load(port, questions), Sender(port, files, urgency), sending, users, images, patience)
            bench.warm_up()
            for _ in range(rounds):
                measured.append(bench.measure(seconds))
                click.echo(f"  {measured[-1]}", err=True)
    except (CannotRun, SetupError) as err:
        sys.exit(f"lanes: {err}")
    print(markdown(_HEADER, rows(measured, users)))
    print(f"\n{conditions()}. A bulk job of {images:,} images, `u={urgency}`. Medians of {rounds} rounds.")


if __name__ == "__main__":
    main()
