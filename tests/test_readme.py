"""The examples of README and docs give what they say they give."""

import re
import shlex
import subprocess
import sys

import pytest

from tests.conftest import ROOT

TEXT = "\n".join((ROOT / file).read_text() for file in ("README.md", "docs/collections.md"))
EXAMPLES = re.findall(r"<!-- tested -->\n```console\n\$ (.+)\n((?:.+\n)+?)```", TEXT)
PROGRAMS = re.findall(r"<!-- tested -->\n```python\n(.+?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(("command", "answer"), EXAMPLES)
def test_an_example_gives_its_answer(base_url: str, command: str, answer: str) -> None:
    words = shlex.split(command.replace("http://127.0.0.1:5000", base_url))
    if words[0] == ".venv/bin/mlapi":
        words[:1] = [sys.executable, "-m", "mlapi"]
    assert rounded(output(words)) == rounded(answer)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_prints_what_stands_beside(base_url: str, program: str) -> None:
    expected = "\n".join(re.findall(r"print\(.*  # (.+)", program))
    assert expected
    words = [sys.executable, "-c", program.replace("http://127.0.0.1:5000", base_url)]
    assert rounded(output(words)) == rounded(expected)


def output(words: list[str]) -> str:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def rounded(answer: str) -> str:
    """Return the answer with its scores in two digits, as far as they are the same on every processor."""
    return re.sub(r"\b0\.\d+", lambda score: f"{float(score[0]):.2f}", answer.strip())
