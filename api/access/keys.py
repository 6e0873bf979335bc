"""API keys, in a file that holds only their hashes."""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from api.access.rates import Rate
from runtime.errors import SetupError
from runtime.validation import said

# Makes keys that leak into a repository or a log easy to find.
_PREFIX = "mlapi_"
_SECRET_BYTES = 32
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}", re.ASCII | re.IGNORECASE)


class KeyFileError(SetupError):
    """The key file cannot be read or changed; the message says why."""


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("A name has up to 64 letters, digits and any of .@_- but begins with a letter or a digit.")
    return name


class ApiKey(BaseModel):
    """The record of a key: its owner's name, its hash, and its rate limit.

    A key is 256 random bits, which nobody can guess, however fast the hash. So SHA-256 is enough; a slow hash is for
    passwords that people choose, and would cost every request a tenth of a second.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_checked)]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rate: Rate | None = None


_Keys = TypeAdapter(tuple[ApiKey, ...])


class KeyFile:
    """The keys in the file at `path`. Changes apply from the next request on, in every process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._latest: tuple[object, tuple[ApiKey, ...]] = (None, ())  # the file's state, and its keys

    def find(self, secret: str) -> ApiKey | None:
        """Return the record of this key, or None if it is unknown. Raises `KeyFileError`.

        All keys are compared, each in constant time, so that the time reveals nothing about any.
        """
        sha256 = _hash(secret)
        fitting = [key for key in self.read() if hmac.compare_digest(key.sha256, sha256)]
        return fitting[0] if fitting else None

    def read(self) -> tuple[ApiKey, ...]:
        """Return all keys; none without a file. Raises `KeyFileError`."""
        try:
            status = self._path.stat()
            state = (status.st_ino, status.st_mtime_ns, status.st_size)
            if state != self._latest[0]:
                self._latest = (state, _Keys.validate_json(self._path.read_bytes()))
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as err:
            raise KeyFileError(f"{self._path} cannot be read as a file of API keys: {err}") from err
        return self._latest[1]

    def add(self, name: str, rate: str | None = None) -> str:
        """Create a key and return it; it cannot be recovered later. Raises `KeyFileError`."""
        secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        try:
            key = ApiKey(name=name, sha256=_hash(secret), rate=rate)
        except ValidationError as err:
            raise KeyFileError("\n".join(map(said, err.errors()))) from err
        with self._changing() as keys:
            if name in keys:
                raise KeyFileError(f"There is a key {name} already. Remove it first, or choose another name.")
            keys[name] = key
        return secret

    def remove(self, name: str) -> None:
        """Revoke a key. Raises `KeyFileError`."""
        with self._changing() as keys:
            if keys.pop(name, None) is None:
                raise KeyFileError(f"There is no key {name}.")

    @contextmanager
    def _changing(self) -> Iterator[dict[str, ApiKey]]:
        """Yield the keys by name for changes, save the result, and lock out other writers meanwhile."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self._path.parent):
                keys = {key.name: key for key in self.read()}
                yield keys
                _replace(self._path, _Keys.dump_json(tuple(keys.values()), indent=2))
        except OSError as err:
            raise KeyFileError(f"{self._path} cannot be changed: {err}") from err


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock that one process at a time can hold."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, data: bytes) -> None:
    """Replace a file atomically; only its owner may read it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
