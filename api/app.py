"""Builds the Flask application."""

from functools import partial

from flask import Flask

from api import views
from api.access import access
from api.feedback.file import FeedbackFile
from api.feedback.records import FeedbackRecords
from api.http import headers
from api.monitoring import metrics, request_log, request_trace
from api.monitoring.history import EVERY_S, History
from api.monitoring.metrics import Metrics
from api.pages import page, status
from api.pages.events import Feed
from api.settings import ApiSettings
from api.uploads.forms import FormRequest
from api.v1.views import blueprint as v1
from api.v2.views import blueprint as v2
from jobs.queue.interface import JobQueue
from jobs.redis.queue import RedisJobQueue
from jobs.redis.results import RedisResults
from jobs.results import ResultStore
from jobs.storage.opening import open_store


def create_app(
    settings: ApiSettings | None = None,
    queue: JobQueue | None = None,
    results: ResultStore | None = None,
    counts: Metrics | None = None,
) -> Flask:
    """Return the API as a WSGI application; build missing arguments from the environment. Raises `SettingsError`."""
    settings = settings or ApiSettings.from_env()
    app = Flask(__name__)
    app.request_class = FormRequest
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes + views.FORM_OVERHEAD_BYTES
    counts, queue = counts or Metrics(), queue or RedisJobQueue.from_settings(settings)
    app.extensions["services"] = views.Services(
        settings=settings,
        queue=queue,
        images=open_store(settings),
        feedback=FeedbackFile(settings.feedback_filepath, settings.max_feedback_bytes),
        results=results or RedisResults.from_settings(settings, settings.result_bytes),
        records=FeedbackRecords(settings.feedback_records),
        metrics=counts,
        history=History(counts, queue),
        feed=Feed(partial(status.make_event, app), EVERY_S),
    )
    request_trace.install(app)
    metrics.install(app, counts)
    request_log.install(app)  # before access, so that refused requests are logged too
    access.install(app, settings)
    headers.install(app)
    app.register_blueprint(views.blueprint)
    app.register_blueprint(page.blueprint)
    app.register_blueprint(status.blueprint)
    app.register_blueprint(v1)
    app.register_blueprint(v2)
    return app
