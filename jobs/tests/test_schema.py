"""Messages, errors and settings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.schema import ClassScore, ImageJob, JobFailure, Outcome, Prediction, Timings, decode_outcome, encode_outcome
from jobs.settings import SettingsError, SharedSettings
from runtime.errors import ServiceError, error_types


def test_a_job_survives_the_queue() -> None:
    job = ImageJob.create("é.png", 2.5)
    assert ImageJob.decode(job.encode()) == job


def test_a_bulk_job_survives_the_queue() -> None:
    job = ImageJob.create("a.png", 1, lane="bulk")
    assert ImageJob.decode(job.encode()) == job


def test_a_job_that_is_neither_bulk_nor_traced_has_the_fields_that_jobs_have_always_had() -> None:
    fields = json.loads(ImageJob.create("a.png", 1).encode())
    assert set(fields) == {"id", "image_name", "timeout_s", "request_id", "size_bytes"}
    assert ImageJob.decode(json.dumps(fields).encode()).lane == "interactive"


def test_a_job_that_is_traced_survives_the_queue() -> None:
    job = replace(ImageJob.create("a.png", 1), traceparent=f"00-{'a' * 32}-{'b' * 16}-01", tracestate="vendor=1")
    assert ImageJob.decode(job.encode()) == job


def test_no_two_jobs_have_the_same_id() -> None:
    assert ImageJob.create("a.png", 1).id != ImageJob.create("a.png", 1).id


TOP = (ClassScore("Eskimo_dog", 248, 0.6), ClassScore("malamute", 249, 0.2))


@pytest.mark.parametrize(
    "outcome",
    [
        Prediction("Eskimo_dog", 248, 0.1),
        Prediction(*TOP[0], "m1", Timings(1.0, 2.0, 3.0, 4), TOP),
        JobFailure("not-an-image", "Bad “file”"),
    ],
)
def test_an_outcome_survives_the_queue(outcome: Outcome) -> None:
    assert repr(decode_outcome(encode_outcome(outcome))) == repr(outcome)


def test_a_prediction_cached_before_there_were_several_classes_has_the_one() -> None:
    cached = b'{"prediction": {"label": "cat", "class_index": 1, "score": 0.5, "model": "m1", "timings": null}}'
    assert decode_outcome(cached) == Prediction("cat", 1, 0.5, "m1")


@pytest.mark.parametrize("error_type", error_types().values())
def test_every_error_is_the_same_on_the_other_side_of_the_queue(error_type: type[ServiceError]) -> None:
    error = JobFailure.of(error_type("a reason")).error()
    assert type(error) is error_type
    assert str(error) == "a reason"


def test_an_error_of_a_newer_worker_is_still_an_error() -> None:
    error = JobFailure("from-the-future", "a reason").error()
    assert (type(error), error.status) == (ServiceError, 500)


def test_every_error_says_something_and_has_a_code_of_its_own() -> None:
    assert all(error_type.message for error_type in error_types().values())
    assert len({error_type.code for error_type in error_types().values()}) == len(error_types())


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_QUEUED_JOBS", "7")
    monkeypatch.setenv("LOG_LEVEL", "")  # Compose passes unset variables as empty ones
    settings = SharedSettings.from_env()
    assert (settings.max_queued_jobs, settings.log_level) == (7, "INFO")


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("redis://redis:6379", "redis://:p%2Fss%40word@redis:6379"),
        ("rediss://worker@redis:6379/1", "rediss://worker:p%2Fss%40word@redis:6379/1"),
    ],
)
def test_the_password_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, login: str) -> None:
    file = tmp_path / "password"
    file.write_text("p/ss@word\n")
    monkeypatch.setenv("REDIS_URL", url)
    assert SharedSettings.from_env().redis_login == url
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(file))
    settings = SharedSettings.from_env()
    assert settings.redis_login == login
    assert "ss@word" not in repr(settings)


def test_a_password_that_cannot_be_read_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match=r"REDIS_PASSWORD_FILE=.*cannot be read"):
        SharedSettings.from_env()


def test_a_wrong_setting_is_named_without_the_password_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPLOAD_URL", "s3://me:secret@bucket")
    with pytest.raises(SettingsError, match=r"UPLOAD_URL=\.\.\.: ") as refused:
        SharedSettings.from_env()
    assert "secret" not in str(refused.value)


def test_every_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_QUEUED_JOBS", "0")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(SettingsError, match=r"(?s)MAX_QUEUED_JOBS=0.*LOG_LEVEL=LOUD"):
        SharedSettings.from_env()
