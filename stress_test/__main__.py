"""The command `python -m stress_test`, which is `make stress`."""

import sys
from pathlib import Path

import click

# Before anything that imports `ssl`: when it is imported, Locust replaces what blocks in the standard library.
import locust  # noqa: F401

from stress_test import load, report
from stress_test.load import Load
from stress_test.readiness import require_ready
from testing import unique_images as images
from testing.errors import CannotRun

_INTERRUPTED = 128 + 2  # what a shell reports for Ctrl-C


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--host", default="http://127.0.0.1:5000", help="The service's address.")
@click.option("--users", type=click.IntRange(min=1), default=16, help="How many ask at the same time.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=60.0, help="How long.")
@click.option(
    "--pause", type=click.FloatRange(min=0), default=0.0, help="Seconds between a user's requests, on average."
)
@click.option(
    "--photos",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="PHOTOS",
    show_envvar=True,
    help="Folder of photos to send variants of, instead of the project's dog.",
)
def main(host: str, users: int, seconds: float, pause: float, photos: Path | None) -> None:
    """Load a running service, and print what it answered as a Markdown table.

    A service that asks for keys gets the one in the environment variable API_KEY.

    Exits with 1 if any answer is not a correct success. The service keeps reports named stress-test-...
    in its feedback file, and for a while each picture in its UPLOAD_FOLDER.
    """
    try:
        measurement = _measure(Load(host.rstrip("/"), users, seconds, pause), photos)
    except CannotRun as err:
        sys.exit(f"stress_test: {err}")
    print(report.render(measurement))
    sys.exit(1 if not measurement.ok else _INTERRUPTED if measurement.interrupted else 0)


def _measure(wanted: Load, photos: Path | None) -> report.Measurement:
    require_ready(wanted.host)
    pictures = images.prepare(photos)
    click.echo(f"Loading {wanted.host} for {wanted.duration_s:g} s; Ctrl-C ends it early.\n", err=True)
    return load.run(wanted, pictures)


if __name__ == "__main__":
    main()
