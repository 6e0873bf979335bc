"""The command `python -m stress_test.sweep`, which is `make report`: users x instances, one by one against batched."""

import os
import sys
from pathlib import Path

import click

# Before anything that imports `ssl`: when it is imported, Locust replaces what blocks in the standard library.
import locust  # noqa: F401

from benchmarks import systems
from stress_test import load, written_report
from stress_test.cells import Cell, Result, cells, read
from stress_test.load import Load
from testing import unique_images as images
from testing.errors import CannotRun
from testing.unique_images import UniqueImages

REPORT = Path("stress_test/REPORT.md")
RESULTS = Path("var/report/cells.jsonl")
USERS = (1, 2, 3, 4, 8, 16, 64)
# The time that a cell takes beside its load: starting and stopping the service, and the last answers.
_CELL_OVERHEAD_S = 5.0
_WARM_UP_S = 1.0


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--seconds", type=click.FloatRange(min=1), default=10.0, help="Length of each measurement.")
@click.option("--users", "user_counts", type=int, multiple=True, default=USERS, help="How many ask; several times.")
@click.option(
    "--instances", type=int, multiple=True, help="Model workers; several times. By default 1, 2 and the cores."
)
@click.option("--fresh", is_flag=True, help="Measure everything anew, not only what is missing.")
@click.option(
    "--report", type=click.Path(path_type=Path), default=REPORT, help="The file to write; plots go beside it."
)
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Where measurements are kept.")
def main(
    seconds: float, user_counts: tuple[int, ...], instances: tuple[int, ...], fresh: bool, report: Path, results: Path
) -> None:
    """Measure the service for each number of users and workers, one by one and batched, and write the report.

    Starts the service anew for each measurement. Interrupted, it goes on where it was the next time.
    """
    if fresh:
        results.unlink(missing_ok=True)
    wanted = cells(user_counts, instances or tuple(sorted({1, 2, len(os.sched_getaffinity(0))})))
    missing = [cell for cell in wanted if cell not in read(results)]
    minutes = len(missing) * (seconds + _CELL_OVERHEAD_S) / 60
    click.echo(f"{len(missing)} of {len(wanted)} measurements to do; that takes about {minutes:.0f} minutes.", err=True)
    try:
        _measure_all(missing, seconds, results)
        found = read(results)
        written_report.write(report, [found[cell] for cell in wanted], seconds)
    except CannotRun as err:
        sys.exit(f"stress_test: {err}")
    click.echo(f"{report} is written.", err=True)


def _measure_all(missing: list[Cell], seconds: float, results: Path) -> None:
    if not missing:
        return
    results.parent.mkdir(parents=True, exist_ok=True)
    pictures = images.prepare(None)
    with click.progressbar(missing, label="Measuring", file=sys.stderr, show_pos=True) as progress:
        for cell in progress:
            result = measure(cell, pictures, seconds)
            with results.open("a") as file:
                file.write(result.encode())


def measure(cell: Cell, pictures: UniqueImages, seconds: float) -> Result:
    """Start the service with the cell's settings, load it, and stop it. Raises `CannotRun`."""
    with systems.running("this service", cell.environment()) as port:
        host = f"http://127.0.0.1:{port}"
        load.run(Load(host, cell.users, _WARM_UP_S), pictures)
        measurement = load.run(Load(host, cell.users, seconds), pictures)
    if measurement.interrupted:
        raise CannotRun("Interrupted; the next run goes on with this measurement.")
    return Result.of(cell, measurement)


if __name__ == "__main__":
    main()
