"""Catches signals that ask a process to stop."""

import signal
import threading
from queue import SimpleQueue


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set, however many of them come.

    The handler wakes a thread that sets it. The lock of an event is not reentrant: a handler that sets the event itself
    waits for ever if a second signal comes meanwhile, or if the main thread is just beginning to wait for the event.
    """
    stopped, signals = threading.Event(), SimpleQueue[int]()

    def wait() -> None:
        signals.get()
        stopped.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.put(number))
    return stopped
