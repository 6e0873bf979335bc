"""The page: pictures come in, answers and reports of wrong ones go out.

Without JavaScript each answer is the page anew. With it, htmx asks for the part of the page that changes.
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
# How programs write the opposite of a box that is ticked.
_NO = {"false", "no", "off", "0"}
# What forms are sent as; programs that send anything else would take a page with a message for a success.
_OF_BROWSERS = {"multipart/form-data", "application/x-www-form-urlencoded"}


class JsonReport(BaseModel):
    """A report of a wrong prediction as programs send it, with the fields of the page's form."""

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
        """The report as it is kept, "" where there is none."""
        if isinstance(self.report, str):
            return self.report
        return json.dumps(self.report) if self.report else ""


@dataclass(frozen=True, slots=True)
class Card:
    """A picture that was sent, and its answer: a prediction, after so many milliseconds, or what was wrong."""

    filename: str
    image_name: str = ""
    prediction: Prediction | None = None
    took_ms: float = 0
    error: ServiceError | None = None

    @property
    def report(self) -> str:
        """What is reported where the prediction is wrong, as JSON."""
        if not self.prediction:
            return ""
        label, score = self.prediction.label, round(self.prediction.score, 4)
        return json.dumps({"filename": self.image_name, "prediction": label, "score": score})


@blueprint.app_context_processor
def limits() -> dict[str, int]:
    """Return what the page says of pictures before they are sent."""
    return {"max_upload_bytes": services().settings.max_upload_bytes}


@blueprint.get("/")
def index() -> str:
    """Show the page; `?error=` is the code of what was wrong with the last upload."""
    error = error_types().get(request.args.get("error", ""))
    return render_template("index.html", error=error and error())


@blueprint.post("/")
def classify_pictures() -> str | Response:
    """Classify the form's files, one or several, and show each with its answer."""
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
    """Classify one of several files, of which a bad one fails alone."""
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
    """Return the options of the field that asks what a picture shows."""
    return render_template("labels.html", labels=_labels())


@blueprint.get("/feedback")
def show_page() -> str:
    """Show the page where a browser loads anew what was the answer to a report."""
    return render_template("index.html")


@blueprint.post("/feedback")
def feedback() -> Answer | Response:
    """Keep a report of a wrong prediction, or take one back."""
    if request.is_json:
        return _answer_program(read_document(JsonReport))
    for name in ("report", "undo", "label"):  # which the answer to one that is refused repeats
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
    """Do what is asked for in JSON, and tell the id by which a report can be taken back, if it has one."""
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
    """Keep a report of the page, which says what the picture shows and can be taken back."""
    written = request.form.get("label", "")
    try:
        right = _right(written, none=_is_yes(request.form.get("none")), labels=_labels())
        report_id = _keep(report, right)
    except ServiceError as err:
        return _refused("report.html", err, report=report, said=written)
    return page_or_part("thanks.html", thanks=True, report=report, report_id=report_id, right=right)


def _is_yes(field: str | None) -> bool:
    """Tell whether a field of a form that is sent for a yes, with any text, is there and does not say no."""
    return field is not None and field.strip().lower() not in _NO


def _keep(report: str, right: dict[str, str | None]) -> str:
    """Keep a report with the right label, and return the id by which it can be taken back."""
    report_id = services().feedback.append_with_id({**_fields(report), **right})
    _follow_up(report)
    return report_id


def _take_back(report: str, report_id: str) -> Answer:
    """Take a report of the page back."""
    try:
        _drop_image(services().feedback.take_back(report_id))
    except ServiceError as err:
        return _refused("thanks.html", err, thanks=True, report=report, report_id=report_id)
    return page_or_part("report.html", report=report, taken_back=True, labels=_labels())


def _refused(part: str, err: ServiceError, **context: object) -> Answer:
    """Answer with the form as it was sent, and what is wrong, so that it can be sent again."""
    return page_or_part(part, error=err, labels=_labels(), **context), err.status, error_headers(err)


def _right(written: str, *, none: bool, labels: Sequence[str]) -> dict[str, str | None]:
    """Return the right label as a report has it: None where the model has no class for it, nothing where it is unsaid.

    Raises `UnknownLabel` for what is no label of the model, unless nobody knows its labels.
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
    """Return the labels of the model, none where they cannot be had: the page is of use without them."""
    with suppress(QueueUnavailable):
        return services().queue.labels()
    return ()


def _follow_up(report: str) -> None:
    """Count a report, keep the image that it names, and drop its wrong prediction from the cache."""
    services().metrics.judged(_reported(report, "prediction"), _labels(), correct=False)
    name = _reported_image(report)
    if name:
        services().feedback.keep_image(name, services().images)
        with suppress(QueueUnavailable):
            services().queue.forget(name)


def _drop_image(report: str) -> None:
    """Remove the image of a report that was taken back, unless it is that of another one, too."""
    name = _reported_image(report)
    if name:
        services().feedback.drop_image(image_hash(name), services().settings.feedback_records)


def _reported_image(report: str) -> str | None:
    """Return the name of the image in a report, if there is one."""
    name = _reported(report, "filename")
    return name if isinstance(name, str) and STORED_NAME.fullmatch(name) else None


def _reported(report: str, field: str) -> object:
    """Return what a report has in a field; it may be any text, and then that is nothing."""
    with suppress(BadRequest):
        return _fields(report).get(field)
    return None


def _fields(report: str) -> dict[str, object]:
    """Return a report's fields. Raises `BadRequest` where it is no JSON object."""
    with suppress(ValueError, RecursionError):
        fields = json.loads(report)
        if isinstance(fields, dict):
            return fields
    raise BadRequest('A report that is sent with "label" or "none" has to be a JSON object.')
