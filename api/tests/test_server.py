"""What a process of the API takes of the machine."""

import resource

import pytest
from granian.net import SocketSpec  # type: ignore[attr-defined]  # its own name for it

from api import server
from api.settings import ApiSettings


@pytest.mark.parametrize(
    ("limits", "connections", "files"),
    [
        ((1024, resource.RLIM_INFINITY), 10_000, 22_000),
        ((1024, 500_000), 10_000, 22_000),
        ((500_000, 500_000), 10_000, 500_000),
        ((1024, 4096), 1048, 4096),
        ((1024, 1024), 256, 1024),
    ],
)
def test_each_connection_may_have_a_picture_open_beside_all_other_files(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], connections: int, files: int
) -> None:
    set_to = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: set_to.append(wanted))
    assert server._max_connections() == connections  # noqa: SLF001 - nothing else shows it
    assert set_to[-1] == (files, limits[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "0.0.0.0", "::"])  # noqa: S104
def test_the_server_takes_every_address_that_the_setting_takes(host: str) -> None:
    SocketSpec(ApiSettings(host=host).host, 0, 1).build()
