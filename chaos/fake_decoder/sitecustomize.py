"""A decoder with bugs: pictures of certain sizes crash the process that decodes them, or keep it busy for ever.

Python imports this at its start if this folder is on PYTHONPATH. The API reads only a picture's header, so only workers
are affected.
"""

import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from PIL import ImageFile

_load = ImageFile.ImageFile.load


def _crash() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.raise_signal(signal.SIGSEGV)


def _compute_in_python() -> None:
    while True:
        pass


def _compute_in_machine_code() -> None:
    """Block all other threads and signals."""
    sum(range(sys.maxsize))


# Width and height, which chaos/faults.py has as well.
_BUGS: dict[tuple[int, int], Callable[[], None]] = {
    (13, 17): _crash,
    (13, 19): _compute_in_python,
    (13, 23): _compute_in_machine_code,
}


def _load_with_bugs(image: ImageFile.ImageFile) -> Any:  # noqa: ANN401 - as it is Pillow's
    if bug := _BUGS.get(image.size):
        bug()
    return _load(image)


ImageFile.ImageFile.load = _load_with_bugs  # type: ignore[assignment, method-assign]
