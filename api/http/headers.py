"""The headers of every answer: what a browser, or a cache on the way, may do with it."""

from flask import Flask, Response

# Neither the page nor an upload takes anything from elsewhere, or is shown inside another site's page.
_NOTHING = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
# The preview of a picture that is not sent yet is a blob.
_PAGE_POLICY = (
    f"{_NOTHING}; form-action 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:"
)
# Swagger UI's style sheet has its icons within it.
DOCS_POLICY = f"{_PAGE_POLICY} data:"
# Somebody sent it: whatever it turns out to be, it runs nothing, loads nothing and belongs to no origin.
UPLOAD_POLICY = f"{_NOTHING}; form-action 'none'; sandbox"

HEADERS = {
    "Content-Security-Policy": _PAGE_POLICY,
    # Media types are to be believed, those of uploads above all.
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: browsers would then send `Origin: null` with the page's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Answers change, and depend on keys. With `no-store`, a browser would load the page anew on the way back to it.
DEFAULTS = {**HEADERS, "Cache-Control": "private, no-cache"}


def install(app: Flask) -> None:
    """Have every answer of `app` carry these headers."""
    app.after_request(_add)


def _add(response: Response) -> Response:
    """Add the headers that the response does not have yet."""
    for name, value in DEFAULTS.items():
        if name not in response.headers:  # twice as fast as `setdefault`
            response.headers.add(name, value)
    return response
