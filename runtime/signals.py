"""Notices signals that ask a process to stop."""

import signal
import threading
from queue import SimpleQueue


def stop_event() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set, however many of them come.

    A thread sets it, at the word of the handler. The lock of an event is not reentrant: a handler that sets it itself
    waits for ever where a second signal comes meanwhile, or while the main thread begins to wait for the event.
    """
    stopped, signals = threading.Event(), SimpleQueue[int]()

    def wait() -> None:
        signals.get()
        stopped.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.put(number))
    return stopped
