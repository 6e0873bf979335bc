"""The one place where commands print: whatever they tell of strangers neither controls a terminal nor forges a line."""

import click

from runtime.escaping import escaped, escaped_json

_COLUMN = "\t"


def line(text: object) -> str:
    """Return a text as one line, which may have columns."""
    return _COLUMN.join(map(escaped, str(text).split(_COLUMN)))


def lines(text: object) -> str:
    """Return a text of ours, of several lines."""
    return "\n".join(map(line, str(text).split("\n")))


def echo(text: object, *, error: bool = False) -> None:
    """Print one line, on standard output or standard error."""
    click.echo(line(text), err=error)


def echo_lines(text: object, *, error: bool = False) -> None:
    """Print a text of ours, of several lines."""
    click.echo(lines(text), err=error)


def echo_json(document: str) -> None:
    """Print a JSON document on one line; whatever reads it gets strangers' texts as they are."""
    click.echo(escaped_json(document))
