"""`/feedback` and the file it writes."""

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from api.feedback import FeedbackFile

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


def _append_many(path: Path, letter: str) -> None:
    for _ in range(50):
        FeedbackFile(path, max_bytes=4096).append(letter * 2000)


def test_reports_of_several_processes_do_not_mix(feedback_path: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        list(pool.map(_append_many, [feedback_path] * 3, "abc"))
    lines = feedback_path.read_text().splitlines()
    assert len(lines) == 150
    assert set(lines) == {"a" * 2000, "b" * 2000, "c" * 2000}
