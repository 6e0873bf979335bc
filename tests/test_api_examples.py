"""The examples of docs/api.md give what it says they give, one after the other."""

import json
import re
import shlex
import subprocess
from typing import Any

import pytest

from tests.conftest import ROOT

EXAMPLE = re.compile(r"<!-- tested -->\n```console\n\$ (.+)\n((?:.+\n)+)```")
# What is another one each time: it only has to look the same.
ID = re.compile(r"\b[0-9a-f]{32}\b")
CHANGES = {
    "created",
    "time",
    "queue_ms",
    "decode_ms",
    "inference_ms",
    "batch_size",
    "request_id",
    "version",
    "precision",
}


def run(command: str, base_url: str) -> Any:
    words = shlex.split(command.replace("http://127.0.0.1:5000", base_url))
    return json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, timeout=60, check=True).stdout)


def with_ids(text: str, ids: dict[str, str]) -> str:
    """Return a text of the document with the ids that were given instead of its own."""
    return ID.sub(lambda found: ids[found[0]], text)


def test_examples_give_their_answers(base_url: str) -> None:
    examples = EXAMPLE.findall((ROOT / "docs" / "api.md").read_text())
    assert examples
    ids: dict[str, str] = {}  # by those of the document
    for command, documented in examples:
        answer = run(with_ids(command, ids), base_url)
        ids |= zip(ID.findall(documented), ids_of(answer), strict=True)
        assert comparable(answer) == likely(comparable(json.loads(with_ids(documented, ids))))


def ids_of(answer: Any) -> list[str]:
    """Return the ids of an answer, in the order in which documents have its fields."""
    told = (str(answer.get(name)) for name in ("id", "request_id", "prediction"))
    return [value for value in told if ID.fullmatch(value)]


def comparable(answer: Any, name: str = "") -> Any:
    """Return an answer with no more than the type of what is another one each time."""
    if isinstance(answer, dict):
        return {key: comparable(value, key) for key, value in answer.items()}
    if isinstance(answer, list):
        return [comparable(each) for each in answer]
    return (str if isinstance(answer, str) else float) if name in CHANGES else answer


def likely(answer: Any) -> Any:
    """Return an answer whose scores are what they are on some processor."""
    if isinstance(answer, dict):
        return {key: likely(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [likely(each) for each in answer]
    return pytest.approx(answer, abs=0.01) if isinstance(answer, float) else answer
