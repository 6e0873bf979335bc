"""Formats a model's labels for people, and matches what they type to a label."""

from collections.abc import Sequence


def readable(label: str) -> str:
    """Return a label in readable form."""
    return label.replace("_", " ")


def plain(text: str) -> str:
    """Return a label's normalized form, for comparison."""
    return readable(text).casefold().strip()


def meant(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that matches a text, or None."""
    if text in labels:
        return text
    wanted = plain(text)
    return next((label for label in labels if plain(label) == wanted), None)
