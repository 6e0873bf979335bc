"""Finds the files of a collection from files, folders and globs, in a stable order."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from glob import glob, iglob  # not those of pathlib, whose patterns begin nowhere else than in a folder
from operator import attrgetter
from pathlib import Path

# Extensions of the images in a folder. A file that is named itself may have any.
ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".gif")
# A spreadsheet would take a path in the CSV results that begins with one of these for a formula, and compute it.
_FORMULAS = "=", "+", "-", "@", "\t", "\r"


def missing(names: Iterable[str]) -> list[str]:
    """Return the names that are no file or folder, and match nothing as a glob."""
    return [name for name in names if not os.path.lexists(name) and not any(iglob(name, recursive=True))]  # noqa: PTH207


def are_same(name: str, folder: Path) -> bool:
    """Return whether a name refers to a folder."""
    return os.path.realpath(name) == os.path.realpath(folder)


def find(names: Iterable[str], without: Path | None = None, ignored: Counter[str] | None = None) -> Iterator[str]:
    """Yield the paths of the files, and of the images in the folders and their subfolders.

    Folders are read lazily, each sorted by name. Left out are names that begin with a dot, links to folders, the
    folder `without`, and files with other extensions, which `ignored` counts by extension. A folder that cannot be
    read is yielded like a file, so that reading it reports the error.
    """
    left_out = os.path.realpath(without) if without else None
    ignored = Counter() if ignored is None else ignored
    for name in names:
        for path in [name] if os.path.lexists(name) else sorted(glob(name, recursive=True)):  # noqa: PTH207
            here = f"./{path}" if path.startswith(_FORMULAS) else path
            if Path(here).is_dir():
                yield from _walk(here, left_out, ignored)
            else:
                yield here


def _walk(folder: str, left_out: str | None, ignored: Counter[str]) -> Iterator[str]:
    if left_out and os.path.realpath(folder) == left_out:
        return
    try:
        with os.scandir(folder) as entries:
            visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=attrgetter("name"))
    except OSError:
        yield folder
        return
    for entry in visible:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, left_out, ignored)
        elif entry.name.lower().endswith(ENDINGS):
            yield entry.path
        else:
            ignored[Path(entry.name).suffix.lower()] += 1
