"""The users: they load the page, have pictures classified, and report predictions as wrong.

`make stress` runs them without a browser; `.venv/bin/locust -f stress_test/locustfile.py` with Locust's page.
"""

import json
import os
import random
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeVar

import gevent  # type: ignore[import-untyped]
from locust import FastHttpUser, events, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, ResponseContextManager
from locust.env import Environment
from locust.runners import MasterRunner

from testing.answers import Answer, WrongAnswer, read_page, read_prediction, read_thanks
from testing.unique_images import UniqueImages, Upload, prepare

T = TypeVar("T")

# Otherwise a service that refuses at once would get requests as fast as the generator can send them, which takes cores
# from it.
_PAUSE_AFTER_FAILURE_S = 0.1


class Visitor(FastHttpUser):
    """One user, who sends the next request when the last one is answered, after a pause of `pause_s` on average.

    Without a pause, the number of users is the number of requests in flight at any time: the maximum rate is found by
    adding users until the rate no longer grows.

    `FastHttpUser`, since by Locust's documentation it takes considerably less processor time than `HttpUser`.
    """

    images: ClassVar[UniqueImages]
    pause_s: ClassVar[float] = 0.0

    # For a service that requires keys.
    default_headers = {"Authorization": f"Bearer {os.environ['API_KEY']}"} if os.environ.get("API_KEY") else None

    # The service answers within 30 s, if necessary with a 504.
    network_timeout = 60.0
    connection_timeout = 10.0

    def on_start(self) -> None:
        """Start with nothing to report."""
        self._report: str | None = None

    def on_stop(self) -> None:
        """Close the user's connections."""
        self.client.client.close()

    def wait_time(self) -> float:
        """Return the seconds until the next request."""
        return self.pause_s * random.uniform(0.5, 1.5)  # noqa: S311 - nothing secret

    @task(16)
    def predict(self) -> None:
        """Send a picture to classify."""
        upload = self.images.next()
        prediction = self._send("POST", "/predict", read_prediction, file=upload)
        if prediction:
            # The file's name shows readers of the reports where this one comes from.
            label, score = prediction
            self._report = json.dumps({"filename": upload.filename, "prediction": label, "score": score})

    @task(2)
    def load_page(self) -> None:
        """Load the page."""
        self._send("GET", "/", read_page)

    @task(2)
    def send_feedback(self) -> None:
        """Report the latest prediction as wrong, once."""
        if not self._report:
            self.predict()
        if self._report:
            self._send("POST", "/feedback", read_thanks, form={"report": self._report})
            self._report = None

    def _send(
        self,
        method: str,
        path: str,
        read: Callable[[Answer], T],
        form: dict[str, str] | None = None,
        file: Upload | None = None,
    ) -> T | None:
        """Send a request and return `read`'s result, None if that is a failure.

        Redirects are not followed: a refused upload may lead to a page that loads perfectly well.
        """
        files = {"file": (file.filename, file.data, "image/jpeg")} if file else None
        with self.client.request(
            method, path, data=form, files=files, allow_redirects=False, catch_response=True
        ) as response:
            try:
                result = read(_answer(response))
            except WrongAnswer as err:
                response.failure(str(err))
            else:
                response.success()
                return result
        gevent.sleep(_PAUSE_AFTER_FAILURE_S)
        return None


def _answer(response: ResponseContextManager) -> Answer:
    """Return the response. Raises `WrongAnswer` if none came, or not all of it."""
    if not response.status_code:
        raise WrongAnswer(f"no answer: {getattr(response, 'error', None)!r}")
    try:
        headers = {name.lower(): value for name, value in response.headers.items()} if response.headers else {}
        return Answer(response.status_code, headers, response.content or b"")
    except FAILURE_EXCEPTIONS as err:
        raise WrongAnswer(f"{response.status_code}, but the answer breaks off: {err!r}") from err


# The rest is for Locust's own command; `python -m stress_test` sets the class's attributes itself.


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--photos", type=Path, help="Folder of photos to send variants of (default: the project's dog)")
    parser.add_argument("--pause", type=float, default=0.0, help="Seconds between a user's requests, on average")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Environment, **_: object) -> None:
    if environment.parsed_options and not isinstance(environment.runner, MasterRunner):
        Visitor.pause_s = environment.parsed_options.pause
        Visitor.images = prepare(environment.parsed_options.photos)
        # Timers count from the event loop's last reading of the clock: --run-time would be short by the time this took.
        gevent.get_hub().loop.update_now()
