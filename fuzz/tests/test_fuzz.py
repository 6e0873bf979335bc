"""A short run of `make fuzz`, and whether it would find anything."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st

from fuzz import service, table
from fuzz.request import HostileRequest
from fuzz.run import Fuzzer
from fuzz.service import Answer, Service
from fuzz.strategies import strategies


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service.running(tmp_path_factory.mktemp("service")) as made:
        yield made


def test_no_hostile_request_is_answered_5xx_or_ends_the_worker(running: Service, tmp_path: Path) -> None:
    fuzzer = Fuzzer(running.send, tmp_path)
    fuzzer.run(inputs=400, seed=0, max_upload_bytes=500_000)
    findings = fuzzer.findings
    assert findings.failures == [], table.summary(findings)
    assert findings.requests >= 400
    assert {200, 302, 400, 404, 413} <= {status for counts in findings.statuses.values() for status in counts}


def test_a_good_photo_is_classified(running: Service, dog: bytes) -> None:
    assert running.send(HostileRequest.upload("a photo", dog)).status == 200


def test_a_worker_that_dies_is_noticed_and_replaced(running: Service, dog: bytes) -> None:
    request = HostileRequest.upload("a photo", dog)
    running.worker.kill()
    died = running.send(request)
    assert (died.status, died.worker_died, died.is_failure) == (500, True, True)
    assert running.send(request).status == 200


def test_a_report_that_the_operators_page_fails_on_is_a_failure(
    running: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = HostileRequest("reports", b"report=x", "application/x-www-form-urlencoded", "/feedback")
    assert running.send(report).status == 200
    monkeypatch.setattr("api.pages.status.reports.latest", lambda *_: [None])
    assert running.send(report).status == 500


def test_what_comes_before_flask_is_asked_too(running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    request = HostileRequest("a kind", path="/livez", method="GET")
    assert running.send(request).status == 200
    monkeypatch.delattr("api.server.gateway.wsgi.environ")
    assert running.send(request).status == 500


def fails_on_x(request: HostileRequest) -> Answer:
    return Answer(500 if b"x" in request.body else 200, "internal-error", 0.1, worker_died=False)


def test_a_request_that_fails_is_made_smaller_and_kept(tmp_path: Path) -> None:
    fuzzer = Fuzzer(fails_on_x, tmp_path / "failures")
    strategy = st.builds(HostileRequest, st.just("a kind"), st.binary())
    fuzzer.explore(strategy, 5000, seed=0)
    [(path, answer)] = fuzzer.findings.failures
    assert HostileRequest.decode(path.read_bytes()) == HostileRequest("a kind", b"x")
    assert answer.status == 500
    assert f"make fuzz REPLAY={path}" in table.summary(fuzzer.findings)


def test_every_request_that_was_made_by_hand_and_fails_is_kept(tmp_path: Path) -> None:
    fuzzer = Fuzzer(fails_on_x, tmp_path)
    fuzzer.send_all([HostileRequest("a kind", b"x"), HostileRequest("a kind", b"y"), HostileRequest("a kind", b"xx")])
    assert len(fuzzer.findings.failures) == 2
    assert table.render(fuzzer.findings).splitlines() == [
        "| kind | inputs | 200 | 500 | slowest ms |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| a kind | 3 | 1 | 2 | 100 |",
        "| all | 3 | 1 | 2 | 100 |",
    ]


def bodies(seed: int, folder: Path) -> list[bytes]:
    sent: list[bytes] = []

    def send(request: HostileRequest) -> Answer:
        sent.append(request.body)
        return Answer(200, "", 0.0, worker_died=False)

    Fuzzer(send, folder).explore(strategies()["damaged PNG"], 50, seed)
    return sent


def test_the_same_seed_makes_the_same_requests_and_another_one_others(tmp_path: Path) -> None:
    assert bodies(1, tmp_path) == bodies(1, tmp_path)
    assert bodies(1, tmp_path) != bodies(2, tmp_path)


def test_what_hypothesis_can_make_few_of_is_sent_again(tmp_path: Path) -> None:
    fuzzer = Fuzzer(lambda _: Answer(200, "", 0.0, worker_died=False), tmp_path)
    fuzzer.explore(st.just(HostileRequest("the only one")), 20, seed=0)
    assert fuzzer.findings.requests == 20


@pytest.mark.parametrize("body", [b"", b"\n", b"{}\nbytes\xff"])
def test_a_kept_request_is_read_as_it_was(body: bytes) -> None:
    request = HostileRequest("a kind", body, "text/plain", "/feedback?report=\u00e9", "GET", {"Host": "\u00e9"})
    assert HostileRequest.decode(request.encode()) == request
