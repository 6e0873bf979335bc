"""The limit on the time of decoding one picture; the queue's part is in test_ml_service.py."""

import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context

import pytest

from model.decoding_limit import DecodingLimit
from runtime.errors import DeadlinePassed, NotAnImage, TooCostly

LIMIT_S = 0.1


@pytest.fixture
def limit() -> Iterator[DecodingLimit]:
    former = {number: signal.getsignal(number) for number in (signal.SIGPROF, signal.SIGALRM, signal.SIGVTALRM)}
    yield DecodingLimit(LIMIT_S)
    for number, handler in former.items():
        signal.signal(number, handler)


def compute(seconds: float) -> str:
    """Take this much processor time, in Python."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    return "decoded"


def test_decoding_that_takes_too_long_is_interrupted(limit: DecodingLimit) -> None:
    with pytest.raises(TooCostly):
        limit(lambda: compute(60))


def test_each_picture_has_the_whole_limit(limit: DecodingLimit) -> None:
    for _ in range(4):
        assert limit(lambda: compute(LIMIT_S / 2)) == "decoded"


def test_waiting_does_not_count(limit: DecodingLimit) -> None:
    limit(lambda: time.sleep(2 * LIMIT_S))


def test_decoding_ends_at_the_deadline_of_the_picture(limit: DecodingLimit) -> None:
    with pytest.raises(DeadlinePassed):
        limit(lambda: time.sleep(60), time.monotonic() + 0.05)


def test_what_comes_after_decoding_may_take_longer(limit: DecodingLimit) -> None:
    assert limit(lambda: "decoded") == "decoded"
    with pytest.raises(NotAnImage):
        limit(fail)
    with pytest.raises(TooCostly):
        limit(lambda: compute(60), time.monotonic() + 60)
    assert compute(3 * LIMIT_S) == "decoded"


def fail() -> None:
    """Act as a decoder that finds damage."""
    raise NotAnImage


def test_a_decoder_that_takes_the_interruption_for_damage_is_interrupted_again(limit: DecodingLimit) -> None:
    def decode() -> None:
        try:
            compute(60)
        except BaseException:  # noqa: BLE001 - as a decoder may
            compute(60)

    with pytest.raises(TooCostly):
        limit(decode)


def _decode_in_machine_code() -> None:
    DecodingLimit(LIMIT_S)(lambda: sum(range(sys.maxsize)))


def test_machine_code_that_never_comes_back_to_python_ends_with_its_process() -> None:
    process = get_context("spawn").Process(target=_decode_in_machine_code)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGVTALRM
