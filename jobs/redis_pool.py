"""Connections to Redis: to the one that a URL names, or to the master that its sentinels name."""

from copy import copy
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from jobs import redis_url

# A sentinel that says nothing for so long is passed over.
_SENTINEL_TIMEOUT_S = 1.0
# What a Redis says that is not, or not any more, the master that others follow.
_NOT_THE_MASTER = ("READONLY", "NOREPLICAS", "UNBLOCKED")


class _MasterConnection(Connection):
    """A connection that ends where its Redis is no longer the master; the next one is made to the one that is then.

    Which one that is, the host's name or the sentinels say.
    """

    def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - what a command answers
        """Return an answer. Raises `redis.ConnectionError` where only a master gives it."""
        try:
            return super().read_response(*args, **kwargs)
        except ResponseError as err:
            # Of a script, Redis before 7 says it among other words, which redis-py has no error for.
            if not isinstance(err, ReadOnlyError) and not any(code in str(err) for code in _NOT_THE_MASTER):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]  # redis-py's
            raise RedisConnectionError(f"This Redis is not the master: {err}") from err


class _SecureMasterConnection(_MasterConnection, SSLConnection):
    pass


class _LocalMasterConnection(_MasterConnection, UnixDomainSocketConnection):
    pass


class _SentinelConnection(_MasterConnection, SentinelManagedConnection):
    pass


class _SecureSentinelConnection(_SentinelConnection, SSLConnection):
    pass


# By what redis-py would take for a URL.
_CONNECTIONS: dict[Any, type[_MasterConnection]] = {
    None: _MasterConnection,
    SSLConnection: _SecureMasterConnection,
    UnixDomainSocketConnection: _LocalMasterConnection,
}
_BY_SENTINEL: dict[Any, type[_SentinelConnection]] = {
    None: _SentinelConnection,
    SSLConnection: _SecureSentinelConnection,
}


class _Sentinels(Sentinel):
    """Sentinels that several threads may ask at once."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the master's address. Raises `MasterNotFoundError`."""
        # Whichever answers is moved to the front of a list. In one that threads share, it would take others' places.
        asked: Any = copy(self)
        asked.sentinels = list(self.sentinels)
        address: tuple[str, int] = Sentinel.discover_master(asked, service_name)
        self.sentinels = asked.sentinels
        return address


def connection_pool(
    url: str, max_connections: int, *, connect_timeout_s: float, answer_timeout_s: float
) -> ConnectionPool:
    """Return what connects to the Redis at `url`, or to the master that its sentinels name; nothing is tried again."""
    by_sentinel = redis_url.sentinels(url)
    options: dict[str, Any] = {
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": answer_timeout_s,
        "max_connections": max_connections,
        "retry": Retry(NoBackoff(), retries=0),
        **parse_url(by_sentinel.master_url if by_sentinel else url),
    }
    kind = options.pop("connection_class", None)
    if not by_sentinel:
        return ConnectionPool(connection_class=_CONNECTIONS[kind], **options)
    sentinel_options = _sentinel_options(options, secure=kind is not None)
    sentinels = _Sentinels(by_sentinel.sentinels, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
    return SentinelConnectionPool(by_sentinel.service, sentinels, connection_class=_BY_SENTINEL[kind], **options)


def _sentinel_options(options: dict[str, Any], *, secure: bool) -> dict[str, Any]:
    """Return the options for connections to sentinels, and drop those that are for them alone."""
    login = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    timeouts_s = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), _SENTINEL_TIMEOUT_S)
    return {**login, **tls, **timeouts_s, "ssl": secure, "retry": options["retry"]}
