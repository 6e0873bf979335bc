"""The command `python -m chaos`, which is `make chaos`."""

import signal
import sys
from pathlib import Path

import click

from benchmarks.raw import Limit
from chaos import service, table
from chaos.disk import CannotMount
from chaos.faults import FAULTS, Fault
from chaos.run import Result, measure
from chaos.service import Service
from model.settings import ModelSettings
from runtime.errors import SetupError
from testing import pictures, processes
from testing.errors import CannotRun
from testing.pictures import Questions

_PICTURES = 64
_INTERRUPTED = 128 + signal.SIGINT  # what a shell reports for Ctrl-C


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--callers", type=click.IntRange(min=1), default=8, help="How many ask at the same time.")
@click.option("--times", type=click.IntRange(min=1), help="How often each fault strikes; else 2 to 9 times.")
@click.option("--only", multiple=True, metavar="WORDS", help="Faults with these words in their names; repeatable.")
@click.option(
    "--photos",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="PHOTOS",
    help="Folder of photos to send variants of, instead of the project's dog.",
)
def main(callers: int, times: int | None, only: tuple[str, ...], photos: Path | None) -> None:
    """Strike a service that is in use with one fault after the other, and print what its callers noticed.

    It is started on a free port, with files of its own, and ended again. The exit status is 1 where a request was lost
    or answered wrongly. MODEL, PRECISION and the other settings hold.
    """
    processes.stop_on_sigterm()
    chosen = [fault for fault in FAULTS if not only or any(words in fault.name for words in only)]
    try:
        results, skipped = _run(chosen, times, _questions(photos), callers)
    except (CannotRun, SetupError) as err:
        sys.exit(f"chaos: {err}")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    print(table.render(results, skipped))
    sys.exit(not all(result.passed for result in results))


def _questions(photos: Path | None) -> Questions:
    _say("preparing the pictures")
    files = pictures.render(photos, _PICTURES)
    return Questions(files, Limit(files, ModelSettings.from_env()).answers())


def _run(
    faults: list[Fault[Service]], times: int | None, questions: Questions, callers: int
) -> tuple[list[Result], list[str]]:
    results, skipped = [], []
    for number, fault in enumerate(faults, 1):
        _say(f"{number} of {len(faults)}: {fault.name}")
        try:
            with service.running(fault.settings) as running:
                results.append(measure(fault, running, times or fault.times, questions, callers))
        except CannotMount as err:
            skipped.append(f"{fault.name}, since {err}")
    return results, skipped


def _say(what: str) -> None:
    click.echo(what, err=True)


if __name__ == "__main__":
    main()
