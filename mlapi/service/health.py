"""Health checks of the containers."""

import socket
import urllib.request

from runtime.errors import NoWorker, Unavailable


def check_api() -> None:
    """Raise `Unavailable` unless the API of this host is ready to classify."""
    from api.settings import ApiSettings

    url = ApiSettings.from_env().local_url
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 - our own address
            pass
    except OSError as err:
        raise Unavailable(f"The API is not ready: {err}") from err


def check_worker() -> None:
    """Raise `QueueUnavailable` or `NoWorker` unless a worker of this host is alive."""
    from jobs.redis.queue import RedisJobQueue
    from jobs.settings import SharedSettings

    workers = RedisJobQueue.from_settings(SharedSettings.from_env()).live_workers()
    if not any(name.startswith(f"{socket.gethostname()}-") for name in workers):
        raise NoWorker(f"No worker of {socket.gethostname()} is among {workers}.")


CHECKS = {"api": check_api, "worker": check_worker}
