"""A Redis behind TLS that requires client certificates, through a proxy in front of one without TLS."""

import contextlib
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from jobs.redis.queue import RedisJobQueue
from runtime.errors import QueueUnavailable
from testing.redis_servers import cluster_of_one

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificates")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a self-signed certificate for both server and client, and an unrelated one."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ours", "others"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}"),
                *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"),
            ],
            check=True,
            capture_output=True,
        )
    return folder


@pytest.fixture(scope="module")
def tls_port(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Yield a TLS port whose clients must trust our certificate and present it; their data go on to Redis.

    That Redis is in cluster mode, and tells its clients to come to this port.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "ours.pem", certificates / "ours.key")
    context.load_verify_locations(certificates / "ours.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = cluster_of_one(tmp_path_factory.mktemp("redis"), "--cluster-announce-port", str(port))
        threading.Thread(target=_serve, args=(listener, context, urlsplit(server.url).port), daemon=True).start()
        yield port
        listener.shutdown(socket.SHUT_RDWR)
        server.stop()


def _serve(listener: socket.socket, context: ssl.SSLContext, redis_port: int) -> None:
    with contextlib.suppress(OSError):  # when it is closed
        while True:
            client = listener.accept()[0]
            threading.Thread(target=_carry, args=(client, context, redis_port), daemon=True).start()


def _carry(client: socket.socket, context: ssl.SSLContext, redis_port: int) -> None:
    """Forward a client's commands to Redis, and the answers back."""
    with (
        socket.create_connection(("127.0.0.1", redis_port)) as redis,
        contextlib.suppress(OSError),
        client,
        context.wrap_socket(client, server_side=True) as secure,
    ):
        while said := _next(secure, redis):
            data, receiver = said
            receiver.sendall(data)


def _next(secure: ssl.SSLSocket, redis: socket.socket) -> tuple[bytes, socket.socket] | None:
    """Return the next data from either side, and their recipient; None when one has hung up."""
    ready = [secure] if secure.pending() else select.select([secure, redis], [], [])[0]
    data = ready[0].recv(65536)
    return (data, redis if ready[0] is secure else secure) if data else None


def live_workers(port: int, scheme: str, **options: object) -> list[str]:
    """Return a queue's answer through TLS."""
    queue = RedisJobQueue(f"{scheme}://127.0.0.1:{port}?{urlencode(options)}", max_jobs=1)
    try:
        queue.heartbeat("secure", 0.01, "m1")
        return queue.live_workers()
    finally:
        queue.close()


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster"])
def test_redis_is_reached_with_the_certificates_that_the_url_names(
    certificates: Path, tls_port: int, scheme: str
) -> None:
    ours = {"ssl_certfile": certificates / "ours.pem", "ssl_keyfile": certificates / "ours.key"}
    assert "secure" in live_workers(tls_port, scheme, ssl_ca_certs=certificates / "ours.pem", **ours)


def test_a_redis_that_somebody_else_has_signed_for_is_not_believed(certificates: Path, tls_port: int) -> None:
    ours = {"ssl_certfile": certificates / "ours.pem", "ssl_keyfile": certificates / "ours.key"}
    with pytest.raises(QueueUnavailable):
        live_workers(tls_port, "rediss", ssl_ca_certs=certificates / "others.pem", **ours)


def test_who_has_no_certificate_is_not_let_in(certificates: Path, tls_port: int) -> None:
    with pytest.raises(QueueUnavailable):
        live_workers(tls_port, "rediss", ssl_ca_certs=certificates / "ours.pem")
