"""Settings of the API."""

from pathlib import Path

from pydantic import Field, SecretStr

from api.access.hosts import HostNames
from api.access.rates import Rate
from jobs.settings import SharedSettings
from runtime import listening
from runtime.listening import ListenAddress

# Threads for requests that wait for no worker: the page, pictures, health checks.
SPARE_THREADS = 32


class ApiSettings(SharedSettings):
    """The API's settings, read from environment variables of the same names in upper case."""

    host: ListenAddress = Field(
        default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all of the machine's"
    )
    port: int = Field(default=5000, ge=1, le=65535, description="Port to listen on")
    api_processes: int = Field(
        default=1, ge=1, description="API processes; one serves far more than a few cores classify"
    )
    # Each takes some memory. Half as many requests may wait for a result with `?wait=`, and hold a thread each.
    api_threads: int = Field(
        default=1024, ge=1, description="Images that one API process waits for at once; beyond it, 429"
    )
    predict_timeout_s: float = Field(default=30, gt=0, description="Seconds until an unanswered request gets a 504")
    max_upload_bytes: int = Field(
        default=10_000_000, ge=1, description="Size of an uploaded file; a larger one gets a 413"
    )
    max_request_bytes: int = Field(
        default=20_000_000,
        ge=1,
        description="Size of a request to `/v1/predictions` or `/v2`, which may have several images; a larger one gets "
        "a 413",
    )
    async_timeout_s: float = Field(
        default=3600,
        gt=0,
        description="Seconds within which an image sent with `Prefer: respond-async` must be classified",
    )
    result_ttl_s: int = Field(
        default=86_400,
        ge=1,
        description="Seconds that predictions of `/v1`, and answers by `Idempotency-Key`, are kept",
    )
    # A prediction for one image takes 4.5 KB, for 16 images 12 KB.
    result_bytes: int = Field(
        default=100_000_000,
        ge=1,
        description="Memory in Redis for each of [their three kinds](docs/reliability.md#what-redis-holds); beyond "
        "it, the oldest go first",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        min_length=24,
        description="Secret that webhooks are signed with: `whsec_` and base64, or any long text; without it, none "
        "are sent",
    )
    webhook_allow_private: bool = Field(
        default=False, description="Whether webhooks may go to addresses that are not on the Internet"
    )
    max_image_frames: int = Field(
        default=1000, ge=1, description="Frames of an animation, of which the first is classified; more get a 413"
    )
    # Photos have some kilobytes of it; with a depth map or an editor's history, a few megabytes.
    max_metadata_bytes: int = Field(
        default=4_000_000, ge=1, description="Size of everything in an image file besides the picture; more gets a 413"
    )
    upload_timeout_s: float = Field(
        default=60, gt=0, description="Seconds that a client may take to send its request; a slower one gets a 408"
    )
    upload_max_age_s: int = Field(
        default=86_400, ge=1, description="Seconds that an uploaded image is kept after it was last sent"
    )
    upload_max_bytes: int = Field(
        default=10_000_000_000, ge=1, description="Disk space of all uploaded images; beyond it, the oldest go"
    )
    feedback_filepath: Path = Field(
        default=Path("var/feedback/feedback"), description="The file that reports of wrong predictions are appended to"
    )
    max_feedback_bytes: int = Field(default=4096, ge=1, description="Size of one report; a larger one gets a 413")
    api_keys_file: Path | None = Field(
        default=None, description="The file that `mlapi key` writes; if set, every request needs a key"
    )
    rate_limit: Rate | None = Field(
        default=None, description="Requests that one client address may send, as in `600/minute`; more get a 429"
    )
    trusted_proxies: int = Field(
        default=0,
        ge=0,
        description="[Proxies](docs/proxies.md) in front of the API, whose `X-Forwarded-` headers are believed",
    )
    trusted_hosts: HostNames | None = Field(
        default=None,
        description="Host names that requests may use besides localhost and IP addresses, as in "
        "`pictures.example,.example.org`; by default any, or none if the service listens on this machine alone, "
        "without keys and proxies",
    )
    drain_s: float = Field(
        default=1,
        ge=0,
        description="Seconds after SIGTERM during which requests are still served while `/readyz` answers 503",
    )
    # As long as a request may wait anyway, so that no request in progress is lost.
    stop_timeout_s: float = Field(
        default=30,
        ge=0,
        description="Seconds that requests in progress have after that; those still unanswered get a 503",
    )

    @property
    def local_url(self) -> str:
        """The API's URL on this machine."""
        return listening.local_url(self.host, self.port)

    @property
    def feedback_records(self) -> Path:
        """The file of `/v1` feedback, beside `feedback_filepath`."""
        return self.feedback_filepath.with_name(f"{self.feedback_filepath.name}.jsonl")

    @property
    def threads(self) -> int:
        """The maximum number of threads of one API process."""
        return self.api_threads + SPARE_THREADS
