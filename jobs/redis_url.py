"""What REDIS_URL may be: the address of one Redis, or of the sentinels that know which of several is the master now."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

_SCHEMES = "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"
_SENTINEL_PORT = 26379
_SENTINELS = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?P<login>[^@/?]*@)?(?P<hosts>[^@/?]+)"
    r"/(?P<service>[^/?]+)(?P<database>/\d+)?/?(?P<options>\?.*)?"
)
_HOST = re.compile(r"(?P<name>[^\[\]:]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?")
_LOGIN = re.compile(r"(?<=://)(?:([^@/?:]*)(?::[^@/?]*)?@)?")


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """The addresses of sentinels, the name by which they know the master, and its URL but for its host."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    master_url: str


def sentinels(url: str) -> SentinelUrl | None:
    """Return what a URL says of sentinels, or None where it names one Redis. Raises `ValueError`."""
    if not url.partition("://")[0].endswith("+sentinel"):
        return None
    # Not `urlsplit`, which takes several IPv6 addresses for a damaged one.
    found = _SENTINELS.fullmatch(url)
    if not found:
        raise ValueError("Sentinels are redis+sentinel://HOST,HOST,HOST/NAME, with the master's name.")
    master_url = f"{found['scheme']}://{found['login'] or ''}{found['database'] or ''}{found['options'] or ''}"
    return SentinelUrl(tuple(map(_address, found["hosts"].split(","))), unquote(found["service"]), master_url)


def _address(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no HOST or HOST:PORT.")
    return found["name"].strip("[]"), int(found["port"] or _SENTINEL_PORT)


def usable(url: str) -> str:
    """Return a URL that can be used. Raises `ValueError` that says what is wrong with another."""
    scheme = url.partition("://")[0]
    if "cluster" in scheme:
        raise ValueError("Redis Cluster cannot carry the jobs: a script's keys would lie on several nodes.")
    if scheme not in _SCHEMES:
        raise ValueError(f"It must begin with one of {', '.join(_SCHEMES)}, and ://.")
    if sentinels(url) is None:
        address = urlsplit(url)
        if "," in address.netloc.rpartition("@")[2]:
            raise ValueError("It names several hosts. Sentinels are redis+sentinel://HOST,HOST,HOST/NAME.")
        _ = address.port  # which raises where it is none
    return url


def with_password(url: str, password: str) -> str:
    """Return a URL with this password for Redis, in place of one that it may have."""
    return _LOGIN.sub(lambda login: f"{login[1] or ''}:{quote(password, safe='')}@", url, count=1)


def for_people(url: str) -> str:
    """Return a URL without users, passwords and options."""
    return re.sub(r"(?<=://).*@", "", url.partition("?")[0])
