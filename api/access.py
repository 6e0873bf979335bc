"""Who may call: nobody faster than the rate limit, and nobody through a page of another site."""

from ipaddress import IPv6Address, IPv6Network, ip_address

from flask import request

from api.rates import RateLimiter
from api.settings import ApiSettings
from jobs.errors import CrossSite

# Whoever asks for these gets them. All else is protected, what will be added and what does not exist included.
OPEN_ENDPOINTS = frozenset({"static", "views.livez", "views.readyz"})

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# What one subscriber gets of the Internet's IPv6 addresses, at least.
_IPV6_PREFIX = 64


class Access:
    """Admits a request or refuses it, as the settings say."""

    def __init__(self, settings: ApiSettings) -> None:
        self._rate_limit = settings.rate_limit
        self._rates = RateLimiter(settings.redis_url, settings.api_threads)

    def admit(self) -> None:
        """Return where the current request may go on. Raises `CrossSite` or `TooManyRequests`."""
        if request.endpoint in OPEN_ENDPOINTS:
            return
        refuse_cross_site()
        if self._rate_limit:
            self._rates.count(subscriber(request.remote_addr or ""), self._rate_limit)


def refuse_cross_site() -> None:
    """Raise `CrossSite` where a browser says that another site's page makes this request, unless it only looks.

    Programs send neither header. Browsers send `Sec-Fetch-Site` where they trust the connection (HTTPS, localhost), and
    `Origin` with everything that changes something.
    """
    if request.method in _SAFE_METHODS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        allowed = site in {"same-origin", "none"}
    else:
        # A proxy that ends TLS need not say so: the scheme is not compared.
        allowed = origin is None or origin in {f"http://{request.host}", f"https://{request.host}"}
    if not allowed:
        raise CrossSite


def subscriber(address: str) -> str:
    """Return what stands for all addresses of one client: of IPv6 the network, since there each has billions."""
    try:
        ip = ip_address(address)
    except ValueError:  # a proxy's word for an address it does not tell
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    return str(ip.ipv4_mapped or IPv6Network((int(ip), _IPV6_PREFIX), strict=False))
