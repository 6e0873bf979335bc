"""A script that many call at once: what is asked while an answer is on its way is sent together, in one round trip."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from redis.commands.core import Script
from redis.exceptions import NoScriptError

from jobs import waiting
from jobs.redis_connection import WHILE_IT_RESTARTS


class _Call(NamedTuple):
    keys: Sequence[Any]
    args: Sequence[Any]
    answer: "Future[Any]"


class SharedScript:
    """Calls `script` from a thread of its own, so that neither an event loop nor a hundred threads wait for Redis."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._redis: Any = script.registered_client
        self._thread = ThreadPoolExecutor(1, "redis")
        self._lock = threading.Lock()
        self._asked: list[_Call] = []

    def __call__(self, keys: Sequence[Any], args: Sequence[Any]) -> Any:  # noqa: ANN401 - what the script answers
        """Return the answer. Raises `RedisError`, where Redis is away after a while in which it may come back."""
        call = _Call(keys, args, Future())
        with self._lock:
            self._asked.append(call)
            is_first = len(self._asked) == 1
        if is_first:
            self._thread.submit(self._send)
        return waiting.wait(call.answer)

    def close(self) -> None:
        """Take no more calls."""
        self._thread.shutdown(wait=False)

    def _send(self) -> None:
        """Send all calls that there are, and give each its answer."""
        with self._lock:
            calls, self._asked = self._asked, []
        try:
            answers = WHILE_IT_RESTARTS.call_with_retry(lambda: self._answers(calls), lambda _: None)
        except BaseException as err:  # noqa: BLE001 - whatever it is, nobody must wait for ever
            answers = [err] * len(calls)
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, BaseException):
                call.answer.set_exception(answer)
            else:
                call.answer.set_result(answer)

    def _answers(self, calls: list[_Call]) -> list[Any]:
        """Return what Redis answers to each call: its errors too."""
        pipeline = self._redis.pipeline(transaction=False)
        for keys, args, _ in calls:
            pipeline.evalsha(self._script.sha, len(keys), *keys, *args)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:  # Redis was started again
            self._redis.script_load(self._script.script)
            for index, answer in zip(unknown, self._answers([calls[index] for index in unknown]), strict=True):
                answers[index] = answer
        return answers
