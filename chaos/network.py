"""A cable between a worker and Redis's socket that can be cut."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class Cable:
    """Forwards connections on `port` to a Unix socket.

    While it is cut, nothing passes in either direction and neither side is notified, as when packets are lost; when it
    is repaired, the data sent meanwhile arrive, as TCP would retransmit them.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._whole = threading.Event()
        self._whole.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> "Cable":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        _close(self._listener)
        self._threads.pop(0).join()  # from here on, there are no more connections
        for end in self._sockets:
            _close(end)
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Block all data."""
        self._whole.clear()
        try:
            yield
        finally:
            self._whole.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                self._sockets += [near, far]
                far.connect(self._target)
                for ends in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._forward, args=ends)
                    self._threads.append(thread)
                    thread.start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._whole.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def _close(end: socket.socket) -> None:
    """Close a socket, and wake any thread waiting for it, which closing alone does not do."""
    with contextlib.suppress(OSError):  # the other side was faster
        end.shutdown(socket.SHUT_RDWR)
    end.close()
