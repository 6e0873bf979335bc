"""How both services log: one line an event, on standard error."""

import logging


def configure(level: str) -> None:
    """Print log lines of at least `level`, whatever a library has set up before."""
    logging.basicConfig(level=level, force=True, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
