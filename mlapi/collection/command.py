"""The command `mlapi classify`: from what was asked to what is said at the end."""

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from jobs.errors import ServiceError, SetupError
from mlapi.collection import paths, results, run, sorting
from mlapi.collection.results import Results
from mlapi.collection.rows import Row
from mlapi.collection.run import Classifying, Summary

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar  # click does not export it

ALL_CLASSIFIED, SOME_FAILED, CANNOT_GO_ON = 0, 1, 3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FAILURES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    names: Sequence[str]
    out: Path | None = None
    copy_into: Path | None = None
    service: str | None = None
    key: str | None = None
    top_k: int = 1
    as_json: bool = False


def classify(wanted: Wanted) -> int:
    """Classify a collection, say what came of it, and return the exit status. Raises `click.UsageError`."""
    if missing := paths.missing(wanted.names):
        raise click.UsageError(f"There is nothing at {', '.join(missing)}.")
    try:
        return _classify(wanted, _results(wanted))
    except (SetupError, ServiceError) as err:
        click.echo(f"mlapi: {err}{_resume_hint(wanted)}", err=True)
        return CANNOT_GO_ON


def _classify(wanted: Wanted, kept: Results) -> int:
    try:
        with _classifying(wanted) as classifying, _asked_to_stop() as signals:
            summary = _through(wanted, classifying, kept, signals)
    finally:
        kept.finish()
    (_say_as_json if wanted.as_json else _say)(wanted, summary, kept, interrupted=bool(signals))
    if signals:
        return 128 + signals[0]
    return SOME_FAILED if summary.failures else ALL_CLASSIFIED


def _through(wanted: Wanted, classifying: Classifying, kept: Results, signals: Sequence[int]) -> Summary:
    """Classify what has no row yet, until there is a signal."""

    def todo() -> Iterator[str]:
        return run.left(paths.find(wanted.names, without=wanted.copy_into), kept.done)

    count = sum(1 for _ in todo())  # while the network is loaded
    classifying.wait_until_ready()
    summary = Summary()
    with _progress(count, hidden=wanted.out is None) as progress:
        for chunk, rows in run.classified(takewhile(lambda _: not signals, todo()), classifying):
            if wanted.copy_into:
                _copy(chunk, rows, wanted.copy_into)
            kept.add(rows)
            summary.add(rows)
            progress.update(len(rows), summary)
    return summary


def _copy(chunk: Sequence[str], rows: Sequence[Row], folder: Path) -> None:
    for path, row in zip(chunk, rows, strict=True):
        if row.label is not None:
            sorting.copy(path, row.label, folder)


def _results(wanted: Wanted) -> Results:
    """Return where rows go. Raises `click.UsageError` or `ResultsError`."""
    if wanted.out is None:
        return results.Collected() if wanted.as_json else results.Printed(wanted.top_k)
    if wanted.out.suffix not in results.OPENERS:
        raise click.UsageError(f"{wanted.out} should end in {', '.join(results.OPENERS)}.")
    return results.OPENERS[wanted.out.suffix](wanted.out, wanted.top_k)


def _classifying(wanted: Wanted) -> AbstractContextManager[Classifying]:
    """Return who classifies. Raises `SettingsError`, `ModelError` or `ServiceError`."""
    # Each imports much that the other does not need.
    if wanted.service:
        from mlapi.collection.service import Service

        service = Service(wanted.service, wanted.key, wanted.top_k)
        _refuse_more_than(service.classes, wanted)
        return service
    from mlapi.collection.processes import Processes
    from mlapi.settings import ServeSettings
    from model.manifest import ModelManifest
    from model.settings import ModelSettings

    settings = ModelSettings.from_env()
    manifest = ModelManifest.load(settings.model)  # what is wrong there is said at once
    _refuse_more_than(len(manifest.labels), wanted)
    return Processes(settings, ServeSettings.from_env().instances)


def _refuse_more_than(classes: int, wanted: Wanted) -> None:
    """Raise `SetupError` where more classes are wanted than the model knows."""
    if wanted.top_k > classes:
        raise SetupError(f"The model knows {classes} classes, so --top-k can be {classes} at most.")


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Yield a list for the first Ctrl-C or SIGTERM; the second ends this process at once."""
    received = list[int]()

    def stop(number: int, _: FrameType | None) -> None:
        received.append(number)
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    former = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _progress(count: int, *, hidden: bool) -> "ProgressBar[Summary]":
    return click.progressbar(
        length=count,
        label="Classifying",
        show_pos=True,
        item_show_func=lambda summary: f"{summary.images_per_s:.0f} images/s" if summary else None,
        file=sys.stderr,
        hidden=hidden,
    )


def _say(wanted: Wanted, summary: Summary, kept: Results, *, interrupted: bool) -> None:
    """Say on standard error what came of it, and which files failed."""
    words = f"{summary.classified} classified, {len(summary.failures)} failed"
    if kept.done:
        words += f", {len(kept.done)} had a row before"
    click.echo(f"{words}; {summary.seconds:.1f} s, {summary.images_per_s:.0f} images/s", err=True)
    shown = summary.failures[: _FAILURES_SHOWN if wanted.out else None]
    for row in shown:
        click.echo(f"  {row.path}: {row.error}", err=True)
    if len(shown) < len(summary.failures):
        click.echo(f"  ... {wanted.out} has all that failed", err=True)
    if interrupted:
        click.echo(f"Interrupted.{_resume_hint(wanted)}", err=True)


def _say_as_json(wanted: Wanted, summary: Summary, kept: Results, *, interrupted: bool) -> None:
    """Print what came of it as one object; it has the rows where no file has them."""
    told = {
        "classified": summary.classified,
        "failed": len(summary.failures),
        "done_before": len(kept.done),
        "interrupted": interrupted,
        "seconds": round(summary.seconds, 3),
        "images_per_s": round(summary.images_per_s, 1),
        "out": wanted.out and str(wanted.out),
        "failures": [{"path": row.path, "error": row.error} for row in summary.failures],
    }
    if isinstance(kept, results.Collected):
        told["results"] = [row.as_dict(wanted.top_k) for row in kept.rows]
    click.echo(json.dumps(told, ensure_ascii=False))


def _resume_hint(wanted: Wanted) -> str:
    return f" Run the same command again to go on after what {wanted.out} has." if wanted.out else ""
