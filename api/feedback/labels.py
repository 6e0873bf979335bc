"""The labels of a model as people write them, and the label that is meant by what they write."""

from collections.abc import Sequence


def readable(label: str) -> str:
    """Return a label as people write it."""
    return label.replace("_", " ")


def plain(text: str) -> str:
    """Return what all ways to write a label have in common."""
    return readable(text).casefold().strip()


def meant(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that a text means, if there is one."""
    if text in labels:
        return text
    wanted = plain(text)
    return next((label for label in labels if plain(label) == wanted), None)
