"""The command line, and the client: `from mlapi import Client`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlapi.client import Client, Model, Prediction

__all__ = ["Client", "Model", "Prediction"]


def __getattr__(name: str) -> object:
    """Import the client on first use; the services never use it, and need none of its HTTP code."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mlapi import client

    return getattr(client, name)
