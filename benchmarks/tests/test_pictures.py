"""The requests, and which answers count as right."""

import contextlib
import hashlib
import io

import pytest
from PIL import Image
from werkzeug.formparser import FormDataParser

from testing.answers import WrongAnswer
from testing.pictures import Expected, Questions, check, render

DOG = Expected(frozenset({"dog"}), 0.7)
CAT = Expected(frozenset({"cat", "lynx"}), 0.3)


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return render(None, 2)


def uploaded(questions: Questions, body: bytes) -> bytes:
    form = FormDataParser().parse(
        io.BytesIO(body), "multipart/form-data", len(body), {"boundary": _boundary(questions)}
    )
    with contextlib.closing(form[2]["file"]) as upload:
        data: bytes = upload.stream.read()
    return data


def _boundary(questions: Questions) -> str:
    return questions.content_type.partition("boundary=")[2]


def test_every_question_is_a_form_with_a_picture_that_was_never_sent_before(files: list[bytes]) -> None:
    questions = Questions(files, [DOG, CAT])
    sent = [uploaded(questions, questions.next().body) for _ in range(20)]
    assert len({hashlib.sha256(data).digest() for data in sent}) == 20
    for data in sent:
        Image.open(io.BytesIO(data)).load()


def test_a_question_has_its_own_pictures_answer(files: list[bytes]) -> None:
    questions = Questions(files, [DOG, CAT])
    assert [questions.next().expected for _ in range(3)] == [DOG, CAT, DOG]


def test_the_expected_answer_is_right() -> None:
    check(200, b"", b'{"success": true, "prediction": "lynx", "score": 0.31}', CAT)


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason"),
    [
        (200, b"", b'{"success": true, "prediction": "dog", "score": 0.3}', "another picture"),
        (200, b"", b'{"success": true, "prediction": "cat", "score": 0.9}', "another picture"),
        (200, b"", b'{"success": false, "prediction": null, "score": null}', "not a success"),
        (429, b"HTTP/1.1 429\r\nX-Error: queue-full: Wait.\r\n", b"", "429 queue-full: Wait."),
    ],
)
def test_anything_else_is_an_error(status: int, headers: bytes, body: bytes, reason: str) -> None:
    with pytest.raises(WrongAnswer, match=reason):
        check(status, headers, body, CAT)
