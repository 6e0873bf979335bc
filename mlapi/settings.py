"""What can be set about what runs on one machine together."""

from pathlib import Path

from pydantic import Field

from jobs.settings import SharedSettings
from mlapi.cores import available_cores


class ServeSettings(SharedSettings):
    """The settings of `mlapi serve` itself."""

    redis_folder: Path | None = Field(
        default=None,
        description="Folder in which Redis keeps jobs and cache, in an append-only file; none is memory only",
    )
    instances: int = Field(default_factory=available_cores, ge=1, description="Model workers; by default one per core")
