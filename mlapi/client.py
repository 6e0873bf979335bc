"""A client of a running service, for Python programs and for `mlapi classify`."""

import hashlib
import json
import math
import os
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import parse_url

from jobs.errors import DeadlinePassed, ServiceError, TooManyRequests, Unavailable, error_types

DEFAULT_URL = "http://127.0.0.1:5000"

# How long to wait where the service does not say: doubled each time, and different for each of many callers.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _SPREAD = 0.1, 5.0, 0.5
# Refused for now, not for good; a proxy in front answers 502 while the API is started again.
_FOR_NOW = {429: TooManyRequests, 502: Unavailable, 503: Unavailable, 504: DeadlinePassed}

# What the service adds to the hash of an image's content, by what it begins with.
_ENDINGS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif"}

_Field = str | tuple[str, bytes]  # of a form: a text, or a file's name and content


class Unreachable(ServiceError):
    """There is no connection to the service."""

    status = 503
    code = "unreachable"


class ConnectionLost(Unreachable):
    """The connection broke before the answer; nobody knows what came of the request."""

    code = "connection-lost"


class WrongAddress(ServiceError):
    """What is at the address is not this service, or nothing can be."""

    status = 404
    code = "wrong-address"


@dataclass(frozen=True, slots=True)
class Prediction:
    """An image's most probable class, and its score in 0..1; the service has the image under `image_name`."""

    label: str
    score: float
    image_name: str


class Client:
    """Asks a running service, over connections that it keeps; any number of threads may share it.

    `url` is the service's address and `key` the API key, where it wants one. A request is tried again for `timeout_s`
    seconds while the service cannot be reached, is not available (503, 504), or refuses for now (429); a `Retry-After`
    is respected, also by not trying again where it is later than that.

    What is refused for good is raised as the error of `jobs.errors` with its reason: `NotAnImage`, `TooManyPixels`,
    `KeyRequired`, ... All are a `ServiceError`, with the HTTP `status`, a `code`, and `retry_after_s` where trying
    again later may help.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, key: str | None = None, timeout_s: float = 60.0, connections: int = 10
    ) -> None:
        if not url.startswith(("http://", "https://")) or not parse_url(url).host:
            raise WrongAddress(f"{url}: an address is like {DEFAULT_URL}")
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._pool = urllib3.PoolManager(maxsize=connections, headers=headers, retries=False)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def predict(self, image: bytes | str | os.PathLike[str]) -> Prediction:
        """Return the class of an image: the bytes of a PNG, JPEG or GIF file, or its path.

        Raises `ServiceError`, or `OSError` where the file cannot be read.
        """
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        # The service tells the type by the content, so this name serves for all.
        answer = self._json(self._request("POST", "/predict", {"file": ("image.jpg", data)}))
        try:
            return Prediction(str(answer["prediction"]), float(str(answer["score"])), _image_name(data))
        except (KeyError, ValueError) as err:
            raise self._not_the_service() from err

    def feedback(self, prediction: Prediction, *, label: str | None = None) -> None:
        """Report that a prediction is wrong, and which label is right, if you know. Raises `ServiceError`.

        It is sent again only where it certainly did not arrive.
        """
        report: dict[str, str | float] = {
            "filename": prediction.image_name,
            "prediction": prediction.label,
            "score": prediction.score,
        }
        if label is not None:
            report["label"] = label
        self._request("POST", "/feedback", {"report": json.dumps(report)}, repeatable=False)

    def workers(self) -> int:
        """Return how many model workers are ready; wait for the first. Raises `ServiceError`."""
        try:
            return int(str(self._json(self._request("GET", "/readyz"))["workers"]))
        except (KeyError, ValueError) as err:
            raise self._not_the_service() from err

    def _request(
        self, method: str, path: str, form: Mapping[str, _Field] | None = None, *, repeatable: bool = True
    ) -> urllib3.BaseHTTPResponse:
        """Send a request until it is answered or refused for good, or the time is over."""
        deadline = time.monotonic() + self._timeout_s
        for pause_s in _pauses_s():
            try:
                return self._send(method, path, form, deadline)
            except ServiceError as err:
                wait_s = max(pause_s, err.retry_after_s or 0)
                lost = isinstance(err, ConnectionLost) and not repeatable
                if err.status not in _FOR_NOW or lost or time.monotonic() + wait_s > deadline:
                    raise
            time.sleep(wait_s)
        raise AssertionError("there is always another pause")

    def _send(
        self, method: str, path: str, form: Mapping[str, _Field] | None, deadline: float
    ) -> urllib3.BaseHTTPResponse:
        """Send a request once. Raises `ServiceError`."""
        rest_s = max(0.001, deadline - time.monotonic())
        try:
            answer = self._pool.request(method, self._url + path, fields=form, timeout=rest_s, redirect=False)
        except SSLError as err:
            raise WrongAddress(f"{self._url} cannot be asked: {err}") from err
        except (NewConnectionError, ConnectTimeoutError) as err:
            raise Unreachable(f"{self._url} cannot be reached: {err}") from err
        except ReadTimeoutError as err:
            raise DeadlinePassed(f"{self._url} did not answer in time.") from err
        except HTTPError as err:
            raise ConnectionLost(f"The connection to {self._url} broke: {err}") from err
        if answer.status != 200:
            raise self._error(answer)
        return answer

    def _error(self, answer: urllib3.BaseHTTPResponse) -> ServiceError:
        """Return the error that the service names, or what its status says, where a proxy answers in its place."""
        code, _, message = answer.headers.get("X-Error", "").partition(": ")
        kind = error_types().get(code) or _FOR_NOW.get(answer.status)
        if not kind and not code:
            return self._not_the_service(answer.status)
        error = (kind or ServiceError)(message or None)
        error.retry_after_s = _retry_after_s(answer)
        return error

    def _json(self, answer: urllib3.BaseHTTPResponse) -> dict[str, object]:
        try:
            return dict(answer.json())
        except (ValueError, TypeError) as err:
            raise self._not_the_service() from err

    def _not_the_service(self, status: int = 200) -> WrongAddress:
        return WrongAddress(f"{self._url} answers ({status}) as this service never does. Is it the right address?")


def _pauses_s() -> Iterator[float]:
    """Yield how long to wait before each further attempt."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(1, 1 + _SPREAD)  # noqa: S311 - spreads callers, is no secret
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _retry_after_s(answer: urllib3.BaseHTTPResponse) -> int | None:
    """Return the seconds of `Retry-After`, which proxies also give as a date; None where there is none to read."""
    try:
        seconds = urllib3.Retry().get_retry_after(answer)
    except HTTPError:
        return None
    return None if seconds is None else math.ceil(seconds)


def _image_name(data: bytes) -> str:
    """Return what the service calls an image."""
    ending = next((ending for signature, ending in _ENDINGS.items() if data.startswith(signature)), "")
    return hashlib.sha256(data).hexdigest() + ending
