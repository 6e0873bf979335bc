"""`/feedback`, the file it writes, and the images it stores."""

import html
import json
import os
import re
import resource
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.feedback.file import FeedbackFile
from api.feedback.file import _mentions as mentions
from api.feedback.records import FeedbackRecords
from api.tests.conftest import MakeApp
from jobs.queue.memory import MemoryJobQueue
from jobs.schema import ModelInfo
from jobs.storage.images import FolderImageStore
from runtime.errors import StorageUnavailable

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


AS_FILE = f'--b\r\nContent-Disposition: form-data; name="report"; filename="r"\r\n\r\n{REPORT}\r\n--b--\r\n'


def test_the_page_comes_where_a_browser_loads_the_address_of_an_answer_anew(
    client: FlaskClient, feedback_path: Path
) -> None:
    assert client.get("/feedback", query_string={"report": REPORT}).status_code == 200
    assert not feedback_path.exists()


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}, {"Accept": "application/json"}])
@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"data": {"report": ""}},
        {"data": {"report": " \n"}},
        {"data": {"undo": ""}},
        {"data": {"reports": REPORT}},
        {"data": {"feedback": REPORT, "label": "cat"}},
        {"data": {"label": "cat", "none": "yes"}},
        {"data": AS_FILE, "content_type": "multipart/form-data; boundary=b"},
        {"data": REPORT},
        {"data": REPORT, "content_type": "text/plain"},
        {"data": f"<report>{REPORT}</report>", "content_type": "application/xml"},
        {"data": REPORT, "content_type": "application/x-www-form-urlencoded"},
        {"query_string": {"report": REPORT}},
        {"json": {}},
        {"json": {"report": ""}},
        {"json": {"report": {}, "label": None}},
        {"json": {"undo": "", "none": True}},
    ],
    ids=str,
)
def test_where_there_is_no_report_the_answer_says_how_to_send_one(
    client: FlaskClient, feedback_path: Path, sent: dict[str, Any], headers: dict[str, str]
) -> None:
    answer = client.post("/feedback", headers=headers, **sent)
    assert (answer.status_code, answer.headers["X-Error"].split(":")[0]) == (400, "no-report")
    assert "as the field" in answer.text
    assert not feedback_path.exists()


@pytest.mark.parametrize(
    "document",
    [
        json.loads(REPORT),
        {"report": REPORT, "labels": "cat"},
        {"report": 7},
        {"report": [REPORT]},
        {"report": "words", "label": "cat"},
        {"report": REPORT, "label": 7},
        {"report": REPORT, "none": "perhaps"},
        [],
        "words",
    ],
    ids=str,
)
def test_json_that_is_no_report_is_refused_and_says_why(
    client: FlaskClient, feedback_path: Path, document: object
) -> None:
    answer = client.post("/feedback", json=document)
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert "?" not in answer.get_json()["detail"]
    assert not feedback_path.exists()


def test_a_report_in_json_is_kept_as_that_of_a_form(client: FlaskClient, feedback_path: Path, upload: str) -> None:
    on_upload = {"filename": upload, "prediction": "Eskimo_dog", "score": 0.64}
    for report in (REPORT, "é {not json", on_upload):
        answer = client.post("/feedback", json={"report": report})
        assert (answer.status_code, answer.get_json()) == (200, {"success": True})
    assert feedback_path.read_text() == f"{REPORT}\né {{not json\n{json.dumps(on_upload)}\n"
    assert (feedback_path.parent / "images" / upload).read_bytes() == b"pixels"


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


def test_no_report_fills_the_disk(
    client: FlaskClient, feedback_path: Path, upload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(feedback_path.anchor)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9 - 1))
    answer = client.post("/feedback", data={"report": json.dumps({"filename": upload})})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    with pytest.raises(StorageUnavailable):
        FeedbackRecords(feedback_path.with_name("feedback.jsonl")).append({"correct": False})
    assert list(feedback_path.parent.iterdir()) == []


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


LABELS = ["Eskimo_dog", "Siberian_husky", "crane", "crane"]


@pytest.fixture
def labels(queue: MemoryJobQueue) -> None:
    queue.heartbeat("w1", 0.1, "m1")
    queue.publish(ModelInfo("m1", labels=tuple(LABELS)))


def reports(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("labels")
@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"label": "Siberian_husky"}, {"label": "Siberian_husky"}),
        ({"label": " siberian Husky "}, {"label": "Siberian_husky"}),
        ({"label": "crane"}, {"label": "crane"}),
        ({"label": "", "none": "yes"}, {"label": None}),
        ({"label": "half a wo", "none": "yes"}, {"label": None}),
        ({"none": "yes"}, {"label": None}),
        ({"none": ""}, {"label": None}),
        ({"none": "False"}, {}),
        ({"label": "crane", "none": "0"}, {"label": "crane"}),
        ({"label": " "}, {}),
    ],
)
def test_what_the_picture_shows_is_kept_with_the_report(
    client: FlaskClient, feedback_path: Path, form: dict[str, str], said: dict[str, object]
) -> None:
    assert "Thank you" in client.post("/feedback", data={"report": REPORT, **form}).text
    [report] = reports(feedback_path)
    assert re.fullmatch("[0-9a-f]{32}", str(report.pop("id")))
    assert report == {**json.loads(REPORT), **said}


@pytest.mark.usefixtures("labels")
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"label": " siberian Husky "}, {"label": "Siberian_husky"}),
        ({"none": True}, {"label": None}),
        ({"none": True, "label": "half a wo"}, {"label": None}),
        ({"label": ""}, {}),
    ],
)
def test_what_the_picture_shows_is_kept_with_a_report_in_json_and_is_taken_back_by_its_id(
    client: FlaskClient, feedback_path: Path, fields: dict[str, object], said: dict[str, object]
) -> None:
    for report in (REPORT, json.loads(REPORT)):
        report_id = client.post("/feedback", json={"report": report, **fields}).get_json()["id"]
        assert reports(feedback_path) == [{**json.loads(REPORT), **said, "id": report_id}]
        assert client.post("/feedback", json={"undo": report_id}).get_json() == {"success": True}
        assert reports(feedback_path) == []
        again = client.post("/feedback", json={"undo": report_id})
        assert (again.status_code, again.get_json()["code"]) == (404, "no-such-report")


@pytest.mark.usefixtures("labels")
def test_of_what_is_no_label_in_json_the_near_ones_are_named(client: FlaskClient, feedback_path: Path) -> None:
    answer = client.post("/feedback", json={"report": REPORT, "label": "husky"})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "unknown-label")
    assert "Siberian husky" in answer.get_json()["detail"]
    assert not feedback_path.exists()


@pytest.mark.usefixtures("labels")
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_of_what_is_no_label_the_model_knows_the_near_ones_are_named_and_nothing_is_kept(
    client: FlaskClient, feedback_path: Path, headers: dict[str, str]
) -> None:
    answer = client.post("/feedback", data={"report": REPORT, "label": "husky"}, headers=headers)
    assert (answer.status_code, answer.headers["X-Error"].split(":")[0]) == (400, "unknown-label")
    assert "no such class, but: Siberian husky." in answer.text
    assert f'name="report" value="{html.escape(REPORT).replace("&quot;", "&#34;")}"' in answer.text
    assert 'value="husky"' in answer.text
    assert not feedback_path.exists()


@pytest.mark.usefixtures("labels")
def test_what_is_like_no_label_can_be_reported_as_none_of_them(client: FlaskClient) -> None:
    assert "“None of these”" in client.post("/feedback", data={"report": REPORT, "label": "<zebra>"}).text


def test_where_nobody_knows_the_labels_what_is_said_is_kept_as_it_is(client: FlaskClient, feedback_path: Path) -> None:
    client.post("/feedback", data={"report": REPORT, "label": " Grüner Hund "})
    assert reports(feedback_path)[0]["label"] == "Grüner Hund"


@pytest.mark.parametrize("report", ["no JSON", "7", "[]", '[["a", 7]]', '"x"', "[" * 4000])
def test_nothing_is_added_to_a_report_that_is_no_object(client: FlaskClient, feedback_path: Path, report: str) -> None:
    assert client.post("/feedback", data={"report": report, "label": "cat"}).status_code == 400
    assert not feedback_path.exists()


@pytest.mark.parametrize("depth", [10, 500, 990, 1000, 5000])
def test_no_nesting_of_a_report_is_too_deep_for_an_answer(client: FlaskClient, depth: int) -> None:
    report = '{"a":' * depth + '"\\ud800"' + "}" * depth
    assert client.post("/feedback", data={"report": report, "label": "cat"}).status_code in {200, 400, 413}


def undo(client: FlaskClient, thanks: str) -> TestResponse:
    [report_id] = re.findall(r'name="undo" value="([^"]+)"', thanks)
    return client.post("/feedback", data={"report": REPORT, "undo": report_id})


def test_a_report_is_taken_back_and_all_others_stay_as_they_were(client: FlaskClient, feedback_path: Path) -> None:
    thanks = []
    for label in ("a", "b", "c"):
        client.post("/feedback", data={"report": f"{label} é \x0b"})
        thanks.append(client.post("/feedback", data={"report": REPORT, "label": label}).text)
    before = feedback_path.read_bytes().splitlines(keepends=True)
    assert undo(client, thanks[1]).status_code == 200
    assert feedback_path.read_bytes().splitlines(keepends=True) == before[:3] + before[4:]
    assert undo(client, thanks[2]).status_code == 200
    assert feedback_path.read_bytes().splitlines(keepends=True) == before[:3] + before[4:5]


def test_a_report_can_be_made_again_after_it_was_taken_back(client: FlaskClient, feedback_path: Path) -> None:
    form = {"report": REPORT, "label": "cat"}
    page = undo(client, client.post("/feedback", data=form).text)
    assert 'name="label"' in page.text
    assert feedback_path.read_text() == ""
    client.post("/feedback", data=form)
    assert len(reports(feedback_path)) == 1


def report_and_keep(client: FlaskClient, images: Path, name: str) -> str:
    """Report an image, make its stored copy look old, and return the response."""
    thanks = client.post("/feedback", data={"report": json.dumps({"filename": name}), "label": "cat"}).text
    os.utime(images / name, (1, 1))
    return thanks


def test_the_image_of_a_report_goes_with_the_last_report_on_it(
    client: FlaskClient, feedback_path: Path, upload: str
) -> None:
    images = feedback_path.parent / "images"
    first, second = (report_and_keep(client, images, upload) for _ in range(2))
    undo(client, second)
    assert (images / upload).exists()
    undo(client, first)
    assert list(images.iterdir()) == []


def test_an_image_that_feedback_of_v1_is_about_stays(client: FlaskClient, feedback_path: Path, upload: str) -> None:
    images = feedback_path.parent / "images"
    thanks = report_and_keep(client, images, upload)
    records = FeedbackRecords(feedback_path.with_name("feedback.jsonl"))
    records.append({"image": upload.removesuffix(".png"), "correct": False})
    assert undo(client, thanks).status_code == 200
    assert (images / upload).exists()


def test_an_image_that_is_reported_anew_meanwhile_stays(
    client: FlaskClient, feedback_path: Path, upload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = feedback_path.parent / "images"
    thanks = report_and_keep(client, images, upload)

    def mentions_before_another_report(file: Path, text: str) -> bool:
        found = mentions(file, text)
        if file == feedback_path:
            report_on(client, upload)
        return found

    monkeypatch.setattr("api.feedback.file._mentions", mentions_before_another_report)
    undo(client, thanks)
    assert (images / upload).exists()


def test_an_image_that_cannot_be_removed_costs_no_answer(
    client: FlaskClient, feedback_path: Path, upload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError

    thanks = report_and_keep(client, feedback_path.parent / "images", upload)
    monkeypatch.setattr(FolderImageStore, "remove", fail)
    assert undo(client, thanks).status_code == 200


def test_a_report_is_taken_back_once(client: FlaskClient, feedback_path: Path) -> None:
    thanks = [client.post("/feedback", data={"report": REPORT, "label": "cat"}).text for _ in range(2)]
    undo(client, thanks[0])
    again = undo(client, thanks[0])
    assert (again.status_code, again.headers["X-Error"].split(":")[0]) == (404, "no-such-report")
    assert len(reports(feedback_path)) == 1


@pytest.mark.parametrize("report_id", ["0" * 32, "1", '"}', ".*"])
def test_no_other_report_is_taken_back(client: FlaskClient, feedback_path: Path, report_id: str) -> None:
    assert client.post("/feedback", data={"undo": report_id}).status_code == 404
    for own_id in ("1", ""):
        client.post("/feedback", data={"report": json.dumps({"id": own_id})})
    assert client.post("/feedback", data={"undo": report_id}).status_code == 404
    assert len(reports(feedback_path)) == 2


def test_a_report_is_looked_for_among_the_latest_only(
    client: FlaskClient, feedback_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.feedback.file._LATEST_BYTES", 250)
    thanks = [client.post("/feedback", data={"report": REPORT, "label": "cat"}).text for _ in range(3)]
    assert 2 * len(feedback_path.read_text().splitlines()[0]) > 250  # so reading begins within the second line
    assert undo(client, thanks[0]).status_code == 404
    assert undo(client, thanks[1]).status_code == 404
    assert undo(client, thanks[2]).status_code == 200
    assert len(reports(feedback_path)) == 2


def bytes_read() -> int:
    """Return how many bytes this process has read from files."""
    [line] = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar")]
    return int(line.split()[1])


@pytest.fixture
def long_files(feedback_path: Path) -> list[Path]:
    """Return the two report files, of 400 MB each, sparse so that they take no disk space."""
    feedback_path.parent.mkdir()
    files = [feedback_path, feedback_path.with_name("feedback.jsonl")]
    for file in files:
        file.touch()
        os.truncate(file, 400_000_000)
        with file.open("ab") as opened:
            opened.write(b"\n")
    return files


@pytest.mark.usefixtures("long_files")
def test_of_a_long_file_no_report_that_is_taken_back_has_more_read_than_the_end(
    client: FlaskClient, feedback_path: Path, upload: str
) -> None:
    images = feedback_path.parent / "images"
    thanks = report_and_keep(client, images, upload)
    before = bytes_read()
    assert undo(client, thanks).status_code == 200
    assert bytes_read() - before < 50_000_000
    assert feedback_path.stat().st_size == 400_000_001
    assert (images / upload).exists()  # the part that is not searched may have another report on it


@pytest.mark.usefixtures("long_files")
@pytest.mark.parametrize(
    "path",
    ["/status", "/v1/feedback", "/v1/feedback?cursor=1000", "/v1/feedback?label=x", "/v1/feedback?cursor=399000000"],
)
def test_of_a_long_file_no_answer_has_more_read_than_a_part(client: FlaskClient, path: str) -> None:
    before = bytes_read()
    assert client.get(path).status_code == 200
    assert bytes_read() - before < 50_000_000


def test_another_report_is_found_across_two_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.feedback.file._PIECE_BYTES", 100)
    file = tmp_path / "feedback"
    for start in range(0, 250, 7):
        file.write_bytes(b"x" * start + NAME.encode() + b"x" * 50)
        assert mentions(file, NAME)
        assert not mentions(file, f"{NAME}y")


@pytest.mark.parametrize(
    "fields", [{"report": '"' * 60_000}, {"report": REPORT, "undo": '"' * 60_000}, {"label": '"' * 60_000}]
)
@pytest.mark.usefixtures("labels")
def test_what_is_too_large_to_be_kept_is_not_sent_back(client: FlaskClient, fields: dict[str, str]) -> None:
    answer = client.post("/feedback", data={"report": REPORT, "label": "x", **fields})
    assert (answer.status_code, len(answer.data) < 20_000) == (413, True)


def _report_and_take_back(path: Path, kept: str) -> None:
    file = FeedbackFile(path, max_bytes=4096)
    for _ in range(50):
        file.append(kept * 1000)
        file.take_back(file.append_with_id({"taken": "back"}))


def test_reports_that_are_taken_back_while_others_come_cost_none_of_those(feedback_path: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        list(pool.map(_report_and_take_back, [feedback_path] * 3, "abc"))
    assert sorted(feedback_path.read_text().splitlines()) == sorted(50 * ["a" * 1000, "b" * 1000, "c" * 1000])


def test_where_the_disk_is_full_the_page_says_so(make_app: MakeApp) -> None:
    client = make_app(feedback_filepath=Path("/dev/full")).test_client()
    answer = client.post("/feedback", data={"report": REPORT})
    assert answer.status_code == 503
    assert "report cannot be kept" in answer.text


@pytest.mark.usefixtures("labels")
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
@pytest.mark.parametrize(
    ("path", "form", "message"),
    [
        ("/dev/full", {"label": "Siberian husky"}, "report cannot be kept"),
        ("/dev", {"undo": "0" * 32}, "report cannot be taken back"),
    ],
)
def test_what_cannot_be_kept_or_taken_back_comes_back_with_its_form_to_be_sent_again(
    make_app: MakeApp, path: str, form: dict[str, str], message: str, headers: dict[str, str]
) -> None:
    client = make_app(feedback_filepath=Path(path)).test_client()
    answer = client.post("/feedback", data={"report": REPORT, **form}, headers=headers)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert message in answer.text
    assert "Thank you" not in answer.text
    for name, value in {"report": REPORT, **form}.items():
        assert f'name="{name}"' in answer.text
        assert f'value="{html.escape(value).replace("&quot;", "&#34;")}"' in answer.text


def _append_up_to(max_bytes: int, path: Path, report: str) -> None:
    """Append reports until the file-size limit of this process."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    while True:
        FeedbackFile(path, max_bytes=4096).append(report)


def test_of_a_report_that_does_not_fit_on_the_disk_nothing_is_written(feedback_path: Path) -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(StorageUnavailable):
        pool.submit(_append_up_to, 2500, feedback_path, "x" * 999).result()
    assert feedback_path.read_text() == 2 * ("x" * 999 + "\n")
