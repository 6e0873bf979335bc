"""The cable, against an echo server."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.network import Cable


class Echo(socketserver.BaseRequestHandler):
    """Sends back the data it receives."""

    def handle(self) -> None:
        while data := self.request.recv(1024):
            self.request.sendall(data)


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    path = str(tmp_path / "socket")
    with socketserver.ThreadingUnixStreamServer(path, Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with Cable(path) as cable:
            yield cable
        server.shutdown()
        thread.join()


@pytest.fixture
def connection(cable: Cable) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", cable.port)) as connection:
        yield connection


def test_what_is_sent_arrives(connection: socket.socket) -> None:
    connection.sendall(b"hello")
    assert connection.recv(1024) == b"hello"


def test_through_a_cut_cable_nothing_comes_until_it_is_mended(cable: Cable, connection: socket.socket) -> None:
    with cable.cut():
        connection.sendall(b"hello")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1024)
    connection.settimeout(60)
    assert connection.recv(1024) == b"hello"


def test_whoever_connects_while_it_is_cut_hears_nothing_either(cable: Cable) -> None:
    with cable.cut(), socket.create_connection(("127.0.0.1", cable.port), 10) as connection:
        connection.sendall(b"hello")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1024)


def test_the_end_of_a_connection_is_passed_on(connection: socket.socket) -> None:
    connection.sendall(b"hello")
    connection.shutdown(socket.SHUT_WR)
    received = b""
    while data := connection.recv(1024):
        received += data
    assert received == b"hello"
