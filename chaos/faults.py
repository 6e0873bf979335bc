"""The faults, and how each is caused."""

import contextlib
import io
import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import requests
from PIL import Image

from chaos import disk
from chaos.callers import PATIENCE_S
from chaos.network import Cable
from chaos.service import Service
from jobs.redis import url as redis_url
from testing.errors import CannotRun

_FAKE_DECODER = {"PYTHONPATH": str(Path(__file__).parent / "fake_decoder")}

S = TypeVar("S")

# Entering the context causes the fault; leaving it ends a lasting one.
Strike = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Fault(Generic[S]):
    """A fault: how to prepare a running service for it, how long it lasts, and how often it strikes in a full run.

    Recovery from a fault that leaves the service no way to answer is measured from its end, from any other from its
    start.
    """

    name: str
    prepare: Callable[[S], AbstractContextManager[Strike]]
    lasts_s: float = 0.0
    times: int = 3
    settings: Mapping[str, str] = field(default_factory=dict)
    blocks: bool = False


def kill(words: str, most: int | None = None) -> Callable[[Service], AbstractContextManager[Strike]]:
    """Return the preparation of kill -9 for processes whose command has these words, the oldest or all of them."""

    @contextlib.contextmanager
    def prepare(service: Service) -> Iterator[Strike]:
        yield lambda: _at_once(lambda: service.signal(signal.SIGKILL, *service.pids(words)[:most]))

    return prepare


@contextlib.contextmanager
def pause_worker(service: Service) -> Iterator[Strike]:
    """Stop a worker, as a debugger or a full swap would, and resume it."""

    @contextlib.contextmanager
    def strike() -> Iterator[None]:
        paused = service.pids("mlapi worker")[0]
        service.signal(signal.SIGSTOP, paused)
        try:
            yield
        finally:
            service.signal(signal.SIGCONT, paused)

    yield strike


@contextlib.contextmanager
def cut_worker_off(service: Service) -> Iterator[Strike]:
    """Connect a worker through a cable, and cut it."""
    with (
        Cable(redis_url.parse(service.redis_url).path) as cable,
        service.another_worker(f"redis://127.0.0.1:{cable.port}"),
    ):
        yield cable.cut


@contextlib.contextmanager
def fill_disk(service: Service) -> Iterator[Strike]:
    """Put the uploads on a small disk, and fill it. Raises `CannotMount`."""
    with disk.mounted(service.uploads):
        yield lambda: disk.filled(service.uploads)


@contextlib.contextmanager
def terminate_everything(service: Service) -> Iterator[Strike]:
    """Send SIGTERM to all processes at once, and restart the service."""

    @contextlib.contextmanager
    def strike() -> Iterator[None]:
        service.signal(signal.SIGTERM, *service.pids())
        service.wait_until_ended()
        yield
        service.start()

    yield strike


def upset_decoder(
    size: tuple[int, int], told: str, pictures: int = 1
) -> Callable[[Service], AbstractContextManager[Strike]]:
    """Return the preparation of sending pictures of a size that `fake_decoder` has a bug for, all at the same time.

    Raises `CannotRun` if one of them does not get the expected answer.
    """

    @contextlib.contextmanager
    def strike(service: Service) -> Iterator[None]:
        with ThreadPoolExecutor(pictures) as senders:
            answers = list(senders.map(lambda _: _send(service, _picture(size)), range(pictures)))
        if wrong := [answer for answer in answers if answer != told]:
            raise CannotRun(f"The senders of pictures that the decoder has a bug for were told: {', '.join(wrong)}")
        yield

    @contextlib.contextmanager
    def prepare(service: Service) -> Iterator[Strike]:
        yield lambda: strike(service)

    return prepare


def _send(service: Service, picture: bytes) -> str:
    """Return the status and the code of the answer to a picture."""
    form = {"file": ("picture.png", picture)}
    answer = requests.post(f"http://127.0.0.1:{service.port}/predict", files=form, timeout=PATIENCE_S)
    return f"{answer.status_code} {answer.headers.get('X-Error', '').partition(':')[0]}"


def _picture(size: tuple[int, int]) -> bytes:
    """Return a picture of a size, a different one each time."""
    file = io.BytesIO()
    Image.frombytes("L", size, os.urandom(math.prod(size))).save(file, "PNG")
    return file.getvalue()


def _at_once(do: Callable[[], None]) -> AbstractContextManager[None]:
    do()
    return contextlib.nullcontext()


FAULTS: tuple[Fault[Service], ...] = (
    Fault("kill -9 a worker", kill("mlapi worker", most=1), times=9),
    Fault("kill -9 all workers", kill("mlapi worker")),
    Fault("kill -9 the API", kill("mlapi api")),
    Fault("kill -9 Redis, which keeps nothing", kill("redis-server")),
    Fault("kill -9 Redis, which keeps a log", kill("redis-server"), settings={"REDIS_FOLDER": "{folder}/redis"}),
    Fault("a worker paused for 4 s", pause_worker, lasts_s=4),
    Fault("a worker cut off for 8 s", cut_worker_off, lasts_s=8),
    Fault("uploads' disk full for 3 s", fill_disk, lasts_s=3, blocks=True),
    Fault("a picture that crashes the decoder", upset_decoder((13, 17), "500 set-aside"), settings=_FAKE_DECODER),
    Fault(
        "two pictures that the decoder never ends with",
        upset_decoder((13, 19), "413 too-costly", pictures=2),
        settings=_FAKE_DECODER,
    ),
    Fault(
        "two of which it does not even come back to Python",
        upset_decoder((13, 23), "500 set-aside", pictures=2),
        settings=_FAKE_DECODER,
    ),
    Fault("SIGTERM to every process, and a new start", terminate_everything, blocks=True),
)
