"""Untrusted text, escaped."""

import json
import sys
import unicodedata

import pytest

from runtime.escaping import escaped, escaped_json

# By their categories: what controls, separates lines, or is half a character; and by their directions: what turns text.
UNSAFE = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in {"Cc", "Zl", "Zp", "Cs"}
    or unicodedata.bidirectional(character) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    or character in "\u061c\u200b\u200e\u200f\ufeff\U000e0041"
]


def test_nothing_unsafe_is_left() -> None:
    text = "".join(UNSAFE)
    for shown in (escaped(text), escaped_json(text)):
        assert shown.isascii()
        assert shown.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "Eskimo_dog",
        "\u00c5ngstr\u00f6m",
        "\u72d0\u72f8",
        "\u0643\u0644\u0628",
        "\u0645\u06cc\u200c\u0634\u0648\u062f",
        "\U0001f469\u200d\U0001f680",
        "C:\\x1b",
        "a\u00a0b",
    ],
)
def test_words_of_all_languages_stay_as_they_are(text: str) -> None:
    assert escaped(text) == escaped_json(text) == text


def test_what_is_escaped_can_be_read() -> None:
    assert escaped("a\x1b]8;;http://x\x07b\n\u202ec\x9b") == r"a\x1b]8;;http://x\x07b\n\u202ec\x9b"


def test_json_means_the_same() -> None:
    for text in UNSAFE:
        assert json.loads(escaped_json(json.dumps(text, ensure_ascii=False))) == text
