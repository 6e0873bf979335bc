"""A decoder with a bug: certain pictures crash the process that decodes them.

Python imports this at its start where this folder is on PYTHONPATH. The API reads no more than a picture's header, so
the workers crash.
"""

import resource
import signal
from typing import Any

from PIL import ImageFile

_load = ImageFile.ImageFile.load


def _crash_or_load(image: ImageFile.ImageFile) -> Any:  # noqa: ANN401 - as it is Pillow's
    if "crash" in image.info:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.raise_signal(signal.SIGSEGV)
    return _load(image)


ImageFile.ImageFile.load = _crash_or_load  # type: ignore[assignment, method-assign]
