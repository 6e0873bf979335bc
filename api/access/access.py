"""Admits requests with a valid key and within the rate limit, and refuses those made by other sites' pages."""

import logging
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network, ip_address

from flask import Flask, g, request
from werkzeug import Request
from werkzeug.datastructures import Authorization

from api.access.hosts import HostNames, is_local, is_trusted
from api.access.keys import ApiKey, KeyFile, KeyFileError
from api.access.rates import RateLimiter
from api.http import forwarded
from api.settings import ApiSettings
from runtime import logs
from runtime.errors import (
    RETRY_AFTER_S,
    CrossSite,
    KeyRequired,
    KeysUnavailable,
    OperatorsOnly,
    ServiceError,
    UntrustedHost,
)

log = logging.getLogger(__name__)

# Open to everyone. All other endpoints are protected, including future and nonexistent ones.
OPEN_ENDPOINTS = frozenset({"static", "views.livez", "views.readyz", "v2.live", "v2.ready"})

# Programs send a key as a token, browsers as a password: they have a dialog for that and need no cookie.
CHALLENGES = ('Bearer realm="Flask ML API"', 'Basic realm="Flask ML API", charset="UTF-8"')

_UNKNOWN_KEY = (
    "The service does not know the API key that was sent. "
    'Programs send theirs in the header "Authorization: Bearer KEY".'
)

# Headers by which a proxy shows that it forwards a request for a client.
_PROXY_HEADERS = (
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X-Real-IP",
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# The smallest IPv6 network that a provider assigns to a subscriber.
_IPV6_PREFIX = 64


def install(app: Flask, settings: ApiSettings) -> None:
    """Make `app` refuse unauthorized requests."""
    access = Access(settings)
    app.before_request(access.admit)
    app.extensions["access"] = access
    if proxies := settings.trusted_proxies:
        app.wsgi_app = forwarded.behind(proxies, app.wsgi_app)  # type: ignore[assignment]  # as Flask does it


class Access:
    """Admits or refuses requests, as the settings say."""

    def __init__(self, settings: ApiSettings) -> None:
        self._keys = KeyFile(settings.api_keys_file) if settings.api_keys_file else None
        self._rate_limit = settings.rate_limit
        self._rates = RateLimiter(settings.redis_login, settings.threads)
        self._hosts = _trusted_hosts(settings)

    def admit(self) -> None:
        """Raise the `ServiceError` with which the current request is refused, if any."""
        if request.endpoint in OPEN_ENDPOINTS:
            return
        try:
            self.look_at(request)
            key = self._key()
            self._count(key)  # even without a key, so that nobody tries keys faster than the rate allows
            if self._keys and not key:
                raise KeyRequired(_UNKNOWN_KEY if request.authorization else None)
        except ServiceError:
            logs.bind(client=request.remote_addr)
            raise

    def knows(self, authorization: str | None) -> bool:
        """Return whether a request's `Authorization` header suffices: it has a valid key, or none is required."""
        with suppress(KeyFileError):
            return not self._keys or self._keys.find(_secret(Authorization.from_header(authorization))) is not None
        return False

    def look_at(self, asked: Request) -> None:
        """Raise `UntrustedHost` or `CrossSite` if the request's head alone warrants it."""
        self._refuse_untrusted_host(asked)
        refuse_cross_site(asked)

    def _refuse_untrusted_host(self, asked: Request) -> None:
        """Raise `UntrustedHost` if the request uses a host name that the service does not answer to."""
        if self._hosts is not None and not is_trusted(asked.host, self._hosts):
            raise UntrustedHost

    def _key(self) -> ApiKey | None:
        """Return the request's key, and store its name for the log."""
        if not self._keys:
            return None
        try:
            key = self._keys.find(_secret(request.authorization))
        except KeyFileError as err:
            log.error("%s", err)
            raise KeysUnavailable(retry_after_s=RETRY_AFTER_S) from err
        if key:
            logs.bind(key=key.name)
            g.key_name = key.name
        return key

    def _count(self, key: ApiKey | None) -> None:
        """Count the request against its key's own rate, if it has one, else against its client address."""
        if key and key.rate:
            self._rates.count(f"key {key.name}", key.rate)
        elif self._rate_limit:
            self._rates.count(subscriber(request.remote_addr or ""), self._rate_limit)


def _trusted_hosts(settings: ApiSettings) -> HostNames | None:
    """Return the trusted host names, or None for any; by default, only a service that listens locally restricts them.

    Such a service needs no key, so nothing else stops a page whose name resolves to it (DNS rebinding). A service with
    keys or a proxy, or one that others can reach, may have any name.
    """
    if settings.trusted_hosts is not None:
        return settings.trusted_hosts
    this_machine_alone = is_local(settings.host) and not settings.trusted_proxies
    return () if this_machine_alone and not settings.api_keys_file else None


def _secret(authorization: Authorization | None) -> str:
    """Return the key, sent by programs as bearer token and by browsers as password; "" without one."""
    if authorization is None:
        return ""
    return {"bearer": authorization.token, "basic": authorization.password}.get(authorization.type) or ""


def refuse_cross_site(asked: Request) -> None:
    """Raise `CrossSite` if a browser reports that another site's page makes this request, unless its method is safe.

    Programs send neither header. Browsers send `Sec-Fetch-Site` if they trust the connection (HTTPS, localhost), and
    `Origin` with every request that changes something.
    """
    if asked.method in _SAFE_METHODS:
        return
    site, origin = asked.headers.get("Sec-Fetch-Site"), asked.headers.get("Origin")
    if site is not None:
        allowed = site in {"same-origin", "none"}
    else:
        # The scheme is not compared: a proxy that terminates TLS need not report it.
        allowed = origin is None or origin in {f"http://{asked.host}", f"https://{asked.host}"}
    if not allowed:
        raise CrossSite


def admit_operator(settings: ApiSettings) -> None:
    """Raise `OperatorsOnly` if no keys are required and the request may come from another machine.

    A request forwarded by a proxy on this machine may, and not every proxy identifies itself.
    """
    if settings.api_keys_file:
        return
    address = request.remote_addr or ""
    passed_on = settings.trusted_proxies or any(header in request.headers for header in _PROXY_HEADERS)
    if passed_on or not _is_loopback(address):
        raise OperatorsOnly


def _is_loopback(address: str) -> bool:
    with suppress(ValueError):
        ip = ip_address(address)
        return bool((getattr(ip, "ipv4_mapped", None) or ip).is_loopback)
    return False


def subscriber(address: str) -> str:
    """Return the identity for rate limits: the IPv4 address, or the IPv6 network, in which a client has billions."""
    try:
        ip = ip_address(address)
    except ValueError:  # a socket without an address
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or IPv6Network((int(ip), _IPV6_PREFIX), strict=False))
