"""The versions that Redis has, and the routes by which they serve."""

from collections.abc import Callable
from typing import Any

from redis.exceptions import WatchError

from jobs.redis import keys
from jobs.redis.connection import milliseconds
from jobs.schema import ModelInfo
from jobs.versions.rules import DEFAULT_POOL, Route, Version, Versions
from runtime.reading import understood


class RedisVersions:
    """Reads and changes versions and routes. A model's information is read once, since its id changes with it."""

    def __init__(self, connection: Any, worker_ttl_ms: int) -> None:  # noqa: ANN401 - what `connect` returns
        self._redis = connection
        self._worker_ttl_ms = worker_ttl_ms
        self._models: dict[str, ModelInfo] = {}

    def read(self) -> Versions:
        """Return all versions and routes. Raises `RedisError`."""
        pipeline = self._redis.pipeline(transaction=False)
        time, beside, routes = pipeline.time().zrange(keys.VERSIONS, 0, -1).hgetall(keys.ROUTES).execute()
        pools = [DEFAULT_POOL, *(name.decode(errors="replace") for name in beside)]
        for pool in map(keys.pool, pools):
            pipeline.zcount(pool.workers, milliseconds(time) - self._worker_ttl_ms, "+inf").get(pool.model)
        told = pipeline.execute()
        found = list(zip(pools, told[::2], map(self._told, told[1::2]), strict=True))
        if forgotten := [pool for pool, _, model in found if pool and not model]:
            self._redis.zrem(keys.VERSIONS, *forgotten)
        read = {
            name.decode(errors="replace"): understood(f"the route of {name!r}", Route.decode, route)
            for name, route in routes.items()
        }
        return Versions(
            [Version(model, pool, workers) for pool, workers, model in found if model],
            {name: route for name, route in read.items() if route},
        )

    def known(self, model_id: str) -> ModelInfo | None:
        """Return the information on a model if it was read before."""
        return self._models.get(model_id)

    def model(self, model_id: str) -> ModelInfo | None:
        """Return the information on a model, None if there is none. Raises `RedisError`."""
        if model_id not in self._models:
            data = self._redis.get(keys.MODEL_INFO + model_id)
            if data is None:
                return None
            model = understood(f"what is known of model {model_id}", ModelInfo.decode, data)
            if model is None:
                self._redis.delete(keys.MODEL_INFO + model_id)  # so that its workers publish it anew
                return None
            self._models[model_id] = model
        return self._models[model_id]

    def _told(self, model_id: bytes | None) -> ModelInfo | None:
        """Return the information on a pool's model, or only its id; None if the pool has no model."""
        if not model_id:
            return None
        name = model_id.decode(errors="replace")
        return self.model(name) or ModelInfo(name)

    def change(self, model: str, change: Callable[[Versions], Route]) -> Route:
        """Change a model's route, retrying if it changes meanwhile. Raises what `change` does, or `RedisError`."""
        with self._redis.pipeline() as pipeline:
            while True:
                try:
                    pipeline.watch(keys.ROUTES)
                    route = change(self.read())
                    pipeline.multi()
                    pipeline.hset(keys.ROUTES, model, route.encode()).execute()
                    return route
                except WatchError:
                    continue
