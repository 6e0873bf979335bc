"""Ends a process when the one that started it is gone, even if that was killed."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None)


def ending_with_starter() -> Callable[[], None] | None:
    """Return a `preexec_fn` by which a new process gets SIGTERM when the thread that started it is gone.

    Only Linux supports this; elsewhere it is None.
    """
    if sys.platform != "linux":
        return None
    starter = os.getpid()

    def ask_kernel() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != starter:  # it was gone before the kernel was asked
            os._exit(1)

    return ask_kernel


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Send this process a signal when its `multiprocessing` parent, if it has one, is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=[parent, number], name="lifeline", daemon=True).start()


def _end_after(parent: multiprocessing.process.BaseProcess, number: signal.Signals) -> None:
    parent.join()
    os.kill(os.getpid(), number)
