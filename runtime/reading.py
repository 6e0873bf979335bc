"""Reads messages from Redis, which another version of this code, or anything else, may have written."""

import logging
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

log = logging.getLogger(__name__)

T = TypeVar("T")
D = TypeVar("D")


class Damaged(ValueError):
    """A message does not have its required form."""


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - TypeAdapter itself takes more than types
    return TypeAdapter(kind)


def read(kind: type[T], data: bytes | str) -> T:
    """Return a message decoded from JSON, ignoring unknown fields. Raises `Damaged`."""
    try:
        message: T = _adapter(kind).validate_json(data)  # type: ignore[arg-type]  # a type is hashable
    except ValidationError as err:
        problem = err.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise Damaged(f"{where}: {problem['msg']}" if where else problem["msg"]) from None
    return message


def understood(what: str, decode: Callable[[D], T], data: D) -> T | None:
    """Return `decode(data)`, or None if that raises `Damaged`, which is logged once per `what`."""
    try:
        return decode(data)
    except Damaged as err:
        _log(what, str(err))
        return None


@lru_cache(maxsize=1000)
def _log(what: str, problem: str) -> None:
    log.error("%s cannot be read and is left out: %s", what, problem)
