"""All errors of requests, each with its HTTP status and a code that survives the queue."""

from typing import ClassVar

# The retry delay in seconds when nobody knows how long an outage lasts (no worker, no Redis, no disk).
RETRY_AFTER_S = 5


class ServiceError(Exception):
    """A failure that is reported to the client.

    `code` is stable and crosses the queue; `status` is the HTTP status; `message` says what to do, and may be replaced
    by a more specific one; `retry_after_s` is set if retrying may help.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    message: ClassVar[str] = "Something went wrong on our side. Try again."

    def __init__(self, message: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message or self.message)
        self.retry_after_s = retry_after_s


class BadRequest(ServiceError):
    """The request itself is wrong; sending it again unchanged will not help."""

    status = 400
    code = "bad-request"
    message = "The request cannot be read."


class BadBody(BadRequest):
    """The body does not end where its framing says."""

    code = "bad-body"
    message = "The body broke off, or trailer fields follow it, which are not taken."


class BadForm(BadRequest):
    """The body is not the kind of form that its header names."""

    code = "bad-form"
    message = "The form is damaged."


class BadEncoding(BadRequest):
    """The body cannot be decompressed as its `Content-Encoding` says."""

    code = "bad-encoding"
    message = "The body is not compressed as its Content-Encoding says."


class UntrustedHost(BadRequest):
    """The request's host name is not one of the service's."""

    code = "untrusted-host"
    message = (
        "This service does not answer to this host name. Ask for it as localhost, or let TRUSTED_HOSTS have the name."
    )


class BadForwarding(BadRequest):
    """A trusted proxy sent an impossible forwarding header; the message names it."""

    code = "bad-forwarding"


class NoFile(BadRequest):
    """The form has no file in the expected field."""

    code = "no-file"
    message = 'Choose an image first: it is sent as the form field "file".'


class NoReport(BadRequest):
    """The request has no report of a wrong prediction, and no id of one to take back."""

    code = "no-report"
    message = (
        'There is no report: send it as the field "report" of a form or of a JSON object. Beside it, "label" says what '
        'the picture shows, or "none" that the model has no class for it; "undo" takes a report back by its id.'
    )


class BadParameter(BadRequest):
    """A parameter has an invalid value; the message names it."""

    code = "bad-parameter"


class WebhooksOff(BadRequest):
    """The request asks for a webhook, and there is no secret to sign it with."""

    code = "webhooks-off"
    message = "This service sends no webhooks: WEBHOOK_SECRET is not set. Ask for the prediction at its address."


class UnsupportedFile(BadRequest):
    """The file's name has the ending of another kind of file."""

    code = "unsupported-file"
    message = (
        "The file's name ends like a file of another kind. Send a PNG, JPEG or GIF image: a file whose name ends in "
        ".png, .jpg, .jpeg or .gif, or has no ending."
    )


class NotAnImage(BadRequest):
    """The bytes are empty, truncated, or not an image that can be decoded."""

    code = "not-an-image"
    message = "The file is not a PNG, JPEG or GIF image, or it is damaged. Try another."


class UnknownLabel(BadRequest):
    """A report names a class that the model does not have."""

    code = "unknown-label"
    message = "The model knows no such class. Choose one that it suggests, or “None of these”."


class KeyRequired(ServiceError):
    """The request has no API key, or an unknown one."""

    status = 401
    code = "key-required"
    message = (
        'This service needs an API key. Programs send it in the header "Authorization: Bearer KEY"; a browser asks for '
        "it as a password, again when the page is loaded again, and the user name does not matter."
    )


class CrossSite(ServiceError):
    """A page of another site made a browser send the request."""

    status = 403
    code = "cross-site"
    message = "This request came from a page of another site. Send it from this service's own page, or from a program."


class OperatorsOnly(ServiceError):
    """Without API keys, only the machine that the service runs on may read this."""

    status = 403
    code = "operators-only"
    message = (
        "Without API keys and proxies, only the machine that the service runs on may read this. Ask there, or set "
        "API_KEYS_FILE."
    )


class NotFound(ServiceError):
    """No resource has this address."""

    status = 404
    code = "not-found"
    message = "There is nothing at this address."


class MethodNotAllowed(ServiceError):
    """The resource does not accept this method."""

    status = 405
    code = "method-not-allowed"
    message = "This address does not take this method; the header Allow says which it takes."


class NoSuchPrediction(ServiceError):
    """No prediction with this id is kept any more, or there never was one."""

    status = 404
    code = "no-such-prediction"
    message = "There is no such prediction: it is not kept any more, or never was."


class NoSuchModel(ServiceError):
    """The workers serve no model of this name."""

    status = 404
    code = "no-such-model"
    message = "No such model is served; /v1/models says which is."


class NoSuchProblem(ServiceError):
    """No error has this code."""

    status = 404
    code = "no-such-problem"
    message = "There is no such kind of problem."


class PredictionPending(ServiceError):
    """The prediction is not ready yet."""

    status = 409
    code = "prediction-pending"
    message = "The image is not classified yet. Try again when it is."


class PredictionFailed(ServiceError):
    """There is no prediction to report as wrong, since the image could not be classified."""

    status = 409
    code = "prediction-failed"
    message = "This image has no prediction that could be right or wrong."


class KeyInUse(ServiceError):
    """A request with the same idempotency key is still being answered."""

    status = 409
    code = "idempotency-key-in-use"
    message = "A request with this Idempotency-Key is being answered. Try again for its answer."


class UnsupportedMediaType(ServiceError):
    """The body's media type is not supported."""

    status = 415
    code = "unsupported-media-type"
    message = "Send a form with files, JSON with images in base64, or an image as image/png, image/jpeg or image/gif."


class UnsupportedEncoding(ServiceError):
    """The body's `Content-Encoding` is not supported."""

    status = 415
    code = "unsupported-encoding"
    message = "Send the body without a Content-Encoding, or with gzip or deflate alone."


class KeyReused(ServiceError):
    """The same idempotency key was sent before with another request."""

    status = 422
    code = "idempotency-key-reused"
    message = "This Idempotency-Key was sent with another request before. Choose a new one for each request."


class NoSuchImage(ServiceError):
    """No image is stored under this name any more, or there never was one."""

    status = 404
    code = "no-such-image"
    message = "There is no such picture: uploaded pictures are removed after a while. Send it again."


class NoSuchReport(ServiceError):
    """The report to take back is not among the latest of the file."""

    status = 404
    code = "no-such-report"
    message = "There is no such report to take back: that was done already, or it is too old."


class TooLarge(ServiceError):
    """Something is over a limit; every limit has its own error."""

    status = 413
    code = "too-large"
    message = "The image is too large. Send a smaller one."


class TooManyBytes(TooLarge):
    """The upload has more bytes than the limit."""

    code = "too-many-bytes"


class TooManyPixels(TooLarge):
    """The image has more pixels, or more on one side, than the limit."""

    code = "too-many-pixels"


class TooManyFrames(TooLarge):
    """The animation has more frames than the limit."""

    code = "too-many-frames"
    message = "The animation has too many frames. Send one of them."


class TooManyScans(TooLarge):
    """The JPEG stores its picture in more passes than any encoder writes."""

    code = "too-many-scans"
    message = "The JPEG image has too many scans. Save it anew and send it again."


class TooMuchMetadata(TooLarge):
    """The image file has more bytes of metadata, or more pieces of it, than the limit."""

    code = "too-much-metadata"
    message = "The image has too many pieces of metadata. Save it without them and send it again."


class TooFragmented(TooLarge):
    """The image file consists of more and smaller pieces than any encoder writes."""

    code = "too-fragmented"
    message = "The image file is cut into too many small pieces. Save it anew and send it again."


class TooCostly(TooLarge):
    """Decoding the image takes more of a worker's processor time than the limit."""

    code = "too-costly"
    message = "Decoding the image takes too long. Make it smaller, or save it anew, and send it again."


class TooManyParts(TooLarge):
    """The form has more parts than the limit."""

    code = "too-many-parts"
    message = 'The form has too many parts. Send one image, as the form field "file".'


class TooManyImages(TooLarge):
    """The request has more images than the limit."""

    code = "too-many-images"


class TooManyValues(TooLarge):
    """The JSON of the request has more values than the limit."""

    code = "too-many-values"


class FieldTooLarge(TooLarge):
    """A field of the form, other than a file, has more bytes than the limit."""

    code = "field-too-large"
    message = 'A field of the form is too large. Send one image, as the form field "file".'


class PartHeaderTooLarge(TooLarge):
    """A part of the form has more headers, or more bytes in one, than the limit."""

    code = "part-header-too-large"
    message = "A part of the form has too many headers, or one that is too long, such as a very long file name."


class AddressTooLong(TooLarge):
    """The path of the address, or its query, has more bytes than the limit."""

    status = 414
    code = "address-too-long"
    message = "The address is too long."


class HeadersTooLarge(TooLarge):
    """The request has more headers, or more bytes in them, than the limit."""

    status = 431
    code = "headers-too-large"
    message = "The request has too many headers, or too much in them."


class ReportTooLarge(TooLarge):
    """A report of a wrong prediction has more bytes than the limit."""

    code = "report-too-large"
    message = "The report is too large."


class TooManyRequests(ServiceError):
    """The caller has sent as many requests as it may; try again after `retry_after_s`."""

    status = 429
    code = "too-many-requests"
    message = "You have sent as many requests as you may. Try again later."


class TooSlow(ServiceError):
    """The request did not arrive within its time."""

    status = 408
    code = "too-slow"
    message = "The upload took too long. Send a smaller image, or over a faster connection."


class QueueFull(ServiceError):
    """The queue has no room, or the wait would be longer than the caller's timeout; retry after `retry_after_s`."""

    status = 429
    code = "queue-full"
    message = "Too many images are waiting. Try again later."


class Unavailable(ServiceError):
    """A part of the service that the request needs is away."""

    status = 503
    code = "unavailable"
    message = "The service is not available at the moment. Try again shortly."

    def __init__(self, message: str | None = None, retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__(message, retry_after_s)


class Stopping(Unavailable):
    """The service began to stop before the answer came."""

    code = "stopping"
    message = "The service is stopping. Try again shortly."


class NoWorker(Unavailable):
    """No model worker is alive."""

    code = "no-worker"
    message = "No model worker is alive. Try again shortly."


class NoApi(Unavailable):
    """A proxy found no API to pass the request on to."""

    code = "no-api"
    message = "No API is alive. Try again shortly."


class QueueUnavailable(Unavailable):
    """Redis does not answer."""

    code = "queue-unavailable"
    message = "The queue does not answer. Try again shortly."


class UnreadableMessage(Unavailable):
    """API and workers do not understand each other's messages, as may happen while a new version is rolled out."""

    code = "unreadable-message"
    message = "Parts of the service did not understand each other. Try again shortly."


class StorageUnavailable(Unavailable):
    """An upload cannot be stored or read."""

    code = "storage-unavailable"
    message = "The image cannot be stored at the moment. Try again shortly."


class OutOfMemory(Unavailable):
    """A worker does not have the memory to decode an image."""

    code = "out-of-memory"
    message = "There is not enough memory for this image at the moment. Try again shortly, or send a smaller one."


class KeysUnavailable(Unavailable):
    """The API key file cannot be read, so no key can be checked."""

    code = "keys-unavailable"
    message = "API keys cannot be checked at the moment. Try again shortly."


class DeadlinePassed(ServiceError):
    """The answer did not come in time; the job is dropped."""

    status = 504
    code = "deadline-passed"
    message = "The answer did not come in time. Try again when the service is less busy."


class ClientGone(ServiceError):
    """The client has closed its connection, so nobody reads the answer."""

    status = 499  # nginx's, in logs
    code = "client-gone"
    message = "The client has gone."


class SetAside(ServiceError):
    """The image is quarantined: it ended more than one worker that held it, and is not tried again."""

    code = "set-aside"
    message = "This image stopped the model worker more than once and is not tried again."


class InferenceFailed(ServiceError):
    """The network could not process a well-formed image."""

    code = "inference-failed"
    message = "The model could not process this image."


def error_types() -> dict[str, type[ServiceError]]:
    """All error classes by their code."""
    found = {ServiceError.code: ServiceError}
    pending = [ServiceError]
    while pending:
        for child in pending.pop().__subclasses__():
            found[child.code] = child
            pending.append(child)
    return found


class SetupError(Exception):
    """The service cannot start as it is set up; the message says what to change."""
