"""The README's examples give what it says they give."""

import re
import shlex
import subprocess

import pytest

from tests.conftest import ROOT

EXAMPLES = re.findall(r"<!-- tested -->\n```console\n\$ (.+)\n((?:.+\n)+)```", (ROOT / "README.md").read_text())


@pytest.mark.parametrize(("command", "answer"), EXAMPLES)
def test_an_example_gives_its_answer(base_url: str, command: str, answer: str) -> None:
    words = shlex.split(command.replace("http://127.0.0.1:5000", base_url))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert rounded(done.stdout.strip()) == rounded(answer.strip())


def rounded(answer: str) -> str:
    """Return the answer with its scores in two digits, as far as they are the same on every processor."""
    return re.sub(r'(?<="score":)[\d.]+', lambda score: f"{float(score[0]):.2f}", answer)
