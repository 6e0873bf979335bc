"""The resources that an API process takes, and how it stops."""

import os
import resource
import signal
import socket
from types import SimpleNamespace

import pytest
from granian.net import SocketSpec  # type: ignore[attr-defined]  # its own name for it

from api.server import main as server
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


PARENT, OTHER = os.getppid(), 0


@pytest.mark.parametrize(
    ("senders", "cut_short"),
    [
        ([OTHER], False),
        ([OTHER, PARENT], False),
        ([PARENT, OTHER], False),
        ([PARENT, PARENT, PARENT], False),
        ([OTHER, OTHER], True),
        ([OTHER, PARENT, OTHER], True),
    ],
)
def test_a_signal_that_is_passed_on_by_the_parent_cuts_nothing_short(
    monkeypatch: pytest.MonkeyPatch, senders: list[int], cut_short: bool
) -> None:
    first, *others = [SimpleNamespace(si_pid=sender) for sender in senders]
    timeouts: list[float] = []

    def wait(_: object, timeout_s: float) -> SimpleNamespace | None:
        timeouts.append(timeout_s)
        return others.pop(0) if others else None

    monkeypatch.setattr(signal, "sigtimedwait", wait)
    monkeypatch.setattr("time.monotonic", lambda: 10.0 * (len(timeouts) > len(senders)))
    server._wait_for_another(first, 5)  # type: ignore[arg-type]  # noqa: SLF001 - the signals of a process are not a test's
    assert (len(timeouts) < len(senders)) == cut_short


def test_what_waits_to_be_accepted_or_read_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not server._is_unread(port)  # noqa: SLF001 - nothing else shows it
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert server._is_unread(port)  # noqa: SLF001
            accepted, _ = listener.accept()
            with accepted:
                assert not server._is_unread(port)  # noqa: SLF001
                client.sendall(b"GET")
                assert server._is_unread(port)  # noqa: SLF001
                accepted.recv(3)
                assert not server._is_unread(port)  # noqa: SLF001
