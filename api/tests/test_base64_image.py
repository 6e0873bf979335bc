"""Base64 images in the forms that programs send."""

import base64
import re
from collections.abc import Callable

import pytest

from api.uploads.base64_image import decode_base64
from runtime.errors import BadParameter

# Data whose base64 has all characters of either alphabet, and the most padding.
IMAGES = [bytes(range(256)) + b"\xff\xfe\xfb" + bytes(size) for size in range(3)]
QUOTED = str.maketrans({"+": "%2B", "/": "%2f", "=": "%3D"})
FORMS: dict[str, Callable[[bytes], str | bytes | memoryview]] = {
    "as it is": lambda data: base64.b64encode(data).decode(),
    "as bytes": base64.b64encode,
    "as a part of bytes": lambda data: memoryview(base64.b64encode(data)),
    "without padding": lambda data: base64.b64encode(data).decode().rstrip("="),
    "for URLs": lambda data: base64.urlsafe_b64encode(data).decode(),
    "for URLs, without padding": lambda data: memoryview(base64.urlsafe_b64encode(data).rstrip(b"=")),
    "in lines": lambda data: base64.encodebytes(data).decode(),
    "in lines of Windows, without padding": lambda data: (
        base64.encodebytes(data).decode().replace("\n", "\r\n").rstrip("=\r\n") + "\r\n"
    ),
    "in a data: URL": lambda data: "data:image/png;base64," + base64.b64encode(data).decode(),
    "in a data: URL without a type": lambda data: "data:;base64," + base64.b64encode(data).decode(),
    "in a data: URL with spaces": lambda data: b"data:image/png; base64, " + base64.b64encode(data),
    "in a data: URL in capitals": lambda data: b" DATA:IMAGE/PNG;name=a.png;BASE64, " + base64.b64encode(data),
    "in a data: URL with percents": lambda data: (
        "data:image/png;base64," + base64.b64encode(data).decode().translate(QUOTED) + "%0D%0a%20"
    ),
    "in a data: URL, for URLs, without padding": lambda data: (
        "data:image/png;base64," + base64.urlsafe_b64encode(data).decode().rstrip("=")
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_decoded_however_it_is_written(form: str, image: bytes) -> None:
    assert decode_base64(FORMS[form](image), "data") == image


def test_nothing_is_an_empty_image() -> None:
    assert decode_base64("", "data") == decode_base64("data:;base64,", "data") == b""


@pytest.mark.parametrize(
    "text", ["?", "QUJD*", "QU=JD", "QUJD====", "QUJD%3D", "Ä", "\ud800", "http://x/y.png", "data:"]
)
def test_other_characters_are_refused(text: str) -> None:
    with pytest.raises(BadParameter, match=r"^images\.3\.data: it has characters that are not base64"):
        decode_base64(text, "images.3.data")


@pytest.mark.parametrize("text", ["A", "QUJDR", "A="])
def test_what_is_cut_short_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match=re.escape("data: it is no whole base64")):
        decode_base64(text, "data")


@pytest.mark.parametrize("text", ["data:,QUJD", "data:image/png,%89PNG", "data:image/png;charset=base64x,QUJD"])
def test_a_data_url_in_another_encoding_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match="has to be in base64"):
        decode_base64(text, "data")
