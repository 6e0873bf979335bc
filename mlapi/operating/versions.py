"""Manages the versions of a model: `mlapi model serve`, `canary`, `shadow`, `rollback`, `status`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from jobs.queue.figures import Examined
from jobs.queue.interface import JobQueue
from jobs.versions.comparison import Comparison
from jobs.versions.rules import CannotRoute, Route, Version, Versions
from runtime.errors import NoSuchModel


@dataclass(frozen=True, slots=True)
class Status:
    """A version, the number of its live workers, its role and share, and its results so far."""

    name: str
    version: str
    workers: int
    role: str
    percent: int
    comparison: Comparison | None
    examined: Examined | None

    def __str__(self) -> str:
        share = f" {self.percent} %" if self.percent else ""
        workers = f"{self.workers} worker{'' if self.workers == 1 else 's'}"
        parts = [f"{self.name}@{self.version}", workers, f"{self.role}{share}", *self._compared(), *self._examined()]
        return "  ".join(parts)

    def _compared(self) -> list[str]:
        found = self.comparison
        if not found or not found.images:
            return []
        return [
            f"agrees on {found.agreeing:.0f} of {found.images:.0f} images",
            f"scores differ by {found.score_difference / found.images:.3f}",
            f"{found.ms / found.images:.1f} ms for an image, serving {found.served_ms / found.images:.1f} ms",
        ]

    def _examined(self) -> list[str]:
        return [f"right on {self.examined.right} of {self.examined.images} corrected images"] if self.examined else []

    def as_dict(self) -> dict[str, object]:
        """Return all fields, for JSON."""
        return {**asdict(self), "examined": self.examined and self.examined._asdict()}


def status(queue: JobQueue) -> list[Status]:
    """Return the status of all versions."""
    return [
        Status(
            each.version.info.name,
            each.version.info.version,
            each.version.workers,
            *each.role,
            each.comparison,
            each.examined,
        )
        for each in queue.figures().versions
    ]


def serve(queue: JobQueue, name: str) -> str:
    """Make a version serve; return the new route. Raises `CannotRoute` if no worker of it is alive."""
    return _change(queue, name, lambda route, version: route.serving(version))


def canary(queue: JobQueue, name: str, percent: int) -> str:
    """Make a version answer `percent` of requests; return the new route. Raises `CannotRoute`."""
    return _change(queue, name, lambda route, version: route.with_canary(version, percent), must_live=percent > 0)


def shadow(queue: JobQueue, name: str, percent: int) -> str:
    """Make a version compute `percent` of images for comparison; return the new route. Raises `CannotRoute`."""
    return _change(queue, name, lambda route, version: route.with_shadow(version, percent), must_live=percent > 0)


def roll_back(queue: JobQueue, name: str) -> str:
    """Undo the canaries or the last switch of a model; return the new route. Raises `CannotRoute`."""

    def change(versions: Versions) -> Route:
        before = _route(versions, name)
        route = before.rolled_back()
        if route.serve != before.serve:
            _check_lives(versions, f"{name}@{route.serve}")
        return route

    return _told(name, queue.change_route(name, change))


def _change(queue: JobQueue, name: str, change: Callable[[Route, str], Route], *, must_live: bool = True) -> str:
    """Change the route of a version's model."""
    model = _find(queue.versions(), name).info

    def changed(versions: Versions) -> Route:
        if must_live:
            _check_lives(versions, name)
        return change(_route(versions, model.name), model.version)

    return _told(model.name, queue.change_route(model.name, changed))


def _find(versions: Versions, name: str) -> Version:
    found = next((version for version in versions.listed if version.name == name), None)
    if not found:
        known = ", ".join(version.name for version in versions.listed) or "none"
        raise NoSuchModel(f"No version is called {name}. There are: {known}.")
    return found


def _check_lives(versions: Versions, name: str) -> None:
    """Raise `CannotRoute` unless a worker of a version is alive, and so has loaded, tried and checked it."""
    alive = [version.name for version in versions.listed if version.workers]
    if name not in alive:
        raise CannotRoute(
            f"No worker of {name} is alive, so it gets nothing: start one (docs/models.md). There are workers of "
            f"{', '.join(alive) or 'none'}."
        )


def _route(versions: Versions, name: str) -> Route:
    """Return a model's route, or the default if none was set. Raises `NoSuchModel`."""
    served = versions.served(name)
    if not served:
        raise NoSuchModel(f"No model called {name} is served. There are: {', '.join(versions.names) or 'none'}.")
    return versions.routes.get(name) or Route(served.info.version)


def _told(name: str, route: Route) -> str:
    shares = [*(f"{each} canary {share} %" for each, share in route.canary.items())]
    shares += [f"{each} shadow {share} %" for each, share in route.shadow.items()]
    return f"{name}: {route.serve} serves{''.join(f', {each}' for each in shares)}"
