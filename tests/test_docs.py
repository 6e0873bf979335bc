"""The documentation: its links work, and the things it names exist."""

import os.path
import re
from pathlib import Path

import pytest

from testing import pages
from testing.pages import PAGES
from tests.conftest import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
BLOCKS = [block for page in PAGES for block in pages.blocks(page)]


def is_published(path: str) -> bool:
    """Return whether `make docs` includes this file."""
    [taken] = re.findall(r"^PAGES := (.+)$", MAKEFILE, re.MULTILINE)
    return any(path == name or path.startswith(f"{name}/") for name in taken.split())


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there_and_published(page: str) -> None:
    for link in pages.links(page):
        file, _, anchor = link.partition("#")
        target = os.path.normpath(Path(page).parent / file) if file else page
        assert (ROOT / target).is_file(), link
        assert is_published(target), link
        assert not anchor or anchor in pages.anchors(target), link


def test_every_page_is_in_the_navigation_once() -> None:
    listed = re.findall(r'= "(.+\.md)"', (ROOT / "docs/zensical.toml").read_text())
    assert sorted(listed) == sorted(PAGES)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_of_code_says_how_it_is_tested_or_why_not(block: pages.Block) -> None:
    how, _, where = block.marker.partition("tested by ")
    assert not how or re.fullmatch("tested|not tested: .+", how), block
    assert how or (ROOT / where).is_file(), block


def test_the_start_page_lists_the_reasons_why_blocks_are_not_tested() -> None:
    reasons = {block.marker.partition("not tested: ")[2] for block in BLOCKS} - {""}
    listed = re.findall(r"^- ([\w ]+?)(?: \(.+\))?$", pages.read("docs/index.md"), re.MULTILINE)
    assert set(listed) == reasons


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", pages.code(page))) <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_is_run_exists(page: str) -> None:
    for module in re.findall(r"python -m ((?:benchmarks|chaos|fuzz|mlapi|stress_test)[\w.]*)", pages.code(page)):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
