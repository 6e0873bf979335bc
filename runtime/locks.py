"""Locks on open files, which processes of several machines can share too."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def shared(file: IO[bytes]) -> Iterator[None]:
    """Wait until nobody has the file to itself, and keep it so."""
    fcntl.flock(file, fcntl.LOCK_SH)
    try:
        yield
    finally:
        _release(file)


@contextmanager
def exclusive(file: IO[bytes], *, wait: bool = True) -> Iterator[None]:
    """Have the file to oneself. Raises `BlockingIOError` where another has it and `wait` is false."""
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    try:
        yield
    finally:
        _release(file)


def _release(file: IO[bytes]) -> None:
    # Closing the file would not do where a process was forked meanwhile: it has the lock too.
    fcntl.flock(file, fcntl.LOCK_UN)
