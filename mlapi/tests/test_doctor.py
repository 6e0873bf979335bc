"""`mlapi doctor`, on a working installation and on broken ones."""

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlapi import cli
from mlapi.operating import doctor
from mlapi.service import redis_server
from testing.fake_service import Server
from testing.redis_servers import Cluster, RedisServer
from testing.s3_server import S3Server


@pytest.fixture(autouse=True)
def well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure a working installation, whatever else runs on this machine."""
    monkeypatch.setenv("UPLOAD_FOLDER", str(tmp_path / "uploads"))
    monkeypatch.setenv("UPLOAD_MAX_BYTES", "1000")
    monkeypatch.setenv("FEEDBACK_FILEPATH", str(tmp_path / "feedback" / "feedback"))
    monkeypatch.setenv("PORT", str(redis_server.free_port()))
    monkeypatch.delenv("REDIS_URL", raising=False)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.cli, ["doctor", *words])


def found(about: str) -> tuple[str, str]:
    """Return the state and the text of one finding."""
    finding = next(finding for finding in doctor.examine() if finding.about == about)
    return finding.state, finding.found


def only(about: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a single check: the model's takes a second."""
    monkeypatch.setattr(doctor, "CHECKS", {about: doctor.CHECKS[about]})


def test_all_is_well_where_the_service_runs() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert {line.split()[0] for line in result.output.splitlines()} == {"ok"}
    assert "1000 classes" in result.output


def test_findings_are_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    only("python", monkeypatch)
    [finding] = json.loads(run("--json").output)
    assert (finding["about"], finding["state"]) == ("python", "ok")


@pytest.mark.parametrize(
    ("about", "setting", "value", "state", "said"),
    [
        ("settings", "BATCH_SIZE", "many", "wrong", "BATCH_SIZE=many"),
        ("cores", "BATCH_SIZE", "many", "not examined", "see settings"),
        ("cores", "INSTANCES", "4000", "doubtful", "leave INSTANCES and THREADS unset"),
        ("model", "MODEL", "no-folder", "wrong", "no-folder/model.toml: not found"),
        ("redis", "REDIS_SERVER", "/bin/echo", "wrong", "is no Redis server"),
        ("settings", "REDIS_URL", "redis://127.0.0.1?family=0", "wrong", "REDIS_URL=...: 'family' is none of redis://"),
        ("settings", "REDIS_URL", "redis://:secret?@127.0.0.1", "wrong", "REDIS_URL=...: In user, password"),
        ("settings", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:secret@[", "wrong", "OTEL_EXPORTER_OTLP_ENDPOINT=...: "),
        ("settings", "WEBHOOK_SECRET", "whsec_no base64, which is secret", "wrong", "WEBHOOK_SECRET: what comes after"),
        ("settings", "HOST", "example.org", "wrong", "HOST=example.org: It must be an address"),
        ("queue", "REDIS_URL", "redis://127.0.0.1?family=0", "not examined", "see settings"),
        ("port", "HOST", "::1", "ok", "of ::1 is free"),
        ("port", "HOST", "localhost", "ok", "of 127.0.0.1 is free"),
        ("port", "HOST", "192.0.2.1", "wrong", "Set HOST to an address that this machine has"),
        ("queue", "REDIS_URL", "redis://:secret@127.0.0.1:1", "wrong", "No Redis answers at REDIS_URL=redis://127"),
        ("uploads", "UPLOAD_MAX_BYTES", str(10**18), "doubtful", "make room"),
        ("uploads", "UPLOAD_FOLDER", "/proc/uploads", "wrong", "UPLOAD_FOLDER: /proc cannot be written"),
        ("feedback", "FEEDBACK_FILEPATH", "/proc/feedback", "wrong", "FEEDBACK_FILEPATH: /proc cannot be written"),
    ],
)
def test_what_is_not_well_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, about: str, setting: str, value: str, state: str, said: str
) -> None:
    only(about, monkeypatch)
    monkeypatch.setenv(setting, value)
    assert found(about)[0] == state
    assert said in found(about)[1]
    assert "secret" not in found(about)[1]
    assert run().exit_code == (state == "wrong")


def test_a_disk_on_which_no_report_is_taken_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    only("feedback", monkeypatch)
    monkeypatch.setattr("api.feedback.file.MIN_FREE_BYTES", 10**18)
    state, said = found("feedback")
    assert (state, said.endswith("make room.")) == ("wrong", True)


def test_a_redis_that_answers_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only("queue", monkeypatch)
    server = RedisServer(tmp_path)
    monkeypatch.setenv("REDIS_URL", server.url)
    assert found("queue") == ("ok", f"0 workers at {server.url}, which has all in memory (appendonly is off)")
    server.stop()


def test_a_redis_that_keeps_what_it_has_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only("queue", monkeypatch)
    server = RedisServer(tmp_path, keeps=True)
    monkeypatch.setenv("REDIS_URL", server.url)
    assert found("queue") == ("ok", f"0 workers at {server.url}")
    server.stop()


@pytest.mark.parametrize(
    ("options", "state", "reason"),
    [
        (("--maxmemory-policy", "allkeys-lru"), "doubtful", "set maxmemory-policy noeviction"),
        (("--replicaof", "127.0.0.1", "1"), "wrong", "it is a replica, which takes no jobs"),
    ],
)
def test_a_redis_that_loses_jobs_or_takes_none_is_not_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...], state: str, reason: str
) -> None:
    only("queue", monkeypatch)
    server = RedisServer(tmp_path, *options)
    monkeypatch.setenv("REDIS_URL", server.url)
    assert found("queue")[0] == state
    assert reason in found("queue")[1]
    server.stop()


def test_a_node_of_a_cluster_is_doubtful_and_the_cluster_is_well(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    only("queue", monkeypatch)
    owner, other, *_ = cluster.ports
    monkeypatch.setenv("REDIS_URL", cluster.url)
    assert found("queue")[0] == "ok"
    assert found("queue")[1].startswith(f"0 workers at redis+cluster://127.0.0.1:{owner}, ")
    monkeypatch.setenv("REDIS_URL", cluster.node_url(owner))
    assert found("queue")[0] == "doubtful"
    assert "begin REDIS_URL with redis+cluster://" in found("queue")[1]
    monkeypatch.setenv("REDIS_URL", cluster.node_url(other))
    assert found("queue")[0] == "wrong"
    assert "Another node of this cluster has the queue, which redis+cluster:// follows" in found("queue")[1]


def test_a_redis_that_is_no_cluster_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only("queue", monkeypatch)
    server = RedisServer(tmp_path)
    monkeypatch.setenv("REDIS_URL", server.url.replace("redis:", "redis+cluster:"))
    assert found("queue")[0] == "wrong"
    assert "This instance has cluster support disabled" in found("queue")[1]
    server.stop()


def test_a_redis_that_is_too_old_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only("redis", monkeypatch)
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=5.0.14 sha=0\n")
    old.chmod(0o755)
    monkeypatch.setenv("REDIS_SERVER", str(old))
    assert found("redis") == ("wrong", f"{old} is 5.0.14; at least 6.2 is needed: `make setup` fetches one.")


def test_a_port_that_is_taken_is_wrong_unless_the_service_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    only("port", monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("PORT", str(other.getsockname()[1]))
        monkeypatch.setattr(doctor, "_ANSWER_TIMEOUT_S", 0.1)
        assert found("port")[0] == "wrong"
    server = Server()
    server.answers = [(200, {}, b'{"status":"alive"}')]
    monkeypatch.setenv("PORT", server.url.rpartition(":")[2])
    assert found("port")[0] == "ok"
    server.stop()


def test_object_storage_is_tried_out(monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> None:
    only("uploads", monkeypatch)
    monkeypatch.setenv("UPLOAD_URL", f"s3://{s3.bucket}/tried")
    assert found("uploads") == ("ok", f"s3://{s3.bucket}/tried stores and returns")
    monkeypatch.setenv("UPLOAD_URL", "s3://no-such-bucket")
    assert found("uploads")[0] == "wrong"
    assert "NoSuchBucket" in found("uploads")[1]


def test_packages_that_are_missing_are_named_with_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    only("packages", monkeypatch)
    monkeypatch.setattr(doctor, "find_spec", lambda name: name not in {"granian", "limits"})
    assert found("packages") == ("doubtful", "Missing is granian, limits: `pip install 'flask-ml-api[api]'`.")
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    assert found("packages")[0] == "wrong"
    assert "flask-ml-api[model]" in found("packages")[1]


def test_bf16_is_doubtful_where_the_processor_imitates_it(monkeypatch: pytest.MonkeyPatch) -> None:
    only("precision", monkeypatch)
    monkeypatch.setattr("model.classifier.native_precision", lambda: "f32")
    assert found("precision") == ("ok", "f32; the processor has f32")
    monkeypatch.setenv("PRECISION", "bf16")
    assert found("precision")[0] == "doubtful"
