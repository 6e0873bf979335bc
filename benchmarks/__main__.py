"""The command `python -m benchmarks`, which is `make bench`."""

import os
import re
import signal
import sys
from pathlib import Path

import click

from benchmarks import systems
from benchmarks.run import Wanted, run
from mlapi.tuning.throughput import Plan
from runtime.errors import SetupError
from testing.errors import CannotRun

_INTERRUPTED = 128 + signal.SIGINT  # what a shell reports for Ctrl-C


class _Numbers(click.ParamType[tuple[int, ...]]):
    """Positive whole numbers with a separator between them, any number of them or `count`."""

    name = "numbers"

    def __init__(self, separator: str, count: int | None = None) -> None:
        self._separator = separator
        self._count = count

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split(self._separator)
        if not all(re.fullmatch(r"[1-9]\d*", word) for word in words) or len(words) != (self._count or len(words)):
            self.fail(f"{value!r} is not like {self._separator.join('124'[: self._count])}", param, ctx)
        return tuple(int(word) for word in words)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--users", type=_Numbers(","), default="1,4,16,64", help="How many ask at the same time.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=5.0, help="How long each is measured.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="How often; the table has the medians.")
@click.option("--only", type=click.Choice(list(systems.COMMANDS)), multiple=True, help="Measure this; may be repeated.")
@click.option("--precision", type=click.Choice(["f32", "bf16"]), help="Else as PRECISION or the default says.")
@click.option(
    "--plan", type=_Numbers("x", 3), help="The limit's workers x threads x batch, as 2x1x4, instead of trying."
)
@click.option("--patience", type=float, default=10.0, help="Seconds to wait for a quiet processor before each cell.")
@click.option(
    "--photos",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="PHOTOS",
    help="Folder of photos to send variants of, instead of the project's dog.",
)
def main(
    users: tuple[int, ...],
    seconds: float,
    rounds: int,
    only: tuple[str, ...],
    precision: str | None,
    plan: tuple[int, ...] | None,
    patience: float,
    photos: Path | None,
) -> None:
    """Measure this service and the classic design against the limit, and print one Markdown table.

    Each is started on a free port and ended again. MODEL and PRECISION hold for all of them.
    """
    if precision:
        os.environ["PRECISION"] = precision  # the systems are separate processes
    wanted = Wanted(
        only or tuple(systems.COMMANDS), users, seconds, rounds, patience, photos, Plan(*plan) if plan else None
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        print(run(wanted))
    except (CannotRun, SetupError) as err:
        sys.exit(f"benchmarks: {err}")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
