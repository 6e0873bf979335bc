"""For operators: the figures of the service as a page, which goes on by itself, and for Prometheus.

Without API keys, all of this is for the machine that the service runs on.
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
    """Let nobody but operators in."""
    admit_operator(services().settings)


@blueprint.app_template_filter("time")
def time_element(at_s: float) -> Markup:
    """Return a Unix time as an element, for people and for programs (ISO 8601)."""
    at = datetime.fromtimestamp(int(at_s), timezone.utc)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), at.strftime("%Y-%m-%d %H:%M:%S UTC"))


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return all figures as Prometheus reads them."""
    found = services()
    return Response(generate_latest(registry(found.metrics, found.queue)), content_type=CONTENT_TYPE_LATEST)


@blueprint.get("/status")
def status() -> str:
    """Show how the service is, what was reported as wrong, and what is set aside."""
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
    """Return the part of the page that changes as an event, and the next ones as long as somebody listens."""
    if request.method == "GET":
        connection.current().stream = services().feed.serve
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would keep events back
    return Response(iter([_event()]), mimetype=MEDIA_TYPE, headers=headers)


@blueprint.get("/status/pictures/<name>")
def picture(name: str) -> Response:
    """Return the picture of a report."""
    image_hash, dot, ending = name.partition(".")
    if not dot or name != services().feedback.kept_name(image_hash):
        abort(404)
    return views.picture(services().feedback.images, name, MEDIA_TYPES[f".{ending}"])


@blueprint.post("/status/release")
def release() -> AnyResponse:
    """Let an image that is set aside be tried again when it is sent."""
    services().queue.release(request.form.get("image", ""))
    return redirect(url_for(".status") + "#set-aside", 303)


def make_event(app: Flask) -> bytes:
    """Return what has changed on the page, outside of any request."""
    with app.app_context():
        return _event()


def _event() -> bytes:
    return event(render_template("figures.html", **_live()), EVERY_S)


def _live() -> dict[str, Any]:
    """Return what the page shows of now and the last minutes."""
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
    """Return what the charts show of a time."""
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
    """Return the images that are set aside, the last one first; None where Redis does not tell."""
    try:
        return services().queue.set_aside_images()[::-1]
    except QueueUnavailable:
        return None
