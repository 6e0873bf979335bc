"""Reads the client's address and the original URL from the headers of trusted proxies.

Each proxy appends its entry to the `X-Forwarded-` headers on the right. Of a header's entries, only as many from the
right as there are trusted proxies count; those further left come from the client and are ignored.
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

# Some proxies add the port; an IPv6 address is then in brackets.
_IPV4 = re.compile(r"([0-9.]+)(?::[0-9]{1,5})?")
_IPV6 = re.compile(r"\[([^]]+)\](?::[0-9]{1,5})?")
# Segments of characters that URLs do not escape, but not ., .. or an empty one: `//evil` is a host.
_PREFIX = re.compile(r"/|(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)+/?")
_HOST = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?")
_MAX_PORT = 65_535


def entry(values: Iterable[str], proxies: int) -> str | None:
    """Return the header entry added by the outermost of `proxies` proxies; None if there are fewer entries.

    `values` are the header's lines in their order. Empty entries do not count (RFC 9110), and quotation marks have no
    meaning: a client could open a quotation that the proxies' own entries would continue.
    """
    entries = [each for each in (piece.strip(" \t") for value in values for piece in value.split(",")) if each]
    if len(entries) < proxies:  # an unreadable line may have had any number
        return UNREADABLE if UNREADABLE in entries else None
    return entries[-proxies] if proxies else None


def client_address(values: Iterable[str], proxies: int, peer: str) -> str:
    """Return the client's address from the lines of its `X-Forwarded-For`; `peer` if there are too few entries.

    The address is in its usual form, without port and zone. Raises `BadForwarding` if it is not an address.
    """
    found = entry(values, proxies)
    return peer if found is None else _address(found)


def _address(text: str) -> str:
    ipv4, ipv6 = _IPV4.fullmatch(text), _IPV6.fullmatch(text)
    with suppress(ValueError):
        if ipv4:
            return str(IPv4Address(ipv4[1]))
        address = IPv6Address(ipv6[1] if ipv6 else text)
        return str(address.ipv4_mapped or IPv6Address(int(address)))  # the number drops the zone
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
    """Return the path prefix under which the API is served, "" for the root."""
    if not _PREFIX.fullmatch(text):
        raise BadForwarding("The proxy's X-Forwarded-Prefix is not a path like /pictures.")
    return text.rstrip("/")


def prefix(values: Iterable[str], proxies: int) -> str:
    """Return the path prefix under which the API is served, from the lines of a request's `X-Forwarded-Prefix`.

    It is "" for the root, and if the prefix is invalid: the request is then refused.
    """
    found = entry(values, proxies)
    with suppress(BadForwarding):
        return "" if found is None else _prefix(found)
    return ""


# Each header, the WSGI variable it sets, and the parser of its entry.
_HEADERS: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("HTTP_X_FORWARDED_FOR", "REMOTE_ADDR", _address),
    ("HTTP_X_FORWARDED_PROTO", "wsgi.url_scheme", _scheme),
    ("HTTP_X_FORWARDED_HOST", "HTTP_HOST", _host),
    ("HTTP_X_FORWARDED_PREFIX", "SCRIPT_NAME", _prefix),
)


def behind(proxies: int, app: "WSGIApplication") -> "Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]":
    """Wrap `app` for use behind this many proxies: requests appear to come from the clients, not from a proxy.

    Requests with invalid forwarding headers are refused.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        try:
            environ.update(original(environ, proxies))
        except BadForwarding as err:
            environ.setdefault(ENVIRON_KEY, Connection()).refusal = err
        return app(environ, start_response)

    return answer


def original(environ: "WSGIEnvironment", proxies: int) -> dict[str, Any]:
    """Return the WSGI variables of the original request, as the proxies report it. Raises `BadForwarding`."""
    entries = ((name, parse, entry([environ.get(header, "")], proxies)) for header, name, parse in _HEADERS)
    return {name: parse(found) for name, parse, found in entries if found is not None}
