"""The names that the service may be asked by: whoever owns another can make it lead here, past a browser's rules."""

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


# As Werkzeug takes them: one that begins with a dot stands for all names that end so.
HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


@lru_cache  # clients use few names, and one that is made up each time only costs the time to look at it
def is_trusted(host: str, names: HostNames) -> bool:
    """Tell whether a `Host` header has one of the names, localhost, or an address, which nobody can lead elsewhere."""
    return host_is_trusted(host.lower(), (_LOCALHOST, *names)) or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ip_address(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
    return True


def is_local(address: str) -> bool:
    """Tell whether what listens on an address can be reached from this machine alone."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == _LOCALHOST
