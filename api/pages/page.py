"""The page for people: it classifies pictures and takes reports of wrong predictions.

Without JavaScript, each response is the whole page. With it, htmx requests only the part that changes.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, g, jsonify, redirect, render_template, request, url_for
from pydantic import BaseModel, ConfigDict, field_validator
from werkzeug.datastructures import FileStorage, Headers
from werkzeug.wrappers import Response

from api.errors.problems import error_headers
from api.feedback.labels import meant, plain, readable
from api.uploads.forms import FILE
from api.uploads.json_body import read_document
from api.views import STORED_NAME, classify, page_or_part, services, wants_part
from jobs.schema import Prediction, image_hash
from runtime.errors import (
    BadRequest,
    DeadlinePassed,
    NoFile,
    NoReport,
    QueueUnavailable,
    ServiceError,
    UnknownLabel,
    error_types,
)

blueprint = Blueprint("page", __name__)
blueprint.add_app_template_filter(readable)

Answer = str | tuple[str, int, Headers]

_MAX_SUGGESTIONS = 3
# Values by which programs send an unticked box.
_NO = {"false", "no", "off", "0"}
# Media types of forms; a program that sends anything else would mistake a page with a message for success.
_OF_BROWSERS = {"multipart/form-data", "application/x-www-form-urlencoded"}


class JsonReport(BaseModel):
    """A report of a wrong prediction in JSON, with the fields of the page's form."""

    model_config = ConfigDict(extra="forbid")

    report: str | dict[str, Any] = ""
    label: str | None = None
    none: bool = False
    undo: str | None = None

    @field_validator("report", mode="before")
    @classmethod
    def _check_report(cls, report: object) -> object:
        if not isinstance(report, str | dict):
            raise ValueError("it has to be a text or an object")
        return report

    @property
    def text(self) -> str:
        """The report as stored, "" without one."""
        if isinstance(self.report, str):
            return self.report
        return json.dumps(self.report) if self.report else ""


@dataclass(frozen=True, slots=True)
class Card:
    """An uploaded picture with its prediction and latency, or its error."""

    filename: str
    image_name: str = ""
    prediction: Prediction | None = None
    took_ms: float = 0
    error: ServiceError | None = None

    @property
    def report(self) -> str:
        """The report to send if the prediction is wrong, as JSON."""
        if not self.prediction:
            return ""
        label, score = self.prediction.label, round(self.prediction.score, 4)
        return json.dumps({"filename": self.image_name, "prediction": label, "score": score})


@blueprint.app_context_processor
def limits() -> dict[str, int]:
    """Return the upload limits that the page states."""
    return {"max_upload_bytes": services().settings.max_upload_bytes}


@blueprint.get("/")
def index() -> str:
    """Show the page; `?error=` is the error code of the last upload."""
    error = error_types().get(request.args.get("error", ""))
    return render_template("index.html", error=error and error())


@blueprint.post("/")
def classify_pictures() -> str | Response:
    """Classify the form's files, one or several, and show the result of each."""
    uploads = request.files.getlist(FILE)
    if len(uploads) > 1:
        return render_template("index.html", cards=[_settle(upload) for upload in uploads], labels=_labels())
    try:
        if not uploads:
            raise NoFile
        card = _classify(uploads[0])
    except BadRequest as err:
        if wants_part() or (request.content_length and request.mimetype not in _OF_BROWSERS):
            raise
        return redirect(url_for(".index", error=err.code))
    return page_or_part("answer.html", card=card, cards=[card], labels=_labels())


def _settle(upload: FileStorage) -> Card:
    """Classify one of several files; a bad one fails alone."""
    try:
        if time.monotonic() - g.started_s > services().settings.predict_timeout_s:
            raise DeadlinePassed
        return _classify(upload)
    except ServiceError as err:
        return Card(upload.filename or "", error=err)


def _classify(upload: FileStorage) -> Card:
    started = time.monotonic()
    name, prediction = classify(upload)
    return Card(upload.filename or "", name, prediction, 1000 * (time.monotonic() - started))


@blueprint.get("/labels")
def labels() -> str:
    """Return the options of the field for the correct class."""
    return render_template("labels.html", labels=_labels())


@blueprint.get("/feedback")
def show_page() -> str:
    """Show the page when a browser reloads the response to a report."""
    return render_template("index.html")


@blueprint.post("/feedback")
def feedback() -> Answer | Response:
    """Store a report of a wrong prediction, or withdraw one."""
    if request.is_json:
        return _answer_program(read_document(JsonReport))
    for name in ("report", "undo", "label"):  # which the response to a refused report repeats
        services().feedback.check_size(request.form.get(name, ""))
    report, report_id = request.form.get("report", ""), request.form.get("undo", "")
    if report_id:
        return _take_back(report, report_id)
    if not report.strip():
        raise NoReport
    if "label" in request.form or "none" in request.form:
        return _keep_with_label(report)
    services().feedback.append(report)
    _follow_up(report)
    return page_or_part("thanks.html", thanks=True)


def _answer_program(sent: JsonReport) -> Response:
    """Handle a report in JSON, and return the id with which it can be withdrawn, if it has one."""
    if sent.undo:
        _drop_image(services().feedback.take_back(sent.undo))
        return jsonify(success=True)
    if not sent.text.strip():
        raise NoReport
    if sent.none or sent.label is not None:
        return jsonify(success=True, id=_keep(sent.text, _right(sent.label or "", none=sent.none, labels=_labels())))
    services().feedback.append(sent.text)
    _follow_up(sent.text)
    return jsonify(success=True)


def _keep_with_label(report: str) -> Answer:
    """Store a report of the page, which gives the correct class and can be withdrawn."""
    written = request.form.get("label", "")
    try:
        right = _right(written, none=_is_yes(request.form.get("none")), labels=_labels())
        report_id = _keep(report, right)
    except ServiceError as err:
        return _refused("report.html", err, report=report, said=written)
    return page_or_part("thanks.html", thanks=True, report=report, report_id=report_id, right=right)


def _is_yes(field: str | None) -> bool:
    """Return whether a tick box's field is present and does not say no; any other text means yes."""
    return field is not None and field.strip().lower() not in _NO


def _keep(report: str, right: dict[str, str | None]) -> str:
    """Store a report with the correct label, and return the id with which it can be withdrawn."""
    report_id = services().feedback.append_with_id({**_fields(report), **right})
    _follow_up(report)
    return report_id


def _take_back(report: str, report_id: str) -> Answer:
    """Withdraw a report of the page."""
    try:
        _drop_image(services().feedback.take_back(report_id))
    except ServiceError as err:
        return _refused("thanks.html", err, thanks=True, report=report, report_id=report_id)
    return page_or_part("report.html", report=report, taken_back=True, labels=_labels())


def _refused(part: str, err: ServiceError, **context: object) -> Answer:
    """Return the form as it was sent, with the error, so that it can be corrected and sent again."""
    return page_or_part(part, error=err, labels=_labels(), **context), err.status, error_headers(err)


def _right(written: str, *, none: bool, labels: Sequence[str]) -> dict[str, str | None]:
    """Return the report's `label` field: None if the model has no such class; no field if none was given.

    Raises `UnknownLabel` for a text that is no label of the model, unless its labels are unknown.
    """
    if none:
        return {"label": None}
    said = written.strip()
    wanted = plain(said)
    if not wanted:
        return {}
    label = meant(said, labels) if labels else said
    if label is None:
        near = [readable(each) for each in dict.fromkeys(labels) if wanted in plain(each)][:_MAX_SUGGESTIONS]
        raise UnknownLabel(f"The model knows no such class, but: {', '.join(near)}." if near else None)
    return {"label": label}


def _labels() -> Sequence[str]:
    """Return the model's labels, or none if Redis is down: the page is of use without them."""
    with suppress(QueueUnavailable):
        return services().queue.labels()
    return ()


def _follow_up(report: str) -> None:
    """Count a report, keep its image, and remove its wrong prediction from the cache."""
    services().metrics.judged(_reported(report, "prediction"), _labels(), correct=False)
    name = _reported_image(report)
    if name:
        services().feedback.keep_image(name, services().images)
        with suppress(QueueUnavailable):
            services().queue.forget(name)


def _drop_image(report: str) -> None:
    """Remove a withdrawn report's image, unless another report has it, too."""
    name = _reported_image(report)
    if name:
        services().feedback.drop_image(image_hash(name), services().settings.feedback_records)


def _reported_image(report: str) -> str | None:
    """Return the name of a report's image, if it has one."""
    name = _reported(report, "filename")
    return name if isinstance(name, str) and STORED_NAME.fullmatch(name) else None


def _reported(report: str, field: str) -> object:
    """Return a field of a report, or None: a report may be any text."""
    with suppress(BadRequest):
        return _fields(report).get(field)
    return None


def _fields(report: str) -> dict[str, object]:
    """Return a report's fields. Raises `BadRequest` if it is not a JSON object."""
    with suppress(ValueError, RecursionError):
        fields = json.loads(report)
        if isinstance(fields, dict):
            return fields
    raise BadRequest('A report that is sent with "label" or "none" has to be a JSON object.')
