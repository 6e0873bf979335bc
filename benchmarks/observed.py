"""Measures the cost of metrics and traces in throughput: the service without and with them, restarted each time.

`python -m benchmarks.observed` starts the service and a collector, sends requests over HTTP, and prints one table.
`python -m benchmarks.metrics` and `python -m benchmarks.tracing` measure the processor time of each part.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from benchmarks import quiet, systems
from benchmarks.load import Cell, Load
from benchmarks.raw import Limit
from benchmarks.table import conditions, markdown
from benchmarks.tracing import collector
from model.settings import ModelSettings
from runtime.errors import SetupError
from testing import pictures, processes
from testing.errors import CannotRun
from testing.pictures import Questions

_PICTURES = 64
_WARM_UP_S = 2.0
_HEADER = ("what is on", "images/s", "p50 ms", "p99 ms", "errors", "images/s to those of nothing, each round", "median")
_NOTHING = "nothing"
_UNCOUNTED = Path(__file__).parent / "uncounted"


def settings(url: str) -> Mapping[str, Mapping[str, str]]:
    """Return the variants to measure, with their environment; an empty variable counts as unset."""
    off = {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    on = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_TRACES_SAMPLER": "", "OTEL_TRACES_SAMPLER_ARG": ""}
    return {
        _NOTHING: {**off, "PYTHONPATH": str(_UNCOUNTED)},
        "metrics": off,
        "metrics, traces as by default": on,
        "metrics, all traces": {**on, "OTEL_TRACES_SAMPLER": "always_on"},
    }


def measure(
    environment: Mapping[str, str], questions: Questions, users: int, seconds: float, patience_s: float
) -> Cell:
    """Start a service, and measure it under load."""
    with systems.running("this service", environment) as port:
        load = Load(port, questions)
        load.run(users, min(_WARM_UP_S, seconds))
        quiet.wait(patience_s)
        measured = load.run(users, seconds)
        for reason, count in load.failures.most_common(5):
            click.echo(f"  {count} x {reason}", err=True)
        return measured


def row(name: str, nothing: Sequence[Cell], cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return a row of the table: the medians of the rounds, and each round's ratio to the same round without either."""
    rate, p50, _, p99 = (statistics.median(figures) for figures in list(zip(*cells, strict=True))[:4])
    ratios = [after.rate_per_s / before.rate_per_s for before, after in zip(nothing, cells, strict=True)]
    each, median = " ".join(f"{ratio:.2f}" for ratio in ratios), f"{statistics.median(ratios):.3f}"
    errors = str(sum(cell.errors for cell in cells))
    return (
        name,
        f"{rate:.1f}",
        f"{p50:.1f}",
        f"{p99:.1f}",
        errors,
        *(("", "") if name == _NOTHING else (each, median)),
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--users", type=click.IntRange(min=1), default=16, help="How many ask, each when answered.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=10.0, help="How long each is measured.")
@click.option("--rounds", type=click.IntRange(min=1), default=10, help="How often; the table has the medians.")
@click.option("--patience", default=10.0, help="Seconds to wait for a quiet processor before each measurement.")
@click.option("--photos", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Else the project's dog.")
def main(users: int, seconds: float, rounds: int, patience: float, photos: Path | None) -> None:
    """Measure the service without and with what observes it, in turn; progress goes to stderr, the table to stdout."""
    processes.stop_on_sigterm()
    try:
        files = pictures.render(photos, _PICTURES)
        questions = Questions(files, Limit(files, ModelSettings.from_env()).answers())
        with collector() as sent_to:
            measured = settings(sent_to.url)
            cells: dict[str, list[Cell]] = {name: [] for name in measured}
            for number in range(rounds):
                # In reverse order in every second round, since a machine becomes busier or quieter.
                for name in list(measured)[:: -1 if number % 2 else 1]:
                    cells[name].append(measure(measured[name], questions, users, seconds, patience))
                    click.echo(f"{name}: {cells[name][-1].rate_per_s:.1f} images/s", err=True)
            received = sent_to.received_bytes.value
    except (CannotRun, SetupError) as err:
        sys.exit(f"observed: {err}")
    print(markdown(_HEADER, [row(name, cells[_NOTHING], cells[name]) for name in cells]))
    print(
        f"\n{conditions()}. {users} users, {rounds} x {seconds:g} s of each in turn. The collector, on the same"
        f" machine, was sent {received / 1000:.0f} kB."
    )


if __name__ == "__main__":
    main()
