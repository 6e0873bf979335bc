"""The pages of the documentation: their links, headings and blocks of code, as GitHub reads them."""

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
    """A block of code, and what the comment before it says of its test."""

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
    """Return the page's blocks of code, those by indentation too, which have no language."""
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
    """Return all that the page sets as code, in blocks and within its sentences."""
    prose = BLOCK.sub("", read(page))
    return "\n".join([*(block.text for block in blocks(page)), *INLINE_CODE.findall(prose)])


def links(page: str) -> list[str]:
    """Return where the page's links and pictures lead within the documentation."""
    targets = re.findall(r"\]\(([^)\s]+)\)", INLINE_CODE.sub("", BLOCK.sub("", read(page))))
    return [target for target in targets if "://" not in target]


def anchors(page: str) -> set[str]:
    """Return what a link to a heading of the page may have after its #."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", read(page)), re.MULTILINE)
    return set(_numbered(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings))


def _numbered(names: Iterator[str]) -> Iterator[str]:
    """Yield the names; from its second time on, one has the number of times that it came before."""
    seen: Counter[str] = Counter()
    for name in names:
        yield f"{name}-{seen[name]}" if seen[name] else name
        seen[name] += 1
