"""Parses `labels.txt`, the labels of a network's classes, and explains what is wrong with a bad one."""

import ast
import re
from collections.abc import Sequence

_SHAPE = "expected one label per line, in the order of the network's outputs, and nothing else"
_QUOTED = re.compile(r"""(["']).*\1,?""")
_HEADINGS = {"category", "class", "classes", "class_name", "label", "labels", "name", "names"}
_BACKGROUNDS = {"background", "__background__", "_background_", "__ignore__"}
_FIRST_NUMBER = re.compile(r"\W?(?P<number>\d+)\W?[\s,;:=]\s*(?P<rest>[^\s\-].*)")
_LAST_NUMBER = re.compile(r"(?P<rest>.*\S)\s*[\s,;:=]\W?(?P<number>\d+)\W?")


def parse(text: str) -> tuple[str, ...]:
    """Return the labels. Raises `ValueError`."""
    if not text.strip():
        raise ValueError(f"empty; {_SHAPE}")
    # Not splitlines(), which also splits at characters that may be inside a label.
    labels = tuple(line.strip() for line in text.rstrip().split("\n"))
    if "" in labels:
        raise ValueError(f"line {labels.index('') + 1} is empty; every output needs its label")
    if instead := _instead_of_labels(text, labels):
        raise ValueError(f"{instead}; {_SHAPE}")
    return labels


def _instead_of_labels(text: str, lines: Sequence[str]) -> str | None:
    if _is_literal(text):
        return "is JSON, or a list or dictionary as Python writes it"
    if all(_is_literal(line) for line in lines):
        return "has JSON, or a list or dictionary as Python writes it, in each line"
    if all(line.startswith("- ") for line in lines):
        return "is a YAML list"
    if any("\t" in line for line in lines):
        return "is a table whose columns are separated by tabs"
    for rows in (lines, lines[1:]):  # a table may have a header
        for column in (_FIRST_NUMBER, _LAST_NUMBER):
            if _are_numbered(rows, column):
                return f"has labels with numbers, as {rows[0]!r}: remove the numbers"
    if all(_QUOTED.fullmatch(line) for line in lines):
        return f"has labels in quotes, as {lines[0]}: remove the quotes"
    return None


def _is_literal(text: str) -> bool:
    if text.lstrip()[0] not in "[{(":
        return False
    try:
        return isinstance(ast.literal_eval(text.strip()), list | dict | tuple | set)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def _are_numbered(rows: Sequence[str], column: re.Pattern[str]) -> bool:
    """Return whether all rows are numbered from 0 or 1 on, with distinct text beside the numbers.

    So "0 fingers" to "5 fingers" are labels, and so are "0 - zero" and "1 - one".
    """
    found = [column.fullmatch(row) for row in rows]
    if len(rows) < 2 or not all(found):
        return False
    numbers = sorted(int(each["number"]) for each in found if each)
    rest = {each["rest"].lower().rstrip("s") for each in found if each}
    return numbers in (list(range(len(rows))), list(range(1, len(rows) + 1))) and len(rest) == len(rows)


def advice(labels: Sequence[str], outputs: int) -> str:
    """Return what may be wrong if a network has another number of outputs, or ""."""
    if len(labels) == 1 and "," in labels[0]:
        return "; its labels stand in one line: write one label per line"
    if outputs == 1 and len(labels) == 2:
        return "; one output says yes or no: export the network with two, and a softmax or none"
    if outputs == 1:
        return "; one output may be the class itself (ArgMax): export the network with the scores of all classes"
    if outputs == len(labels) + 1:
        return "; the one more may be a background, which many networks have first: give it a line of its own"
    if outputs == len(labels) - 1:
        return _advice_on_one_too_many(labels)
    return ""


def _advice_on_one_too_many(labels: Sequence[str]) -> str:
    if not _HEADINGS.isdisjoint(re.split(r"[,;]\s*", labels[0].lower())):
        return f"; the first line, {labels[0]!r}, may be a heading: remove it"
    if background := next((label for label in (labels[0], labels[-1]) if label.lower() in _BACKGROUNDS), None):
        return f"; the network may have no class {background!r}: remove this line"
    return "; is a line of it a heading, or a background that the network does not have?"
