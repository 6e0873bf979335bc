"""Runs the API under Granian, a WSGI server whose HTTP part is not Python."""

from flask import Flask
from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from api.app import create_app
from api.settings import ApiSettings
from jobs import logs

# In-flight requests get this long after SIGTERM; then their process is ended.
STOP_TIMEOUT_S = 10


def wsgi_app() -> Flask:
    """Return the application for one API process."""
    settings = ApiSettings.from_env()
    logs.configure(settings.log_level)
    return create_app(settings)


def main() -> None:
    """Serve until SIGTERM or SIGINT. Raises `SettingsError`."""
    settings = ApiSettings.from_env()
    server = Granian(
        "api.server:wsgi_app",
        factory=True,
        interface=Interfaces.WSGI,
        address=settings.host,
        port=settings.port,
        workers=settings.api_processes,
        blocking_threads=settings.api_threads,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_TIMEOUT_S,
        websockets=False,
        log_level=LogLevels.error,  # its other lines are about itself, at every start
    )
    server.serve()
