"""Runs a benchmark: every system in turn, and the limit between each two measurements."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks import quiet, systems, table
from benchmarks.load import Load
from benchmarks.raw import Limit
from mlapi.tuning.throughput import Plan, Workers
from model.manifest import ModelManifest
from model.settings import ModelSettings
from testing import pictures
from testing.pictures import Questions

_PLAN_S = 1.0
_WARM_UP_USERS, _WARM_UP_S = 16, 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The measurements to make: each cell for `seconds` in each round; without a `plan`, the best one is searched."""

    names: Sequence[str]
    users: Sequence[int]
    seconds: float
    rounds: int
    patience_s: float = 10.0
    photos: Path | None = None
    plan: Plan | None = None


def run(wanted: Wanted) -> str:
    """Measure and return the table; progress goes to stderr. Raises `CannotRun`, `SettingsError` or `ModelError`."""
    model = _model()
    _say("preparing the pictures")
    files = pictures.render(wanted.photos)
    limit = Limit(files, ModelSettings.from_env())
    _say("finding the best workers x threads x batch")
    plan = wanted.plan or limit.find_best(_PLAN_S)
    questions = Questions(files, limit.answers())
    results = table.Results(plan, limit.measure_alone(wanted.seconds))
    with limit.workers(plan) as workers:
        for number in range(1, wanted.rounds + 1):
            _say(f"round {number} of {wanted.rounds}")
            for name in wanted.names:
                _measure(name, wanted, workers, questions, results)
    return table.render(results, table.describe(model, results, wanted.seconds, wanted.rounds))


def _model() -> str:
    settings = ModelSettings.from_env()
    return f"{ModelManifest.load(settings.model).name} in {settings.precision}"


def _measure(name: str, wanted: Wanted, limit: Workers, questions: Questions, results: table.Results) -> None:
    with systems.running(name) as port:
        load = Load(port, questions)
        load.run(_WARM_UP_USERS, min(_WARM_UP_S, wanted.seconds))
        quiet.wait(wanted.patience_s)
        before = limit.images_per_s(results.plan.batch_size, wanted.seconds)
        for users in wanted.users:
            quiet.wait(wanted.patience_s)
            measured = load.run(users, wanted.seconds)
            quiet.wait(wanted.patience_s)
            after = limit.images_per_s(results.plan.batch_size, wanted.seconds)
            results.add(name, users, measured, (before, after))
            _say(f"  {name}, {users} users: {measured.rate_per_s:.1f} requests/s; limit {before:.1f}, {after:.1f}")
            for reason, count in load.failures.most_common(5):
                _say(f"    {count} x {reason}")
            before = after


def _say(what: str) -> None:
    click.echo(what, err=True)
