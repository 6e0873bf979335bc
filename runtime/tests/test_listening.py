"""Addresses and ports to listen on."""

import errno
import os
import socket

import pytest

from jobs.settings import SettingsError, SharedSettings
from runtime import listening
from runtime.errors import SetupError


@pytest.mark.parametrize(
    ("text", "address", "url"),
    [
        ("127.0.0.1", "127.0.0.1", "http://127.0.0.1:5000"),
        ("localhost", "127.0.0.1", "http://127.0.0.1:5000"),
        ("::1", "::1", "http://[::1]:5000"),
        ("[::1]", "::1", "http://[::1]:5000"),
        ("0:0:0:0:0:0:0:1", "::1", "http://[::1]:5000"),
        ("::ffff:127.0.0.1", "127.0.0.1", "http://127.0.0.1:5000"),
        ("0.0.0.0", "0.0.0.0", "http://127.0.0.1:5000"),  # noqa: S104 - an address like the others
        ("::", "::", "http://127.0.0.1:5000"),
        ("192.168.1.2", "192.168.1.2", "http://192.168.1.2:5000"),
        ("", "127.0.0.1", "http://127.0.0.1:5000"),
    ],
)
def test_a_service_listens_on_an_address_and_is_reached_by_its_machine(
    monkeypatch: pytest.MonkeyPatch, text: str, address: str, url: str
) -> None:
    monkeypatch.setenv("METRICS_HOST", text)
    assert SharedSettings.from_env().metrics_host == address
    assert listening.local_url(address, 5000) == url


@pytest.mark.parametrize("text", ["example.org", "127.1", "0", " ", "127.0.0.1:5000", "fe80::1%eth0", "*", "@x"])
def test_what_is_no_address_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("METRICS_HOST", text)
    with pytest.raises(SettingsError, match=r"METRICS_HOST=.*: It must be an address of this machine"):
        SharedSettings.from_env()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_another_listens_on_is_refused(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=rf"Port {port} of {host} cannot be used \(Address already in use\)"):
            listening.check(host, port)
    listening.check(host, port)


@pytest.mark.parametrize(
    ("error", "port", "advice"),
    [
        (errno.EACCES, 80, "Ports below 1024 are for root"),
        (errno.EADDRNOTAVAIL, 5000, "Set HOST to an address that this machine has"),
        (errno.EADDRINUSE, 5000, "make run PORT=5001"),
        (errno.EADDRINUSE, 65_535, "make run PORT=5000"),
    ],
)
def test_a_port_that_cannot_be_used_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: int, port: int, advice: str
) -> None:
    def bind(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(SetupError, match=advice):
        listening.check("127.0.0.1", port)
