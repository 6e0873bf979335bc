"""Answers a request that is sent again, by its `Idempotency-Key`, as it was answered the first time."""

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
# Headers of an answer that belong to it, not to the request that it answered first.
_KEPT_HEADERS = ("Content-Type", "Location", "Preference-Applied")
# Whoever was answering is dead when this has passed since the latest time that it could have answered.
_SPARE_S = 60


@dataclass(frozen=True, slots=True)
class _Kept:
    """A request's fingerprint and, when there is one, its answer."""

    fingerprint: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


def once(
    results: ResultStore, fingerprint: Callable[[], str], answer: Callable[[], Response], *, within_s: float, ttl_s: int
) -> Response:
    """Return the answer to the current request, or the one that it had before; without a key, just the answer.

    Answers are kept for `ttl_s`; those that are raised as errors are not, so the request may be sent again. `answer`
    takes `within_s` at most. Raises `KeyReused` or `KeyInUse`.
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
    """Return what is kept under a key. Raises `KeyInUse` where it cannot be read, and is therefore forgotten."""
    found = understood("what is kept under an Idempotency-Key", partial(read, _Kept), before)
    if found is None:
        results.release(name)
        raise KeyInUse(retry_after_s=RETRY_AFTER_S)
    return found


def _name(key: str) -> str:
    """Return what a key is kept under: callers with API keys of their own may choose the same."""
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
