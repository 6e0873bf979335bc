"""What one process knows of the queue's backlog without asking: how long it takes, and whether that was too long."""

import math
import time

from jobs.errors import QueueFull

# A refusal stands for those that come within a tenth of the time that the backlog takes: the workers have enough to do
# until then.
_STANDS_FOR_SHARE = 0.1
_STANDS_AT_MOST_S = 1.0


class Backlog:
    """Any thread may use it."""

    def __init__(self) -> None:
        self._wait_s = 0.0
        self._full_until = -math.inf  # on the monotonic clock

    def heard(self, wait_s: float) -> None:
        """Note in how many seconds what waits now will be done."""
        self._wait_s = wait_s

    def refuse(self) -> QueueFull:
        """Return the refusal of a job, which stands for a moment."""
        self._full_until = time.monotonic() + min(_STANDS_FOR_SHARE * self._wait_s, _STANDS_AT_MOST_S)
        return QueueFull(retry_after_s=self.retry_after_s())

    def refusal(self) -> QueueFull | None:
        """Return the refusal that stands, if one does."""
        return QueueFull(retry_after_s=self.retry_after_s()) if time.monotonic() < self._full_until else None

    def retry_after_s(self) -> int:
        """Return the whole seconds after which to try again, at least one."""
        return max(1, math.ceil(self._wait_s))
