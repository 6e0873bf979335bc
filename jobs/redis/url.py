"""Parses REDIS_URL: the address of one Redis, of the sentinels that know the master, or of a cluster's nodes.

No message contains any part of a URL that may be a password, or a piece of one that was not encoded.
"""

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote

_SCHEMES = "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"
_URL = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<login>[^/?#]*)@)?(?P<hosts>[^/?#@]*)(?P<path>(?:/[^?#@]*)?)(?:\?(?P<options>[^#@]*))?"
)
_NOT_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"(?P<name>[^\[\]:%,\s]*|\[[0-9A-Fa-f:.]+(?:%25[\w.-]+)?\])(?::(?P<port>[0-9]{0,5}))?")
_DATABASE = re.compile(r"[0-9]{1,9}")
_CLIENT_NAME = re.compile(r"[!-~]*")
# The part after the hosts.
_PATHS: Mapping["Kind", re.Pattern[str]] = {
    "one": re.compile(r"/?|/(?P<database>[0-9]{1,9})"),
    "socket": re.compile(r"(?P<socket>/.+)"),
    "sentinel": re.compile(r"/(?P<service>[^/]+)(?:/(?P<database>[0-9]{1,9}))?/?"),
    "cluster": re.compile(r"/?|/0"),
}
_FORMS: Mapping["Kind", str] = {
    "one": "One Redis is redis://[user:password@]host:port[/database], with a database's number.",
    "socket": "A Unix socket is unix://[user:password@]/path.",
    "sentinel": "Sentinels are redis+sentinel://HOST,HOST,HOST/NAME, with the master's name.",
    "cluster": "A cluster is redis+cluster://HOST,HOST,HOST, some of its nodes, with one database.",
}
_USUAL_PORTS: Mapping["Kind", int] = {"one": 6379, "sentinel": 26379, "cluster": 6379}
# The kernel's limit.
MAX_SOCKET_PATH_BYTES = 107

Address = tuple[str, int]
Kind = Literal["one", "socket", "sentinel", "cluster"]


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """The parts of a URL, decoded: the addresses of its hosts or the path of its socket, and redis-py's options.

    `service` is the name by which sentinels know the master.
    """

    kind: Kind
    is_secure: bool
    addresses: tuple[Address, ...]
    path: str
    service: str
    options: Mapping[str, Any]


def parse(url: str) -> RedisUrl:
    """Return the parts of a URL. Raises a `ValueError` that says what is wrong with it."""
    text = _split(url)
    kind = _kind(text["scheme"])
    found = _PATHS[kind].fullmatch(text["path"])
    if not found or bool(text["hosts"]) == (kind == "socket"):
        raise ValueError(_FORMS[kind])
    path = {name: _decoded(value) for name, value in found.groupdict().items() if value}
    options = _options(text["options"] or "", text["scheme"]) | _login(text["login"] or "")
    if "database" in path:
        options["db"] = int(path["database"])
    if kind == "cluster" and options.get("db"):
        raise ValueError(_FORMS[kind])
    return RedisUrl(
        kind,
        text["scheme"].startswith("rediss"),
        _addresses(text["hosts"], kind) if kind != "socket" else (),
        _short(path.get("socket", "")),
        path.get("service", ""),
        options,
    )


def _kind(scheme: str) -> Kind:
    if scheme == "unix":
        return "socket"
    return "sentinel" if scheme.endswith("+sentinel") else "cluster" if scheme.endswith("+cluster") else "one"


def _split(url: str) -> dict[str, str]:
    """Return the parts of a URL as they are written. Raises `ValueError`."""
    if url.partition("://")[0] not in _SCHEMES:
        raise ValueError(f"It must begin with one of {', '.join(_SCHEMES)}, and ://.")
    found = _URL.fullmatch(url)
    if not found or _NOT_ENCODED.search(url):
        raise ValueError(
            "In user, password, path and options, some characters must be encoded: % as %25, / as %2F, : as %3A, "
            "? as %3F, # as %23, @ as %40."
        )
    return found.groupdict()


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("What it encodes with % is not UTF-8.") from None


def _login(text: str) -> dict[str, Any]:
    user, _, password = map(_decoded, text.partition(":"))
    return {name: value for name, value in (("username", user), ("password", password)) if value}


def _short(socket: str) -> str:
    """Return the path of a socket. Raises `ValueError` if it is too long for the system."""
    if len(os.fsencode(socket)) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"A socket's path has {MAX_SOCKET_PATH_BYTES} bytes at most.")
    return socket


def _addresses(hosts: str, kind: Kind) -> tuple[Address, ...]:
    if "," in hosts and kind == "one":
        raise ValueError(f"It names several hosts. {_FORMS['sentinel']} {_FORMS['cluster']}")
    return tuple(_address(host, _USUAL_PORTS[kind]) for host in hosts.split(","))


def _address(text: str, usual_port: int) -> Address:
    found = _HOST.fullmatch(text)
    port = int(found["port"] or usual_port) if found else 0
    if not found or not found["name"] or not 0 < port < 1 << 16:
        raise ValueError("One of its hosts is no HOST or HOST:PORT, with a port from 1 to 65535.")
    return _decoded(found["name"].strip("[]")), port


def _number(value: str) -> int:
    if not _DATABASE.fullmatch(value):
        raise ValueError("It must be a number.")
    return int(value)


def _client_name(value: str) -> str:
    """Return a client name that Redis accepts. It refuses every connection with any other."""
    if not _CLIENT_NAME.fullmatch(value):
        raise ValueError("It must have no spaces, and only ASCII's letters, digits and signs.")
    return value


def _requirement(value: str) -> str:
    if value not in {"none", "optional", "required"}:
        raise ValueError("It must be none, optional or required.")
    return value


def _flag(value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise ValueError("It must be true or false.")
    return value.lower() == "true"


# Options by redis-py's names. redis-py would accept any other as well, and fail at each connection.
_OPTIONS: Mapping[str, Callable[[str], object]] = {
    "db": _number,
    "username": str,
    "password": str,
    "client_name": _client_name,
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": _flag,
    "sentinel_username": str,
    "sentinel_password": str,
}


def _options(text: str, scheme: str) -> dict[str, Any]:
    """Return the options after the question mark. Raises `ValueError` if one is unknown or has a wrong value."""
    try:
        given = dict(parse_qsl(text, keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError:
        raise ValueError("What it encodes with % is not UTF-8.") from None
    known = [name for name in _OPTIONS if _suits(name, scheme)]
    for name in given:
        if name not in known:
            # A name may be the end of a password with an & that is not encoded.
            named = "One of the options" if "password" in text else repr(name)
            raise ValueError(f"{named} is none of {scheme}://, which has {', '.join(known)}.")
    return {name: _converted(name, value) for name, value in given.items()}


def _converted(name: str, value: str) -> object:
    try:
        return _OPTIONS[name](value)
    except ValueError as err:
        raise ValueError(f"{name}: {err}") from None


def _suits(option: str, scheme: str) -> bool:
    """Return whether an option applies to connections of this scheme."""
    if option.startswith("ssl_"):
        return scheme.startswith("rediss")
    return scheme.endswith("+sentinel") if option.startswith("sentinel_") else True


def usable(url: str) -> str:
    """Return a URL that can be used. Raises a `ValueError` that says what is wrong with it."""
    url = url.strip()
    _load_certificates(parse(url).options)
    return url


def _load_certificates(options: Mapping[str, Any]) -> None:
    """Raise `ValueError` if the TLS files cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities, folder, *own = map(options.get, ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"))
    try:
        if authorities or folder:
            about = "ssl_ca_certs, ssl_ca_path"
            context.load_verify_locations(authorities, folder)
        if any(own):
            about = "ssl_certfile, ssl_keyfile, ssl_password"
            context.load_cert_chain(own[0] or "", own[1], options.get("ssl_password", ""))
    except OSError as err:
        raise ValueError(f"{about}: they cannot be used ({err.strerror or err}).") from err


def with_password(url: str, password: str) -> str:
    """Return the URL with this password for Redis, replacing any that it has."""
    text = _split(url)
    user = (text["login"] or "").partition(":")[0]
    options = f"?{text['options']}" if text["options"] else ""
    return f"{text['scheme']}://{user}:{quote(password, safe='')}@{text['hosts']}{text['path']}{options}"


def for_people(url: str) -> str:
    """Return a valid URL without users, passwords and options."""
    text = _split(url)
    return f"{text['scheme']}://{text['hosts']}{text['path']}"
