"""The source of the settings."""

import os


def env_file() -> str:
    """Return the path of the settings file, which need not exist."""
    return os.environ.get("ENV_FILE", ".env")
