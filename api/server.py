"""Runs the API under Granian, a WSGI server whose HTTP part is not Python."""

import logging
import signal
import socket
import threading
import time
from pathlib import Path
from queue import SimpleQueue

from flask import Flask
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.mp import MPServer

from api.app import create_app
from api.keys import KeyFile
from api.settings import ApiSettings
from jobs import logs
from jobs.images import FolderImageStore
from jobs.queue import JobQueue
from jobs.retention import UploadSweeper

log = logging.getLogger(__name__)

# In-flight requests get this long after SIGTERM; then their process is ended.
STOP_TIMEOUT_S = 10
# Those that still wait this long after SIGTERM are answered that the service stops.
_GIVE_UP_AFTER_S = 8

# Clocks of machines that share the uploads may differ, and a worker may be late.
_NEEDED_MARGIN_S = 60


class Server(MPServer):
    """Granian, stopped by any number of signals.

    Its own handler takes a lock, and so never returns when a second signal comes while the first is being handled.
    This one hands the signal to a thread, by a queue that may be used in signal handlers.
    """

    def serve_until_signal(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        self._signals: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._stop_at_signal, name="signals", daemon=True).start()
        self.serve()

    def signal_handler_interrupt(self, *_: object) -> None:
        """Take note of a signal."""
        self._signals.put(None)

    def _stop_at_signal(self) -> None:
        self._signals.get()
        super().signal_handler_interrupt()  # type: ignore[no-untyped-call]  # it has no annotations


def wsgi_app() -> Flask:
    """Return the application for one API process."""
    settings = ApiSettings.from_env()
    logs.configure(settings.log_level, settings.log_format)
    app = create_app(settings)
    _close_when_stopped(app.extensions["services"].queue)
    return app


def _close_when_stopped(queue: JobQueue) -> None:
    """Have requests answered that would else be cut off some time after the first signal to this process.

    Granian has handlers of its own and no hook, but Python tells of every signal it handles through a socket as well.
    """
    told, tell = socket.socketpair()
    tell.setblocking(False)
    signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    tell.detach()  # it is the process's now

    def close_in_time() -> None:
        told.recv(1)
        time.sleep(_GIVE_UP_AFTER_S)
        queue.close()

    threading.Thread(target=close_in_time, name="stop", daemon=True).start()


def _look_for_keys(file: Path | None) -> None:
    """Warn where keys are asked for and nobody has one. Raises `KeyFileError`."""
    if file and not KeyFile(file).read():
        log.warning("%s has no key yet, so every request is refused: `mlapi key add NAME` makes one", file)


def _sweep_uploads(settings: ApiSettings) -> None:
    """Keep the uploads within their limits, in a thread of this process, which answers no requests itself."""
    sweeper = UploadSweeper(
        FolderImageStore(settings.upload_folder),
        max_age_s=settings.upload_max_age_s,
        max_bytes=settings.upload_max_bytes,
        needed_s=settings.predict_timeout_s + _NEEDED_MARGIN_S,
    )
    threading.Thread(target=sweeper.run, args=[threading.Event()], name="uploads", daemon=True).start()


def main() -> None:
    """Serve until SIGTERM or SIGINT. Raises `SettingsError` or `KeyFileError`."""
    settings = ApiSettings.from_env()
    logs.configure(settings.log_level, settings.log_format)
    _look_for_keys(settings.api_keys_file)
    _sweep_uploads(settings)
    server = Server(
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
    server.serve_until_signal()
