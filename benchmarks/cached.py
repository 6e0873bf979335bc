"""Measures the cache: pictures that were classified before, alternating with new ones.

`python -m benchmarks.cached` starts the service with its cache and prints one table.
"""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Sequence

import click

from benchmarks import quiet, systems
from benchmarks.load import Cell, Load
from benchmarks.raw import Limit
from benchmarks.table import conditions, markdown
from model.settings import ModelSettings
from testing import pictures
from testing.pictures import Expected, Question, Questions

_PICTURES = 64
_HEADER = ("users", "new pictures, requests/s", "p50 ms", "known ones, requests/s", "p50 ms", "ratio", "errors")


class Again(Questions):
    """Produces requests for the prepared pictures in turn, with the same bytes each time."""

    def __init__(self, files: Sequence[bytes], expected: Sequence[Expected]) -> None:
        super().__init__(files, expected)
        self._forms = itertools.cycle([super(Again, self).next() for _ in files])

    def next(self) -> Question:
        """Return a form that was sent before, once every form was sent once."""
        return next(self._forms)


def row(users: int, new: Sequence[Cell], known: Sequence[Cell]) -> tuple[str, ...]:
    """Return a line of the table: the medians, and the median of the rounds' ratios."""
    ratio = statistics.median(after.rate_per_s / before.rate_per_s for before, after in zip(new, known, strict=True))
    errors = sum(cell.errors for cell in (*new, *known))
    return (str(users), *_medians(new), *_medians(known), f"{ratio:.1f}", str(errors))


def _medians(cells: Sequence[Cell]) -> tuple[str, str]:
    rate, p50 = (statistics.median(getattr(cell, name) for cell in cells) for name in ("rate_per_s", "p50_ms"))
    return f"{rate:.0f}", f"{p50:.1f}"


@click.command(context_settings={"show_default": True})
@click.option("--users", default=[1, 4, 16, 64], multiple=True, help="How many ask; several times.")
@click.option("--seconds", default=3.0, help="How long each is measured in a round.")
@click.option("--rounds", default=3, help="How often; the table has the medians.")
@click.option("--patience", default=10.0, help="Seconds to wait for a quiet processor before each.")
def main(users: Sequence[int], seconds: float, rounds: int, patience: float) -> None:
    """Compare the answers of the cache with computed ones, and print one table."""
    files = pictures.render(None, _PICTURES)
    expected = Limit(files, ModelSettings.from_env()).answers()
    kinds = {"new": Questions(files, expected), "known": Again(files, expected)}
    cells: defaultdict[tuple[str, int], list[Cell]] = defaultdict(list)
    with systems.running("this service", {"CACHE_TTL_S": "3600"}) as port:
        Load(port, kinds["known"]).run(max(users), seconds)
        for _, count, (kind, questions) in itertools.product(range(rounds), users, kinds.items()):
            quiet.wait(patience)
            cells[kind, count].append(Load(port, questions).run(count, seconds))
            click.echo(f"{count} users, {kind}: {cells[kind, count][-1].rate_per_s:.0f} requests/s", err=True)
    print(markdown(_HEADER, [row(count, cells["new", count], cells["known", count]) for count in users]))
    print(f"\n{conditions()}. Medians of {rounds} x {seconds:g} s.")


if __name__ == "__main__":
    main()
