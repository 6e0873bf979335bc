"""Parsing upload bodies."""

import io

import pytest
from flask.testing import FlaskClient
from werkzeug.formparser import FormDataParser

from api.tests.conftest import MakeApp
from api.uploads.forms import FormParser
from runtime.errors import TooLarge

PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
FILE = PART % (b"file", b'; filename="dog.jpeg"', b"%s")
END = b"--b--\r\n"
CONTENT_TYPE = "multipart/form-data; boundary=b"


def post(client: FlaskClient, body: bytes, content_type: str = CONTENT_TYPE) -> tuple[int, str]:
    response = client.post("/predict", data=body, content_type=content_type)
    return response.status_code, response.headers.get("X-Error", "").partition(":")[0]


@pytest.mark.usefixtures("worker")
def test_the_file_is_found_among_other_parts(client: FlaskClient, dog: bytes) -> None:
    note = PART % (b"note", b"", b"a text")
    assert post(client, note + FILE.replace(b"%s", dog) + note + END) == (200, "")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("path", ["/", "/predict", "/v1/predictions"])
def test_an_input_without_a_file_is_passed_over(client: FlaskClient, dog: bytes, path: str) -> None:
    empty = PART % (b"file", b'; filename=""\r\nContent-Type: application/octet-stream', b"")
    for parts in (empty + FILE.replace(b"%s", dog), FILE.replace(b"%s", dog) + empty):
        response = client.post(path, data=parts + END, content_type=CONTENT_TYPE)
        assert response.status_code == 200
        assert response.text.replace(" ", "_").count("Eskimo_dog") > 0
        assert "not-an-image" not in response.text
    assert client.post(path, data=empty + END, content_type=CONTENT_TYPE).status_code in {302, 400}


@pytest.mark.parametrize("behind", [b"\r\n", b""], ids=["an empty content", "no content"])
@pytest.mark.parametrize("content", [b"x", b"x\r\n", b"\r\n", b"x--b\r\nA: b\r\n"])
def test_fields_may_be_empty(behind: bytes, content: bytes) -> None:
    empty = b'--b\r\nContent-Disposition: form-data; name="none"\r\n\r\n' + behind
    body = empty * 2 + FILE.replace(b"%s", content) + empty + PART % (b"last", b"", b"y") + empty + END
    _, fields, files = FormParser().parse(io.BytesIO(body), "multipart/form-data", len(body), {"boundary": "b"})
    assert list(fields.items(multi=True)) == [*[("none", "")] * 4, ("last", "y")]
    assert files["file"].read() == content


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("boundary_inside", [b"\r\n--", b"--b", b"\r\n--a\r\n", b"\r"])
def test_content_that_resembles_a_boundary_stays_whole(client: FlaskClient, dog: bytes, boundary_inside: bytes) -> None:
    assert post(client, FILE.replace(b"%s", dog + boundary_inside) + END) == (200, "")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\r\n", END),
        (b"This is a message in several parts.\r\n", END),
        (b"", b"--b--"),
        (b"", b"--b--\r\n\r\n"),
        (b"", b"--b--\r\nThe end.\r\n"),
    ],
)
def test_there_may_be_something_around_the_parts_and_no_line_end_behind_them(
    client: FlaskClient, dog: bytes, before: bytes, after: bytes
) -> None:
    assert post(client, before + FILE.replace(b"%s", dog) + after) == (200, "")


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="b"',
        "multipart/form-data;boundary=b;charset=utf-8",
        "Multipart/Form-Data; charset=utf-8; BOUNDARY=b",
    ],
)
def test_the_header_of_a_form_may_be_written_in_several_ways(
    client: FlaskClient, dog: bytes, content_type: str
) -> None:
    assert post(client, FILE.replace(b"%s", dog) + END, content_type) == (200, "")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "no-file"),
        (b"hello", "bad-form"),
        (END, "no-file"),
        (FILE, "bad-form"),
        (FILE + b"--b", "bad-form"),
        (FILE[:-20], "bad-form"),
        (FILE.replace(b"%s", b"") + END, "not-an-image"),
        (FILE.replace(b"dog.jpeg", b"") + END, "no-file"),
        (FILE.replace(b"form-data", b"attachment") + END, "bad-form"),
        (FILE.replace(b"\r\n", b"\n") + END, "bad-form"),
        (b"--b\r\nContent-Type: image/jpeg\r\n\r\ndata\r\n" + END, "bad-form"),
        (b"--b\r\n: \r\n\r\ndata\r\n" + END, "bad-form"),
        (PART % (b"file", b"\r\nContent-Type: multipart/mixed; boundary=c", b"--c--") + END, "bad-form"),
    ],
)
def test_a_damaged_form_is_refused(client: FlaskClient, body: bytes, error: str) -> None:
    assert post(client, body) == (400, error)


def test_a_form_without_a_boundary_is_refused(client: FlaskClient) -> None:
    response = client.post("/predict", data=FILE + END, content_type="multipart/form-data")
    assert response.status_code == 400
    assert response.headers["X-Error"].startswith("bad-form: The header Content-Type names no boundary")


@pytest.mark.usefixtures("worker")
def test_an_image_without_a_name_may_be_as_large_as_one_with_a_name(client: FlaskClient, dog: bytes) -> None:
    assert post(client, PART % (b"file", b"", dog + bytes(9_000_000)) + END) == (200, "")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (PART % (b"note", b"", b"x") * 21 + END, "too-many-parts"),
        (PART % (b"note", b"", b"x" * 65_537) + END, "field-too-large"),
        (PART % (b"file", b"", b"x" * 65_537) + END, "field-too-large"),
        (
            b"--b\r\nContent-Disposition: form-data; name=" + b"n" * 10_000 + b"\r\n\r\n\r\n" + END,
            "part-header-too-large",
        ),
        (b"--b\r\n" + b"A: b\r\n" * 20 + b"\r\n\r\n" + END, "part-header-too-large"),
        (b"--b\r\nA: b" + b"\r\n c" * 20 + b"\r\n\r\n\r\n" + END, "part-header-too-large"),
        (b"--b\r\nA: b" + b"\r\nc" * 20 + b"\r\n\r\n\r\n" + END, "part-header-too-large"),
    ],
)
def test_a_form_with_more_of_anything_than_an_upload_needs_is_refused(
    client: FlaskClient, body: bytes, error: str
) -> None:
    assert post(client, body) == (413, error)


def test_a_form_with_as_much_as_allowed_is_read(client: FlaskClient) -> None:
    assert post(client, PART % (b"note", b"", b"x" * 65_536) * 20 + END) == (400, "no-file")


@pytest.mark.parametrize("body", [PART % (b"note", b"", b"x" * 65_536) * 100, PART % (b"note", b"", b"x" * 6_000_000)])
def test_a_form_is_read_no_further_than_to_its_limit(body: bytes) -> None:
    stream = io.BytesIO(body)
    with pytest.raises(TooLarge):
        FormParser().parse(stream, "multipart/form-data", None, {"boundary": "b"})
    assert stream.tell() <= 2 * 1024 * 1024


@pytest.mark.parametrize("data", [b"\xff\xd8\xff" + b"&" * 100, b"GIF89a" + bytes(70_000), b"\x89PNG\r\n\x1a\n"])
def test_an_image_that_is_sent_as_if_it_were_a_form_gets_an_answer_that_says_how(
    client: FlaskClient, data: bytes
) -> None:
    response = client.post("/predict", data=data, content_type="application/x-www-form-urlencoded")
    assert (response.status_code, response.headers["X-Error"].partition(".")[0]) == (
        400,
        "no-file: The body is an image itself",
    )


@pytest.mark.parametrize("path", ["/", "/predict", "/feedback"])
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"%41&" * 20, "too-many-parts"),
        (b"&" * 20, "too-many-parts"),
        (b"%41" * 22_000, "field-too-large"),
        (b"%41&" * 124_000, "field-too-large"),
    ],
)
def test_a_form_as_in_a_url_has_the_same_limits(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str, body: bytes, error: str
) -> None:
    monkeypatch.setattr(FormDataParser, "parse", None)  # which would take long
    response = client.post(path, data=body, content_type="application/x-www-form-urlencoded")
    assert (response.status_code, response.headers["X-Error"].partition(":")[0]) == (413, error)


def test_a_form_as_in_a_url_may_have_as_many_fields_as_others(make_app: MakeApp) -> None:
    data = {f"field{number}": "a & b" for number in range(20)}
    with make_app().test_request_context("/", method="POST", data=data) as ctx:
        assert ctx.request.form.to_dict() == data


def test_a_field_that_is_no_utf8_is_read_with_replacements(make_app: MakeApp) -> None:
    app = make_app()
    body = PART % (b"note", b"", b"caf\xe9") + END
    with app.test_request_context("/", method="POST", data=body, content_type=CONTENT_TYPE) as ctx:
        assert ctx.request.form["note"] == "caf\N{REPLACEMENT CHARACTER}"


def test_a_form_in_a_url_is_parsed_as_ever(make_app: MakeApp) -> None:
    with make_app().test_request_context("/", method="POST", data={"report": "wrong & all"}) as ctx:
        assert ctx.request.form["report"] == "wrong & all"


def test_a_large_file_in_many_chunks_is_whole(make_app: MakeApp) -> None:
    data = bytes(range(256)) * 20_000
    body = FILE.replace(b"%s", data) + END
    with make_app().test_request_context("/", method="POST", data=body, content_type=CONTENT_TYPE) as ctx:
        assert ctx.request.files["file"].read() == data
