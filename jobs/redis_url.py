"""What REDIS_URL may be: the address of one Redis, of the sentinels that know the master, or of a cluster's nodes."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

_SCHEMES = "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"
_SENTINEL_PORT, _NODE_PORT = 26379, 6379
_SENTINELS = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?P<login>[^@/?]*@)?(?P<hosts>[^@/?]+)"
    r"/(?P<service>[^/?]+)(?P<database>/\d+)?/?(?P<options>\?.*)?"
)
_CLUSTER = re.compile(r"(?P<scheme>rediss?)\+cluster://(?P<login>[^@/?]*@)?(?P<hosts>[^@/?]+)(/0?)?(?P<options>\?.*)?")
_HOST = re.compile(r"(?P<name>[^\[\]:]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?")
_LOGIN = re.compile(r"(?<=://)(?:([^@/?:]*)(?::[^@/?]*)?@)?")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """The addresses of sentinels, the name by which they know the master, and its URL but for its host."""

    sentinels: tuple[Address, ...]
    service: str
    hostless_url: str


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """The addresses of some of a cluster's nodes, and the URL of any but for its host."""

    nodes: tuple[Address, ...]
    hostless_url: str


def sentinels(url: str) -> SentinelUrl | None:
    """Return what a URL says of sentinels, or None where it names one Redis. Raises `ValueError`."""
    if not url.partition("://")[0].endswith("+sentinel"):
        return None
    # Not `urlsplit`, which takes several IPv6 addresses for a damaged one.
    found = _SENTINELS.fullmatch(url)
    if not found:
        raise ValueError("Sentinels are redis+sentinel://HOST,HOST,HOST/NAME, with the master's name.")
    hostless_url = f"{found['scheme']}://{found['login'] or ''}{found['database'] or ''}{found['options'] or ''}"
    return SentinelUrl(_addresses(found["hosts"], _SENTINEL_PORT), unquote(found["service"]), hostless_url)


def cluster(url: str) -> ClusterUrl | None:
    """Return what a URL says of a cluster, or None where it is of another kind. Raises `ValueError`."""
    if not url.partition("://")[0].endswith("+cluster"):
        return None
    found = _CLUSTER.fullmatch(url)
    if not found:
        raise ValueError("A cluster is redis+cluster://HOST,HOST,HOST, some of its nodes, with one database.")
    hostless_url = f"{found['scheme']}://{found['login'] or ''}{found['options'] or ''}"
    return ClusterUrl(_addresses(found["hosts"], _NODE_PORT), hostless_url)


def _addresses(hosts: str, usual_port: int) -> tuple[Address, ...]:
    return tuple(_address(text, usual_port) for text in hosts.split(","))


def _address(text: str, usual_port: int) -> Address:
    found = _HOST.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no HOST or HOST:PORT.")
    return found["name"].strip("[]"), int(found["port"] or usual_port)


def usable(url: str) -> str:
    """Return a URL that can be used. Raises `ValueError` that says what is wrong with another."""
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES:
        raise ValueError(f"It must begin with one of {', '.join(_SCHEMES)}, and ://.")
    if not (sentinels(url) or cluster(url)):
        address = urlsplit(url)
        if "," in address.netloc.rpartition("@")[2]:
            raise ValueError(
                "It names several hosts. Sentinels are redis+sentinel://HOST,HOST,HOST/NAME, a cluster's nodes "
                "redis+cluster://HOST,HOST,HOST."
            )
        _ = address.port  # which raises where it is none
    return url


def with_password(url: str, password: str) -> str:
    """Return a URL with this password for Redis, in place of one that it may have."""
    return _LOGIN.sub(lambda login: f"{login[1] or ''}:{quote(password, safe='')}@", url, count=1)


def for_people(url: str) -> str:
    """Return a URL without users, passwords and options."""
    return re.sub(r"(?<=://).*@", "", url.partition("?")[0])
