"""Replays the first response to a request that is sent again with the same `Idempotency-Key`."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flask import Response, g, request

from jobs.results import ResultStore
from runtime.errors import RETRY_AFTER_S, BadParameter, KeyInUse, KeyReused
from runtime.reading import read, understood

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"

_SANE_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# Response headers that are replayed; others belong to the request that was answered first.
_KEPT_HEADERS = ("Content-Type", "Location", "Preference-Applied")
# The process that was answering is presumed dead this long after its deadline.
_SPARE_S = 60


@dataclass(frozen=True, slots=True)
class _Kept:
    """A request's fingerprint and, once there is one, its response."""

    fingerprint: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


def once(
    results: ResultStore, fingerprint: Callable[[], str], answer: Callable[[], Response], *, within_s: float, ttl_s: int
) -> Response:
    """Return the response to the current request, or replay the earlier one; without a key, just respond.

    Responses are kept for `ttl_s`; those raised as errors are not, so the request may be sent again. `answer` takes
    `within_s` at most. Raises `KeyReused` or `KeyInUse`.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return answer()
    if not _SANE_KEY.fullmatch(key):
        raise BadParameter(f"{HEADER}: it must be 1 to 255 letters, digits and signs.")
    name, mark = _name(key), fingerprint()
    before = results.claim(name, json.dumps({"fingerprint": mark}), int(within_s) + _SPARE_S)
    if before is not None:
        return _replay(_read(results, name, before), mark)
    try:
        answered = answer()
        results.settle(name, json.dumps({"fingerprint": mark, **_kept(answered)}), ttl_s)
    except BaseException:
        results.release(name)
        raise
    return answered


def _read(results: ResultStore, name: str, before: str) -> _Kept:
    """Return the entry of a key. Raises `KeyInUse` if it cannot be read, and drops it."""
    found = understood("what is kept under an Idempotency-Key", partial(read, _Kept), before)
    if found is None:
        results.release(name)
        raise KeyInUse(retry_after_s=RETRY_AFTER_S)
    return found


def _name(key: str) -> str:
    """Return the storage name of an idempotency key, distinct for each API key: callers may choose the same."""
    caller = g.get("key_name", "")
    return "idempotency:" + hashlib.sha256(f"{caller}\n{key}".encode()).hexdigest()


def _kept(answer: Response) -> dict[str, Any]:
    headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
    return {"status": answer.status_code, "headers": headers, "body": answer.get_data(as_text=True)}


def _replay(before: _Kept, fingerprint: str) -> Response:
    if before.fingerprint != fingerprint:
        raise KeyReused
    if before.status is None:
        raise KeyInUse(retry_after_s=RETRY_AFTER_S)
    return Response(before.body, before.status, {**before.headers, REPLAYED: "true"})
