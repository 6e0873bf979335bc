"""A process's cached estimate of the backlog: how long it takes, and how much room is left."""

import math
import time

from runtime.errors import QueueFull

# The estimate is valid for a tenth of the time that the backlog takes: the workers are busy until then anyway.
_STANDS_FOR_SHARE = 0.1
_STANDS_AT_MOST_S = 1.0


class Backlog:
    """An estimate of the backlog, updated after every submit. Thread-safe."""

    def __init__(self) -> None:
        self._wait_s = 0.0
        self._room = math.inf
        self._stands_until = -math.inf  # on the monotonic clock

    def heard(self, wait_s: float, room: float) -> None:
        """Update the estimate: seconds until the present backlog is done, and room for further jobs."""
        self._wait_s = wait_s
        self._room = max(1.0, room)  # one request may always ask
        self._stands_until = time.monotonic() + min(_STANDS_FOR_SHARE * wait_s, _STANDS_AT_MOST_S)

    def refuse(self) -> QueueFull:
        """Return the error for a refused job; for a moment, all others are refused, too."""
        self._room = 0.0
        return QueueFull(retry_after_s=self.retry_after_s())

    def refusal(self, ahead: int) -> QueueFull | None:
        """Return the refusal of a job if the queue is known to have no room behind `ahead` jobs, else None."""
        is_full = ahead >= self._room and time.monotonic() < self._stands_until
        return QueueFull(retry_after_s=self.retry_after_s()) if is_full else None

    def retry_after_s(self) -> int:
        """Return the whole seconds after which to retry, at least one."""
        return max(1, math.ceil(self._wait_s))
