"""Every way a request can fail, each with its HTTP status and a code that survives the queue."""

from typing import ClassVar


class ServiceError(Exception):
    """A failure that a client is told about. The message says what to do.

    `code` is stable and crosses the queue; `status` is the HTTP status; `retry_after_s` is set where
    trying again later may help.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BadRequest(ServiceError):
    """The request itself is wrong; sending it again unchanged will not help."""

    status = 400
    code = "bad-request"


class NoFile(BadRequest):
    """The form has no file in the expected field."""

    code = "no-file"


class UnsupportedFile(BadRequest):
    """The file's name does not end like an image we accept."""

    code = "unsupported-file"


class NotAnImage(BadRequest):
    """The bytes are empty, truncated, or not an image that can be decoded."""

    code = "not-an-image"


class TooLarge(ServiceError):
    """The upload has more bytes, or the image more pixels, than the limit."""

    status = 413
    code = "too-large"


class QueueFull(ServiceError):
    """The queue holds as many jobs as it may; try again after `retry_after_s`."""

    status = 429
    code = "queue-full"


class Unavailable(ServiceError):
    """A part of the service that the request needs is away."""

    status = 503
    code = "unavailable"


class NoWorker(Unavailable):
    """No model worker is alive."""

    code = "no-worker"


class QueueUnavailable(Unavailable):
    """Redis does not answer."""

    code = "queue-unavailable"


class DeadlinePassed(ServiceError):
    """The answer did not come in time; the job is dropped."""

    status = 504
    code = "deadline-passed"


class SetAside(ServiceError):
    """The image ended the worker that held it more than once, and is not tried again."""

    code = "set-aside"


class InferenceFailed(ServiceError):
    """The network could not process a well-formed image."""

    code = "inference-failed"


def error_types() -> dict[str, type[ServiceError]]:
    """All error classes by their code."""
    found = {ServiceError.code: ServiceError}
    pending = [ServiceError]
    while pending:
        for child in pending.pop().__subclasses__():
            found[child.code] = child
            pending.append(child)
    return found
