"""Checks that the service is ready before it is loaded."""

import json
import urllib.error
import urllib.request

from testing.errors import CannotRun

_TIMEOUT_S = 10.0
# The load uses no proxy either.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def require_ready(host: str) -> None:
    """Return if `GET /readyz` answers 200. Raises `CannotRun` with what to do."""
    try:
        with _opener.open(f"{host}/readyz", timeout=_TIMEOUT_S):
            return
    except urllib.error.HTTPError as err:
        raise CannotRun(f"The service at {host} is not ready: {_reason(err)}") from err
    except (OSError, ValueError) as err:
        raise CannotRun(
            f"No service answers at {host} ({getattr(err, 'reason', err)}). Start it with `make run`, "
            "or say where it is, as in `make stress HOST=http://127.0.0.1:5000`."
        ) from err


def _reason(err: urllib.error.HTTPError) -> str:
    with err:
        try:
            return str(json.load(err)["reason"])
        except (ValueError, KeyError, TypeError):
            return f"GET /readyz answers {err.code}. Is this address the API's?"
