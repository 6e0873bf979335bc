"""How both services log: one line an event, on standard error, as text to read or as JSON for machines.

What a line is about travels as fields beside its message: those given as `extra`, those of the request in hand,
and the id of its trace where there is one.
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
    """Puts the fields after the message, as `name=value`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line without its traceback."""
        fields = [f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD]
        return escaped(" ".join([super().formatMessage(record), *fields]))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line and those of its traceback, indented so that none is taken for another event."""
        return "\n  ".join(map(escaped, super().format(record).split("\n")))


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Print log lines of at least `level`, whatever a library has set up before."""
    handler = logging.StreamHandler()
    handler.addFilter(_add_context)
    handler.setFormatter(_json_formatter() if form == "json" else _text_formatter())
    logging.basicConfig(level=level, force=True, handlers=[handler])


def start(**fields: object) -> None:
    """Begin a request: from here on, this thread's lines carry these fields and no earlier ones."""
    _context.set(fields)


def bind(**fields: object) -> None:
    """Add fields to the lines of the request in hand."""
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
