"""The command `mlapi classify`."""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from mlapi.collection import paths, results, run, sorting
from mlapi.collection.results import Results
from mlapi.collection.rows import as_text
from mlapi.collection.run import Classifying, Summary
from mlapi.terminal import echo, echo_json, echo_lines
from runtime.errors import ServiceError, SetupError

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar  # click does not export it

ALL_CLASSIFIED, SOME_FAILED, CANNOT_GO_ON = 0, 1, 3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FAILURES_SHOWN = 20
_ENDINGS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """The command line's arguments and options."""

    names: Sequence[str]
    out: Path | None = None
    copy_into: Path | None = None
    service: str | None = None
    key: str | None = None
    top_k: int = 1
    as_json: bool = False


class Signals:
    """Records Ctrl-C and SIGTERM; the first notifies listeners, the second ends this process at once."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._told: list[Callable[[], None]] = []

    def tell(self, listener: Callable[[], None]) -> None:
        """Call a function at the first signal."""
        self._told.append(listener)

    def stop(self, number: int, _: FrameType | None) -> None:
        """Handle the first signal."""
        self.received.append(number)
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # Not through a stream, which may be in use right now.
        os.write(sys.stderr.fileno(), b"\nFinishing the images in work; once more ends it at once.\n")
        for listener in self._told:
            listener()


def classify(wanted: Wanted) -> int:
    """Classify a collection, print a summary, and return the exit status. Raises `click.UsageError`."""
    if missing := paths.missing(wanted.names):
        raise click.UsageError(f"There is nothing at {', '.join(missing)}.")
    if wanted.copy_into and any(paths.are_same(name, wanted.copy_into) for name in wanted.names):
        raise click.UsageError(f"{wanted.copy_into} is the collection itself, and copies are no part of that.")
    try:
        with _asked_to_stop() as signals:
            return _classify(wanted, _results(wanted), signals)
    except (SetupError, ServiceError) as err:
        echo_lines(f"mlapi: {err}", error=True)
        return CANNOT_GO_ON


def _classify(wanted: Wanted, kept: Results, signals: Signals) -> int:
    try:
        with _classifying(wanted) as classifying:
            signals.tell(classifying.hurry)
            summary = _through(wanted, classifying, kept, signals)
    finally:
        kept.finish()
    (_say_as_json if wanted.as_json else _say)(wanted, summary, kept, interrupted=bool(signals.received))
    if signals.received:
        return 128 + signals.received[0]
    if summary.error:
        return CANNOT_GO_ON
    return SOME_FAILED if summary.failures else ALL_CLASSIFIED


def _through(wanted: Wanted, classifying: Classifying, kept: Results, signals: Signals) -> Summary:
    """Classify files without a row, until a signal or an error that is not about an image."""

    def todo(ignored: Counter[str] | None = None) -> Iterator[str]:
        return run.left(paths.find(wanted.names, without=wanted.copy_into, ignored=ignored), kept.done)

    def until_signal(found: Iterable[str]) -> Iterator[str]:
        return takewhile(lambda _: not signals.received, found)

    ignored = Counter[str]()
    count = sum(1 for _ in todo(ignored))  # while the network is loading
    classifying.wait_until_ready()
    summary = Summary(ignored=ignored)
    try:
        if wanted.copy_into and kept.done:
            found = until_signal(paths.find(wanted.names, without=wanted.copy_into))
            _copy(((path, kept.done.get(as_text(path))) for path in found), wanted.copy_into, again=True)
        with _progress(count, hidden=_would_disturb(wanted)) as progress:
            for chunk, rows in run.classified(until_signal(todo()), classifying):
                if wanted.copy_into:
                    _copy(zip(chunk, (row.label for row in rows), strict=True), wanted.copy_into)
                kept.add(rows)
                summary.add(rows)
                progress.update(len(rows), summary)
    except (SetupError, ServiceError) as err:
        summary.error = err
    return summary


def _copy(labelled: Iterable[tuple[str, str | None]], folder: Path, *, again: bool = False) -> None:
    """Copy files that have a class into its folder."""
    for path, label in labelled:
        if label is not None:
            sorting.copy(path, label, folder, again=again)


def _results(wanted: Wanted) -> Results:
    """Return the destination of rows. Raises `click.UsageError` or `ResultsError`."""
    if wanted.out is None:
        return results.Collected() if wanted.as_json else results.Printed(wanted.top_k)
    if wanted.out.suffix not in results.OPENERS:
        raise click.UsageError(f"{wanted.out} should end in {', '.join(results.OPENERS)}.")
    return results.OPENERS[wanted.out.suffix](wanted.out, wanted.top_k)


def _classifying(wanted: Wanted) -> AbstractContextManager[Classifying]:
    """Return the classifier: a service or local processes. Raises `SettingsError`, `ModelError` or `ServiceError`."""
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
    manifest = ModelManifest.load(settings.model)  # reports errors in it at once
    _refuse_more_than(len(manifest.labels), wanted)
    return Processes(settings, ServeSettings.from_env().instances)


def _refuse_more_than(classes: int, wanted: Wanted) -> None:
    """Raise `SetupError` if more classes are requested than the model has."""
    if wanted.top_k > classes:
        raise SetupError(f"The model knows {classes} classes, so --top-k can be {classes} at most.")


@contextmanager
def _asked_to_stop() -> Iterator[Signals]:
    """Handle signals meanwhile, and yield their record."""
    signals = Signals()
    former = {number: signal.signal(number, signals.stop) for number in _SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _would_disturb(wanted: Wanted) -> bool:
    """Return whether a progress bar would come between rows on a terminal, or into a file."""
    prints_rows = wanted.out is None and not wanted.as_json
    return not sys.stderr.isatty() or (prints_rows and sys.stdout.isatty())


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
    """Print the summary, failed files and skipped ones on standard error."""
    words = f"{summary.classified} classified, {len(summary.failures)} failed"
    if kept.done:
        words += f", {len(kept.done)} had a row before"
    echo(f"{words}; {summary.seconds:.1f} s, {summary.images_per_s:.0f} images/s", error=True)
    shown = summary.failures[: _FAILURES_SHOWN if wanted.out else None]
    for row in shown:
        echo(f"  {row.path}: {row.error}", error=True)
    if len(shown) < len(summary.failures):
        echo(f"  ... {wanted.out} has all that failed", error=True)
    if summary.ignored:
        endings = ", ".join(
            f"{count} {ending or 'without one'}" for ending, count in summary.ignored.most_common(_ENDINGS_SHOWN)
        )
        echo(f"Files with other endings than {' '.join(paths.ENDINGS)} were left out: {endings}", error=True)
    if not (summary.classified or summary.failures or kept.done or summary.error or interrupted):
        echo(f"There are no images in {', '.join(wanted.names)}.", error=True)
    if interrupted:
        echo(f"Interrupted.{_resume_hint(wanted)}", error=True)
    elif summary.error:
        echo_lines(f"mlapi: {summary.error}{_resume_hint(wanted)}", error=True)


def _say_as_json(wanted: Wanted, summary: Summary, kept: Results, *, interrupted: bool) -> None:
    """Print the summary as one JSON object; it includes the rows if no file has them."""
    told = {
        "classified": summary.classified,
        "failed": len(summary.failures),
        "done_before": len(kept.done),
        "interrupted": interrupted,
        "error": summary.error and str(summary.error),
        "seconds": round(summary.seconds, 3),
        "images_per_s": round(summary.images_per_s, 1),
        "out": wanted.out and str(wanted.out),
        "failures": [{"path": row.path, "error": row.error} for row in summary.failures],
        "left_out": dict(summary.ignored),
    }
    if isinstance(kept, results.Collected):
        told["results"] = [row.as_dict(wanted.top_k) for row in kept.rows]
    results.say(echo_json, json.dumps(told, ensure_ascii=False))


def _resume_hint(wanted: Wanted) -> str:
    return f" Run the same command again to go on after what {wanted.out} has." if wanted.out else ""
