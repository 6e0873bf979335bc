"""The command `python -m fuzz`, which is `make fuzz`."""

import logging
import random
import sys
import tempfile
from pathlib import Path

import click

from fuzz import service, table
from fuzz.request import HostileRequest
from fuzz.run import Fuzzer
from runtime import logs
from runtime.errors import SetupError

_FAILURES = Path("var/fuzz")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--inputs", type=click.IntRange(min=100), default=10_000, help="How many requests.")
@click.option("--seed", type=int, help="Makes the same requests as a run with this seed did; else another each time.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Send only the request of this file, and show what the service logs.",
)
def main(inputs: int, seed: int | None, replay: Path | None) -> None:
    """Send hostile requests through the API and a worker, and print what was answered as a Markdown table.

    Exits with 1 if any answer is 5xx or a worker dies; such requests are kept in var/fuzz.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, service.running(Path(folder)) as running:
            failed = _replay(running, replay) if replay else _fuzz(running, inputs, seed)
    except SetupError as err:
        sys.exit(f"fuzz: {err}")
    sys.exit(1 if failed else 0)


def _replay(running: service.Service, file: Path) -> bool:
    logs.configure("DEBUG", "text")
    answer = running.send(HostileRequest.decode(file.read_bytes()))
    print(answer)
    return answer.is_failure


def _fuzz(running: service.Service, inputs: int, seed: int | None) -> bool:
    seed = random.randrange(2**32) if seed is None else seed  # noqa: S311 - no secret
    click.echo(f"Sending {inputs} inputs, made with --seed {seed}.", err=True)
    logging.disable()  # a line for each request, and tracebacks while Hypothesis looks for the smallest that fails
    with click.progressbar(length=inputs, file=sys.stderr) as progress:
        fuzzer = Fuzzer(running.send, _FAILURES, progress.update)
        fuzzer.run(inputs, seed, running.settings.max_upload_bytes)
    print(f"{table.render(fuzzer.findings)}\n\n{table.summary(fuzzer.findings)}")
    return bool(fuzzer.findings.failures)


if __name__ == "__main__":
    main()
