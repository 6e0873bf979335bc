"""Which versions of which models there are, and which of them a job is for: rules alone, wherever they are kept.

A version has workers and streams of its own, a pool. One pool has no name: that of the workers that stand beside no
other, and there may be no more than it. Which version answers for a model is its `Route`, which operators change.
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
# Versions that served before, of which the latest may serve again.
_MAX_BEFORE = 10

Shares = Mapping[str, int]


class CannotRoute(SetupError):
    """A version cannot get what is asked for it; the message says why."""


@dataclass(frozen=True, slots=True)
class Route:
    """Which version of a model serves, and which did before, the last one first.

    Of the images, `canary` versions answer so many percent, and `shadow` versions compute so many for comparison.
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
        """Return what `encode` wrote. Raises `Damaged`."""
        return read(cls, data)

    def serving(self, version: str) -> "Route":
        """Return the route by which a version serves: it is neither canary nor shadow any more."""
        if version == self.serve:
            return replace(self, canary={})
        before = (self.serve, *(each for each in self.before if each != version))
        return Route(version, before[:_MAX_BEFORE], {}, _without(self.shadow, version))

    def rolled_back(self) -> "Route":
        """Return the route without its canaries or, where it has none, by which the version before serves.

        Raises `CannotRoute` where there is none.
        """
        if self.canary:
            return replace(self, canary={})
        if not self.before:
            raise CannotRoute(f"No version served before {self.serve}.")
        version, *before = self.before
        return Route(version, tuple(before), {}, _without(self.shadow, version))

    def with_canary(self, version: str, percent: int) -> "Route":
        """Return the route by which a version answers so many percent, which may be 0."""
        canary = self._with(self.canary, version, percent)
        if sum(canary.values()) > 100:
            raise CannotRoute(f"All canaries together would have {sum(canary.values())} %.")
        return replace(self, canary=canary)

    def with_shadow(self, version: str, percent: int) -> "Route":
        """Return the route by which a version computes so many percent for comparison, which may be 0."""
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
    """A version of a model, its pool, and how many workers of it are alive."""

    info: ModelInfo
    pool: str = DEFAULT_POOL
    workers: int = 0

    @property
    def name(self) -> str:
        """What it is called, with its model."""
        return version_name(self.info)


def version_name(model: ModelInfo) -> str:
    """Return what a version is called wherever one has to be named, as in `pets@2`."""
    return f"{model.name}@{model.version}"


class _Target(NamedTuple):
    """Where jobs go: to a pool or, where their images fall into its share, to that of a canary."""

    pool: str
    canaries: tuple[tuple[range, str], ...] = ()

    def pools(self, image_hash: str) -> Sequence[str]:
        """Return the pools to try: what a canary cannot take, the version that serves does."""
        if self.canaries:
            percent = _percent(image_hash)
            for share, pool in self.canaries:
                if percent in share:
                    return pool, self.pool
        return (self.pool,)


class Role(NamedTuple):
    """What a version is for: to answer all that no canary does, some percent, to compute some, or nothing unasked."""

    name: Literal["serves", "canary", "shadow", "idle"]
    percent: int


class Copies(NamedTuple):
    """A version that computes, for comparison, so many percent of what another answers."""

    version: Version
    percent: int

    def has(self, image_hash: str) -> bool:
        """Tell whether an image is among them; independent of whether it is a canary's."""
        return _percent(f"shadow {image_hash}") < self.percent


def _percent(text: str) -> int:
    """Return a number below 100 that is always the same for the same text, and spreads texts evenly."""
    return zlib.crc32(text.encode()) % 100


class Versions:
    """All versions that there are at a moment, that of the default pool first, then as they came; and the routes.

    What names no model is for that of the default pool. Before its workers have come once, nobody knows which one that
    is, and so which of the versions beside it are candidates: without a route, none of them serves.
    """

    def __init__(self, versions: Sequence[Version] = (), routes: Mapping[str, Route] | None = None) -> None:
        self.all = tuple(versions)
        # Of the same version in the default pool and beside it, the one that has workers.
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
        """The names of the models that are served; that of jobs that name none comes first."""
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
        """Each version once, in the order in which they came."""
        return list({each.name: self._by_name[each.name] for each in self.all}.values())

    def served(self, name: str = "") -> Version | None:
        """Return the version that serves a model, or would if a worker of it were alive; None where there is none."""
        return self._served.get(name or (self._default.info.name if self._default else ""))

    def find(self, asked: str) -> Version:
        """Return the version with this name, or the one that serves the model with this name. Raises `NoSuchModel`."""
        found = self._served.get(asked) or self._by_name.get(asked)
        if not found:
            raise NoSuchModel
        return found

    def pools(self, job: ImageJob) -> Sequence[str]:
        """Return the pools that a job is for, of which the first that can takes it. Raises `NoSuchModel`."""
        target = self._targets.get(job.model)
        if target is None:
            raise NoSuchModel
        return target.pools(job.image_hash)

    def pool_of(self, asked: str) -> str:
        """Return the pool of the version that answers for a model's or a version's name. Raises `NoSuchModel`."""
        return self.find(asked).pool if asked else self.default_pool

    def role(self, version: Version) -> Role:
        """Return what a version is for, and how many percent of the images it gets for that."""
        route = self.routes.get(version.info.name)
        if version == self.served(version.info.name):
            return Role("serves", 100 - sum(route.canary.values() if route else ()))
        if route and (percent := route.canary.get(version.info.version)):
            return Role("canary", percent)
        if route and (percent := route.shadow.get(version.info.version)):
            return Role("shadow", percent)
        return Role("idle", 0)

    def copies(self, pool: str) -> list[Copies]:
        """Return what is computed for comparison of the answers of a pool, where its version serves."""
        served = self._served_by(pool)
        route = served and self.routes.get(served.info.name)
        if not served or not route:
            return []
        named = [(self._by_name.get(f"{served.info.name}@{each}"), percent) for each, percent in route.shadow.items()]
        return [Copies(version, percent) for version, percent in named if version and version.pool != pool]

    def orphans(self, pool: str) -> list[Version]:
        """Return the versions without a live worker for which those of a pool stand in: that version serves."""
        served = self._served_by(pool)
        if not served:
            return []
        return [each for each in self.all if each.info.name == served.info.name and not each.workers and each != served]

    def _served_by(self, pool: str) -> Version | None:
        return next((version for version in self._served.values() if version.pool == pool), None)

    def _after_roll_out(self, name: str, route: Route) -> Route:
        """Return a route or, where its version is not known any more, one by which that of the default pool serves."""
        default = self._default
        if f"{name}@{route.serve}" in self._by_name or default is None or default.info.name != name:
            return route
        return route.serving(default.info.version)

    def _serving(self, name: str) -> Version | None:
        """Return the version that serves a model.

        That is the one of its route or, without one, that of the default pool; where this is of another model, the one
        that came first. Where the one that should has no live worker, one that served before stands in, or that of the
        default pool.
        """
        route, of_name = self.routes.get(name), [each.name for each in self.all if each.info.name == name]
        wanted = [f"{name}@{each}" for each in (route.serve, *route.before)] if route else []
        candidates = [self._by_name[each] for each in wanted if each in self._by_name]
        if self._default and (not candidates or self._default.info.name == name):
            candidates.append(self._by_name[of_name[0]])
        return next((each for each in candidates if each.workers), candidates[0] if candidates else None)

    def _target(self, name: str, served: Version) -> _Target:
        """Return where jobs for a model go. Each canary has its own percents, whichever of them are alive."""
        route, canaries, start = self.routes.get(name), [], 0
        for each, percent in route.canary.items() if route else ():
            canary = self._by_name.get(f"{name}@{each}")
            if canary and canary.workers and canary.pool != served.pool:
                canaries.append((range(start, start + percent), canary.pool))
            start += percent
        return _Target(served.pool, tuple(canaries))
