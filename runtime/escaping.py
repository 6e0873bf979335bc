"""Escapes untrusted text, so that a terminal shows it on one line and does nothing else with it."""

import json
import re

# Characters that end a line, control a terminal, reverse the order of neighbouring text or hide in it; and lone
# surrogates, which cannot be printed. Joiners, which some languages and emoji need, are not included.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f]"
)


def escaped(text: str) -> str:
    """Return a text with all unsafe characters escaped as in a Python literal."""
    return _UNSAFE.sub(lambda found: repr(found[0])[1:-1], text)


def escaped_json(text: str) -> str:
    """Return an equivalent JSON document with all unsafe characters in JSON escapes."""
    return _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)
