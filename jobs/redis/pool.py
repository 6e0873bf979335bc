"""Connection pools for one Redis, or for the master that sentinels or a cluster name."""

import random
import socket
from collections.abc import Mapping
from copy import copy
from struct import Struct
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, ReadOnlyError, RedisError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from jobs.redis import keys
from jobs.redis.url import Address, RedisUrl, parse

# A sentinel or a node that does not answer within this time is skipped.
_ASKED_TIMEOUT_S = 1.0
# Errors of a Redis that is not, or no longer, the master, or that does not own the keys of its cluster. For some of
# them redis-py has no class, and Redis before 7 wraps a script's error in other words.
_NOT_THE_MASTER = ReadOnlyError, AskError, ClusterDownError, TryAgainError
_NOT_THE_MASTER_CODES = "READONLY", "NOREPLICAS", "UNBLOCKED"
# The system's `struct timeval`.
_TIMEVAL = Struct("ll")
# The cluster slot of all our keys.
_SLOT = key_slot(keys.TAG.encode())


class _ToMaster(AbstractConnection):
    """A connection that closes when its Redis is no longer the master; the next one is made to the new master.

    The new master is found by the host's name, the sentinels or the cluster.
    """

    def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - what a command answers
        """Return an answer. Raises `redis.ConnectionError` if only a master could give it."""
        try:
            return super().read_response(*args, **kwargs)
        except ResponseError as err:
            if not isinstance(err, _NOT_THE_MASTER) and not any(code in str(err) for code in _NOT_THE_MASTER_CODES):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]  # redis-py's
            raise RedisConnectionError(_reason(err)) from err


def _reason(err: ResponseError) -> str:
    if isinstance(err, AskError):  # which MOVED is, too
        return f"Another node of this cluster has the queue, which redis+cluster:// follows: {err}"
    return f"This Redis is not the master: {err}"


class _MasterConnection(_ToMaster, Connection):
    pass


class _SecureMasterConnection(_ToMaster, SSLConnection):
    pass


class _SocketConnection(_ToMaster, UnixDomainSocketConnection):
    def _connect(self) -> socket.socket:
        """Connect as soon as Redis accepts the connection.

        The kernel does the waiting. With a timeout of Python's, the call would fail at once when many others wait.
        """
        connected = socket.socket(socket.AF_UNIX)
        try:
            seconds, rest = divmod(self.socket_connect_timeout or 0, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(seconds), int(1e6 * rest)))
            connected.connect(self.path)
        except OSError:
            connected.close()
            raise
        connected.settimeout(self.socket_timeout)
        return connected


class _SentinelConnection(_ToMaster, SentinelManagedConnection):
    pass


class _SecureSentinelConnection(_SentinelConnection, SSLConnection):
    pass


class _Cluster:
    """Nodes of a cluster, which know the owner of the slot. Thread-safe."""

    def __init__(self, named: tuple[Address, ...], options: Mapping[str, Any]) -> None:
        self._named, self._options = named, options
        self._known: tuple[Address, ...] = ()

    def owner(self) -> Address:
        """Return the address of the node that owns the slot. Raises `redis.ConnectionError` if no node knows it."""
        failure: RedisError | None = None
        # In random order, so that a node that does not know of a change yet is not asked again and again.
        for node in (*random.sample(self._known, len(self._known)), *self._named):
            try:
                return self._told_by(node)
            except RedisError as err:
                failure = err
        raise RedisConnectionError(f"No node of the cluster says who has the queue: {failure}") from failure

    def _told_by(self, node: Address) -> Address:
        """Return the owner according to one node, and remember the nodes it knows."""
        with Redis(*node, **self._options) as connection:
            slots: Any = connection.execute_command("CLUSTER SLOTS")
        # A node that does not know its own host name leaves it empty: then use the address by which it was asked.
        ranges = [
            (first, last, [(host.decode() if host else node[0], port) for host, port, *_ in nodes])
            for first, last, *nodes in slots
        ]
        self._known = tuple({each for _, _, nodes in ranges for each in nodes})
        for first, last, nodes in ranges:
            if first <= _SLOT <= last:
                return nodes[0]
        raise RedisConnectionError(f"no node has slot {_SLOT}")


class _ClusterConnection(_MasterConnection):
    def __init__(self, *, cluster: _Cluster, **options: Any) -> None:  # noqa: ANN401 - redis-py's
        self._cluster = cluster
        super().__init__(**options)  # type: ignore[no-untyped-call]  # redis-py's

    def _connect(self) -> socket.socket:
        self.host, self.port = self._cluster.owner()
        connected: socket.socket = super()._connect()  # type: ignore[no-untyped-call]  # redis-py's
        return connected


class _SecureClusterConnection(_ClusterConnection, SSLConnection):
    pass


class _Sentinels(Sentinel):
    """Sentinels that several threads may ask at once."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the master's address. Raises `MasterNotFoundError`."""
        # redis-py moves the sentinel that answers to the front of its list. In a list that threads share, it could
        # overwrite another sentinel.
        asked: Any = copy(self)
        asked.sentinels = list(self.sentinels)
        address: tuple[str, int] = Sentinel.discover_master(asked, service_name)
        self.sentinels = asked.sentinels
        return address


def connection_pool(
    url: str, max_connections: int, *, connect_timeout_s: float, answer_timeout_s: float
) -> ConnectionPool:
    """Return a connection pool for the Redis at `url`, or for the master that it leads to; nothing is retried."""
    known = parse(url)
    options: dict[str, Any] = {
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": answer_timeout_s,
        "max_connections": max_connections,
        "retry": Retry(NoBackoff(), retries=0),
        **known.options,
    }
    if known.kind == "sentinel":
        return _by_sentinel(known, options)
    if known.kind == "cluster":
        return _by_cluster(known, options)
    if known.kind == "socket":
        return ConnectionPool(_SocketConnection, path=known.path, **options)
    [(host, port)] = known.addresses
    return ConnectionPool(
        _SecureMasterConnection if known.is_secure else _MasterConnection, host=host, port=port, **options
    )


def _by_sentinel(url: RedisUrl, options: dict[str, Any]) -> ConnectionPool:
    login = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    asking = login | _asking(options, secure=url.is_secure)
    known = _Sentinels(url.addresses, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]  # redis-py's
    kind = _SecureSentinelConnection if url.is_secure else _SentinelConnection
    return SentinelConnectionPool(url.service, known, connection_class=kind, **options)


def _by_cluster(url: RedisUrl, options: dict[str, Any]) -> ConnectionPool:
    login = {name: options.get(name) for name in ("username", "password")}
    asked = _Cluster(url.addresses, login | _asking(options, secure=url.is_secure))
    kind = _SecureClusterConnection if url.is_secure else _ClusterConnection
    return ConnectionPool(connection_class=kind, cluster=asked, **options)


def _asking(options: Mapping[str, Any], *, secure: bool) -> dict[str, Any]:
    """Return the options, without the login, of connections to sentinels or cluster nodes."""
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    timeouts_s = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), _ASKED_TIMEOUT_S)
    return {**tls, **timeouts_s, "ssl": secure, "retry": options["retry"]}
