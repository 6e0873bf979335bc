"""The endpoints; each one parses the request, calls one function, and formats the response."""

import re
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from flask import Blueprint, Response, abort, current_app, g, jsonify, render_template, request
from werkzeug.datastructures import FileStorage, Headers
from werkzeug.exceptions import HTTPException, InternalServerError, RequestEntityTooLarge
from werkzeug.exceptions import MethodNotAllowed as MethodNotAllowedException

from api.errors import failures, problems
from api.errors.problems import error_headers
from api.feedback.file import FeedbackFile
from api.feedback.records import FeedbackRecords
from api.http import connection
from api.http.headers import UPLOAD_POLICY
from api.middleware import model_predict
from api.monitoring.history import History
from api.monitoring.metrics import Metrics
from api.pages.events import Feed
from api.settings import ApiSettings
from api.uploads.forms import FILE
from api.uploads.structure import ImageLimits
from api.utils import MEDIA_TYPES, image_name, is_other_file
from jobs.queue.interface import JobQueue
from jobs.results import ResultStore
from jobs.schema import ImageJob, Lane, Prediction, Timings
from jobs.storage.images import FolderImageStore, ImageStore
from runtime import tracing, waiting
from runtime.errors import (
    BadRequest,
    MethodNotAllowed,
    NoFile,
    NoSuchImage,
    NotFound,
    NoWorker,
    ServiceError,
    Stopping,
    TooManyBytes,
    Unavailable,
    UnsupportedFile,
)

blueprint = Blueprint("views", __name__)

# Generous allowance for what a multipart form adds to its file.
FORM_OVERHEAD_BYTES = 64 * 1024
_JSON = ("application/json", problems.MEDIA_TYPE)
_MEDIA_TYPES = ("text/html", *_JSON)  # of the page's errors; the first for clients that accept any
# Errors that Flask raises by itself.
_HTTP_ERRORS = {error.status: error for error in (BadRequest, NotFound, MethodNotAllowed)}
# Hashing, checking and writing anything larger takes too long to block other requests.
SMALL_BYTES = 1_000_000
# An upload's content never changes under its name, so browsers need not revalidate it.
_DISPLAY_CACHING = "private, max-age=31536000, immutable"
STORED_NAME = re.compile(r"[0-9a-f]{64}(\.[a-z]+)")


@dataclass(frozen=True, slots=True)
class Services:
    """The objects that the endpoints use."""

    settings: ApiSettings
    queue: JobQueue
    images: ImageStore
    feedback: FeedbackFile
    results: ResultStore
    records: FeedbackRecords
    metrics: Metrics
    history: History
    feed: Feed


def wants_part() -> bool:
    """Return whether htmx on the page requests only the part that is to change."""
    return "HX-Request" in request.headers


def page_or_part(part: str, **context: object) -> str:
    """Return the page, or only its part if htmx requests that."""
    return render_template(part if wants_part() else "index.html", **context)


def services() -> Services:
    """Return the `Services` that `create_app` stored in the application."""
    found: Services = current_app.extensions["services"]
    return found


@blueprint.before_app_request
def refuse() -> None:
    """Raise the error with which the server has refused the request, if any."""
    refusal = connection.current().refusal
    if refusal:
        raise refusal


@blueprint.post("/predict")
def predict() -> Response:
    """Classify the form's file, for programs."""
    _, prediction = classify(_uploaded_file())
    return jsonify(success=True, prediction=prediction.label, score=round(prediction.score, 4))


@blueprint.get("/display/<name>")
def display(name: str) -> Response:
    """Return an uploaded picture."""
    match = STORED_NAME.fullmatch(name)
    if not match or match[1] not in MEDIA_TYPES:
        abort(404)
    try:
        return picture(services().images, name, MEDIA_TYPES[match[1]])
    except FileNotFoundError as err:
        raise NoSuchImage from err


def picture(images: ImageStore, name: str, media_type: str) -> Response:
    """Return a stored picture. Raises `FileNotFoundError` or `StorageUnavailable`.

    The server reads a local file while it sends it, so that a slow client holds no memory.
    """
    headers = {"Cache-Control": _DISPLAY_CACHING, "Content-Security-Policy": UPLOAD_POLICY}
    client = connection.current()
    if not (client.sends_files and isinstance(images, FolderImageStore)):
        return Response(images.get(name), mimetype=media_type, headers=headers)
    file = images.folder / name
    headers["Content-Length"] = str(file.stat().st_size)
    client.file = file
    return Response(mimetype=media_type, headers=headers)


@blueprint.get("/livez")
def livez() -> Response:
    """Report that this process is alive."""
    return jsonify(status="alive")


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Report whether images are accepted: Redis answers, a worker is alive if required, and the API is not stopping."""
    try:
        workers = ready_workers()
    except Unavailable as err:
        return jsonify(status="not ready", reason=str(err)), err.status
    return jsonify(status="ready", workers=len(workers)), 200


def ready_workers(model: str = "") -> list[str]:
    """Return the live workers of the serving version, or of the version that a model's or version's name selects.

    Raises `Stopping`, `QueueUnavailable` or, if a worker is required and none is alive, `NoWorker`.
    """
    if connection.current().draining:
        raise Stopping
    workers = services().queue.live_workers(model)
    if not workers and not services().settings.queue_without_worker:
        raise NoWorker
    return workers


@blueprint.app_errorhandler(ServiceError)
def answer_error(err: ServiceError) -> tuple[Response | str, int, Headers]:
    """Return an error response: to programs in the format of their protocol, to people on the page.

    A request to the page that asks for JSON or sends it gets a problem document.
    """
    found = failures.document(request.path, err, g.request_id, request.script_root)
    if not found and (request.is_json or request.accept_mimetypes.best_match(_MEDIA_TYPES) in _JSON):
        found = problems.MEDIA_TYPE, problems.document(err, g.request_id, request.script_root)
    if not found:
        return page_or_part("failure.html", error=err), err.status, error_headers(err)
    media_type, body = found
    return Response(body, err.status, content_type=media_type), err.status, error_headers(err)


@blueprint.app_errorhandler(RequestEntityTooLarge)
def answer_too_large(_: RequestEntityTooLarge) -> tuple[Response | str, int, Headers]:
    """Return the response to a body that is refused before it is read."""
    return answer_error(TooManyBytes(f"At most {request.max_content_length} bytes are accepted."))


@blueprint.app_errorhandler(InternalServerError)
def answer_unexpected(_: InternalServerError) -> tuple[Response | str, int, Headers]:
    """Return the response to an unexpected exception, which Flask has logged."""
    return answer_error(ServiceError())


@blueprint.app_errorhandler(HTTPException)
def answer_http(err: HTTPException) -> HTTPException | tuple[Response | str, int, Headers]:
    """Return the response to an error that Flask raises by itself."""
    error_type = _HTTP_ERRORS.get(err.code or InternalServerError.code)
    if not error_type:
        return err
    answer, status, headers = answer_error(error_type())
    if isinstance(err, MethodNotAllowedException):
        headers["Allow"] = ", ".join(err.valid_methods or ())
    return answer, status, headers


def timed(*predictions: Prediction) -> None:
    """Add the timings of these predictions to the current request's `Server-Timing` header."""
    g.setdefault("timings", []).extend(each.timings for each in predictions)


@blueprint.after_app_request
def add_timing(response: Response) -> Response:
    """Add the header `Server-Timing` to a response with predictions."""
    if "timings" in g and response.status_code < BadRequest.status:
        response.headers["Server-Timing"] = _server_timing(g.timings, time.monotonic() - g.started_s)
    return response


def classify(upload: FileStorage) -> tuple[str, Prediction]:
    """Check, store and classify an uploaded file; return its name in the store and the prediction."""
    with services().metrics.counting_failure():
        job = _store(upload)
        prediction = model_predict(services().queue, job, connection.current())
    services().metrics.predicted(prediction)
    timed(prediction)
    return job.image_name, prediction


def _store(upload: FileStorage) -> ImageJob:
    """Check and store an uploaded file, and return a job for it.

    Frees its memory, since many waiting requests may be in memory at once.
    """
    with closing(upload):
        data = upload.read()
    connection.current().drop_body()
    return store(data, upload.filename, services().settings.predict_timeout_s)


def store(data: bytes, filename: str | None, timeout_s: float, lane: Lane = "interactive", model: str = "") -> ImageJob:
    """Check and store an image, whose file name is optional, and return a job for it."""
    settings = services().settings
    if len(data) > settings.max_upload_bytes:
        raise TooManyBytes(f"The file has {len(data)} bytes; at most {settings.max_upload_bytes} are accepted.")
    keep = _keep if len(data) <= SMALL_BYTES else waiting.blocking(_keep)
    with tracing.span("store image", {"mlapi.image.bytes": len(data)}):
        name = keep(services().images, data, filename, image_limits())
    return ImageJob.create(name, timeout_s, g.request_id, len(data), lane, model)


def image_limits() -> ImageLimits:
    """Return the configured limits on an image's pixels, frames and metadata."""
    settings = services().settings
    return ImageLimits(settings.max_image_pixels, settings.max_image_frames, settings.max_metadata_bytes)


def _keep(images: ImageStore, data: bytes, filename: str | None, limits: ImageLimits) -> str:
    name = image_name(data, filename or "", limits)
    images.put(name, data)
    return name


def _server_timing(timings: Sequence[Timings | None], total_s: float) -> str:
    """Return the `Server-Timing` header (W3C), with durations in milliseconds; browsers show it beside the request.

    For several images, it describes the slowest.
    """
    total = f"total;dur={1000 * total_s:.1f}"
    computed = [each for each in timings if each]
    if not computed:
        return f"cache, {total}" if timings else total
    longest = max(computed, key=lambda each: each.queue_ms + each.decode_ms + each.inference_ms)
    return (
        f"queue;dur={longest.queue_ms:.1f}, decode;dur={longest.decode_ms:.1f}, "
        f'inference;dur={longest.inference_ms:.1f}, batch;desc="{longest.batch_size}", {total}'
    )


def _uploaded_file() -> FileStorage:
    """Return the form's file. Raises `NoFile`, or `UnsupportedFile` for the extension of another kind of file."""
    upload = request.files.get(FILE)
    if upload is None:
        raise NoFile
    if is_other_file(upload.filename or ""):
        raise UnsupportedFile
    return upload
