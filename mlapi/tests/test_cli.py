"""The command line."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import redis
from click.testing import CliRunner

from api.access.keys import KeyFile
from mlapi import cli
from mlapi.service.redis_server import free_port

COMMANDS = [
    [],
    ["serve"],
    ["api"],
    ["worker"],
    ["health"],
    ["classify"],
    ["doctor"],
    ["feedback"],
    ["feedback", "export"],
    ["feedback", "list"],
    ["tune"],
    ["set-aside"],
    ["set-aside", "list"],
    ["set-aside", "show"],
    ["set-aside", "release"],
    ["model"],
    ["model", "add"],
    ["model", "list"],
    ["model", "check"],
    ["model", "quantize"],
    ["key"],
    ["key", "add"],
    ["key", "list"],
    ["key", "remove"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(cli.cli, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def commands(group: click.Group) -> Iterator[click.Command]:
    """Yield the commands of a group, and of those in it."""
    for command in group.commands.values():
        yield from commands(command) if isinstance(command, click.Group) else [command]


@pytest.mark.parametrize("command", list(commands(cli.cli)), ids=lambda command: str(command.callback.__name__))
def test_every_option_says_what_it_does(command: click.Command) -> None:
    assert command.help
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert all(option.help for option in options)
    assert command.name != "list" or "as_json" in {option.name for option in options}


def test_the_models_that_can_be_made_are_listed() -> None:
    result = CliRunner().invoke(cli.cli, ["model", "list"])
    assert result.output.split() == ["efficientnet-lite0", "resnet50"]
    result = CliRunner().invoke(cli.cli, ["model", "list", "--json"])
    assert json.loads(result.output) == ["efficientnet-lite0", "resnet50"]


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """Run the command as the shell does, and return its error message."""
    monkeypatch.setattr("sys.argv", ["mlapi", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return str(ended.value)


def test_a_model_that_does_not_exist_is_a_sentence_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(monkeypatch, "model", "check", str(tmp_path / "nothing")).startswith("mlapi: ")
    assert "resnet50" in run(monkeypatch, "model", "add", "resnet51")


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_SIZE", "many")
    assert "BATCH_SIZE=many" in run(monkeypatch, "worker")


def test_the_default_model_can_be_served() -> None:
    result = CliRunner().invoke(cli.cli, ["model", "check", "var/models/efficientnet-lite0"])
    assert "1000 classes" in result.output


def test_a_health_check_fails_where_nothing_runs(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushall()  # workers of other tests may not have expired yet
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert "No worker" in run(monkeypatch, "health", "worker")
    monkeypatch.setenv("PORT", "1")
    assert "not ready" in run(monkeypatch, "health", "api")


@pytest.fixture
def key_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KeyFile:
    monkeypatch.setenv("API_KEYS_FILE", str(tmp_path / "keys"))
    return KeyFile(tmp_path / "keys")


def test_a_key_is_printed_once_and_good_until_it_is_removed(key_file: KeyFile) -> None:
    made = CliRunner().invoke(cli.cli, ["key", "add", "alice", "--rate", "10/second"])
    key = made.stdout.strip()  # alone, for `KEY=$(mlapi key add alice)`
    assert "shown once" in made.stderr
    assert key_file.find(key) is not None
    CliRunner().invoke(cli.cli, ["key", "add", "bob"])
    listed = CliRunner().invoke(cli.cli, ["key", "list"])
    assert listed.output == "alice  10/second\nbob\n"
    in_json = CliRunner().invoke(cli.cli, ["key", "list", "--json"]).output
    assert json.loads(in_json) == [{"name": "alice", "rate": "10/second"}, {"name": "bob", "rate": None}]
    assert CliRunner().invoke(cli.cli, ["key", "remove", "alice"]).exit_code == 0
    assert key_file.find(key) is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["add", "alice"], "There is a key alice already"),
        (["add", "two words"], "letters, digits"),
        (["add", "bob", "--rate", "often"], "as in 600/minute"),
        (["remove", "bob"], "There is no key bob"),
    ],
)
def test_a_key_that_cannot_be_made_or_removed_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, key_file: KeyFile, words: list[str], reason: str
) -> None:
    key_file.add("alice")
    assert reason in run(monkeypatch, "key", *words)
    assert [key.name for key in key_file.read()] == ["alice"]


def test_where_keys_are_kept_has_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("API_KEYS_FILE", raising=False)
    assert "Set API_KEYS_FILE" in run(monkeypatch, "key", "list")


def test_a_queue_that_is_not_there_is_said_with_the_setting_that_names_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://:secret@127.0.0.1:{free_port()}")
    monkeypatch.setattr("sys.argv", ["mlapi", "set-aside", "list"])
    with pytest.raises(SystemExit, match=r"No Redis answers at redis://127\.0\.0\.1:\d+\. Set REDIS_URL"):
        cli.main()
    assert not caplog.records


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("PORT", "taken", r"mlapi: Port \d+ of 127\.0\.0\.1 cannot be used \(Address already in use\)\."),
        ("HOST", "example.org", r"mlapi: HOST=example\.org: It must be an address of this machine"),
        ("HOST", "192.0.2.1", r"mlapi: Port \d+ of 192\.0\.2\.1 cannot be used .*Set HOST to an address"),
        ("REDIS_URL", "redis://:secret?@127.0.0.1", r"mlapi: REDIS_URL=\.\.\.: "),
        ("REDIS_URL", "redis://127.0.0.1?family=0", r"mlapi: REDIS_URL=\.\.\.: 'family' is none of redis://"),
    ],
)
def test_an_api_that_cannot_start_says_why_in_a_line(tmp_path: Path, setting: str, value: str, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {"PORT": str(port if value == "taken" else free_port()), "UPLOAD_FOLDER": str(tmp_path)}
        environment |= {setting: value} if value != "taken" else {}
        command = [sys.executable, "-m", "mlapi", "api"]
        ended = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert re.fullmatch(f"{said}.*\n", ended.stderr)
    assert "secret" not in ended.stderr
