"""A small disk that can be filled."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_SIZE_MB = 512


class CannotMount(Exception):
    """No disk can be mounted here, or this user may not."""


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """Mount a small disk in memory at `folder`. Raises `CannotMount`."""
    _run("mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "tmpfs", str(folder))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(folder))


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Fill the disk of a folder."""
    file = folder / "filler"
    block = bytes(1 << 20)
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(block):
            pass
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _run(*command: str) -> None:
    if os.geteuid() != 0:
        raise CannotMount("only root can mount a disk")
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise CannotMount(done.stderr.strip())
