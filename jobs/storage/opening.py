"""Opens the image store that the settings name."""

from jobs.settings import SharedSettings
from jobs.storage.images import FolderImageStore, ImageStore
from runtime.errors import SetupError


def open_store(settings: SharedSettings) -> ImageStore:
    """Return the store that the settings name. Raises `SetupError`."""
    if settings.upload_url is None:
        return FolderImageStore(settings.upload_folder)
    try:
        from jobs.storage.object_storage import ObjectImageStore
    except ModuleNotFoundError as err:
        raise SetupError(f"UPLOAD_URL needs {err.name}: `pip install 'flask-ml-api[storage]'`.") from err
    return ObjectImageStore(settings.upload_url)
