"""Settings from environment variables: those that both services share, and the messages for wrong ones."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.redis.url import usable, with_password
from runtime.environment import env_file
from runtime.errors import SetupError
from runtime.listening import ListenAddress
from runtime.validation import is_plain_http, said

# Values that may hold a password are never shown, even if something else is wrong with them.
_SECRET = re.compile(r"secret|redis_url")
_MAY_HAVE_LOGIN = re.compile(r"[@?#]")
# S3 and compatible services, Google Cloud Storage, Azure Blob Storage.
_OBJECT_STORAGE = re.compile(r"(s3|gs|az)://[^/?#@]+(/[^?#]*)?")
# Variables that may replace the vendor's address. At an invalid one the client panics, and its message shows the value.
_ENDPOINTS = "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"

S = TypeVar("S", bound="SharedSettings")


class SettingsError(SetupError):
    """A setting has an unusable value; the message names the setting."""


def _readable(file: Path) -> Path:
    try:
        file.read_text()
    except OSError as err:
        raise ValueError(f"It cannot be read ({err.strerror}).") from err
    except UnicodeDecodeError:
        raise ValueError("It is not text in UTF-8.") from None
    return file


def _object_storage(url: str) -> str:
    if not _OBJECT_STORAGE.fullmatch(url):
        raise ValueError(
            "It must be s3://bucket/prefix, gs://bucket/prefix or az://container/prefix. Credentials have variables of "
            "their own, and a folder is UPLOAD_FOLDER."
        )
    for name in _ENDPOINTS:
        if (endpoint := os.environ.get(name)) and not is_plain_http(endpoint):
            raise ValueError(
                f"{name} must be http://HOST:PORT or https://HOST:PORT. Credentials have variables of their own."
            )
    return url


def _collector(url: str) -> str:
    if not is_plain_http(url):
        raise ValueError(
            "It must be http://HOST:PORT or https://HOST:PORT, and a path where there is one. Credentials go into "
            "OTEL_EXPORTER_OTLP_HEADERS."
        )
    return url


def _problem(field: str, value: object, said: str) -> str:
    """Return the message for a wrong setting, without a password that its value may contain."""
    shown = "..." if _SECRET.search(field) or _MAY_HAVE_LOGIN.search(str(value)) else value
    return f"{field.upper()}={shown}: {said}"


class SharedSettings(BaseSettings):
    """The settings that the API and the workers must agree on.

    Every field is read from the environment variable of its upper-case name or, if that is not set, from the file
    `.env` (or the file that ENV_FILE names).
    """

    # Compose reads the same file, so it may hold variables that are not ours.
    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", hide_input_in_errors=True)

    redis_url: Annotated[str, AfterValidator(usable)] = Field(
        default="redis://127.0.0.1:6379",
        repr=False,
        description="The Redis that carries the jobs, or [the sentinels or the cluster that know "
        "it](docs/scaling.md#a-redis-that-may-fail)",
    )
    redis_password_file: Annotated[Path, AfterValidator(_readable)] | None = Field(
        default=None, description="The file with its password, where that is not in `REDIS_URL`"
    )
    upload_folder: Path = Field(
        default=Path("var/uploads"), description="Where uploaded images are kept; shared by API and workers"
    )
    upload_url: Annotated[str, AfterValidator(_object_storage)] | None = Field(
        default=None,
        description="The object storage where they are kept instead: `s3://bucket/prefix`, `gs://bucket/prefix` or "
        "`az://container/prefix`",
    )
    max_queued_jobs: int = Field(
        default=1000, ge=1, description="Jobs that may wait or be in progress; beyond it, requests are answered 429"
    )
    # Their bytes are in the upload folder or in object storage, not in memory.
    max_queued_bytes: int = Field(
        default=1_000_000_000, ge=1, description="Bytes of these jobs' images; beyond it, requests are answered 429"
    )
    queue_without_worker: bool = Field(
        default=False,
        description="Whether images are queued while no worker is alive; for workers that are started on demand",
    )
    cache_ttl_s: int = Field(
        default=3600,
        ge=0,
        description="Seconds that a prediction is cached for the same image; 0 turns the cache off",
    )
    # An entry takes some 950 bytes of Redis's memory.
    cache_entries: int = Field(default=50_000, ge=1, description="Predictions kept at most; the oldest go first")
    max_image_pixels: int = Field(
        default=50_000_000, ge=1, description="Width x height of an image; a larger one is refused before it is decoded"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least severe log lines to print"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines to read (text) or for machines (json, the default in containers)"
    )

    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port on which API and workers serve metrics without a key, 0 for none; with `make run`, the API "
        "uses this port and the workers the next ones",
    )
    metrics_host: ListenAddress = Field(default="127.0.0.1", description="Address on which metrics are served")
    # OpenTelemetry's own name for it; its SDK reads the other OTEL variables itself.
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(_collector)] | None = Field(
        default=None,
        description="Where traces are sent, by OTLP over HTTP, as in `http://127.0.0.1:4318`; without it, none are "
        "recorded",
    )

    @property
    def redis_login(self) -> str:
        """`redis_url` with the password of its file, if there is one: not for logs."""
        if self.redis_password_file is None:
            return self.redis_url
        return with_password(self.redis_url, self.redis_password_file.read_text().strip())

    @classmethod
    def from_env(cls: type[S]) -> S:
        """Read the settings. Raises a `SettingsError` that names every wrong one and says what it must be."""
        try:
            return cls(_env_file=env_file())  # type: ignore[call-arg]  # BaseSettings takes it
        except ValidationError as err:
            problems = [_problem(str(error["loc"][0]), error["input"], said(error)) for error in err.errors()]
            raise SettingsError("\n".join(problems)) from err
