"""Locks on open files, which also work between machines."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def shared(file: IO[bytes]) -> Iterator[None]:
    """Hold a shared lock, waiting until nobody holds an exclusive one."""
    fcntl.flock(file, fcntl.LOCK_SH)
    try:
        yield
    finally:
        _release(file)


@contextmanager
def exclusive(file: IO[bytes], *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock. Raises `BlockingIOError` if another process holds a lock and `wait` is false."""
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    try:
        yield
    finally:
        _release(file)


def _release(file: IO[bytes]) -> None:
    # Closing the file would not release the lock if a process was forked meanwhile: it holds the lock, too.
    fcntl.flock(file, fcntl.LOCK_UN)
