"""Compares `mlapi classify` with the limit, in its own processes and through the service.

`python -m benchmarks.collection` makes 2,000 different photos with noise and has the command classify them, with a
results file, alternating with the limit: the rate of as many processes with the same batch size without files and
results.
"""

import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks import quiet, systems
from benchmarks.table import conditions, markdown
from mlapi.settings import ServeSettings
from mlapi.tuning import throughput
from mlapi.tuning.throughput import Plan, Workers
from model.settings import ModelSettings
from testing import pictures, processes
from testing.errors import CannotRun

_HEADER = ("mlapi classify", "images/s", "of the limit", "with its start", "failed")
_IN_PROCESS, _THROUGH_SERVICE = "in process", "through the service"


@dataclass(frozen=True, slots=True)
class Try:
    """One run of the command: images/s by its summary and including its start, failures, and the limit's images/s."""

    images_per_s: float
    with_start_per_s: float
    failed: int
    limit_per_s: float


def classify(folder: Path, file: Path, environment: Mapping[str, str]) -> tuple[float, float, int]:
    """Run the command; return its images/s, images/s including its start, and failures. Raises `CannotRun`."""
    file.unlink(missing_ok=True)
    command = [*processes.python("mlapi", "classify"), str(folder), "--out", str(file), "--json"]
    started = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)  # noqa: S603
    elapsed_s = time.perf_counter() - started
    if done.returncode not in {0, 1}:
        raise CannotRun(f"{command} ended with {done.returncode}:\n{done.stderr}")
    told = json.loads(done.stdout)
    return told["images_per_s"], (told["classified"] + told["failed"]) / elapsed_s, told["failed"]


@dataclass(frozen=True, slots=True)
class Bench:
    """The photos, the limit's processes, and the duration of each measurement."""

    photos: Path
    limit: Workers
    batch_size: int
    seconds: float
    patience_s: float

    def measure(self, environment: Mapping[str, str]) -> Try:
        """Run the command between two measurements of the limit."""
        before = self._limit_per_s()
        quiet.wait(self.patience_s)
        measured = classify(self.photos, self.photos.with_name("results.csv"), environment)
        return Try(*measured, statistics.mean((before, self._limit_per_s())))

    def _limit_per_s(self) -> float:
        quiet.wait(self.patience_s)
        return self.limit.images_per_s(self.batch_size, self.seconds)


def row(name: str, tries: Sequence[Try]) -> tuple[str, ...]:
    """Return a row of the table: the medians."""
    rate = statistics.median(each.images_per_s for each in tries)
    shares = (
        statistics.median(getattr(each, what) / each.limit_per_s for each in tries)
        for what in ("images_per_s", "with_start_per_s")
    )
    return (name, f"{rate:.0f}", *(f"{share:.0%}".replace("%", " %") for share in shares), str(tries[-1].failed))


def _write_photos(folder: Path, photos: Path | None, count: int) -> list[bytes]:
    folder.mkdir()
    files = pictures.render(photos, count)
    for number, data in enumerate(files):
        (folder / f"{number:06d}.jpg").write_bytes(data)
    return files


@click.command(context_settings={"show_default": True})
@click.option("--photos", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Else the project's dog.")
@click.option("--images", default=2000, help="How many photos are made of them.")
@click.option("--seconds", default=4.0, help="How long the limit is measured each time.")
@click.option("--rounds", default=5, help="How often; the table has the medians.")
@click.option("--patience", default=10.0, help="Seconds to wait for a quiet processor before each measurement.")
def main(photos: Path | None, images: int, seconds: float, rounds: int, patience: float) -> None:
    """Compare `mlapi classify` with the limit, and print one table."""
    processes.stop_on_sigterm()
    settings, instances = ModelSettings.from_env(), ServeSettings.from_env().instances
    plan, tries = Plan(instances, settings.threads, settings.batch_size), defaultdict[str, list[Try]](list)
    with tempfile.TemporaryDirectory(prefix="mlapi-bench-", dir=processes.memory_folder()) as folder:
        files = _write_photos(Path(folder) / "photos", photos, images)
        # The cache would answer a photo that was classified before.
        with (
            systems.running("this service", {"CACHE_TTL_S": "0"}) as port,
            throughput.classifiers(settings, files, plan) as limit,
        ):
            bench = Bench(Path(folder) / "photos", limit, plan.batch_size, seconds, patience)
            ways = {_IN_PROCESS: {}, _THROUGH_SERVICE: {"MLAPI_SERVICE": f"http://127.0.0.1:{port}"}}
            for _, (name, environment) in itertools.product(range(rounds), ways.items()):
                tries[name].append(bench.measure(environment))
                click.echo(f"  {name}: {tries[name][-1]}", err=True)
    print(markdown(_HEADER, [row(name, each) for name, each in tries.items()]))
    limit_per_s = statistics.median(each.limit_per_s for way in tries.values() for each in way)
    print(
        f"\n{conditions()}. {images} photos, medians of {rounds} runs. The limit's workers x threads x batch: {plan}, "
        f"{limit_per_s:.0f} images/s."
    )


if __name__ == "__main__":
    main()
