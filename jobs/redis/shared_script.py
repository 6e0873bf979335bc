"""A script that many threads call: calls that come while an answer is awaited go together, in one round trip."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from redis.commands.core import Script

from jobs.redis.connection import WHILE_IT_RESTARTS, ScriptCall, call_all
from runtime import waiting
from runtime.errors import Stopping


class SharedScript:
    """Calls `script` from a single thread, so that neither an event loop nor a hundred threads wait for Redis."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._thread = ThreadPoolExecutor(1, "redis")
        self._lock = threading.Lock()
        self._asked: list[tuple[ScriptCall, Future[Any]]] = []

    def __call__(self, keys: Sequence[Any], args: Sequence[Any]) -> Any:  # noqa: ANN401 - what the script answers
        """Return the answer. Raises `RedisError` if Redis does not come back for a while, `Stopping` when closed."""
        return waiting.wait(self.start(keys, args))

    def start(self, keys: Sequence[Any], args: Sequence[Any]) -> "Future[Any]":
        """Return a future of the answer that `__call__` returns."""
        answer: Future[Any] = Future()
        with self._lock:
            self._asked.append((ScriptCall(keys, args), answer))
            is_first = len(self._asked) == 1
        if is_first:
            try:
                self._thread.submit(self._send)
            except RuntimeError:  # it is closed
                answer.set_exception(Stopping())
        return answer

    def close(self) -> None:
        """Take no more calls."""
        self._thread.shutdown(wait=False)

    def _send(self) -> None:
        """Send all pending calls, and set the answer of each."""
        with self._lock:
            asked, self._asked = self._asked, []
        calls = [call for call, _ in asked]
        try:
            answers = WHILE_IT_RESTARTS.call_with_retry(lambda: call_all(self._script, calls), lambda _: None)
        except BaseException as err:  # noqa: BLE001 - whatever it is, no caller must wait for ever
            answers = [err] * len(calls)
        for (_, future), answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
