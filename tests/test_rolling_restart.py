"""Containers that are replaced one by one while callers ask."""

from collections.abc import Iterator

import pytest
import requests

from tests.conftest import until
from tests.stack import BUILD_TIMEOUT_S, RESTART_TIMEOUT_S, RIGHT, Stack, grown, load, run


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Start two workers, and two APIs behind a proxy."""
    stack = Stack("compose.proxy.yml")
    try:
        stack.compose("build", timeout_s=BUILD_TIMEOUT_S)
        stack.up()
        yield stack
    finally:
        stack.remove()


@pytest.mark.compose
@pytest.mark.parametrize("service", ["api", "model"])
def test_a_service_is_replaced_without_one_failed_request(stack: Stack, service: str) -> None:
    before = set(stack.containers(service))
    with load(stack) as answers:
        assert until(grown(answers), 60)
        run("sh", "containers/roll.sh", service, timeout_s=4 * RESTART_TIMEOUT_S, **stack.environment)
        assert until(grown(answers), 60)
    assert set(answers) == RIGHT
    after = set(stack.containers(service))
    assert (len(after), before & after) == (2, set())


@pytest.mark.compose
def test_a_client_is_known_by_the_address_that_the_proxy_tells(stack: Stack) -> None:
    stack.compose("up", "--detach", "--wait", "--no-deps", "api", RATE_LIMIT="2/hour")
    statuses = [
        requests.get(stack.url, headers={"X-Forwarded-For": f"192.0.2.{n}"}, timeout=10).status_code for n in range(4)
    ]
    assert statuses == [200, 200, 429, 429]
