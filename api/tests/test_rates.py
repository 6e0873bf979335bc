"""Rate limits."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import uuid4

import pytest
from pydantic import TypeAdapter, ValidationError

from api.access.rates import Rate, RateLimiter
from runtime.errors import TooManyRequests
from testing.redis_servers import Sentinels


@pytest.fixture
def caller() -> str:
    return uuid4().hex


@pytest.fixture
def limiter(redis_url: str) -> RateLimiter:
    return RateLimiter(redis_url, threads=8)


def test_requests_up_to_the_rate_are_allowed_and_one_more_is_refused(limiter: RateLimiter, caller: str) -> None:
    for _ in range(100):
        limiter.count(caller, "100/day")
    with pytest.raises(TooManyRequests, match="At most 100/day") as refused:
        limiter.count(caller, "100/day")
    assert refused.value.retry_after_s is not None
    assert 86_000 < refused.value.retry_after_s <= 86_400


def test_callers_are_counted_each_for_themselves(limiter: RateLimiter, caller: str) -> None:
    limiter.count(caller, "1/day")
    limiter.count(f"{caller}-other", "1/day")
    with pytest.raises(TooManyRequests):
        limiter.count(caller, "1/day")


def test_api_processes_share_the_counts(redis_url: str, caller: str) -> None:
    RateLimiter(redis_url, threads=1).count(caller, "1/day")
    with pytest.raises(TooManyRequests):
        RateLimiter(redis_url, threads=1).count(caller, "1/day")


def test_requests_are_counted_by_the_master_that_the_sentinels_name(sentinels: Sentinels, caller: str) -> None:
    limiter = RateLimiter(sentinels.url, threads=8)
    limiter.count(caller, "1/day")
    with pytest.raises(TooManyRequests):
        limiter.count(caller, "1/day")


def test_requests_are_counted_by_the_node_that_has_the_keys(redis_url: str, caller: str) -> None:
    limiter = RateLimiter(redis_url.replace("redis:", "redis+cluster:"), threads=8)
    limiter.count(caller, "1/day")
    with pytest.raises(TooManyRequests):
        limiter.count(caller, "1/day")


def test_of_many_requests_at_once_exactly_so_many_are_allowed(limiter: RateLimiter, caller: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: is_allowed(limiter, caller, "20/day"), range(50))) == 20


def test_after_the_time_that_is_named_another_request_is_allowed(limiter: RateLimiter, caller: str) -> None:
    limiter.count(caller, "1/second")
    deadline = time.monotonic() + 60
    while not is_allowed(limiter, caller, "1/second"):
        assert time.monotonic() < deadline


def is_allowed(limiter: RateLimiter, caller: str, rate: str) -> bool:
    with suppress(TooManyRequests):
        limiter.count(caller, rate)
        return True
    return False


def test_without_redis_requests_go_on_uncounted(caller: str) -> None:
    limiter = RateLimiter("redis://127.0.0.1:1", threads=1)
    assert all(is_allowed(limiter, caller, "1/day") for _ in range(3))


def test_a_redis_that_does_not_answer_keeps_one_request_waiting_and_not_every_one(
    caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.access.rates._REDIS_TIMEOUT_S", 0.5)
    monkeypatch.setattr("api.access.rates._UNCOUNTED_S", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limiter = RateLimiter(f"redis://127.0.0.1:{silent.getsockname()[1]}", threads=1)
        assert all(is_allowed(limiter, caller, "1/day") for _ in range(100))
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # since nobody else has sent requests
            silent.accept()


@pytest.mark.parametrize("rate", ["1/second", "600/minute", "100000/hour", "5/day"])
def test_a_rate_is_so_many_requests_per_unit_of_time(rate: str) -> None:
    assert TypeAdapter(Rate).validate_python(rate) == rate


@pytest.mark.parametrize(
    "rate",
    [
        "",
        "10",
        "/second",
        "0/second",
        "-1/second",
        "1.5/second",
        "10 / second",
        "10/second\n",
        "10/fortnight",
        "10/second;5/minute",
        "9999999999/day",
    ],
)
def test_what_is_no_rate_is_refused(rate: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Rate).validate_python(rate)
