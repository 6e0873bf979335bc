"""Settings of the model workers."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from jobs.settings import SharedSettings


class ModelSettings(SharedSettings):
    """A worker's settings, each read from the environment variable of its upper-case name."""

    model: Path = Field(
        default=Path("var/models/efficientnet-lite0"),
        description="Folder of the model to serve: model.onnx, labels.txt, model.toml",
    )
    beside: bool = Field(
        default=False,
        description="Whether MODEL runs beside another model or version: it gets the requests that name it, and those "
        "that `mlapi model` routes to it",
    )
    batch_size: int = Field(
        default=8, ge=1, description="Maximum number of images in a batch; fewer if larger batches are no faster"
    )
    jobs_at_once: int = Field(default=8, ge=1, description="Jobs that a worker takes from the queue at once")
    # The costliest pictures within the other limits took 2.4 s (50 megapixels as a PNG) and 4.1 s (with 16 bits, and
    # interlaced); a photo of 12 megapixels takes 0.1 s.
    max_decode_s: float = Field(
        default=5,
        gt=0,
        description="Seconds of processor time that decoding one image may take; beyond it, the image is refused",
    )
    # One thread per worker and one worker per core: two one-thread workers classified 1.6 times as many images as one
    # two-thread worker (docs/performance.md).
    threads: int = Field(default=1, ge=1, description="Threads of one worker's inference engine")
    # bf16 takes about half of the time that f32 takes, on processors that have it.
    precision: Literal["auto", "f32", "bf16"] = Field(
        default="auto",
        description="Arithmetic inside the network: f32, bf16, or (auto) bf16 if the processor supports it",
    )
