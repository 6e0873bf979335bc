"""Results kept for a while: the predictions that requests asked for, and the answers that they got."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from jobs.schema import Outcome

_NO_OUTCOMES: Mapping[str, Outcome] = {}


def never() -> bool:
    """Return False."""
    return False


@dataclass(frozen=True, slots=True)
class Result:
    """A request, as a JSON object of the caller's own, and the outcomes of its jobs that have come so far."""

    request: Mapping[str, Any]
    job_ids: tuple[str, ...]
    outcomes: Mapping[str, Outcome] = field(default_factory=lambda: _NO_OUTCOMES)

    @property
    def is_done(self) -> bool:
        """Whether every job has its outcome."""
        return all(job_id in self.outcomes for job_id in self.job_ids)


class ResultStore(Protocol):
    """Keeps results and small texts, each with its own lifetime; when they take too much, the oldest are dropped.

    It also keeps reminders of work to do later, by whichever process asks for due ones.

    Every method raises `QueueUnavailable`.
    """

    def keep(self, result_id: str, result: Result, ttl_s: int) -> None:
        """Keep a new result, done or not."""

    def add(self, result_id: str, job_id: str, outcome: Outcome) -> None:
        """Add a job's outcome to a result."""

    def get(self, result_id: str, wait_s: float = 0, stopped: Callable[[], bool] = never) -> Result | None:
        """Return a result, or None if there is none (any more) with this id.

        If it is not done, wait for that up to `wait_s`, unless `stopped` says that nobody waits any more.
        """

    def drop(self, result_id: str) -> None:
        """Forget a result."""

    def claim(self, key: str, text: str, ttl_s: int) -> str | None:
        """Keep a text under a key, unless there is one already; return the one already there."""

    def settle(self, key: str, text: str, ttl_s: int) -> None:
        """Keep a text under a key, replacing any other."""

    def release(self, key: str) -> None:
        """Forget the text under a key."""

    def remind(self, name: str, after_s: float) -> None:
        """Schedule a reminder."""

    def due(self, again_s: float) -> str | None:
        """Return a due reminder. It is due again after `again_s`, unless it is dropped before."""

    def drop_reminder(self, name: str) -> None:
        """Forget a reminder."""

    def stop_waiting(self) -> None:
        """End all waiting for results, now and later, as the service is about to stop."""

    def close(self) -> None:
        """End the connections."""


class MemoryResults:
    """The `ResultStore` in the memory of one process, for tests; it never drops anything by itself."""

    def __init__(self) -> None:
        self._results: dict[str, Result] = {}
        self._texts: dict[str, str] = {}
        self._reminders: dict[str, float] = {}  # when they are due, on the monotonic clock
        self._changed = threading.Condition()
        self._stopping = False

    def keep(self, result_id: str, result: Result, ttl_s: int) -> None:  # noqa: ARG002 - longer than a test takes
        """Keep a new result."""
        self._results[result_id] = result

    def add(self, result_id: str, job_id: str, outcome: Outcome) -> None:
        """Add a job's outcome to a result."""
        with self._changed:
            result = self._results.get(result_id)
            if result:
                self._results[result_id] = replace(result, outcomes={**result.outcomes, job_id: outcome})
                self._changed.notify_all()

    def get(self, result_id: str, wait_s: float = 0, stopped: Callable[[], bool] = never) -> Result | None:
        """Return a result, waiting until it is done."""
        deadline = time.monotonic() + wait_s
        with self._changed:
            while (result := self._results.get(result_id)) and not result.is_done:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or self._stopping or stopped():
                    break
                self._changed.wait(min(left_s, 0.05))
            return result

    def drop(self, result_id: str) -> None:
        """Forget a result."""
        self._results.pop(result_id, None)

    def claim(self, key: str, text: str, ttl_s: int) -> str | None:  # noqa: ARG002
        """Keep a text under a key, unless there is one already."""
        found = self._texts.setdefault(key, text)
        return None if found is text else found

    def settle(self, key: str, text: str, ttl_s: int) -> None:  # noqa: ARG002
        """Keep a text under a key."""
        self._texts[key] = text

    def release(self, key: str) -> None:
        """Forget the text under a key."""
        self._texts.pop(key, None)

    def remind(self, name: str, after_s: float) -> None:
        """Schedule a reminder."""
        self._reminders[name] = time.monotonic() + after_s

    def due(self, again_s: float) -> str | None:
        """Return a due reminder."""
        name = next((name for name, due_at in self._reminders.items() if due_at <= time.monotonic()), None)
        if name is not None:
            self.remind(name, again_s)
        return name

    def drop_reminder(self, name: str) -> None:
        """Forget a reminder."""
        self._reminders.pop(name, None)

    def stop_waiting(self) -> None:
        """End all waiting."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def close(self) -> None:
        """Do nothing: there are no connections."""
