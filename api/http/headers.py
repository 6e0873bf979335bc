"""Response headers for browsers and caches."""

from flask import Flask, Response

# Neither the page nor an upload loads anything from elsewhere, or may be framed by another site.
_NOTHING = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
# The preview of a picture before its upload is a blob.
_PAGE_POLICY = (
    f"{_NOTHING}; form-action 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:"
)
# Swagger UI's style sheet embeds its icons.
DOCS_POLICY = f"{_PAGE_POLICY} data:"
# Uploads are untrusted: whatever they turn out to be, they run nothing, load nothing and belong to no origin.
UPLOAD_POLICY = f"{_NOTHING}; form-action 'none'; sandbox"

HEADERS = {
    "Content-Security-Policy": _PAGE_POLICY,
    # Browsers must not guess media types, above all those of uploads.
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: browsers would then send `Origin: null` with the page's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Responses change, and depend on keys. With `no-store`, a browser would reload the page when going back to it.
DEFAULTS = {**HEADERS, "Cache-Control": "private, no-cache"}


def install(app: Flask) -> None:
    """Add these headers to every response of `app`."""
    app.after_request(_add)


def _add(response: Response) -> Response:
    """Add the headers that the response does not have yet."""
    for name, value in DEFAULTS.items():
        if name not in response.headers:  # twice as fast as `setdefault`
            response.headers.add(name, value)
    return response
