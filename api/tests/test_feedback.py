"""`/feedback`, the file it writes, and the images it keeps."""

import json
import resource
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from api.feedback import FeedbackFile
from api.tests.conftest import MakeApp
from jobs.errors import StorageUnavailable
from jobs.images import FolderImageStore

REPORT = '{"filename": "0a7c.jpeg", "prediction": "Eskimo_dog", "score": 0.64}'


@pytest.fixture
def feedback_path(tmp_path: Path) -> Path:
    return tmp_path / "feedback" / "feedback"


def test_a_report_is_appended_verbatim_as_one_line(client: FlaskClient, feedback_path: Path) -> None:
    for report in (REPORT, "é {not json"):
        page = client.post("/feedback", data={"report": report})
        assert page.status_code == 200
        assert "Thank you" in page.text
    assert feedback_path.read_text() == f"{REPORT}\né {{not json\n"


@pytest.mark.parametrize("form", [{}, {"report": ""}])
def test_without_a_report_the_page_comes_and_nothing_is_written(
    client: FlaskClient, feedback_path: Path, form: dict[str, str]
) -> None:
    assert client.post("/feedback", data=form).status_code == 200
    assert client.get("/feedback").status_code == 200
    assert not feedback_path.exists()


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_line_break_forges_a_second_line(client: FlaskClient, feedback_path: Path, line_break: str) -> None:
    client.post("/feedback", data={"report": f'{{"score":{line_break}1}}'})
    assert feedback_path.read_text().splitlines() == ['{"score": 1}']


@pytest.mark.parametrize("length", [5000, 500_000, 50_000_000])
def test_a_report_of_more_than_a_few_kilobytes_is_refused(
    client: FlaskClient, feedback_path: Path, length: int
) -> None:
    assert client.post("/feedback", data={"report": "x" * length}).status_code == 413
    assert not feedback_path.exists()


NAME = f"{7:064x}.png"


@pytest.fixture
def upload(tmp_path: Path) -> str:
    """Return the name of a stored image."""
    FolderImageStore(tmp_path / "uploads").put(NAME, b"pixels")
    return NAME


def report_on(client: FlaskClient, name: str) -> None:
    assert "Thank you" in client.post("/feedback", data={"report": json.dumps({"filename": name})}).text


def test_the_image_of_a_report_is_kept_beside_it(client: FlaskClient, feedback_path: Path, upload: str) -> None:
    report_on(client, upload)
    report_on(client, upload)
    assert (feedback_path.parent / "images" / upload).read_bytes() == b"pixels"
    assert len(feedback_path.read_text().splitlines()) == 2


def test_a_report_on_an_image_that_is_gone_is_kept_all_the_same(client: FlaskClient, feedback_path: Path) -> None:
    report_on(client, NAME)
    assert NAME in feedback_path.read_text()
    assert not (feedback_path.parent / "images").exists()


def test_no_report_fills_the_disk_with_images(
    client: FlaskClient, feedback_path: Path, upload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(feedback_path.anchor)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9 - 1))
    report_on(client, upload)
    assert upload in feedback_path.read_text()
    assert not (feedback_path.parent / "images").exists()


def test_an_image_that_cannot_be_kept_costs_no_report(client: FlaskClient, feedback_path: Path, upload: str) -> None:
    feedback_path.parent.mkdir()
    (feedback_path.parent / "images").touch()
    report_on(client, upload)
    assert upload in feedback_path.read_text()


@pytest.mark.parametrize("name", ["../uploads/x", "feedback", f"{7:064x}.png/..", f"x{7:064x}.png"])
def test_a_report_names_nothing_but_an_upload(client: FlaskClient, feedback_path: Path, name: str) -> None:
    report_on(client, name)
    assert [path.name for path in feedback_path.parent.iterdir()] == ["feedback"]


def test_a_report_nested_too_deeply_to_be_read_is_kept(client: FlaskClient, feedback_path: Path) -> None:
    assert client.post("/feedback", data={"report": "[" * 4000}).status_code == 200
    assert feedback_path.read_text() == "[" * 4000 + "\n"


def _append_many(path: Path, letter: str) -> None:
    for _ in range(50):
        FeedbackFile(path, max_bytes=4096).append(letter * 2000)


def test_reports_of_several_processes_do_not_mix(feedback_path: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        list(pool.map(_append_many, [feedback_path] * 3, "abc"))
    lines = feedback_path.read_text().splitlines()
    assert len(lines) == 150
    assert set(lines) == {"a" * 2000, "b" * 2000, "c" * 2000}


def test_where_the_disk_is_full_the_page_says_so(make_app: MakeApp) -> None:
    client = make_app(feedback_filepath=Path("/dev/full")).test_client()
    answer = client.post("/feedback", data={"report": REPORT})
    assert answer.status_code == 503
    assert "report cannot be kept" in answer.text


def _append_up_to(max_bytes: int, path: Path, report: str) -> None:
    """Append reports until no file of this process may be larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    while True:
        FeedbackFile(path, max_bytes=4096).append(report)


def test_of_a_report_that_does_not_fit_on_the_disk_nothing_is_written(feedback_path: Path) -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(StorageUnavailable):
        pool.submit(_append_up_to, 2500, feedback_path, "x" * 999).result()
    assert feedback_path.read_text() == 2 * ("x" * 999 + "\n")
