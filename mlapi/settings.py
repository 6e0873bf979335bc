"""Settings of `mlapi serve`, which runs all services on one machine."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from jobs.settings import SharedSettings
from mlapi.service.cores import available_cores


def _split(paths: object) -> object:
    return tuple(path.strip() for path in paths.split(",")) if isinstance(paths, str) else paths


Folders = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split)]


class ServeSettings(SharedSettings):
    """The settings of `mlapi serve` itself."""

    redis_folder: Path | None = Field(
        default=None,
        description="Folder in which Redis keeps jobs and cache, in an append-only file; none is memory only",
    )
    models_beside: Folders | None = Field(
        default=None,
        description="Folders of further models, or of versions of MODEL, as in `var/models/pets-2,var/models/cars`",
    )
    instances_beside: int = Field(default=1, ge=1, description="Workers of each of these")
    instances: int = Field(default_factory=available_cores, ge=1, description="Model workers; by default one per core")
