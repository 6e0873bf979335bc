"""Addresses and ports to listen on: validation, whether they are free, and their URLs."""

import errno
import socket
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator

from runtime.errors import SetupError

# A service that listens on any address is reached from its own machine at this one.
_LOOPBACK = "127.0.0.1"
_FIRST_UNPRIVILEGED_PORT = 1024


def _address(text: str) -> str:
    """Return an IP address. Raises `ValueError` for names: a server does not resolve them."""
    if text == "localhost":
        return _LOOPBACK
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        address = None
    if address is None or "%" in str(address):
        raise ValueError(
            "It must be an address of this machine, as 127.0.0.1 or ::1, 0.0.0.0 or :: for all, or localhost."
        )
    return str(getattr(address, "ipv4_mapped", None) or address)


ListenAddress = Annotated[str, AfterValidator(_address)]


def check(host: str, port: int) -> None:
    """Raise `SetupError` if nothing can listen on a port of an address now."""
    try:
        with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            probe.bind((host, port))
            probe.listen()
    except OSError as err:
        raise SetupError(f"Port {port} of {host} cannot be used ({err.strerror}). {_advice(err, port)}") from err


def _advice(err: OSError, port: int) -> str:
    if err.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
        return "Set HOST to an address that this machine has."
    if port < _FIRST_UNPRIVILEGED_PORT and err.errno == errno.EACCES:
        return f"Ports below {_FIRST_UNPRIVILEGED_PORT} are for root: set PORT to another one, with a proxy in front."
    return f"Choose another one, as in `make run PORT={port + 1 if port < 65_535 else 5000}`."


def local_url(host: str, port: int) -> str:
    """Return the URL by which a service that listens on an address is reached from its own machine."""
    if ip_address(host).is_unspecified:
        host = _LOOPBACK
    return f"http://[{host}]:{port}" if _family(host) == socket.AF_INET6 else f"http://{host}:{port}"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
