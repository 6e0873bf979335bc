"""The operators' status page, which updates itself, and the metrics for Prometheus.

Without API keys, they can be reached only from the machine that the service runs on.
"""

import json
from datetime import datetime, timezone
from typing import Any

from flask import Blueprint, Flask, Response, abort, redirect, render_template, request, url_for
from markupsafe import Markup
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.wrappers import Response as AnyResponse

from api import views
from api.access.access import admit_operator
from api.feedback import reports
from api.http import connection
from api.monitoring.history import EVERY_S, Period
from api.monitoring.metrics import registry
from api.pages.events import MEDIA_TYPE, event
from api.utils import MEDIA_TYPES
from api.views import services
from jobs.schema import SetAsideImage
from runtime.errors import QueueUnavailable

blueprint = Blueprint("status", __name__)

_MAX_REPORTS = 12
_MAX_CONFUSIONS = 20


@blueprint.before_request
def admit() -> None:
    """Refuse everyone but operators."""
    admit_operator(services().settings)


@blueprint.app_template_filter("time")
def time_element(at_s: float) -> Markup:
    """Return a Unix time as an HTML element, with its ISO 8601 form for programs."""
    at = datetime.fromtimestamp(int(at_s), timezone.utc)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), at.strftime("%Y-%m-%d %H:%M:%S UTC"))


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return all metrics in Prometheus's format."""
    found = services()
    return Response(generate_latest(registry(found.metrics, found.queue)), content_type=CONTENT_TYPE_LATEST)


@blueprint.get("/status")
def status() -> str:
    """Show the service's figures, reports of wrong predictions, and quarantined images."""
    settings = services().settings
    wrong = reports.latest(settings.feedback_filepath, settings.feedback_records)
    return render_template(
        "status.html",
        **_live(),
        wrong=[(each, services().feedback.kept_name(each.image_hash)) for each in wrong[:_MAX_REPORTS]],
        confusions=reports.confusions(wrong, _MAX_CONFUSIONS),
        set_aside=_set_aside(),
    )


@blueprint.get("/status/events")
def events() -> Response:
    """Stream the part of the page that changes, as events."""
    if request.method == "GET":
        connection.current().stream = services().feed.serve
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would buffer events
    return Response(iter([_event()]), mimetype=MEDIA_TYPE, headers=headers)


@blueprint.get("/status/pictures/<name>")
def picture(name: str) -> Response:
    """Return a report's picture."""
    image_hash, dot, ending = name.partition(".")
    if not dot or name != services().feedback.kept_name(image_hash):
        abort(404)
    return views.picture(services().feedback.images, name, MEDIA_TYPES[f".{ending}"])


@blueprint.post("/status/release")
def release() -> AnyResponse:
    """Release a quarantined image, so that it is tried again when it is next sent."""
    services().queue.release(request.form.get("image", ""))
    return redirect(url_for(".status") + "#set-aside", 303)


def make_event(app: Flask) -> bytes:
    """Return the page's figures as an event, outside any request."""
    with app.app_context():
        return _event()


def _event() -> bytes:
    return event(render_template("figures.html", **_live()), EVERY_S)


def _live() -> dict[str, Any]:
    """Return the page's current figures and those of the last minutes."""
    history = services().history
    lately = history.lately()
    periods = history.periods()
    return {
        "lately": lately,
        "queue": lately.after.queue,
        "at_s": lately.after.at_s,
        "points": json.dumps([_rounded(series) for series in zip(*map(_point, periods), strict=True)]),
    }


def _point(period: Period) -> tuple[float | None, ...]:
    """Return the charts' values for a period."""
    queue = period.after.queue
    return (
        period.after.at_s,
        period.predictions_per_s,
        *(_ms(period.latency_s(share)) for share in (0.5, 0.95, 0.99)),
        queue.waiting_jobs + queue.held_jobs if queue else None,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _rounded(series: tuple[float | None, ...]) -> list[float | None]:
    return [None if value is None else round(value, 2) for value in series]


def _set_aside() -> list[SetAsideImage] | None:
    """Return the quarantined images, the latest first; None if Redis is down."""
    try:
        return services().queue.set_aside_images()[::-1]
    except QueueUnavailable:
        return None
