"""The endpoints of the Open Inference Protocol: each parses the request, calls one function, and formats the answer."""

import json

from flask import Blueprint, Response, request

from api.v1 import priority
from api.v1.predictions import served_model
from api.v2 import inference, requests
from api.views import ready_workers, services
from jobs import __version__
from jobs.versions.rules import Version, Versions
from runtime.errors import NoSuchModel

blueprint = Blueprint("v2", __name__)

_NAME = "flask-ml-api"
_EXTENSIONS = ("binary_tensor_data", "classification")

_MODEL = "/v2/models/<name>"
_MODEL_VERSION = f"{_MODEL}/versions/<version>"


def _json(document: object) -> Response:
    return Response(json.dumps(document), mimetype="application/json")


@blueprint.before_request
def allow_large_requests() -> None:
    """Let a request have several images."""
    request.max_content_length = services().settings.max_request_bytes


@blueprint.get("/v2")
def server() -> Response:
    """Return what is known of the service."""
    return _json({"name": _NAME, "version": __version__, "extensions": list(_EXTENSIONS)})


@blueprint.get("/v2/health/live")
def live() -> Response:
    """Say that this process answers."""
    return _json({"live": True})


@blueprint.get("/v2/health/ready")
def ready() -> Response:
    """Say whether an image could be classified now."""
    ready_workers()
    return _json({"ready": True})


@blueprint.get(_MODEL)
@blueprint.get(_MODEL_VERSION)
def model(name: str, version: str | None = None) -> Response:
    """Return what a model takes and gives."""
    versions = services().queue.versions()
    found = _find(versions, name, version)
    of_name = [each.info.version for each in versions.listed if each.info.name == name and each.workers]
    return _json(inference.metadata(found.info, of_name or [found.info.version]))


@blueprint.get(f"{_MODEL}/ready")
@blueprint.get(f"{_MODEL_VERSION}/ready")
def model_ready(name: str, version: str | None = None) -> Response:
    """Say whether a model could classify an image now."""
    found = _find(services().queue.versions(), name, version)
    ready_workers(found.name if version else name)
    return _json({"name": name, "ready": True})


@blueprint.post(f"{_MODEL}/infer")
@blueprint.post(f"{_MODEL_VERSION}/infer")
def infer(name: str, version: str | None = None) -> Response:
    """Classify one image or several."""
    found = _find(services().queue.versions(), name, version)
    sent = requests.read()
    lane = priority.lane(request.headers.getlist("Priority"), waits=True)
    predictions = inference.infer(services(), sent.images, lane, found.name if version else name)
    served = served_model(services().queue, predictions[0].model)
    head, binary = inference.answer(sent.asked, served, predictions)
    if not binary:
        return Response(head, mimetype="application/json")
    return Response(head + binary, mimetype="application/octet-stream", headers={requests.JSON_LENGTH: str(len(head))})


def _find(versions: Versions, name: str, version: str | None) -> Version:
    """Return the version of a model, by default the one that serves. Raises `NoSuchModel`."""
    served = versions.served(name)
    if not served:
        raise NoSuchModel
    try:
        return versions.find(f"{name}@{version}") if version else served
    except NoSuchModel as err:
        raise NoSuchModel("The model is not served in this version; /v1/models says in which.") from err
