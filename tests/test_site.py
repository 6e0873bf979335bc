"""The documentation as `make docs` builds it: nothing in it is broken, and it needs no network."""

import os
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.conftest import ROOT
from tests.test_browser import browser  # noqa: F401

pytest.importorskip("zensical", reason="what builds the documentation is not installed: `make docs` does that")


def make_docs(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = ["make", "docs", f"DOCS={folder}", *words]
    environment = {**os.environ, "MAKEFLAGS": "", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages, and return their folder."""
    folder = tmp_path_factory.mktemp("docs")
    done = make_docs(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Open {folder}/site/docs/index.html" in done.stdout
    return folder / "site"


class References(HTMLParser):
    """The links and resources of an HTML file, and its anchors."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the addresses and the id of an element."""
        for name, value in attrs:
            if value and name in {"href", "src"}:
                (self.links if tag == "a" else self.loaded).append(value)
            elif value and name == "id":
                self.ids.add(value)


def test_every_link_leads_to_a_file_of_the_site_and_a_place_in_it(site: Path) -> None:
    pages = {file: References(file) for file in site.rglob("*.html") if file.name != "404.html"}
    assert len(pages) > 5
    for page, references in pages.items():
        for link in references.links:
            parts = urlsplit(link)
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert parts.netloc or target.is_file(), f"{page}: {link}"
            assert parts.netloc or not parts.fragment or unquote(parts.fragment) in pages[target].ids, f"{page}: {link}"


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for loaded in References(page).loaded:
            assert page.name == "404.html" or (page.parent / urlsplit(loaded).path).is_file(), f"{page}: {loaded}"
            assert not urlsplit(loaded).netloc, f"{page}: {loaded}"


def test_a_link_to_what_is_not_there_ends_the_build(tmp_path: Path) -> None:
    done = make_docs(tmp_path, "PAGES=README.md")
    assert done.returncode != 0
    assert "page does not exist" in done.stdout + done.stderr


@pytest.mark.browser
def test_pages_opened_as_files_can_be_searched_without_a_network(site: Path, browser: Browser) -> None:  # noqa: F811
    page = browser.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto((site / "docs/index.html").as_uri())
    page.get_by_role("button", name="Search").click()
    page.get_by_role("combobox", name="Search").fill("slowloris")
    page.get_by_text("What is protected, from whom").first.click()
    expect(page).to_have_title("Security - Flask ML API")
    assert [address for address in requested if not address.startswith(("file:", "data:", "blob:"))] == []
    page.close()
