"""The proxies in front of the API, and what they say of a request: its client's address, and how it was asked for.

Each proxy adds its entry to the `X-Forwarded-` headers on the right. What stands left of as many entries as there are
trusted proxies is the client's own word, and is never looked at.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from api.http.connection import ENVIRON_KEY, Connection
from api.http.rsgi import UNREADABLE
from runtime.errors import BadForwarding

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Some proxies write the port, too; that of IPv6 stands behind brackets.
_IPV4 = re.compile(r"([0-9.]+)(?::[0-9]{1,5})?")
_IPV6 = re.compile(r"\[([^]]+)\](?::[0-9]{1,5})?")
# Segments of letters that no address writes otherwise, and neither . nor .., nor an empty one: `//evil` is a host.
_PREFIX = re.compile(r"/|(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)+/?")
_HOST = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?")
_MAX_PORT = 65_535


def entry(values: Iterable[str], proxies: int) -> str | None:
    """Return the entry in a header that the outermost of so many proxies has added; None where fewer have.

    `values` are the header's lines in their order. Empty entries do not count (RFC 9110), and quotation marks have no
    meaning: a client could open a quotation that the proxies' own entries then continue.
    """
    entries = [each for each in (piece.strip(" \t") for value in values for piece in value.split(",")) if each]
    if len(entries) < proxies:  # but nobody knows how many there were in a line that could not be read
        return UNREADABLE if UNREADABLE in entries else None
    return entries[-proxies] if proxies else None


def client_address(values: Iterable[str], proxies: int, peer: str) -> str:
    """Return the address of the client by the lines of its `X-Forwarded-For`; the `peer` itself without enough proxies.

    It is in its usual form, without port and zone. Raises `BadForwarding` where it is no address.
    """
    found = entry(values, proxies)
    return peer if found is None else _address(found)


def _address(text: str) -> str:
    ipv4, ipv6 = _IPV4.fullmatch(text), _IPV6.fullmatch(text)
    with suppress(ValueError):
        if ipv4:
            return str(IPv4Address(ipv4[1]))
        address = IPv6Address(ipv6[1] if ipv6 else text)
        return str(address.ipv4_mapped or IPv6Address(int(address)))  # by the number, it has no zone
    raise BadForwarding("The proxy's X-Forwarded-For does not say the client's address.")


def _scheme(text: str) -> str:
    if text.lower() not in {"http", "https"}:
        raise BadForwarding("The proxy's X-Forwarded-Proto is neither http nor https.")
    return text.lower()


def _host(text: str) -> str:
    found = _HOST.fullmatch(text)
    if not found or int(found["port"] or 0) > _MAX_PORT:
        raise BadForwarding("The proxy's X-Forwarded-Host is not the name of a host.")
    return text


def _prefix(text: str) -> str:
    """Return the path under which the API is reached, "" for the root."""
    if not _PREFIX.fullmatch(text):
        raise BadForwarding("The proxy's X-Forwarded-Prefix is not a path like /pictures.")
    return text.rstrip("/")


def prefix(values: Iterable[str], proxies: int) -> str:
    """Return the path under which the API is reached, by the lines of a request's `X-Forwarded-Prefix`.

    It is "" for the root, and where that cannot be known: the request is then refused.
    """
    found = entry(values, proxies)
    with suppress(BadForwarding):
        return "" if found is None else _prefix(found)
    return ""


# Each header, what it says in WSGI's terms, and what makes that of an entry.
_HEADERS: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("HTTP_X_FORWARDED_FOR", "REMOTE_ADDR", _address),
    ("HTTP_X_FORWARDED_PROTO", "wsgi.url_scheme", _scheme),
    ("HTTP_X_FORWARDED_HOST", "HTTP_HOST", _host),
    ("HTTP_X_FORWARDED_PREFIX", "SCRIPT_NAME", _prefix),
)


def behind(proxies: int, app: "WSGIApplication") -> "Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]":
    """Return `app` as it stands behind so many proxies: its requests come from their clients, not from the proxy.

    A request of which the proxies say what cannot be is refused.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        try:
            environ.update(original(environ, proxies))
        except BadForwarding as err:
            environ.setdefault(ENVIRON_KEY, Connection()).refusal = err
        return app(environ, start_response)

    return answer


def original(environ: "WSGIEnvironment", proxies: int) -> dict[str, Any]:
    """Return what a request was before the proxies passed it on, as far as they say. Raises `BadForwarding`."""
    entries = ((name, parse, entry([environ.get(header, "")], proxies)) for header, name, parse in _HEADERS)
    return {name: parse(found) for name, parse, found in entries if found is not None}
