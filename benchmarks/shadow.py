"""Measures the cost of a shadow for the clients whose pictures it copies: latencies with and without it, in turn.

`python -m benchmarks.shadow` starts the service with a second version beside its model, the same network under another
number, and prints one table.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import click

from benchmarks import quiet, systems
from benchmarks.arrivals import Arrivals, Outcomes
from benchmarks.load import Cell, cell
from benchmarks.raw import Limit
from benchmarks.table import conditions, markdown
from jobs.redis.queue import RedisJobQueue
from jobs.versions.comparison import Comparison
from mlapi.operating import versions
from model.manifest import ModelManifest
from model.settings import ModelSettings
from runtime.errors import SetupError
from testing import pictures, processes
from testing.errors import CannotRun
from testing.pictures import Questions

_PICTURES = 64
_WARM_UP_S, _LAST_ANSWER_S = 3.0, 30.0
_SECOND = "of the benchmark"
_HEADER = ("shadow", "requests/s", "p50 ms", "p95 ms", "p99 ms", "errors")


class Bench:
    """A running service with two versions, its clients, and the comparison of the versions."""

    def __init__(self, ask: Callable[[float], Outcomes], queue: RedisJobQueue, patience_s: float) -> None:
        self._ask = ask
        self._queue = queue
        self._patience_s = patience_s
        [self._second] = [each.name for each in queue.versions().listed if each.info.version == _SECOND]

    def measure(self, percent: int, seconds: float) -> Cell:
        """Let the second version process `percent` of the images, and measure the clients meanwhile."""
        versions.shadow(self._queue, self._second, percent)
        quiet.wait(self._patience_s)
        self._ask(_WARM_UP_S)  # by then, all processes have read it
        outcomes = self._ask(seconds)
        for reason, count in outcomes.errors.most_common(5):
            click.echo(f"  {count} x {reason}", err=True)
        return cell(outcomes.right_s, seconds, outcomes.errors.total() + len(outcomes.refused_s))

    def compared(self) -> Comparison:
        """Return the comparison of the second version with the first."""
        return next((each.comparison for each in self._queue.figures().versions if each.comparison), Comparison())


def second_version(folder: Path, settings: ModelSettings) -> Path:
    """Make a copy of the model's folder with another version number."""
    manifest = ModelManifest.load(settings.model)
    replace(manifest, version=_SECOND, folder=folder).write(folder)
    for file in manifest.network_files():
        copyfile(file, folder / file.relative_to(manifest.folder))
    manifest.copy_sample(folder)
    return folder


def rows(without: Sequence[Cell], beside: Sequence[Cell], percent: int) -> list[tuple[str, ...]]:
    """Return the rows of the table: the medians of the rounds."""
    figures = [_medians(without), _medians(beside)]
    ratios = tuple(f"{statistics.median(each):.2f}" for each in zip(*map(_ratios, without, beside), strict=True))
    return [
        ("none", *(f"{value:.1f}" for value in figures[0]), str(sum(each.errors for each in without))),
        (f"{percent} %", *(f"{value:.1f}" for value in figures[1]), str(sum(each.errors for each in beside))),
        ("ratio", *ratios, ""),
    ]


def _medians(cells: Sequence[Cell]) -> list[float]:
    return [statistics.median(figures) for figures in zip(*(each[:4] for each in cells), strict=True)]


def _ratios(without: Cell, beside: Cell) -> list[float]:
    return [new / old for old, new in zip(without[:4], beside[:4], strict=True)]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--per-s", default=30.0, help="How many ask a second, at random times.")
@click.option("--percent", type=click.IntRange(1, 100), default=10, help="Of their pictures, for the shadow.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=20.0, help="How long each is measured.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="How often; the table has the medians.")
@click.option("--patience", default=10.0, help="Seconds to wait for a quiet processor before each measurement.")
@click.option("--photos", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Else the project's dog.")
def main(per_s: float, percent: int, seconds: float, rounds: int, patience: float, photos: Path | None) -> None:
    """Measure users without and with a shadow, in turn; progress goes to stderr, the table to stdout."""
    processes.stop_on_sigterm()
    settings = ModelSettings.from_env()
    without: list[Cell] = []
    beside: list[Cell] = []
    try:
        files = pictures.render(photos, _PICTURES)
        questions = Questions(files, Limit(files, settings).answers())
        with tempfile.TemporaryDirectory(prefix="mlapi-bench-") as folder:
            second = second_version(Path(folder), settings)
            # The cache would answer a picture that was classified before.
            environment = {"CACHE_TTL_S": "0", "MODELS_BESIDE": str(second)}
            with systems.running_with_queue(environment) as (port, url):
                queue = RedisJobQueue(url, max_jobs=1)
                bench = Bench(
                    lambda seconds: Arrivals(port, questions).run(per_s, seconds, _LAST_ANSWER_S), queue, patience
                )
                for number in range(rounds):
                    # Each goes first in every second round, since a machine becomes busier or quieter.
                    for share, cells in ((0, without), (percent, beside))[:: -1 if number % 2 else 1]:
                        cells.append(bench.measure(share, seconds))
                    click.echo(f"  {without[-1]}\n  {beside[-1]}", err=True)
                compared = bench.compared()
                queue.close()
    except (CannotRun, SetupError) as err:
        sys.exit(f"shadow: {err}")
    print(markdown(_HEADER, rows(without, beside, percent)))
    print(
        f"\n{conditions()}. {per_s:g} requests/s at random times, {rounds} x {seconds:g} s of each in turn; ratios are"
        f" the medians of the rounds' own. The shadow computed {compared.images:.0f} pictures, {compared.agreeing:.0f}"
        f" of them to the same class; {compared.dropped:.0f} were left out."
    )


if __name__ == "__main__":
    main()
