"""Where settings come from."""

import os


def env_file() -> str:
    """Return the path of the file that settings may stand in, whether there is one or not."""
    return os.environ.get("ENV_FILE", ".env")
