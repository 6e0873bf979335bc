"""Shows operators the quarantined images, which crashed their workers."""

from datetime import datetime, timezone
from pathlib import Path

from jobs.queue.interface import JobQueue
from jobs.schema import SetAsideImage
from jobs.storage.images import ImageStore
from runtime.errors import SetupError


def find(queue: JobQueue, beginning: str) -> SetAsideImage:
    """Return the image whose name has this prefix. Raises `SetupError` if there is none, or more than one."""
    found = [image for image in queue.set_aside_images() if image.image_name.startswith(beginning)]
    if len(found) != 1:
        number = "Several images" if found else "No image"
        raise SetupError(f"{number} set aside: the name begins with {beginning}. `mlapi set-aside list` shows all.")
    return found[0]


def line(image: SetAsideImage) -> str:
    """Return when an image was quarantined, and its name."""
    return f"{_time(image)}  {image.image_name}"


def as_dict(image: SetAsideImage) -> dict[str, object]:
    """Return an image's facts, for JSON."""
    at = datetime.fromtimestamp(image.at_s, timezone.utc).isoformat(timespec="milliseconds")
    return {"image": image.image_name, "set_aside": at, "job": image.job_id, "worker": image.worker}


def facts(image: SetAsideImage, images: ImageStore) -> str:
    """Return an image's facts as text. It is not decoded: decoding crashed its workers."""
    size = size_bytes(image, images)
    return f"""\
image      {image.image_name} ({"no longer stored" if size is None else f"{size} bytes"})
set aside  {_time(image)}
job        {image.job_id}
worker     {image.worker}, the second that it ended"""


def size_bytes(image: SetAsideImage, images: ImageStore) -> int | None:
    """Return the size of an image, or None if it is no longer stored."""
    try:
        return len(images.get(image.image_name))
    except FileNotFoundError:
        return None


def save(image: SetAsideImage, images: ImageStore, file: Path) -> None:
    """Write an image to a file. Raises `SetupError` if it cannot be read or written."""
    try:
        file.write_bytes(images.get(image.image_name))
    except OSError as err:
        raise SetupError(f"{image.image_name} cannot be saved as {file}: {err}") from err


def _time(image: SetAsideImage) -> str:
    return datetime.fromtimestamp(image.at_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
