"""A limit on the time that decoding one picture may take."""

import math
import signal
import time
from collections.abc import Callable
from typing import TypeVar

from runtime.errors import DeadlinePassed, TooCostly

T = TypeVar("T")

# If the code has not returned to Python this much later, the process is ended.
_GRACE_S = 0.5
# An interruption that a decoder swallows is repeated after this time.
_REPEAT_S = 0.1


class _Interruption(BaseException):
    """Interrupts a decoder. It is no `Exception`, which a decoder might take for damage."""

    def __init__(self, number: int) -> None:
        self.number = number


class DecodingLimit:
    """Interrupts the decoding of a picture at its deadline, or after `limit_s` of this process's processor time.

    Processor time, so that no picture is refused because the machine is busy or the storage slow. Python code is
    interrupted by an exception, and the picture fails alone. Machine code may not return to Python, or may even hold
    its lock; the kernel then ends the process, and the queue identifies the picture.

    Python handles signals in its main thread: create this there, and decode there.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._is_decoding = False
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, self._interrupt)
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)  # the default ends the process

    def _interrupt(self, number: int, _: object) -> None:
        if self._is_decoding:
            raise _Interruption(number)

    def __call__(self, decode: Callable[[], T], deadline: float = math.inf) -> T:
        """Return `decode()`'s result; the deadline is on the monotonic clock.

        Raises what it raises, `TooCostly` or `DeadlinePassed`.
        """
        try:
            self._is_decoding = True
            self._set_timers(deadline - time.monotonic())
            return decode()
        except _Interruption as err:
            raise (DeadlinePassed if err.number == signal.SIGALRM else TooCostly) from None
        finally:
            self._is_decoding = False
            for timer in (signal.ITIMER_PROF, signal.ITIMER_VIRTUAL, signal.ITIMER_REAL):
                signal.setitimer(timer, 0)

    def _set_timers(self, left_s: float) -> None:
        signal.setitimer(signal.ITIMER_PROF, self._limit_s, _REPEAT_S)
        # This timer's clock excludes the kernel's work for the process, so it is never ahead of the other.
        signal.setitimer(signal.ITIMER_VIRTUAL, self._limit_s + _GRACE_S)
        if left_s < math.inf:
            signal.setitimer(signal.ITIMER_REAL, max(left_s, _REPEAT_S), _REPEAT_S)


def unlimited(decode: Callable[[], T], deadline: float) -> T:  # noqa: ARG001
    """Return `decode()`'s result, without a time limit."""
    return decode()
