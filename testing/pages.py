"""The documentation's pages: their links, headings and code blocks, as GitHub reads them."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from testing.processes import ROOT

PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]

BLOCK = re.compile(
    r"(?:^<!-- (?P<marker>(?:not )?tested.*) -->\n+)?"
    r"(?:^```(?P<language>\w*)\n(?P<fenced>(?:.*\n)*?)```$"
    r"|(?<=\n\n)(?P<indented>(?: {4}.*\n|\n(?= {4}))+))",
    re.MULTILINE,
)
INLINE_CODE = re.compile(r"`[^`\n]+`")


@dataclass(frozen=True)
class Block:
    """A code block, and the test marker in the comment before it."""

    page: str
    line: int
    language: str
    text: str
    marker: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    """Return the page's text."""
    return (ROOT / page).read_text()


def blocks(page: str) -> list[Block]:
    """Return the page's code blocks, including indented ones, which have no language."""
    text = read(page)
    return [
        Block(
            page,
            1 + text[: found.start()].count("\n"),
            found["language"] or "",
            found["fenced"] or re.sub("^ {4}", "", found["indented"] or "", flags=re.MULTILINE),
            found["marker"] or "",
        )
        for found in BLOCK.finditer(text)
    ]


def code(page: str) -> str:
    """Return all text that the page marks as code, in blocks and in sentences."""
    prose = BLOCK.sub("", read(page))
    return "\n".join([*(block.text for block in blocks(page)), *INLINE_CODE.findall(prose)])


def links(page: str) -> list[str]:
    """Return the targets of the page's links and pictures within the documentation."""
    targets = re.findall(r"\]\(([^)\s]+)\)", INLINE_CODE.sub("", BLOCK.sub("", read(page))))
    return [target for target in targets if "://" not in target]


def anchors(page: str) -> set[str]:
    """Return the anchors of the page's headings."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", read(page)), re.MULTILINE)
    return set(_numbered(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings))


def _numbered(names: Iterator[str]) -> Iterator[str]:
    """Yield the names; repeated ones get a number, counting earlier occurrences."""
    seen: Counter[str] = Counter()
    for name in names:
        yield f"{name}-{seen[name]}" if seen[name] else name
        seen[name] += 1
