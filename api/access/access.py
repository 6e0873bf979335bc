"""Who may call: whoever has a key, as often as the rate allows, and nobody through a page of another site."""

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

# Whoever asks for these gets them. All else is protected, what will be added and what does not exist included.
OPEN_ENDPOINTS = frozenset({"static", "views.livez", "views.readyz", "v2.live", "v2.ready"})

# How to send a key: programs as a token, browsers as a password, for which they have a dialog and need no cookie.
CHALLENGES = ('Bearer realm="Flask ML API"', 'Basic realm="Flask ML API", charset="UTF-8"')

_UNKNOWN_KEY = (
    "The service does not know the API key that was sent. "
    'Programs send theirs in the header "Authorization: Bearer KEY".'
)

# What says that a proxy passes a request on for somebody else.
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
# What one subscriber gets of the Internet's IPv6 addresses, at least.
_IPV6_PREFIX = 64


def install(app: Flask, settings: ApiSettings) -> None:
    """Have `app` refuse whoever may not call."""
    access = Access(settings)
    app.before_request(access.admit)
    app.extensions["access"] = access
    if proxies := settings.trusted_proxies:
        app.wsgi_app = forwarded.behind(proxies, app.wsgi_app)  # type: ignore[assignment]  # as Flask does it


class Access:
    """Admits a request or refuses it, as the settings say."""

    def __init__(self, settings: ApiSettings) -> None:
        self._keys = KeyFile(settings.api_keys_file) if settings.api_keys_file else None
        self._rate_limit = settings.rate_limit
        self._rates = RateLimiter(settings.redis_login, settings.threads)
        self._hosts = _trusted_hosts(settings)

    def admit(self) -> None:
        """Return where the current request may go on, else raise the `ServiceError` that says why not."""
        if request.endpoint in OPEN_ENDPOINTS:
            return
        try:
            self.look_at(request)
            key = self._key()
            self._count(key)  # those without a key too, so that nobody tries keys faster than the rate allows
            if self._keys and not key:
                raise KeyRequired(_UNKNOWN_KEY if request.authorization else None)
        except ServiceError:
            logs.bind(client=request.remote_addr)
            raise

    def knows(self, authorization: str | None) -> bool:
        """Tell by its header whether a request has a key, where it needs one, before anything else of it is there."""
        with suppress(KeyFileError):
            return not self._keys or self._keys.find(_secret(Authorization.from_header(authorization))) is not None
        return False

    def look_at(self, asked: Request) -> None:
        """Raise `UntrustedHost` or `CrossSite` where the head of a request alone has it refused."""
        self._refuse_untrusted_host(asked)
        refuse_cross_site(asked)

    def _refuse_untrusted_host(self, asked: Request) -> None:
        """Raise `UntrustedHost` where a browser, or whoever asks, knows the service by a name that it does not have."""
        if self._hosts is not None and not is_trusted(asked.host, self._hosts):
            raise UntrustedHost

    def _key(self) -> ApiKey | None:
        """Return the key of the request, and remember its name for the log."""
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
        """Count the request: for a key with a rate of its own by that, for all others by address."""
        if key and key.rate:
            self._rates.count(f"key {key.name}", key.rate)
        elif self._rate_limit:
            self._rates.count(subscriber(request.remote_addr or ""), self._rate_limit)


def _trusted_hosts(settings: ApiSettings) -> HostNames | None:
    """Return the names to be asked by; None for any. Without a setting, only a service of this machine alone has some.

    It needs no key, so nothing else keeps a page from it whose name is made to lead here (DNS rebinding). One with keys
    or a proxy may have any name, and so may one that others reach.
    """
    if settings.trusted_hosts is not None:
        return settings.trusted_hosts
    this_machine_alone = is_local(settings.host) and not settings.trusted_proxies
    return () if this_machine_alone and not settings.api_keys_file else None


def _secret(authorization: Authorization | None) -> str:
    """Return the key that a program sends as bearer token, a browser as password; "" where there is none."""
    if authorization is None:
        return ""
    return {"bearer": authorization.token, "basic": authorization.password}.get(authorization.type) or ""


def refuse_cross_site(asked: Request) -> None:
    """Raise `CrossSite` where a browser says that another site's page makes this request, unless it only looks.

    Programs send neither header. Browsers send `Sec-Fetch-Site` where they trust the connection (HTTPS, localhost), and
    `Origin` with everything that changes something.
    """
    if asked.method in _SAFE_METHODS:
        return
    site, origin = asked.headers.get("Sec-Fetch-Site"), asked.headers.get("Origin")
    if site is not None:
        allowed = site in {"same-origin", "none"}
    else:
        # A proxy that ends TLS need not say so: the scheme is not compared.
        allowed = origin is None or origin in {f"http://{asked.host}", f"https://{asked.host}"}
    if not allowed:
        raise CrossSite


def admit_operator(settings: ApiSettings) -> None:
    """Raise `OperatorsOnly` where nobody had to show a key, and the request may come from another machine.

    What a proxy on this machine passes on does, and not every proxy says that it is one.
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
    """Return what stands for all addresses of one client: of IPv6 the network, since there each has billions."""
    try:
        ip = ip_address(address)
    except ValueError:  # a socket that has none
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or IPv6Network((int(ip), _IPV6_PREFIX), strict=False))
