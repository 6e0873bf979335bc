"""How both services log: one line an event, on standard error."""

import logging


def configure(level: str) -> None:
    """Print log lines of at least `level`."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
