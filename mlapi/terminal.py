"""Prints for all commands, escaped so that text from strangers can neither control a terminal nor forge a line."""

import click

from runtime.escaping import escaped, escaped_json

_COLUMN = "\t"


def line(text: object) -> str:
    """Return a text as one escaped line, which may have columns."""
    return _COLUMN.join(map(escaped, str(text).split(_COLUMN)))


def lines(text: object) -> str:
    """Return a multi-line text of our own, escaped line by line."""
    return "\n".join(map(line, str(text).split("\n")))


def echo(text: object, *, error: bool = False) -> None:
    """Print one line, on standard output or standard error."""
    click.echo(line(text), err=error)


def echo_lines(text: object, *, error: bool = False) -> None:
    """Print a multi-line text of our own."""
    click.echo(lines(text), err=error)


def echo_json(document: str) -> None:
    """Print a JSON document on one line; its parsed texts are unchanged."""
    click.echo(escaped_json(document))
