"""Posts finished predictions to the webhooks of their requests, with retries until they are received.

Pending webhooks are stored with the results, so they outlive the API.
"""

import logging
import re
import threading
from collections.abc import Callable
from typing import Any

from api.webhooks.sender import NotSent, Sender
from jobs.results import Result, ResultStore
from runtime.errors import QueueUnavailable

log = logging.getLogger(__name__)

# Pauses after each failure; after the last, nothing more is sent.
_PAUSES_S = (5.0, 60.0, 300.0, 1800.0, 3600.0, 18_000.0, 28_800.0)
# Interval between checks whether a prediction is done.
_LOOK_EVERY_S = 1.0
# Another process takes over a webhook that this one does not finish in time: longer than a receiver may take.
_LEASE_S = 60.0

_PREFIX = "webhook"
_REMINDER = re.compile(rf"{_PREFIX}:(?P<result_id>[^:]+):(?P<attempt>[0-9]{{1,3}})")

Document = Callable[[str, Result], dict[str, Any]]


def announce(results: ResultStore, result_id: str, attempt: int = 0, after_s: float = 0) -> None:
    """Schedule a result to be posted to its request's webhook when it is done."""
    results.remind(f"{_PREFIX}:{result_id}:{attempt}", after_s)


class Webhooks:
    """Posts due webhooks; several threads and processes may do so at once."""

    def __init__(self, results: ResultStore, sender: Sender, document: Document) -> None:
        self._results = results
        self._sender = sender
        self._document = document

    def run(self, stopped: threading.Event) -> None:
        """Post due webhooks until `stopped` is set."""
        while not stopped.is_set():
            try:
                worked = self.step()
            except QueueUnavailable:
                worked = False
            if not worked:
                stopped.wait(_LOOK_EVERY_S)

    def step(self) -> bool:
        """Post one due result, if it is done; return whether any was due. Raises `QueueUnavailable`."""
        reminder = self._results.due(_LEASE_S)
        if reminder is None:
            return False
        found = _REMINDER.fullmatch(reminder)
        result = self._results.get(found["result_id"]) if found else None
        if found is None or result is None:
            self._results.drop_reminder(reminder)
        elif not result.is_done:
            self._results.remind(reminder, _LOOK_EVERY_S)
        else:
            self._post(found["result_id"], result, int(found["attempt"]))
            self._results.drop_reminder(reminder)
        return True

    def _post(self, result_id: str, result: Result, attempt: int) -> None:
        fields = {"prediction": result_id, "attempt": attempt + 1}
        try:
            url, document = result.request["webhook"], self._document(result_id, result)
        except (LookupError, TypeError, ValueError) as err:  # another version has stored it, or it is damaged
            log.error("a webhook is given up, since its prediction cannot be read: %r", err, extra=fields)
            return
        try:
            self._sender.post(url, result_id, document)
        except NotSent as err:
            if attempt < len(_PAUSES_S):
                announce(self._results, result_id, attempt + 1, _PAUSES_S[attempt])
                log.warning("a webhook is sent again in %g s: %s", _PAUSES_S[attempt], err, extra=fields)
            else:
                log.error("a webhook is given up: %s", err, extra=fields)
        else:
            log.info("webhook sent", extra=fields)
