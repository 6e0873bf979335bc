"""Several APIs behind the proxy, and containers that are replaced one by one under load."""

import json
import re
import sys
from collections.abc import Iterator

import pytest
import requests

from testing.images import DOG
from tests.conftest import ROOT, until
from tests.stack import BUILD_TIMEOUT_S, RESTART_TIMEOUT_S, RIGHT, Stack, grown, load, run


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Start two workers, and two APIs behind a proxy."""
    stack = Stack("deploy/compose/proxy.yml")
    try:
        stack.compose("build", timeout_s=BUILD_TIMEOUT_S)
        stack.up()
        yield stack
    finally:
        stack.remove()


def test_the_proxy_answers_in_the_words_of_the_api(base_url: str) -> None:
    written = re.findall(r"set-var-fmt\(txn\.no_api\) '(.+)'", (ROOT / "deploy/compose/proxy/haproxy.cfg").read_text())
    failed, problem = map(json.loads, written)
    assert failed == {"success": False, "prediction": None, "score": None}
    assert problem == requests.get(f"{base_url}/v1/problems/no-api", timeout=10).json()


@pytest.mark.compose
@pytest.mark.parametrize("service", ["api", "model"])
def test_a_service_is_replaced_without_one_failed_request(stack: Stack, service: str) -> None:
    before = set(stack.containers(service))
    with load(stack) as answers:
        assert until(grown(answers), 60)
        run("sh", "deploy/compose/roll.sh", service, timeout_s=4 * RESTART_TIMEOUT_S, **stack.environment)
        assert until(grown(answers), 60)
    assert set(answers) == RIGHT
    after = set(stack.containers(service))
    assert (len(after), before & after) == (2, set())


@pytest.mark.compose
def test_the_black_box_tests_pass_through_the_proxy(stack: Stack) -> None:
    run(sys.executable, "-m", "pytest", "tests/test_integration.py", timeout_s=300, BASE_URL=stack.url)


@pytest.mark.compose
def test_the_proxy_may_do_no_more_than_an_api(stack: Stack) -> None:
    [proxy] = stack.containers("proxy")
    api = stack.containers("api")[0]
    for field in ("CapDrop", "SecurityOpt", "ReadonlyRootfs", "Tmpfs", "Init", "LogConfig", "RestartPolicy"):
        template = f"{{{{json .HostConfig.{field}}}}}"
        assert stack.inspect(proxy, template) == stack.inspect(api, template)
    limits = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}"
    assert stack.inspect(proxy, limits) == f"{512 << 20} {10**9} 64"
    assert "0" not in stack.shell(proxy, "stat -c %u /proc/[0-9]*").split()


@pytest.mark.compose
@pytest.mark.parametrize(("service", "reason"), [("model", "no-worker"), ("api", "no-api")])
def test_what_is_missing_is_told_in_the_same_form(stack: Stack, service: str, reason: str) -> None:
    stack.compose("stop", service)
    try:
        assert until(lambda: stack.predict().headers.get("X-Error", "").startswith(reason), 20)
        response = stack.predict()
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
        assert response.json() == {"success": False, "prediction": None, "score": None}
        problem = requests.post(f"{stack.url}/v1/predictions", files={"file": DOG}, timeout=60)
        assert (problem.status_code, problem.headers["Content-Type"]) == (503, "application/problem+json")
        assert problem.json()["code"] == reason
    finally:
        stack.up("--no-recreate")


@pytest.mark.compose
@pytest.mark.parametrize(("proxies", "statuses"), [("1", [200, 200, 429, 429]), ("2", [200, 200, 200, 200])])
def test_a_client_is_known_by_the_address_that_the_outermost_proxy_tells(
    stack: Stack, proxies: str, statuses: list[int]
) -> None:
    stack.compose("up", "--detach", "--wait", "--no-deps", "api", RATE_LIMIT="2/hour", TRUSTED_PROXIES=proxies)
    told = [{"X-Forwarded-For": f"192.0.2.{n}"} for n in range(4)]
    assert [requests.get(stack.url, headers=headers, timeout=10).status_code for headers in told] == statuses
