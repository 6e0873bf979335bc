"""What the classic API and worker agree on."""

import json
import time

import redis

_JOBS = "classic:jobs"

# Both sides look for news, then sleep this long.
POLL_S = 0.05


class ListQueue:
    """Jobs in a Redis list, and each answer under its job's id."""

    def __init__(self, url: str) -> None:
        self._redis: redis.Redis = redis.Redis.from_url(url)

    def submit(self, job_id: str, image_name: str) -> None:
        """Add a job."""
        self._redis.lpush(_JOBS, json.dumps({"id": job_id, "image_name": image_name}))

    def take(self) -> dict[str, str] | None:
        """Return the oldest job, if there is one, and forget it."""
        data = self._redis.rpop(_JOBS)
        return json.loads(data) if isinstance(data, bytes) else None

    def answer(self, job_id: str, answer: dict[str, object]) -> None:
        """Leave the answer to a job."""
        self._redis.set(job_id, json.dumps(answer))

    def wait(self, job_id: str) -> object:
        """Return the answer to a job, and remove it."""
        while (data := self._redis.get(job_id)) is None:
            time.sleep(POLL_S)
        self._redis.delete(job_id)
        return json.loads(data) if isinstance(data, bytes) else None
