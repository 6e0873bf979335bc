"""`mlapi classify --service`, against a service with responses set by the test."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlapi import cli
from mlapi.collection import service as service_module
from mlapi.service.redis_server import free_port
from testing.fake_service import Answer, Server, dogs, image_count, problem

READY: Answer = (200, {}, b'{"status":"ready","workers":2}')
PETS = {"name": "pets", "version": "1", "precision": "f32", "classes": 2}
MODELS: Answer = (200, {}, json.dumps({"models": [PETS]}).encode())
BAD = problem("not-an-image", 400, "It is damaged.")
AWAY = problem("no-worker", 503, "No model worker is alive.", **{"Retry-After": "600"})


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.answers = [READY, MODELS, dogs]
    yield server
    server.stop()


@pytest.fixture
def photos(tmp_path: Path, dog: bytes) -> Path:
    """Make a folder of 50 files."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number:02d}.jpg").write_bytes(dog)
    return folder


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, ["classify", *map(str, words)])


def rows(file: Path) -> dict[str, dict[str, str]]:
    with file.open(newline="") as lines:
        return {Path(row["path"]).name: row for row in csv.DictReader(lines)}


def test_a_running_service_classifies(server: Server, photos: Path) -> None:
    result = run(photos, "--service", server.url, "--out", photos / "results.csv")
    assert result.exit_code == 0, result.output
    found = rows(photos / "results.csv")
    assert list(found) == [f"{number:02d}.jpg" for number in range(50)]
    assert {(row["label"], row["score"], row["error"]) for row in found.values()} == {("Eskimo_dog", "0.6404", "")}


def test_files_are_sent_several_at_once_are_not_urgent_and_not_kept(server: Server, photos: Path) -> None:
    run(photos, "--service", server.url)
    sent = [(headers, body) for _, path, headers, body in server.requests if path == "/v1/predictions?top_k=1"]
    assert sum(image_count(body) for _, body in sent) == 50
    assert len(sent) == 4
    assert {(headers["Priority"], headers["Cache-Control"]) for headers, _ in sent} == {("u=5", "no-store")}


def test_the_most_probable_classes_are_told(server: Server, photos: Path) -> None:
    lines = run(photos, "--service", server.url, "--top-k", 2).stdout.splitlines()
    assert lines[0] == f"{photos}/00.jpg\tEskimo_dog\t0.6404\tSiberian_husky\t0.3071"
    assert server.requests[-1][1] == "/v1/predictions?top_k=2"


def test_no_more_classes_are_told_than_the_model_knows(server: Server, photos: Path) -> None:
    result = run(photos, "--service", server.url, "--top-k", 3)
    assert result.exit_code == 3
    assert "The model knows 2 classes" in result.output


def test_address_and_key_may_be_in_the_environment(
    server: Server, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLAPI_SERVICE", server.url)
    monkeypatch.setenv("MLAPI_KEY", "mlapi_secret")
    assert run(photos / "00.jpg").exit_code == 0
    assert [headers["Authorization"] for _, _, headers, _ in server.requests] == ["Bearer mlapi_secret"] * 3


def test_what_the_service_says_of_an_image_is_its_error(server: Server, photos: Path) -> None:
    server.answers = [READY, MODELS, BAD]
    (photos / "gone.jpg").symlink_to("nowhere")
    result = run(photos / "00.jpg", photos / "gone.jpg", "--service", server.url, "--json")
    assert result.exit_code == 1
    assert [failure["error"] for failure in json.loads(result.stdout)["failures"]] == [
        "not-an-image: It is damaged.",
        "cannot-read: It cannot be read: No such file or directory.",
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (AWAY, "No model worker is alive."),
        (problem("key-required", 401, "This service needs an API key."), "needs an API key"),
        ((404, {}, b""), "Is it the right address?"),
    ],
)
def test_what_holds_for_every_image_ends_the_run_which_can_go_on_later(
    server: Server, photos: Path, answer: Answer, said: str
) -> None:
    file = photos / "results.csv"
    server.answers = [READY, MODELS, *[dogs] * 3, answer]
    first = run(photos, "--service", server.url, "--out", file)
    assert first.exit_code == 3
    assert said in first.output
    assert "Run the same command again" in first.output
    assert all(row["label"] == "Eskimo_dog" for row in rows(file).values())
    server.answers = [READY, MODELS, dogs]
    assert run(photos, "--service", server.url, "--out", file).exit_code == 0
    assert len(file.read_text().splitlines()) == 1 + 50


def test_a_short_absence_is_waited_for(server: Server, photos: Path) -> None:
    server.answers = [READY, MODELS, dogs, (503, {}, b""), (502, {}, b""), None, dogs]
    assert run(photos, "--service", server.url).exit_code == 0


def test_nobody_at_the_address_is_said_at_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "_PATIENCE_AT_START_S", 0.1)
    result = run(photos, "--service", f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 3
    assert "cannot be reached" in result.output


@pytest.mark.parametrize("after", [True, False])
def test_ctrl_c_ends_a_run_that_waits_to_send_again(server: Server, photos: Path, after: bool) -> None:
    server.answers = [READY, MODELS, *[dogs] * after, problem("queue-full", 429, "Full.", **{"Retry-After": "50"})]
    file = photos / "results.csv"
    command = [sys.executable, "-m", "mlapi", "classify", str(photos), "--service", server.url, "--out", str(file)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(server.requests) < 3 + after:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=40)  # less than the service's `Retry-After`
    assert process.returncode == 128 + signal.SIGINT
    assert "Finishing the images in work" in err
    assert "Interrupted. Run the same command again" in err
