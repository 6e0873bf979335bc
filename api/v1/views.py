"""The endpoints under `/v1`: each parses the request, calls one function, and formats the answer."""

import json

from flask import Blueprint, Response, render_template, request, url_for

from api.access.access import admit_operator
from api.errors.problems import problem
from api.http import connection
from api.http.headers import DOCS_POLICY
from api.uploads.json_body import parse, read_document
from api.v1 import documents, feedback, openapi, predictions, requests
from api.v1.idempotency import once
from api.v1.openapi import operation
from api.views import services, timed
from jobs.results import Result
from jobs.schema import ModelInfo
from jobs.versions.rules import Version, Versions
from runtime.errors import NoSuchModel, NoSuchPrediction, NoSuchProblem, error_types

blueprint = Blueprint("v1", __name__)


def _json(document: object, status: int = 200) -> Response:
    """Answer with a document, whose fields stay in their order."""
    return Response(json.dumps(document), status, mimetype="application/json")


@blueprint.before_request
def allow_large_requests() -> None:
    """Let a request have several images."""
    request.max_content_length = services().settings.max_request_bytes


@blueprint.post("/v1/predictions")
@operation(
    {200: documents.Prediction, 202: documents.Prediction},
    problems=(404, 409, 415, 422, 504),
    query=documents.Options,
    form=documents.UploadForm,
    json=documents.EncodedImages,
    headers=documents.PredictionHeaders,
)
def predict() -> Response:
    """Classify one image or many

    Send a form with files, an image as it is, or JSON. An image that cannot be classified fails alone: its result has
    the problem. Where all images fail for the same reason, that is the answer.
    """
    timed()
    asked = requests.read()
    settings = services().settings
    return once(
        services().results,
        asked.fingerprint,
        lambda: _classify(asked) if asked.waits else _submit(asked),
        within_s=settings.predict_timeout_s,
        ttl_s=settings.result_ttl_s,
    )


def _classify(asked: requests.PredictionRequest) -> Response:
    return _answer(*predictions.classify(services(), asked))


def _submit(asked: requests.PredictionRequest) -> Response:
    result_id, result = predictions.submit(services(), asked)
    response = _answer(result_id, result)
    response.status_code = 202
    response.headers["Location"] = url_for("v1.prediction", prediction_id=result_id)
    response.headers["Preference-Applied"] = "respond-async"
    return response


def _answer(result_id: str, result: Result) -> Response:
    response = _json(predictions.document(services().queue, result_id, result))
    if not result.is_done or predictions.is_refused_for_now(result):
        lane = result.request.get("lane", "interactive")  # which what an earlier version kept does not tell
        response.headers["Retry-After"] = str(services().queue.retry_after_s(lane))
    return response


@blueprint.get("/v1/predictions/<prediction_id>")
@operation({200: documents.Prediction}, problems=(404,), query=documents.Wait)
def prediction(prediction_id: str) -> Response:
    """Return a prediction, done or not

    Predictions are kept for a while, those that were answered at once too. With `wait`, the answer comes as soon as the
    prediction is done, or when that time has passed.
    """
    timed()
    wait = parse(documents.Wait, request.args)
    return _answer(prediction_id, _result(prediction_id, wait.wait))


def _result(prediction_id: str, wait_s: float = 0) -> Result:
    client = connection.current()
    result = services().results.get(prediction_id, wait_s, lambda: client.closed or client.draining)
    if result is None:
        raise NoSuchPrediction
    return result


@blueprint.post("/v1/predictions/<prediction_id>/feedback")
@operation(
    {201: documents.FeedbackRecord},
    problems=(404, 409, 415, 422),
    json=documents.Feedback,
    headers=documents.IdempotencyHeaders,
)
def give_feedback(prediction_id: str) -> Response:
    """Say whether a prediction was right, and what is

    The image of a wrong one is kept, and is computed anew when it is sent again.
    """
    given = read_document(documents.Feedback)
    settings = services().settings
    return once(
        services().results,
        lambda: feedback.fingerprint(prediction_id, given),
        lambda: _json(feedback.keep(services(), prediction_id, _result(prediction_id), given), 201),
        within_s=settings.predict_timeout_s,
        ttl_s=settings.result_ttl_s,
    )


@blueprint.get("/v1/feedback")
@operation({200: documents.FeedbackPage}, query=documents.FeedbackQuery)
def list_feedback() -> Response:
    """List feedback, oldest first

    For operators: with an API key or, where the service has none, from the machine that it runs on.
    """
    admit_operator(services().settings)
    query = parse(documents.FeedbackQuery, request.args)
    wanted = query.model_dump(exclude={"cursor", "limit"}, exclude_none=True)
    found, following = services().records.page(wanted, query.cursor, query.limit)
    return _json({"feedback": found, "next": following})


@blueprint.get("/v1/models")
@operation({200: documents.Models})
def models() -> Response:
    """List the models that are served"""
    versions = services().queue.versions()
    served = (versions.served(name) for name in versions.names)
    return _json({"models": [_summary(version.info) for version in served if version]})


@blueprint.get("/v1/models/<name>")
@operation({200: documents.Model}, problems=(404,))
def model(name: str) -> Response:
    """Return what is known of a model: its labels, input and version, which is the one that serves"""
    found = services().queue.versions().served(name)
    if not found:
        raise NoSuchModel
    return _json(_details(found.info))


@blueprint.get("/v1/models/<name>/versions")
@operation({200: documents.Versions}, problems=(404,))
def model_versions(name: str) -> Response:
    """List the versions of a model, and what each is for

    Their workers make them known when they have loaded and tried them.
    """
    versions = services().queue.versions()
    found = [version for version in versions.listed if version.info.name == name]
    if not found:
        raise NoSuchModel
    return _json({"versions": [{**_summary(each.info), **_standing(versions, each)} for each in found]})


@blueprint.get("/v1/models/<name>/versions/<version>")
@operation({200: documents.Version}, problems=(404,))
def model_version(name: str, version: str) -> Response:
    """Return what is known of a version of a model, and what it is for"""
    versions = services().queue.versions()
    found = versions.find(f"{name}@{version}")
    return _json({**_details(found.info), **_standing(versions, found)})


def _details(model: ModelInfo) -> dict[str, object]:
    size = {"height": model.height, "width": model.width, "resize": model.resize}
    return {**_summary(model), "input": size, "labels": model.labels}


def _standing(versions: Versions, version: Version) -> dict[str, object]:
    role, percent = versions.role(version)
    return {"role": role, "percent": percent, "workers": version.workers, "ready": version.workers > 0}


def _summary(model: ModelInfo) -> dict[str, object]:
    return {
        "name": model.name,
        "version": model.version,
        "precision": model.precision,
        "classes": len(model.labels),
    }


@blueprint.get("/v1/problems/<code>")
@operation({200: documents.Problem}, problems=(404,))
def explain_problem(code: str) -> Response:
    """Say what a kind of problem means"""
    error_type = error_types().get(code)
    if error_type is None:
        raise NoSuchProblem
    return _json(problem(code, error_type.status, error_type.message, root=request.script_root))


@blueprint.get("/openapi.json")
@blueprint.get("/v1/openapi.json")  # first, as its address on the page of the documentation
def openapi_document() -> Response:
    """Return the OpenAPI document of all this."""
    answer = _json(openapi.document(request.script_root))
    answer.add_etag()
    answer.make_conditional(request)
    return answer


@blueprint.get("/docs")
def docs() -> Response:
    """Show the OpenAPI document as a page, on which requests can be tried."""
    return Response(
        render_template("docs.html"), headers={"Content-Security-Policy": DOCS_POLICY}, mimetype="text/html"
    )
