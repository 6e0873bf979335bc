"""Trusted host names: the owner of any other can point it at this service, past a browser's same-origin policy."""

from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator
from pydantic_settings import NoDecode
from werkzeug.sansio.utils import host_is_trusted

_LOCALHOST = "localhost"


def _split(names: object) -> object:
    return tuple(name.strip().lower() for name in names.split(",")) if isinstance(names, str) else names


# In Werkzeug's format: a name that begins with a dot matches all its subdomains.
HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


@lru_cache  # clients use few names, and one made up each time only costs the check
def is_trusted(host: str, names: HostNames) -> bool:
    """Return whether a `Host` header has one of the names, localhost, or an IP address, which nobody can redirect."""
    return host_is_trusted(host.lower(), (_LOCALHOST, *names)) or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
    return True


def is_local(address: str) -> bool:
    """Return whether an address to listen on can be reached from this machine only."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == _LOCALHOST
