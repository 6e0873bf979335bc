"""The documentation's examples work as described: each page's in order, in one folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testing import pages
from testing.images import DOG
from tests import answers
from tests.conftest import ROOT, MakeService

HOST = "127.0.0.1:5000"
ADDRESS = f"http://{HOST}"
BLOCKS = [block for page in pages.PAGES for block in pages.blocks(page)]
TESTED_PAGES = sorted({block.page for block in BLOCKS if block.marker == "tested"})


class Reader:
    """Follows a page's instructions, in a checkout without any settings."""

    def __init__(self, folder: Path, base_url: str, make_service: MakeService) -> None:
        self._folder = folder
        self._base_url = base_url
        self._make_service = make_service
        self._given: dict[str, str] = {}  # actual keys and ids, by those that the page shows
        self.follow = {"console": self._type, "python": self._program, "sh": self._script, "": self._script}

    def _type(self, text: str) -> None:
        """Run the commands after each $, and compare their output with the text below them."""
        for command, answer in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            shown, given = answers.parse(answer), answers.parse(self._run("bash", "-euc", command))
            self._given |= answers.ids(shown, given)
            assert given == answers.expected(shown, self._given)

    def _program(self, text: str) -> None:
        """Run a program, and compare its output with the comments beside its calls of print."""
        shown = "\n".join(re.findall(r"print\(.*  # (.+)", text))
        assert shown
        assert answers.parse(self._run(sys.executable, "-c", text)) == answers.parse(shown)

    def _script(self, text: str) -> None:
        """Run commands, those up to a blank line at once; an error answer is a failure, too."""
        for commands in text.split("\n\n"):
            printed = self._run("bash", "-euc", commands, CURL_HOME=str(self._folder))
            if "mlapi key add" in commands:
                self._given["KEY"] = printed.strip()

    def _run(self, *words: str, **environment: str) -> str:
        """Run a command, which has to succeed, and return its output."""
        return subprocess.run(
            [self._actual(word) for word in words],
            cwd=self._folder,
            env={**os.environ, "ENV_FILE": ".env", "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    def _actual(self, text: str) -> str:
        """Return a text of the page with the actual ids and keys in place of those shown."""
        if HOST in text:
            service = self._service()
            text = text.replace(ADDRESS, service).replace(HOST, service.partition("://")[2])
        return re.sub(r"\b[0-9a-f]{32}\b|\bKEY\b", lambda found: self._given.get(found[0], found[0]), text)

    def _service(self) -> str:
        """Return the URL of a service with the settings made in this folder."""
        if not (self._folder / ".env").exists():
            return self._base_url
        command = ["sh", "-c", f'cd "{self._folder}" && exec "{sys.executable}" -m mlapi serve']
        return self._make_service(command, ENV_FILE=".env").wait_until_ready().url


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a folder like a checkout after `make setup`, with some photos, and no settings yet."""
    folder = tmp_path / "checkout"
    (folder / "var").mkdir(parents=True)
    for path in [*ROOT.iterdir(), ROOT / "var/models", ROOT / "var/redis"]:
        if path.name not in {".env", ".venv", "var"}:
            (folder / path.relative_to(ROOT)).symlink_to(path)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".curlrc").write_text("fail\n")
    for photo in ("photos/dog.jpeg", "2026-11/more/dog.png"):
        (folder / photo).parent.mkdir(parents=True)
        (folder / photo).write_bytes(DOG)
    return folder


@pytest.mark.parametrize("page", TESTED_PAGES)
def test_the_examples_of_a_page_work(page: str, checkout: Path, base_url: str, make_service: MakeService) -> None:
    reader = Reader(checkout, base_url, make_service)
    for block in pages.blocks(page):
        if block.marker == "tested":
            reader.follow[block.language](block.text)
