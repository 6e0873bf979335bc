"""The classic worker: polls for a job, classifies its one picture, sleeps, and polls again."""

import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.classic.queue import POLL_S, ListQueue
from jobs.schema import Prediction
from mlapi.service.cores import available_cores
from model.classifier import Classifier
from model.manifest import ModelManifest
from model.preprocessing import preprocess
from model.settings import ModelSettings


def main() -> None:
    """Classify until SIGTERM, with all cores for one picture."""
    settings, queue = ModelSettings.from_env(), ListQueue(os.environ["REDIS_URL"])
    manifest = ModelManifest.load(settings.model)
    classifier = Classifier.load(manifest, threads=available_cores(), precision=settings.precision)
    classifier.warm_up(1)
    folder = Path(os.environ["UPLOAD_FOLDER"])
    while True:
        job = queue.take()
        if job:
            pixels = preprocess((folder / job["image_name"]).read_bytes(), manifest, settings.max_image_pixels)
            queue.answer(job["id"], _answer(classifier, pixels[np.newaxis]))
        time.sleep(POLL_S)


def _answer(classifier: Classifier, pixels: NDArray[np.uint8]) -> dict[str, object]:
    outcome = classifier.classify(pixels)[0]
    if isinstance(outcome, Prediction):
        return {"success": True, "prediction": outcome.label, "score": round(outcome.score, 4)}
    return {"success": False, "prediction": None, "score": None}


if __name__ == "__main__":
    main()
