"""The services' imports, and the modules they do not import until a setting requires it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("imported", "left_alone"),
    [
        ("jobs.storage.opening", {"jobs.storage.object_storage", "obstore"}),
        # The installed Redis client imports some of OpenTelemetry, for its own metrics.
        ("runtime.tracing", {"runtime.tracing.otlp", "opentelemetry.sdk.trace", "opentelemetry.exporter"}),
    ],
)
def test_what_is_off_is_not_imported(imported: str, left_alone: set[str]) -> None:
    program = "import api.server.main, model.ml_service, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    modules = set(done.stdout.split())
    assert imported in modules
    assert not left_alone & modules
