"""Buffers each request, then answers it, or refuses it at once when the queue is full.

Granian's own WSGI interface takes a thread as soon as a request begins. A slow upload would hold it, requests without
a thread would wait unseen, and disconnecting clients would go unnoticed. Here, an event loop handles all of that.
"""

import asyncio
import io
import logging
import math
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug import Request
from werkzeug.exceptions import HTTPException

from api.access.access import Access
from api.errors import failures
from api.errors.problems import error_headers
from api.http import connection, forwarded, wsgi
from api.http.connection import Connection, Turns
from api.http.headers import DEFAULTS
from api.http.heads import Head
from api.http.rsgi import HTTPProtocol, Scope
from api.monitoring import request_log
from api.monitoring.metrics import Metrics
from api.pages.events import Feed
from api.server.bodies import Bodies
from api.settings import SPARE_THREADS, ApiSettings
from api.v1 import requests
from api.views import FORM_OVERHEAD_BYTES
from jobs.queue.interface import JobQueue
from jobs.results import ResultStore
from runtime import tracing, waiting
from runtime.errors import KeyRequired, NoFile, QueueFull, ServiceError, Stopping, UnsupportedMediaType

log = logging.getLogger(__name__)

# Signals that tell an API process to drain, and to stop.
DRAIN_SIGNAL = signal.SIGUSR1
STOP_SIGNAL = signal.SIGUSR2

_PAGE = "/"
_PREDICTIONS = "/v1/predictions"
# Images that are checked, stored and queued at once. More would only compete for the interpreter, with each other and
# the event loop; and while they wait for their turn, the queue may become full.
_TURNS = 8
# Interval at which requests are refused together; by then their bodies have arrived, too. Refused one by one, each
# would take a core from a worker in the middle of its work: at four times the service's capacity, that cost a tenth of
# the successful responses.
_REFUSE_EVERY_S = 0.03
# Most requests are answered before watching for a disconnect is worthwhile.
_WATCH_AFTER_S = 0.1
# Statuses sent before the whole body may have been received.
_UNREAD = frozenset({408, 413, 414, 431})
# These need only the API process, and must be answered however busy the service is.
_HEALTH_PATHS = request_log.QUIET_PATHS - {"/metrics"}
_HEALTH_THREADS = 4
_REPORT_EVERY_S = 1.0
_TEXT = "text/plain; charset=utf-8"
# Time for clients to receive the last responses when the service stops.
_LAST_ANSWERS_S = 5.0


@dataclass(frozen=True, slots=True)
class _ImageEndpoint:
    """An endpoint for images, which wait for a worker; `route` is in Flask's syntax.

    Bodies of media types that it does not take are refused with `wrong_type`.
    """

    route: str
    takes: Callable[[str], bool] = lambda _: True
    wrong_type: type[ServiceError] = UnsupportedMediaType
    takes_several: bool = False


def _is_form(media_type: str) -> bool:
    return media_type == "multipart/form-data"


_IMAGE_ENDPOINTS = [
    _ImageEndpoint(_PAGE, _is_form, NoFile),
    _ImageEndpoint("/predict", _is_form, NoFile),
    _ImageEndpoint(_PREDICTIONS, requests.takes, takes_several=True),
    _ImageEndpoint("/v2/models/<name>/infer", takes_several=True),
    _ImageEndpoint("/v2/models/<name>/versions/<version>/infer", takes_several=True),
]
_IMAGE_PATHS = [(re.compile(re.sub("<[a-z]+>", "[^/]+", each.route)), each) for each in _IMAGE_ENDPOINTS]


class _Places:
    """Places for waiting requests, of which `free` are left."""

    def __init__(self, free: int) -> None:
        self.free = free

    @contextmanager
    def one(self) -> Iterator[None]:
        """Occupy one place meanwhile."""
        self.free -= 1
        try:
            yield
        finally:
            self.free += 1


class Gateway:
    """The RSGI application that Granian calls."""

    def __init__(self, app: Flask, settings: ApiSettings, queue: JobQueue) -> None:
        self._app = app
        self._queue = queue
        self._max_body_bytes = settings.max_upload_bytes + FORM_OVERHEAD_BYTES
        self._max_request_bytes = settings.max_request_bytes
        self._bodies = Bodies(
            max_bytes=max(settings.max_queued_bytes, self._max_body_bytes, self._max_request_bytes),
            timeout_s=settings.upload_timeout_s,
            trusted_proxies=settings.trusted_proxies,
        )
        self._proxies = settings.trusted_proxies
        self._access: Access = app.extensions["access"]
        self._results: ResultStore = app.extensions["services"].results
        self._metrics: Metrics = app.extensions["services"].metrics
        self._feed: Feed = app.extensions["services"].feed
        self._places = _Places(settings.api_threads)
        self._polls = _Places(math.ceil(settings.api_threads / 2))  # each holds a thread
        # Each kind of request has its own threads, so that none can take those of another.
        self._threads = ThreadPoolExecutor(settings.api_threads, "image")
        self._page_threads = ThreadPoolExecutor(SPARE_THREADS - _HEALTH_THREADS, "page")
        self._health_threads = ThreadPoolExecutor(_HEALTH_THREADS, "health")
        self._draining = self._stopping = False
        self._drain_s, self._stop_timeout_s = settings.drain_s, settings.stop_timeout_s
        self._refused: Counter[str] = Counter()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turns = Turns(_TURNS)
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        loop.add_signal_handler(DRAIN_SIGNAL, self.drain)
        loop.add_signal_handler(STOP_SIGNAL, self.stop)

    def drain(self) -> None:
        """Begin to stop: report not ready, and close each connection with its next response."""
        if self._draining:
            return
        self._draining = True
        self._bodies.hurry()
        self._results.stop_waiting()
        self._feed.stop()
        self._give_up_after(self._drain_s + self._stop_timeout_s)

    def stop(self) -> None:
        """Accept no more connections, and end the process when all requests are answered."""
        if self._stopping:
            return
        self.drain()
        self._stopping = True
        self._give_up_after(self._stop_timeout_s)
        _have_granian_stop()
        self._end = self._loop.create_task(self._end_process())

    def _give_up_after(self, seconds: float) -> None:
        self._loop.call_later(seconds, self._health_threads.submit, self._queue.close)

    async def _end_process(self) -> None:
        """End the process when no request is in progress and clients have had time to receive their responses.

        Granian ends as soon as they have received them, but would wait forever for a client that does not read.
        """
        while True:
            await self._idle.wait()
            await asyncio.sleep(min(_LAST_ANSWERS_S, self._stop_timeout_s))
            if self._idle.is_set():
                break
        await self._loop.run_in_executor(self._health_threads, tracing.stop)
        os._exit(0)

    def __rsgi_del__(self, _: asyncio.AbstractEventLoop) -> None:
        tracing.stop()

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        self._requests += 1
        self._idle.clear()
        try:
            await self._settle(Head.read(scope), protocol)
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    async def _settle(self, head: Head, protocol: HTTPProtocol) -> None:
        """Answer a request or refuse it."""
        endpoint = _image_endpoint(head)
        brings_images = endpoint is not None
        client = Connection(draining=self._draining, sends_files=True)
        try:
            client.body = io.BytesIO(await self._receive(head, protocol, endpoint))
            client.received_at_s = time.monotonic()
            if brings_images:
                self._look_at_queue(self._turns.requests)
            with self._place(head, brings_images):
                client.turn = await self._turn() if brings_images else None
                await self._serve(head, protocol, client)
        except ServiceError as err:
            err.__traceback__ = None  # its frames hold it and the body: both would stay until garbage collection
            await self._refuse(head, protocol, endpoint, err)

    async def _receive(self, head: Head, protocol: HTTPProtocol, endpoint: _ImageEndpoint | None) -> bytes:
        """Return a request's body, which only POST has. Raises the `ServiceError` with which it is refused."""
        stranger = None if self._access.knows(head.headers.get("authorization")) else KeyRequired()
        refusal = stranger or head.refusal
        if head.refusal and head.length == 0:
            raise head.refusal
        if head.asks_first:
            if refusal:
                raise refusal
            if not self._takes_body(head):
                return b""
            self._refuse_before_body(head, endpoint)
        elif endpoint and self._queue.refusal(self._turns.requests):
            await self._until_next_refusals()
        if head.method != "POST" and not refusal:
            await self._bodies.throw_away(head, protocol)
            return b""
        max_bytes = self._max_request_bytes if endpoint and endpoint.takes_several else self._max_body_bytes
        return await self._bodies.receive(head, protocol, max_bytes, refusal)

    def _takes_body(self, head: Head) -> bool:
        """Return whether a route accepts a body; otherwise Flask answers at once with an error."""
        if head.method != "POST":
            return False
        try:
            self._app.url_map.bind("").match(head.path, head.method)
        except HTTPException:  # no such path, not with this method, or elsewhere
            return False
        return True

    def _refuse_before_body(self, head: Head, endpoint: _ImageEndpoint | None) -> None:
        """Raise the error with which a body would be refused that the client has not sent yet."""
        if self._stopping:
            raise Stopping
        environment = wsgi.environ(head, io.BytesIO())
        self._access.look_at(Request({**environment, **forwarded.original(environment, self._proxies)}))
        if endpoint:
            if not endpoint.takes(head.media_type):
                raise endpoint.wrong_type
            self._look_for_place(self._places)
            self._look_at_queue(self._turns.requests)

    async def _until_next_refusals(self) -> None:
        await asyncio.sleep(_REFUSE_EVERY_S - self._loop.time() % _REFUSE_EVERY_S)

    def _place(self, head: Head, brings_images: bool) -> AbstractContextManager[None]:
        """Return a context that occupies a place, if the request may wait. Raises `QueueFull`."""
        if not brings_images and not _asks_to_wait(head):
            return nullcontext()
        places = self._places if brings_images else self._polls
        self._look_for_place(places)
        return places.one()

    def _look_for_place(self, places: _Places) -> None:
        if not places.free:
            raise QueueFull(retry_after_s=self._queue.retry_after_s())

    def _look_at_queue(self, ahead: int = 0) -> None:
        """Raise `QueueFull` if the queue is known to have no room behind `ahead` requests."""
        refusal = self._queue.refusal(ahead)
        if refusal:
            raise refusal

    async def _turn(self) -> Turns:
        """Wait for a turn to queue an image. Raises `QueueFull`."""
        await self._turns.take()
        try:
            self._look_at_queue()
        except QueueFull:
            self._turns.give_back()
            raise
        return self._turns

    async def _serve(self, head: Head, protocol: HTTPProtocol, client: Connection) -> None:
        """Answer a request: with a turn, on the event loop, since it mostly waits; without one, in a thread.

        The code of other requests, such as reading files, would block the loop.
        """
        environment = {**wsgi.environ(head, client.body), connection.ENVIRON_KEY: client}
        answered = self._loop.create_future()
        watch = self._loop.call_later(_WATCH_AFTER_S, _watch, protocol, client, answered)
        if client.turn:
            status, headers, body = await waiting.run(lambda: self._answer(environment, client), self._threads)
        else:
            threads = self._page_threads if client.refusal else self._threads_for(head)
            status, headers, body = await self._loop.run_in_executor(threads, self._answer, environment, client)
        answered.set_result(None)
        watch.cancel()
        headers = [*headers, *self._last_headers(head, status)]
        if client.stream:
            await client.stream(protocol, (status, headers, body))
        elif client.file:
            protocol.response_file(status, headers, str(client.file))
        else:
            protocol.response_bytes(status, headers, body)

    def _threads_for(self, head: Head) -> ThreadPoolExecutor:
        if head.path in _HEALTH_PATHS:
            return self._health_threads
        return self._threads if _asks_to_wait(head) else self._page_threads

    def _answer(self, environment: dict[str, Any], client: Connection) -> wsgi.Answer:
        try:
            return wsgi.call(self._app, environment)
        except Exception:  # whatever it is, the client must not wait forever
            log.exception("the request could not be answered")
            given_id, root = environment.get("HTTP_X_REQUEST_ID"), environment["SCRIPT_NAME"]
            return _failure(environment["PATH_INFO"], ServiceError(), given_id, root)
        finally:
            client.end_turn()

    async def _refuse(
        self, head: Head, protocol: HTTPProtocol, endpoint: _ImageEndpoint | None, err: ServiceError
    ) -> None:
        """Refuse a program's request without a thread, since there may be a thousand a second; others get the page.

        A request without a key is refused and counted by Flask, as all others are.
        """
        if not endpoint or endpoint.route == _PAGE or isinstance(err, KeyRequired):
            await self._serve(head, protocol, Connection(refusal=err))
            err.__traceback__ = None
            return
        self._count_refusal(err)
        self._metrics.refused(head.method, endpoint.route, err)
        status, headers, body = _failure(head.path, err, head.headers.get(request_log.HEADER.lower()), self._root(head))
        protocol.response_bytes(status, [*headers, *self._last_headers(head, status)], body)

    def _root(self, head: Head) -> str:
        """Return the path prefix under which the API is served."""
        prefixes = (value for name, value in head.headers.items() if name == "x-forwarded-prefix")
        return forwarded.prefix(prefixes, self._proxies)

    def _last_headers(self, head: Head, status: int) -> list[tuple[str, str]]:
        """Return the header that closes a connection, if the server is stopping or some of the body may be unread."""
        unread = status in _UNREAD or (head.asks_first and status >= 400) or head.method != "POST"
        return [("Connection", "close")] if self._draining or (unread and head.length != 0) else []

    def _count_refusal(self, err: ServiceError) -> None:
        """Log refusals, one line per error code and second: a line for each would add to the overload."""
        if not self._refused:
            self._loop.call_later(_REPORT_EVERY_S, self._report_refusals)
        self._refused[err.code] += 1

    def _report_refusals(self) -> None:
        for code, count in self._refused.items():
            log.warning("refused %d requests", count, extra={"error": code})
        self._refused.clear()


def _failure(path: str, err: ServiceError, given_id: str | None, root: str) -> wsgi.Answer:
    """Return an error response made without Flask; for a path of the page, it is plain text."""
    request_id = request_log.request_id(given_id)
    media_type, body = failures.document(path, err, request_id, root) or (_TEXT, str(err).encode())
    headers = {"Content-Type": media_type, **DEFAULTS, request_log.HEADER: request_id}
    return err.status, [*headers.items(), *error_headers(err).items()], body


def _image_endpoint(head: Head) -> _ImageEndpoint | None:
    """Return the endpoint to which a request sends images, or None."""
    if head.method != "POST":
        return None
    return next((endpoint for path, endpoint in _IMAGE_PATHS if path.fullmatch(head.path)), None)


def _asks_to_wait(head: Head) -> bool:
    """Return whether a request may hold a thread until a prediction is done: the query's only use there.

    The query is not parsed, since `wait` can be spelled in many ways.
    """
    return head.path.startswith(f"{_PREDICTIONS}/") and head.query_string != ""


def _have_granian_stop() -> None:
    """Deliver SIGTERM, blocked in this process until now, to Granian's own handler.

    The handler may run twice: from the third call on, the event loop waits in it forever.
    """
    signal.raise_signal(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _watch(protocol: HTTPProtocol, client: Connection, answered: "asyncio.Future[None]") -> None:
    """Notify the endpoint if the client disconnects before it has its response."""
    hung_up = protocol.client_disconnect()
    hung_up.add_done_callback(lambda done: None if done.cancelled() else client.close())
    answered.add_done_callback(lambda _: hung_up.cancel())
