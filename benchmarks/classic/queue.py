"""The queue of the classic API and worker."""

import json
import time

import redis

_JOBS = "classic:jobs"

# Both sides poll, then sleep this long.
POLL_S = 0.05


class ListQueue:
    """Jobs in a Redis list, and each answer under its job's id."""

    def __init__(self, url: str) -> None:
        self._redis: redis.Redis = redis.Redis.from_url(url)

    def submit(self, job_id: str, image_name: str) -> None:
        """Add a job."""
        self._redis.lpush(_JOBS, json.dumps({"id": job_id, "image_name": image_name}))

    def take(self) -> dict[str, str] | None:
        """Remove and return the oldest job, if there is one."""
        data = self._redis.rpop(_JOBS)
        return json.loads(data) if isinstance(data, bytes) else None

    def answer(self, job_id: str, answer: dict[str, object]) -> None:
        """Store the answer to a job."""
        self._redis.set(job_id, json.dumps(answer))

    def wait(self, job_id: str) -> object:
        """Poll for the answer to a job, remove it and return it."""
        while (data := self._redis.get(job_id)) is None:
            time.sleep(POLL_S)
        self._redis.delete(job_id)
        return json.loads(data) if isinstance(data, bytes) else None
