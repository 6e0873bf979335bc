"""What one process knows of the queue's backlog without asking: how long it takes, and how much room is left."""

import math
import time

from runtime.errors import QueueFull

# What is known stands for a tenth of the time that the backlog takes: the workers have enough to do until then.
_STANDS_FOR_SHARE = 0.1
_STANDS_AT_MOST_S = 1.0


class Backlog:
    """Any thread may use it."""

    def __init__(self) -> None:
        self._wait_s = 0.0
        self._room = math.inf
        self._stands_until = -math.inf  # on the monotonic clock

    def heard(self, wait_s: float, room: float) -> None:
        """Note in how many seconds what waits now will be done, and for how many more jobs there is room."""
        self._wait_s = wait_s
        self._room = max(1.0, room)  # one can always ask
        self._stands_until = time.monotonic() + min(_STANDS_FOR_SHARE * wait_s, _STANDS_AT_MOST_S)

    def refuse(self) -> QueueFull:
        """Return the refusal of a job; for a moment it is that of all others, too."""
        self._room = 0.0
        return QueueFull(retry_after_s=self.retry_after_s())

    def refusal(self, ahead: int) -> QueueFull | None:
        """Return the refusal of a job for which there is no room behind so many others, as far as that is known."""
        is_full = ahead >= self._room and time.monotonic() < self._stands_until
        return QueueFull(retry_after_s=self.retry_after_s()) if is_full else None

    def retry_after_s(self) -> int:
        """Return the whole seconds after which to try again, at least one."""
        return max(1, math.ceil(self._wait_s))
