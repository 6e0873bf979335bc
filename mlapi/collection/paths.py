"""Which files a collection has: the files, folders and globs that were named, in an order that stays the same."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from glob import glob, iglob  # not those of pathlib, whose patterns begin nowhere else than in a folder
from operator import attrgetter
from pathlib import Path

# What ends like this in a folder is taken for an image. A file that is named itself may end as it likes.
ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".gif")
# A path that begins so, a spreadsheet would take for a formula in the CSV file of the results, and compute.
_FORMULAS = "=", "+", "-", "@", "\t", "\r"


def missing(names: Iterable[str]) -> list[str]:
    """Return the names of which there is no file, no folder, and nothing that they match as a glob."""
    return [name for name in names if not os.path.lexists(name) and not any(iglob(name, recursive=True))]  # noqa: PTH207


def are_same(name: str, folder: Path) -> bool:
    """Tell whether a name is that of a folder."""
    return os.path.realpath(name) == os.path.realpath(folder)


def find(names: Iterable[str], without: Path | None = None, ignored: Counter[str] | None = None) -> Iterator[str]:
    """Yield the paths of the files; of folders, those of the images in them and in the folders below.

    Folders are read while it goes, each in the order of its names. Left out are names that begin with a dot, links to
    folders, the folder `without`, and files with other endings, which `ignored` counts by these. A folder that cannot
    be read is yielded as if it were a file, so that whoever reads it finds out.
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
