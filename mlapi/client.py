"""A client of a running service, for Python programs and for `mlapi classify`."""

import json
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import uuid4

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.filepost import encode_multipart_formdata
from urllib3.util import parse_url

from jobs.schema import TOP_CLASSES, ClassScore, Timings
from runtime.errors import (
    DeadlinePassed,
    KeyInUse,
    NotAnImage,
    ServiceError,
    TooLarge,
    TooManyRequests,
    TooSlow,
    Unavailable,
    error_types,
)

DEFAULT_URL = "http://127.0.0.1:5000"

# Pauses before a retry without `Retry-After`: doubled each time, and randomized to spread callers.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _SPREAD = 0.1, 5.0, 0.5
# Temporary refusals; a proxy in front answers 502 while the API restarts.
_FOR_NOW = {429: TooManyRequests, 502: Unavailable, 503: Unavailable, 504: DeadlinePassed}
# Errors by status, for proxies, which send no codes, and for unknown codes of a newer service.
_BY_STATUS: Mapping[int, type[ServiceError]] = {413: TooLarge, **_FOR_NOW}

_PREDICTIONS = "/v1/predictions"
# The service's limit on images per request. Its limit on bytes is 20 MB unless set otherwise; a request that is refused
# as too large is sent again in halves.
MOST_IMAGES, MOST_BYTES = 16, 10_000_000
# The service recognizes images by their content, so this type serves for all.
_IMAGE_TYPE = "image/jpeg"
# For requests that nobody waits for (RFC 9218): less urgent than the default, 3.
_BACKGROUND = {"Priority": "u=5"}
_NOT_KEPT = {"Cache-Control": "no-store"}

_ANSWERED = frozenset({200, 201})

T = TypeVar("T")
_Headers = Mapping[str, str]
_NO_HEADERS: _Headers = {}
Image = bytes | str | os.PathLike[str]


class Unreachable(ServiceError):
    """The service cannot be reached."""

    status = 503
    code = "unreachable"


class ConnectionLost(Unreachable):
    """The connection broke before the response; the request may have taken effect."""

    code = "connection-lost"


class WrongAddress(ServiceError):
    """The URL is invalid, or leads to something else than this service."""

    status = 404
    code = "wrong-address"


@dataclass(frozen=True, slots=True)
class Prediction:
    """An image's most probable class: its label, its index in the network's output, its score in 0..1.

    `top` has as many of the most probable classes as requested, the best first. `model` and `version` name the model.
    The service stores the prediction under `id`, for the request's image number `image`. `timings` breaks down the
    latency; it is None if the prediction came from the service's cache.
    """

    label: str
    class_index: int
    score: float
    top: tuple[ClassScore, ...]
    model: str
    version: str
    id: str
    image: int
    timings: Timings | None


@dataclass(frozen=True, slots=True)
class Model:
    """A served model: its name, version, arithmetic precision, and number of classes."""

    name: str
    version: str
    precision: str
    classes: int


Outcome = Prediction | ServiceError


class Client:
    """A client of a running service, with persistent connections; any number of threads may share it.

    `url` is the service's URL and `key` the API key, if it requires one. A request is retried for `timeout_s` seconds
    while the service cannot be reached, is unavailable (503, 504), or refuses temporarily (429); a `Retry-After` is
    respected, also by not retrying if it is later than that.

    With `background`, its requests have low priority. Without `keep`, the service does not store predictions, so they
    take no feedback.

    A permanent refusal is raised as the error of `runtime.errors` for its reason: `NotAnImage`, `TooManyPixels`,
    `KeyRequired`, ... All are a `ServiceError`, with the HTTP `status`, a `code`, and `retry_after_s` if retrying later
    may help.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        connections: int = 10,
        background: bool = False,
        keep: bool = True,
    ) -> None:
        self._url = _usable(url)
        self._timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._headers |= (_BACKGROUND if background else {}) | ({} if keep else _NOT_KEPT)
        self._pool = urllib3.PoolManager(maxsize=connections, retries=False)
        self._gave_up = threading.Event()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.give_up()
        self._pool.clear()

    def give_up(self) -> None:
        """Stop retrying; pending retries raise their last error at once. Any thread may call this."""
        self._gave_up.set()

    def predict(self, image: Image, *, top_k: int = TOP_CLASSES, model: str | None = None) -> Prediction:
        """Return the `top_k` most probable classes of an image: the bytes of a PNG, JPEG or GIF file, or its path.

        `model` names a model, or a version as in "pets@2", if the service has several. Raises `ServiceError`, or
        `OSError` if the file cannot be read.
        """
        [outcome] = self.predict_many([image], top_k=top_k, model=model)
        if isinstance(outcome, ServiceError):
            raise outcome
        return outcome

    def predict_many(
        self, images: Iterable[Image], *, top_k: int = TOP_CLASSES, model: str | None = None
    ) -> list[Outcome]:
        """Return a prediction for each image, or an error in its place: one bad image fails alone.

        They are sent in as few requests as the service allows, one after the other. Only images that were refused
        temporarily are sent again. Raises a `ServiceError` that holds for all of them, or `OSError` if a file cannot be
        read.
        """
        path = f"{_PREDICTIONS}?{urlencode({'top_k': top_k} | ({'model': model} if model else {}))}"
        return [outcome for chunk in _chunks(map(_bytes, images)) for outcome in self._outcomes(chunk, path)]

    def feedback(
        self,
        prediction: Prediction,
        *,
        right: bool = False,
        label: str | None = None,
        none: bool = False,
        comment: str | None = None,
    ) -> None:
        """Report that a prediction is wrong or `right`, with the correct label and a comment, if any.

        `none` says that the model has no class for what the image shows. Feedback that is sent again because the
        response was lost counts once. Raises `ServiceError`.
        """
        told = {"correct": right, "label": label, "comment": comment, "image": prediction.image}
        told |= {"none": True} if none else {}  # an unknown field to older services
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid4().hex}
        path, body = f"{_PREDICTIONS}/{prediction.id}/feedback", json.dumps(told).encode()
        self._patiently(lambda deadline: self._ask("POST", path, deadline, body, headers))

    def models(self) -> list[Model]:
        """Return the served models; none before the first worker is up. Raises `ServiceError`."""
        answer = self._patiently(lambda deadline: self._ask("GET", "/v1/models", deadline))
        with self._known_form():
            return [Model(**model) for model in answer["models"]]

    def workers(self) -> int:
        """Return the number of ready model workers; wait for the first. Raises `ServiceError`."""
        answer = self._patiently(lambda deadline: self._ask("GET", "/readyz", deadline))
        with self._known_form():
            return int(answer["workers"])

    def _outcomes(self, images: Sequence[bytes], path: str) -> list[Outcome]:
        """Return the outcomes of images; those refused temporarily are sent again until the timeout."""
        outcomes: dict[int, Outcome] = {}

        def send(deadline: float) -> None:
            rest = [n for n in range(len(images)) if n not in outcomes or _is_for_now(outcomes[n])]
            answers = self._predictions([images[n] for n in rest], path, deadline)
            outcomes.update(zip(rest, answers, strict=True))
            for answer in answers:
                if isinstance(answer, ServiceError) and _is_for_now(answer):
                    raise answer

        try:
            self._patiently(send)
        except ServiceError:
            if not outcomes:
                raise
        return [outcomes[n] for n in range(len(images))]

    def _predictions(self, images: Sequence[bytes], path: str, deadline: float) -> list[Outcome]:
        """Send images once, in halves if they are too much for one request, or one of them makes it fail."""
        try:
            return self._predictions_of_request(images, path, deadline)
        except ServiceError as err:
            if not _is_about_images(err):
                raise
            if len(images) == 1:
                return [err]
        half = len(images) // 2
        return [
            outcome for part in (images[:half], images[half:]) for outcome in self._predictions(part, path, deadline)
        ]

    def _predictions_of_request(self, images: Sequence[bytes], path: str, deadline: float) -> list[Outcome]:
        body, headers = _body(images)
        answer = self._send("POST", path, deadline, body, headers)
        document = self._json(answer)
        with self._known_form():
            return [_outcome(document, number, _retry_after_s(answer)) for number in range(len(images))]

    def _patiently(self, ask: Callable[[float], T]) -> T:
        """Call `ask`, which gets the deadline, until a response, a permanent refusal, or the deadline."""
        deadline = time.monotonic() + self._timeout_s
        for pause_s in _pauses_s():
            try:
                return ask(deadline)
            except ServiceError as err:
                wait_s = max(pause_s, err.retry_after_s or 0)
                if not _is_for_now(err) or time.monotonic() + wait_s > deadline or self._gave_up.wait(wait_s):
                    raise
        raise AssertionError("there is always another pause")

    def _ask(
        self, method: str, path: str, deadline: float, body: bytes | None = None, headers: _Headers = _NO_HEADERS
    ) -> dict[str, Any]:
        """Send a request once; return the response's JSON object. Raises `ServiceError`."""
        return self._json(self._send(method, path, deadline, body, headers))

    def _send(
        self, method: str, path: str, deadline: float, body: bytes | None, headers: _Headers
    ) -> urllib3.BaseHTTPResponse:
        rest_s = max(0.001, deadline - time.monotonic())
        try:
            answer = self._pool.request(
                method,
                self._url + path,
                body=body,
                headers={**self._headers, **headers},
                timeout=rest_s,
                redirect=False,
            )
        except SSLError as err:
            raise WrongAddress(f"{self._url} cannot be asked: {err}") from err
        except (NewConnectionError, ConnectTimeoutError) as err:
            raise Unreachable(f"{self._url} cannot be reached: {err}") from err
        except ReadTimeoutError as err:
            raise DeadlinePassed(f"{self._url} did not answer in time.") from err
        except HTTPError as err:
            raise ConnectionLost(f"The connection to {self._url} broke: {err}") from err
        if answer.status not in _ANSWERED:
            raise self._error(answer)
        return answer

    def _error(self, answer: urllib3.BaseHTTPResponse) -> ServiceError:
        """Return the service's error, or the one for the status, if a proxy has answered in its place."""
        problem = _problem(answer)
        if problem is None and answer.status not in _BY_STATUS:
            return self._not_the_service(answer.status)
        return _problem_error(problem or {}, answer.status, _retry_after_s(answer))

    def _json(self, answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
        with self._known_form():
            return dict(answer.json())

    @contextmanager
    def _known_form(self) -> Iterator[None]:
        """Raise `WrongAddress` if a response lacks the service's fields."""
        try:
            yield
        except (LookupError, TypeError, ValueError) as err:
            raise self._not_the_service() from err

    def _not_the_service(self, status: int = 200) -> WrongAddress:
        return WrongAddress(f"{self._url} answers ({status}) as this service never does. Is it the right address?")


def _bytes(image: Image) -> bytes:
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def _chunks(images: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the images of each request."""
    chunk, size = list[bytes](), 0
    for data in images:
        if chunk and (len(chunk) == MOST_IMAGES or size + len(data) > MOST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(data)
        size += len(data)
    if chunk:
        yield chunk


def _body(images: Sequence[bytes]) -> tuple[bytes, _Headers]:
    """Return a request's body and headers: one image as it is, several as a form."""
    if len(images) == 1:
        return images[0], {"Content-Type": _IMAGE_TYPE}
    body, form_type = encode_multipart_formdata([("file", ("image", data, _IMAGE_TYPE)) for data in images])
    return body, {"Content-Type": form_type}


def _outcome(answer: Mapping[str, Any], number: int, retry_after_s: int | None) -> Outcome:
    """Return the outcome of one image in a response."""
    result, model = answer["results"][number], answer["model"]
    if problem := result["error"]:
        return _problem_error(problem, problem["status"], retry_after_s)
    top = tuple(ClassScore(each["label"], each["class_index"], float(each["score"])) for each in result["predictions"])
    timings = result["timings"] and Timings(**result["timings"])
    return Prediction(*top[0], top, model["name"], model["version"], answer["id"], number, timings)


def _usable(url: str) -> str:
    """Return a URL without a trailing slash. Raises `WrongAddress`, which shows no password."""
    try:
        parts = parse_url(url)
    except LocationParseError as err:
        raise WrongAddress(f"This cannot be an address, which is like {DEFAULT_URL}") from err
    if parts.auth:
        raise WrongAddress("An address has no user and password: an API key goes into `key`, or MLAPI_KEY.")
    if not url.startswith(("http://", "https://")) or not parts.host:
        raise WrongAddress(f"{url}: an address is like {DEFAULT_URL}")
    return url.rstrip("/")


def _problem(answer: urllib3.BaseHTTPResponse) -> dict[str, Any] | None:
    """Return the response's problem document (RFC 9457), or None if it has none."""
    try:
        problem = answer.json()
    except ValueError:
        return None
    return problem if isinstance(problem, dict) and "code" in problem else None


def _problem_error(problem: Mapping[str, Any], status: int, retry_after_s: int | None) -> ServiceError:
    kind = error_types().get(str(problem.get("code"))) or _BY_STATUS.get(status, ServiceError)
    error = kind(problem.get("detail"))
    error.retry_after_s = retry_after_s
    return error


def _is_for_now(outcome: Outcome) -> bool:
    """Return whether a retry may help; `KeyInUse` means that the first request is still being answered."""
    return isinstance(outcome, KeyInUse) or (isinstance(outcome, ServiceError) and outcome.status in _FOR_NOW)


def _is_about_images(err: ServiceError) -> bool:
    """Return whether a request was refused because of its images; others, or fewer, might be accepted."""
    return isinstance(err, NotAnImage | TooLarge | TooSlow) or err.status == ServiceError.status


def _pauses_s() -> Iterator[float]:
    """Yield the pause before each retry."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(1, 1 + _SPREAD)  # noqa: S311 - spreads callers, is no secret
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _retry_after_s(answer: urllib3.BaseHTTPResponse) -> int | None:
    """Return the seconds of `Retry-After`, which proxies may give as a date; None if missing or invalid."""
    try:
        seconds = urllib3.Retry().get_retry_after(answer)
    except HTTPError:
        return None
    return None if seconds is None else math.ceil(seconds)
