"""A semaphore that an event loop takes and threads give back."""

import asyncio
import threading
from collections import deque


class Turns:
    """So many turns at once, in the order in which they are asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> "Turn":
        """Return a turn when there is one."""
        with self._lock:
            waiting = None if self._free else self._loop.create_future()
            if waiting:
                self._waiting.append(waiting)
            else:
                self._free -= 1
        if waiting:
            await waiting
        return Turn(self)

    def give_back(self) -> None:
        """Let the next one have a turn that is over; from any thread."""
        with self._lock:
            waiting = self._waiting.popleft() if self._waiting else None
            self._free += waiting is None
        if waiting:  # the loop is woken only for somebody: that costs more than the rest
            self._loop.call_soon_threadsafe(waiting.set_result, None)


class Turn:
    """One of the turns."""

    def __init__(self, turns: Turns) -> None:
        self._turns: Turns | None = turns

    def end(self) -> None:
        """Give it back, the first time that this is called; from one thread after the other."""
        turns, self._turns = self._turns, None
        if turns:
            turns.give_back()
