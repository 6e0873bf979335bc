"""Logging of both services: one line per event, on standard error, as text or as JSON for machines.

Details travel as fields beside the message: those given as `extra`, those of the current request, and its trace id if
there is one.
"""

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Literal

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from runtime import tracing
from runtime.escaping import escaped

_NO_FIELDS: Mapping[str, object] = {}
_context: ContextVar[Mapping[str, object]] = ContextVar("log_fields", default=_NO_FIELDS)
_STANDARD = {*RESERVED_ATTRS, "message", "asctime"}


class TextFormatter(logging.Formatter):
    """Appends the fields to the message, as `name=value`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line without its traceback."""
        fields = [f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD]
        return escaped(" ".join([super().formatMessage(record), *fields]))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line and its traceback, indented so that no line of it looks like another event."""
        return "\n  ".join(map(escaped, super().format(record).split("\n")))


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Print log lines of at least `level`, replacing any set-up by a library."""
    handler = logging.StreamHandler()
    handler.addFilter(_add_context)
    handler.setFormatter(_json_formatter() if form == "json" else _text_formatter())
    logging.basicConfig(level=level, force=True, handlers=[handler])


def start(**fields: object) -> None:
    """Begin a request: from here on, this thread's lines carry these fields and no earlier ones."""
    _context.set(fields)


def bind(**fields: object) -> None:
    """Add fields to the lines of the current request."""
    _context.set({**_context.get(), **fields})


def _add_context(record: logging.LogRecord) -> bool:
    vars(record).update(_context.get())
    if trace_id := tracing.trace_id():
        record.trace_id = trace_id
    return True


def _text_formatter() -> logging.Formatter:
    return TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


def _json_formatter() -> logging.Formatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )
