"""Who may call: nobody through a page of another site."""

from flask import request

from jobs.errors import CrossSite

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


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
