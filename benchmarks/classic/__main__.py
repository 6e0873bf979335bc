"""The command `python -m benchmarks.classic`: Redis, the worker and the API, until SIGTERM or Ctrl-C."""

import os
import socket
import sys
import tempfile
from pathlib import Path

from mlapi.service import redis_server
from mlapi.service.supervisor import Program, Supervisor

_START_TIMEOUT_S = 60.0


def main() -> None:
    """Run the classic design on $PORT, its uploads in $UPLOAD_FOLDER."""
    port, redis_port = int(os.environ["PORT"]), redis_server.free_port()
    Path(os.environ["UPLOAD_FOLDER"]).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="classic-redis-") as folder, Supervisor() as supervisor:
        _start(supervisor, Program("Redis server", redis_server.command(redis_port, Path(folder))), redis_port)
        environment = {"REDIS_URL": f"redis://127.0.0.1:{redis_port}"}
        supervisor.start(Program("worker", [sys.executable, "-m", "benchmarks.classic.worker"], environment))
        _start(supervisor, Program("API", [sys.executable, "-m", "benchmarks.classic.api"], environment), port)
        print("Ctrl-C stops it.", flush=True)
        supervisor.run()


def _start(supervisor: Supervisor, program: Program, port: int) -> None:
    supervisor.start(program)
    supervisor.wait_until(lambda: _listens(port), f"The {program.name} did not listen", _START_TIMEOUT_S)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
