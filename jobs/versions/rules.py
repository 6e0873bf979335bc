"""Routing rules: which versions of which models there are, and which of them a job is for. Pure logic.

A version has its own workers and streams, a pool. The pool without a name is that of the default workers; often it is
the only one. The `Route` of a model, which operators change, decides which version answers.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, NamedTuple

from jobs.schema import ImageJob, ModelInfo
from runtime.errors import NoSuchModel, SetupError
from runtime.reading import read

DEFAULT_POOL = ""
# The number of former versions kept, of which the latest may serve again.
_MAX_BEFORE = 10

Shares = Mapping[str, int]


class CannotRoute(SetupError):
    """A version cannot get the requested role; the message says why."""


@dataclass(frozen=True, slots=True)
class Route:
    """The version of a model that serves, and those that served before, latest first.

    `canary` maps versions to the percentage of images that they answer, `shadow` to the percentage that they process
    for comparison.
    """

    serve: str
    before: tuple[str, ...] = ()
    canary: Shares = field(default_factory=dict)
    shadow: Shares = field(default_factory=dict)

    def encode(self) -> str:
        """Return the route as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, data: bytes | str) -> "Route":
        """Return the route that `encode` wrote. Raises `Damaged`."""
        return read(cls, data)

    def serving(self, version: str) -> "Route":
        """Return the route by which a version serves: it is neither canary nor shadow any more."""
        if version == self.serve:
            return replace(self, canary={})
        before = (self.serve, *(each for each in self.before if each != version))
        return Route(version, before[:_MAX_BEFORE], {}, _without(self.shadow, version))

    def rolled_back(self) -> "Route":
        """Return the route without its canaries or, if it has none, the one by which the previous version serves.

        Raises `CannotRoute` if there is none.
        """
        if self.canary:
            return replace(self, canary={})
        if not self.before:
            raise CannotRoute(f"No version served before {self.serve}.")
        version, *before = self.before
        return Route(version, tuple(before), {}, _without(self.shadow, version))

    def with_canary(self, version: str, percent: int) -> "Route":
        """Return the route by which a version answers `percent` of the images; 0 removes it."""
        canary = self._with(self.canary, version, percent)
        if sum(canary.values()) > 100:
            raise CannotRoute(f"All canaries together would have {sum(canary.values())} %.")
        return replace(self, canary=canary)

    def with_shadow(self, version: str, percent: int) -> "Route":
        """Return the route by which a version processes `percent` of the images for comparison; 0 removes it."""
        return replace(self, shadow=self._with(self.shadow, version, percent))

    def _with(self, shares: Shares, version: str, percent: int) -> Shares:
        if version == self.serve:
            raise CannotRoute(f"{version} serves, and so gets all that no canary does.")
        rest = _without(shares, version)
        return {**rest, version: percent} if percent else rest


def _without(shares: Shares, version: str) -> Shares:
    return {name: percent for name, percent in shares.items() if name != version}


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model, its pool, and its number of live workers."""

    info: ModelInfo
    pool: str = DEFAULT_POOL
    workers: int = 0

    @property
    def name(self) -> str:
        """The version's name, with its model's."""
        return version_name(self.info)


def version_name(model: ModelInfo) -> str:
    """Return a version's display name, as in `pets@2`."""
    return f"{model.name}@{model.version}"


class _Target(NamedTuple):
    """The pool for jobs, and the canaries' pools for images in their shares."""

    pool: str
    canaries: tuple[tuple[range, str], ...] = ()

    def pools(self, image_hash: str) -> Sequence[str]:
        """Return the pools to try, in order: a canary's first, then that of the version that serves."""
        if self.canaries:
            percent = _percent(image_hash)
            for share, pool in self.canaries:
                if percent in share:
                    return pool, self.pool
        return (self.pool,)


class Role(NamedTuple):
    """The role of a version: it serves, answers a percentage as canary, processes one as shadow, or is idle."""

    name: Literal["serves", "canary", "shadow", "idle"]
    percent: int


class Copies(NamedTuple):
    """A version that processes, for comparison, a percentage of the images that another answers."""

    version: Version
    percent: int

    def has(self, image_hash: str) -> bool:
        """Return whether an image is in that percentage, which is independent of the canaries' shares."""
        return _percent(f"shadow {image_hash}") < self.percent


def _percent(text: str) -> int:
    """Return a number below 100 that is always the same for the same text, and spreads texts evenly."""
    return zlib.crc32(text.encode()) % 100


class Versions:
    """All versions at one moment, that of the default pool first, then by age; and the routes.

    Jobs that name no model are for the version of the default pool. Before its workers have come once, it is unknown
    which version that is, and so which of the others are candidates: without a route, none of them serves.
    """

    def __init__(self, versions: Sequence[Version] = (), routes: Mapping[str, Route] | None = None) -> None:
        self.all = tuple(versions)
        # Of the same version in the default pool and in another, prefer the one with live workers.
        last_wins = sorted(self.all, key=lambda each: (each.workers > 0, each.pool == DEFAULT_POOL))
        self._by_name = {each.name: each for each in last_wins}
        self._default = next((each for each in self.all if each.pool == DEFAULT_POOL), None)
        self.routes = {name: self._after_roll_out(name, route) for name, route in (routes or {}).items()}
        serving = {each.info.name: self._serving(each.info.name) for each in self.all}
        self._served = {name: version for name, version in serving.items() if version}
        self._targets = {name: _Target(version.pool) for name, version in self._by_name.items()}
        self._targets |= {name: self._target(name, served) for name, served in self._served.items()}
        self._targets[""] = self._targets[self._default.info.name] if self._default else _Target(DEFAULT_POOL)

    @property
    def names(self) -> list[str]:
        """The names of the models that are served; the default model comes first."""
        return list(self._served)

    @property
    def all_pools(self) -> list[str]:
        """The pools that may have jobs."""
        return list(dict.fromkeys([DEFAULT_POOL, *(version.pool for version in self.all)]))

    @property
    def default_pool(self) -> str:
        """The pool of the version that serves jobs that name no model."""
        return self._targets[""].pool

    @property
    def listed(self) -> list[Version]:
        """Every version once, oldest first."""
        return list({each.name: self._by_name[each.name] for each in self.all}.values())

    def served(self, name: str = "") -> Version | None:
        """Return the version that serves a model, even without a live worker; None if there is none."""
        return self._served.get(name or (self._default.info.name if self._default else ""))

    def find(self, asked: str) -> Version:
        """Return the version with this name, or the one that serves the model with this name. Raises `NoSuchModel`."""
        found = self._served.get(asked) or self._by_name.get(asked)
        if not found:
            raise NoSuchModel
        return found

    def pools(self, job: ImageJob) -> Sequence[str]:
        """Return the pools for a job, in order: the first that can take it does. Raises `NoSuchModel`."""
        target = self._targets.get(job.model)
        if target is None:
            raise NoSuchModel
        return target.pools(job.image_hash)

    def pool_of(self, asked: str) -> str:
        """Return the pool of the version that answers for a model's or a version's name. Raises `NoSuchModel`."""
        return self.find(asked).pool if asked else self.default_pool

    def role(self, version: Version) -> Role:
        """Return a version's role and its percentage of the images."""
        route = self.routes.get(version.info.name)
        if version == self.served(version.info.name):
            return Role("serves", 100 - sum(route.canary.values() if route else ()))
        if route and (percent := route.canary.get(version.info.version)):
            return Role("canary", percent)
        if route and (percent := route.shadow.get(version.info.version)):
            return Role("shadow", percent)
        return Role("idle", 0)

    def copies(self, pool: str) -> list[Copies]:
        """Return the versions that process copies of a pool's jobs, if the pool's version serves."""
        served = self._served_by(pool)
        route = served and self.routes.get(served.info.name)
        if not served or not route:
            return []
        named = [(self._by_name.get(f"{served.info.name}@{each}"), percent) for each, percent in route.shadow.items()]
        return [Copies(version, percent) for version, percent in named if version and version.pool != pool]

    def orphans(self, pool: str) -> list[Version]:
        """Return the versions without a live worker for which this pool's workers stand in: its version serves."""
        served = self._served_by(pool)
        if not served:
            return []
        return [each for each in self.all if each.info.name == served.info.name and not each.workers and each != served]

    def _served_by(self, pool: str) -> Version | None:
        return next((version for version in self._served.values() if version.pool == pool), None)

    def _after_roll_out(self, name: str, route: Route) -> Route:
        """Return a route or, if its version is gone, one by which the version of the default pool serves."""
        default = self._default
        if f"{name}@{route.serve}" in self._by_name or default is None or default.info.name != name:
            return route
        return route.serving(default.info.version)

    def _serving(self, name: str) -> Version | None:
        """Return the version that serves a model.

        That is the version of its route or, without one, that of the default pool; if that is of another model, the
        first that came. If the chosen version has no live worker, a version that served before stands in, or that of
        the default pool.
        """
        route, of_name = self.routes.get(name), [each.name for each in self.all if each.info.name == name]
        wanted = [f"{name}@{each}" for each in (route.serve, *route.before)] if route else []
        candidates = [self._by_name[each] for each in wanted if each in self._by_name]
        if self._default and (not candidates or self._default.info.name == name):
            candidates.append(self._by_name[of_name[0]])
        return next((each for each in candidates if each.workers), candidates[0] if candidates else None)

    def _target(self, name: str, served: Version) -> _Target:
        """Return the pools for a model's jobs. Every canary keeps its own share, whichever of them are alive."""
        route, canaries, start = self.routes.get(name), [], 0
        for each, percent in route.canary.items() if route else ():
            canary = self._by_name.get(f"{name}@{each}")
            if canary and canary.workers and canary.pool != served.pool:
                canaries.append((range(start, start + percent), canary.pool))
            start += percent
        return _Target(served.pool, tuple(canaries))
