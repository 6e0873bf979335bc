"""Runs the API under Granian, a server whose HTTP code is not Python."""

import gc
import logging
import math
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from granian.constants import HTTPModes, Interfaces, Loops
from granian.log import LogLevels
from granian.server.mp import MPServer, WorkerProcess
from prometheus_client import start_http_server

from api.access.keys import KeyFile
from api.app import create_app
from api.background.examiner import Examiner
from api.monitoring import metrics
from api.server.bodies import MAX_CONNECTIONS
from api.server.gateway import DRAIN_SIGNAL, STOP_SIGNAL, Gateway
from api.settings import ApiSettings
from api.v1.predictions import document
from api.views import Services
from api.webhooks.sender import Sender
from api.webhooks.webhooks import Webhooks
from jobs.queue.interface import JobQueue
from jobs.redis import setup as redis_setup
from jobs.redis.queue import RedisJobQueue
from jobs.redis.results import RedisResults
from jobs.storage.images import FolderImageStore
from jobs.storage.retention import FolderUploads, Uploads, UploadSweeper
from runtime import listening, logs, parent_watch, tracing
from runtime.errors import SetupError

log = logging.getLogger(__name__)

_BACKLOG = 4096
# Files that a process has open besides connections, and a picture for each being sent: connections to Redis, files.
_OTHER_FILES = 2000
# Signals that the parent process alone handles, which then stops the API processes.
_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
# Processes end by themselves, which takes seconds on a busy machine; one that does not is killed this much later.
_STOP_SPARE_S = 7
# Time for reading what clients have sent before the listener is closed.
_READ_S = 2.0
_READ_CHECK_EVERY_S = 0.05

# This many receivers of webhooks may be slow at once before others wait for them.
_WEBHOOK_THREADS = 4

# New objects before a garbage collection. With Python's 700, and all objects from the start scanned again and again, it
# took 5 % of a process's time.
_GARBAGE_OBJECTS = 10_000

# Clocks of machines that share the uploads may differ, and a job may be submitted late after its image is stored.
_NEEDED_MARGIN_S = 60


class Server(MPServer):
    """A Granian server that stops gracefully, however many signals it gets.

    A signal to stop may reach the worker processes as well, as in a terminal or under systemd. They block it, and obey
    this process alone, which knows when it is time. It takes signals in a thread: Granian's handler, called while it is
    running, waits for itself forever.
    """

    def serve_until_signal(self, drain_s: float, background: Sequence[threading.Thread]) -> None:
        """Serve until SIGINT, or for `drain_s` after SIGTERM, and then until requests in progress are answered.

        Background threads start after the processes are forked: a child would wait forever for a lock, such as a
        module's import lock, that a thread held at the fork: it has no copy of the thread.
        """
        self._background = background
        signal.signal(DRAIN_SIGNAL, signal.SIG_IGN)  # so that it does not end a process that is still starting
        threading.Thread(target=self._stop_at_signal, args=[drain_s], name="signals", daemon=True).start()
        self.serve()

    def startup(self, spawn_target: object, target_loader: object) -> None:
        """Start the processes, and then the threads."""
        super().startup(spawn_target, target_loader)  # type: ignore[no-untyped-call]  # it has no annotations
        for thread in self._background:
            thread.start()

    def _spawn_worker(self, *args: object, **kwargs: object) -> WorkerProcess:
        worker: WorkerProcess = super()._spawn_worker(*args, **kwargs)
        worker.inner.terminate = lambda: _send(worker, STOP_SIGNAL)  # else with SIGTERM
        return worker

    def _stop_at_signal(self, drain_s: float) -> None:
        first = signal.sigwaitinfo(_SIGNALS)
        for worker in list(self.wrks):
            _send(worker, DRAIN_SIGNAL)
        if first.si_signo == signal.SIGTERM:
            _wait_for_another(first, drain_s)
        _wait_until_read(self.bind_port)
        super().signal_handler_interrupt()  # type: ignore[no-untyped-call]  # it has no annotations


def _send(worker: WorkerProcess, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(worker.inner.pid, number)


def _wait_for_another(first: signal.struct_siginfo, timeout_s: float) -> None:
    """Wait until the timeout, or until a second signal cuts it short.

    Signals from the parent process do not count: it forwards those that may have reached this one, too.
    """
    deadline, senders = time.monotonic() + timeout_s, [first.si_pid]
    while (left_s := deadline - time.monotonic()) > 0 and sum(sender != os.getppid() for sender in senders) < 2:
        if another := signal.sigtimedwait(_SIGNALS, left_s):
            senders.append(another.si_pid)


def _wait_until_read(port: int) -> None:
    """Wait until all that clients have sent to a port is being read, or for a short time.

    When it stops, Granian closes connections of which it has read nothing yet, and its listener with those waiting
    there. A busy machine may not have got to them in all of `DRAIN_S`.
    """
    deadline = time.monotonic() + _READ_S
    while _is_unread(port) and time.monotonic() < deadline:
        time.sleep(_READ_CHECK_EVERY_S)


def _is_unread(port: int) -> bool:
    """Return whether connections to a port wait to be accepted, or bytes to be read, according to Linux."""
    lines: list[str] = []
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            lines += Path("/proc/net", table).read_text().splitlines()[1:]
    sockets = (line.split()[1:5] for line in lines)
    return any(int(local.rpartition(":")[2], 16) == port and int(queues[9:], 16) for local, _, _, queues in sockets)


def gateway() -> Gateway:
    """Return the application for one API process."""
    settings = ApiSettings.from_env()
    logs.configure(settings.log_level, settings.log_format)
    parent_watch.end_with_parent(STOP_SIGNAL)
    tracing.start(settings, "mlapi-api")
    app = create_app(settings)
    services: Services = app.extensions["services"]
    for name, run in (("history", services.history.run), ("examiner", Examiner(services).run)):
        _thread(name, run).start()
    if isinstance(services.images, Uploads):  # object storage, whose client does not outlive a fork
        _sweeper(services.images, services.queue, settings).start()
    _collect_seldom()
    return Gateway(app, settings, services.queue)


def _collect_seldom() -> None:
    """Collect garbage less often, and exclude all current objects, which stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS, *gc.get_threshold()[1:])


def _max_connections() -> int:
    """Return how many connections a process may have, after raising its file limit to the allowed maximum."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(allowed - _OTHER_FILES, allowed // 2) // 2


def _look_for_keys(file: Path | None) -> None:
    """Warn if keys are required and there are none. Raises `KeyFileError`."""
    if file and not KeyFile(file).read():
        log.warning("%s has no key yet, so every request is refused: `mlapi key add NAME` makes one", file)


def _sweeper(uploads: Uploads, queue: JobQueue, settings: ApiSettings) -> threading.Thread:
    """Return a thread that keeps the uploads within their limits."""
    sweeper = UploadSweeper(
        uploads,
        queue.queued_images,
        max_age_s=settings.upload_max_age_s,
        max_bytes=settings.upload_max_bytes,
        needed_s=settings.predict_timeout_s + _NEEDED_MARGIN_S,
    )
    return _thread("uploads", sweeper.run)


def _webhook_senders(settings: ApiSettings) -> list[threading.Thread]:
    """Return threads that send webhooks, if a secret is set. Raises `SetupError` if it is invalid."""
    if settings.webhook_secret is None:
        return []
    queue, results = (
        RedisJobQueue.from_settings(settings),
        RedisResults.from_settings(settings, settings.result_bytes),
    )
    sender = Sender(settings.webhook_secret.get_secret_value(), allow_private=settings.webhook_allow_private)
    webhooks = Webhooks(results, sender, lambda result_id, result: document(queue, result_id, result))
    return [_thread(f"webhooks {number}", webhooks.run) for number in range(_WEBHOOK_THREADS)]


def _thread(name: str, run: Callable[[threading.Event], None]) -> threading.Thread:
    """Return a thread that runs as long as this process."""
    return threading.Thread(target=run, args=[threading.Event()], name=name, daemon=True)


@contextmanager
def _counting_together() -> Iterator[None]:
    """Make all API processes count in one folder, which exists as long as they do."""
    with tempfile.TemporaryDirectory(prefix="mlapi-metrics-") as folder:
        metrics.count_together(Path(folder))
        yield


def _show_metrics(settings: ApiSettings) -> None:
    """Serve the metrics of all processes on a port of their own, if one is set. Raises `SetupError`."""
    if not settings.metrics_port:
        return
    found = metrics.registry(metrics.Metrics(), RedisJobQueue.from_settings(settings))
    try:
        start_http_server(settings.metrics_port, settings.metrics_host, found)
    except OSError as err:
        raise SetupError(
            f"METRICS_PORT={settings.metrics_port} cannot be used at {settings.metrics_host}: {err.strerror}."
        ) from err


def main() -> None:
    """Serve until SIGTERM or SIGINT. Raises `SettingsError`, `KeyFileError` or `SetupError`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # before any thread starts that would receive them
    settings = ApiSettings.from_env()
    logs.configure(settings.log_level, settings.log_format)
    tracing.require(settings)  # else each of Granian's processes would find it out and end, again and again
    _look_for_keys(settings.api_keys_file)
    background = [*_webhook_senders(settings), _thread("redis setup", partial(redis_setup.warn, settings.redis_login))]
    if not settings.upload_url:  # in this process, which answers no requests itself
        uploads = FolderUploads(FolderImageStore(settings.upload_folder))
        background.append(_sweeper(uploads, RedisJobQueue.from_settings(settings), settings))
    server = Server(
        "api.server.main:gateway",
        factory=True,
        interface=Interfaces.RSGI,
        loop=Loops.uvloop,
        http=HTTPModes.http1,  # in the other modes, a connection on which nothing is ever sent stays open forever
        address=settings.host,
        port=settings.port,
        workers=settings.api_processes,
        backlog=_BACKLOG,
        backpressure=_max_connections(),
        respawn_failed_workers=True,
        workers_kill_timeout=math.ceil(settings.stop_timeout_s) + _STOP_SPARE_S,
        websockets=False,
        log_level=LogLevels.error,  # its other lines are about itself, at every start
    )
    with _counting_together():
        _show_metrics(settings)
        listening.check(settings.host, settings.port)
        server.serve_until_signal(settings.drain_s, background)
