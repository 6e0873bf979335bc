"""JSON bodies: base64 images are decoded in place, and the rest is limited before parsing."""

import base64
import codecs
import json
from collections.abc import Callable

import pytest
from pydantic import BaseModel

from api.uploads.base64_image import decode_base64
from api.uploads.json_body import JsonBody
from runtime.errors import BadParameter, TooLarge

IMAGES = [bytes(range(256)) * 200 * size for size in (1, 3, 2)]


class Document(BaseModel):
    """A document with images."""

    images: list[str]
    name: str = ""


def decoded(body: bytes) -> list[bytes]:
    """Return the images of a document."""
    json_body = JsonBody(body)
    return [decode_base64(json_body.text(text), "images") for text in json_body.parse(Document).images]


@pytest.mark.parametrize("name", ["", "é 🦊", 'of "quotes" \\ and \\u0041', "A" * 65_530 + "\\"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.encodebytes], ids=["one line", "lines"])
@pytest.mark.parametrize("spaced", [None, 2])
def test_images_are_read_as_they_were_written(encode: Callable[[bytes], bytes], name: str, spaced: int | None) -> None:
    texts = [encode(image).decode() for image in IMAGES]
    for document in ({"images": texts, "name": name}, {"name": name, "images": texts}):
        body = json.dumps(document, indent=spaced, ensure_ascii=False).encode()
        assert decoded(body) == IMAGES
        assert JsonBody(body).parse(Document).name == name


@pytest.mark.parametrize(
    ("character", "escape"), [("/", r"\/"), ("/", r"\u002f"), ("+", r"\u002B"), ("=", r"\u003d"), ("\n", r"\r\n")]
)
def test_images_are_read_as_other_encoders_write_them(character: str, escape: str) -> None:
    texts = [base64.encodebytes(image).decode() for image in IMAGES]
    written = json.dumps({"images": texts}).replace("\\n", "\n").replace(character, escape).replace("\n", "\\n")
    assert json.loads(written)["images"] == [text.replace("\n", "\r\n" if "r" in escape else "\n") for text in texts]
    assert decoded(written.encode()) == IMAGES


@pytest.mark.parametrize(
    "head", ["data:image/png;base64,", "DATA:IMAGE/PNG;name=a.png;BASE64,", r"data:image\/png;base64,"]
)
def test_images_are_read_from_data_urls(head: str) -> None:
    texts = [head + base64.b64encode(image).decode() for image in IMAGES]
    assert decoded(b'{"images": ["%s"]}' % '", "'.join(texts).encode()) == IMAGES


@pytest.mark.parametrize(
    "text",
    [
        "A" * 70_000 + "?",
        "A" * 70_001,
        r"\u00e4" * 20_000,
        r"\\" * 40_000,
        r"\ud83e\udd8a" * 20_000,
        r"\x" * 40_000,
        "A-_%" * 20_000,
        "=" * 70_000,
    ],
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match="base64"):
        decoded(b'{"images": ["%s"]}' % text.encode())


def test_a_byte_order_mark_before_a_document_is_passed_over() -> None:
    texts = [base64.b64encode(image).decode() for image in IMAGES]
    assert decoded(codecs.BOM_UTF8 + json.dumps({"images": texts}).encode()) == IMAGES
    assert decoded(codecs.BOM_UTF8 + b'{"images": []}') == []


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (r"na\udcefve.jpg", "na?ve.jpg"),
        (r"cut \ud83e", "cut ?"),
        (r"\uDD8A\ud83e", "??"),
        (r"\ud83e\udd8a \ud83e", "🦊 ?"),
        (r"C:\\ud83e \ud83e \" \u00e9", 'C:\\ud83e ? " é'),
    ],
)
def test_half_a_character_is_replaced(written: str, name: str) -> None:
    body = b'{"images": [], "name": "%s"}' % written.encode()
    assert JsonBody(body).parse(Document).name == name
    with pytest.raises(BadParameter, match="Invalid JSON"):
        JsonBody(body[:-1]).parse(Document)


@pytest.mark.parametrize(
    "body",
    [
        b'{"images": []}' + b"A" * 70_000,
        b'{"images" ' + b" " * 70_000 + b'"A"}',
        b'{"images": ["' + b"A" * 70_000,
        b'{"images": ["' + b"A" * 70_000 + b'\\"]}',
        b'{"images": ["' + b"AAA\n" * 20_000 + b'"]}',
    ],
)
def test_a_long_text_at_a_wrong_place_makes_no_json(body: bytes) -> None:
    with pytest.raises(BadParameter, match="Invalid JSON"):
        decoded(body)


def test_a_long_text_is_no_shorter_where_it_is_no_image() -> None:
    name = "A" * 70_000
    assert len(JsonBody(b'{"images": [], "name": "%s"}' % name.encode()).parse(Document).name) > 2000


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":0' + b',"a":0' * 280_000 + b"}",
        b"[" + b"0," * 300_001,
        b"[" * 100_001,
        b" " * 4_000_001,
        b'{"images": ["' + "🦊".encode() * 1_000_000 + b'"]}',
        b'{"images": [' + b'"%s",' % (b"A" * 60_000) * 70,
    ],
)
def test_what_would_cost_much_is_refused_before_it_is_parsed(body: bytes) -> None:
    with pytest.raises(TooLarge):
        JsonBody(body)
