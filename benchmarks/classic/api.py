"""The classic API: stores the upload, queues a job, and polls for the answer."""

import hashlib
import os
from pathlib import Path, PurePath
from uuid import uuid4

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.mp import MPServer

from benchmarks.classic.queue import ListQueue

# Requests handled at once, as by as many synchronous workers of a WSGI server.
_HANDLERS = 8
_ENDINGS = {".png", ".jpg", ".jpeg", ".gif"}


def create_app() -> Flask:
    """Return the API."""
    app = Flask(__name__)
    queue, folder = ListQueue(os.environ["REDIS_URL"]), Path(os.environ["UPLOAD_FOLDER"])

    @app.post("/predict")
    def predict() -> ResponseReturnValue:
        upload = request.files.get("file")
        ending = PurePath(upload.filename or "").suffix.lower() if upload else ""
        if upload is None or ending not in _ENDINGS:
            return jsonify(success=False, prediction=None, score=None), 400
        name = _hash(upload.read()) + ending
        upload.stream.seek(0)
        if not (folder / name).exists():
            upload.save(folder / name)
        job_id = str(uuid4())
        queue.submit(job_id, name)
        return jsonify(queue.wait(job_id))

    return app


def _hash(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def main() -> None:
    """Serve until SIGTERM."""
    MPServer(
        "benchmarks.classic.api:create_app",
        factory=True,
        interface=Interfaces.WSGI,
        port=int(os.environ["PORT"]),
        blocking_threads=_HANDLERS,
        websockets=False,
        log_level=LogLevels.error,
    ).serve()


if __name__ == "__main__":
    main()
