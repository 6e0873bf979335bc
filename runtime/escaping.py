"""Texts of strangers, made to be shown on one line by a terminal that does nothing but show them."""

import json
import re

# What ends a line, controls a terminal, turns the order of what stands beside it, or hides in it; and halves of
# characters, which cannot be printed. Joiners, of which languages and emoji need some, are not among these.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f]"
)


def escaped(text: str) -> str:
    """Return a text with all that is unsafe as in a literal of Python."""
    return _UNSAFE.sub(lambda found: repr(found[0])[1:-1], text)


def escaped_json(text: str) -> str:
    """Return a JSON document that means the same, with all that is unsafe in JSON's own escapes."""
    return _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)
