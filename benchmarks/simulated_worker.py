"""Workers that fetch images, then sleep instead of computing: a constant time per batch, hardly any processor time.

`python -m benchmarks.simulated_worker WORKERS BATCH_S` runs them in one process until SIGTERM.
"""

import sys
import threading
import time
from collections.abc import Sequence

from jobs.redis.queue import RedisJobQueue
from jobs.schema import ModelInfo, Outcome, Prediction
from jobs.settings import SharedSettings
from jobs.storage.opening import open_store
from model.ml_service import Worker, classify_process
from runtime import signals

BATCH_SIZE = 8
ANSWER = Prediction("simulated", 0, 0.5)


def main(workers: int, batch_s: float) -> None:
    """Answer every job, until SIGTERM."""
    stopped = signals.stop_event()
    threads = [threading.Thread(target=_work, args=(batch_s, stopped)) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _work(batch_s: float, stopped: threading.Event) -> None:
    settings = SharedSettings.from_env()
    images = open_store(settings)

    def classify(names: Sequence[str], _: Sequence[float]) -> list[Outcome]:
        for image in images.fetch(names):
            image()
        time.sleep(batch_s)
        return [ANSWER] * len(names)

    queue = RedisJobQueue(settings.redis_login, max_jobs=1)
    service_time_s = batch_s / BATCH_SIZE
    worker = Worker(
        queue,
        classify,
        model=ModelInfo("simulated"),
        jobs_at_once=BATCH_SIZE,
        batch_size=BATCH_SIZE,
        service_time_s=service_time_s,
    )
    classify_process(worker, stopped)
    queue.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
