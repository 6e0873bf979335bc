"""Parses a request's urgency from its `Priority` header (RFC 9218)."""

import re
from collections.abc import Sequence

from jobs.schema import Lane

# Grammar of the header, a dictionary of structured fields (RFC 9651).
_KEY = r"[a-z*][a-z0-9_.*-]*"
_BARE_ITEM = (
    r"(?:-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}"  # a decimal, an integer
    r'|"(?:[ !#-\[\]-~]|\\["\\])*"'  # a string
    r"|[A-Za-z*][!#$%&'*+.^_`|~:/0-9A-Za-z-]*"  # a token
    r"|:[A-Za-z0-9+/=]*:|\?[01])"  # bytes, a boolean
)
_PARAMETERS = rf"(?:; *{_KEY}(?:={_BARE_ITEM})?)*"
_LIST = rf"\( *(?:{_BARE_ITEM}{_PARAMETERS}(?: +{_BARE_ITEM}{_PARAMETERS})* *)?\)"
_MEMBER = rf"({_KEY})(?:=({_BARE_ITEM}|{_LIST}))?{_PARAMETERS}"
_DICTIONARY = re.compile(rf" *{_MEMBER}(?:[ \t]*,[ \t]*{_MEMBER})* *")

_URGENCIES = range(8)  # 0 is the most urgent
_USUAL_URGENCY = 3
# From here on, work is bulk. Not from 4 on, which Firefox sends with requests of a page's script.
_BULK_URGENCY = 5


def lane(headers: Sequence[str], *, waits: bool) -> Lane:
    """Return the lane of a request's jobs, from its `Priority` headers, if any, and whether its sender waits.

    A request whose sender does not wait is bulk, unless it gives an urgency.
    """
    urgency = _urgency(headers)
    if urgency is None:
        urgency = _USUAL_URGENCY if waits else _BULK_URGENCY
    return "bulk" if urgency >= _BULK_URGENCY else "interactive"


def _urgency(headers: Sequence[str]) -> int | None:
    """Return the urgency, 0 to 7, or None without a valid one; the RFC says to ignore invalid headers."""
    value = ",".join(headers)
    if not _DICTIONARY.fullmatch(value):
        return None
    members = dict(re.findall(_MEMBER, value))  # the last of repeated keys counts
    said = members.get("u", "")
    urgency = int(said) if re.fullmatch("-?[0-9]+", said) else -1
    return urgency if urgency in _URGENCIES else None
