"""Forms byte for byte as clients write them, with their ways to encode file names."""

from base64 import encodebytes
from binascii import b2a_qp

import pytest
from flask.testing import FlaskClient

from api.tests.test_predictions import PATH, png

IMAGE = png(1)
ODD = 'naïve "日本" a\\b\n.jpg'
CURL = b"------------------------43a65ad26877d42c"
OCTETS = b"\r\nContent-Type: application/octet-stream"
JPEG = b"\r\nContent-Type: image/jpeg"
FILE = b'Content-Disposition: form-data; name="file"'
GUID = b"8d1ed4b1-e1e6-2064-8bc0-b649d1b4c0de"

# The client, its boundary, the header of the part, and the file's name.
FORMS: list[tuple[str, bytes, bytes, str | None]] = [
    ("curl -F file=@dog.jpeg", CURL, FILE + b'; filename="dog.jpeg"' + JPEG, "dog.jpeg"),
    ("curl, a quote", CURL, FILE + b'; filename="a%22b.jpg"' + JPEG, 'a"b.jpg'),
    ("curl --form-escape", CURL, FILE + b'; filename="a\\"b.jpg"' + JPEG, 'a"b.jpg'),
    ("curl -F file=<dog.jpeg", CURL, FILE + JPEG, None),
    ("curl -F file=@-", CURL, FILE + b'; filename="-"', "-"),
    ("requests", b"8c8ce49f286c5d51601f3e70738fdfa5", FILE + b'; filename="dog.jpeg"', "dog.jpeg"),
    ("requests, bytes", b"ba75f0c7a069a8e1f52980f591ddd3f5", FILE + b'; filename="file"', "file"),
    ("requests, no name", b"84ea35ea9402a10d882927340776609a", FILE, None),
    ("requests, an empty name", b"a1ed6926670b9398b050a547f34a0826", FILE + b'; filename=""', None),
    (
        "requests, an odd name",
        b"56295635fb2e1d8ec2dba30b39196f8b",
        FILE + '; filename="naïve %22日本%22 a\\b%0A.jpg"'.encode() + JPEG,
        ODD,
    ),
    (
        "requests before 2.20",
        b"9b1d0a8c5b0f4d0fa1a1f0b3e6a7c2d4",
        FILE + b"; filename*=utf-8''na%C3%AFve%20%E6%97%A5.jpg",
        "naïve 日.jpg",
    ),
    ("httpx, bytes", b"a683a32640cb1b708c5e61ef432e7126", FILE + b'; filename="upload"' + OCTETS, "upload"),
    (
        "httpx, an odd name",
        b"b45f39310ad8f7895a6f0adae548785a",
        FILE + '; filename="naïve %22日本%22 a\\b%0A.jpg"'.encode() + JPEG,
        ODD,
    ),
    (
        "aiohttp, bytes",
        b"4c51437b75aa4d4a9db0248ada3fa20b",
        OCTETS[2:] + b"\r\n" + FILE + b'; filename="file"',
        "file",
    ),
    (
        "aiohttp, an odd name",
        b"7c3f7e64a5584971a6326eb7269b43ba",
        JPEG[2:] + b"\r\n" + FILE + '; filename="naïve \\"日本\\" a\\\\b.jpg"'.encode(),
        'naïve "日本" a\\b.jpg',
    ),
    ("Node fetch, a Blob", b"----formdata-undici-075002273434", FILE + b'; filename="blob"' + OCTETS, "blob"),
    ("form-data, a Buffer", b"--------------------------da97ac17ee1d44273412fcfe", FILE + OCTETS, None),
    (
        "axios, a Blob",
        b"axios-1.21.1-boundary-M4rPImXiMOmiwM1sMK7HXeszm",
        FILE + b'; filename="dog.jpeg"' + OCTETS,
        "dog.jpeg",
    ),
    (
        "Go",
        b"4c8e3e85b9bbb8e18b170b89122092ec8be4c64bd3466ecc784fe5c9cd25",
        FILE + '; filename="naïve \\"日本\\" a\\\\b\n.jpg"'.encode() + OCTETS,
        ODD,
    ),
    ("Go, a field", b"35112c6288c266185d8d105f5dc364bc34b1f63d4df31c4c9630a8d4bf4e", FILE, None),
    (
        "Ruby",
        b"fbeQz0sKK_ReieDFX7z6BJG-JbEMKOLOU0gerDaq9pkUP-XWqGAf0w",
        FILE + '; filename="naïve \\"日本\\" a\\\\b.jpg"'.encode() + JPEG,
        'naïve "日本" a\\b.jpg',
    ),
    ("Perl, in Latin-1", b"xYzZY", FILE + b'; filename="na\xefve.jpg"' + JPEG, "na\N{REPLACEMENT CHARACTER}ve.jpg"),
    (
        "Apache HttpClient",
        b"Su1RqNLzB-XXOLF9y6B3glMab3VROFbiKpO6",
        FILE + b'; filename="na?ve.jpg"' + OCTETS + b"\r\nContent-Transfer-Encoding: binary",
        "na?ve.jpg",
    ),
    (
        "Apache HttpClient, in Shift-JIS",
        b"_EIqGhpq3H7T9CcMaUOSRKNjeaPsDYP",
        FILE + '; filename="表.jpg"'.encode("shift-jis") + OCTETS,
        "\N{REPLACEMENT CHARACTER}\\.jpg",
    ),
    (
        "Apache HttpClient 5, extended",
        b"httpclient_boundary_6d1c",
        FILE + b'; filename="?.jpg"; filename*="UTF-8\'\'%E6%97%A5.jpg"' + OCTETS,
        "日.jpg",
    ),
    (
        "OkHttp 3",
        GUID,
        FILE + '; filename="naïve %22日本%22 a\\b%0A.jpg"'.encode() + JPEG + b"\r\nContent-Length: %d" % len(IMAGE),
        ODD,
    ),
    (
        ".NET",
        GUID,
        JPEG[2:] + b"\r\nContent-Disposition: form-data; name=file; filename=dog.jpeg; filename*=utf-8''dog.jpeg",
        "dog.jpeg",
    ),
    (
        ".NET, an odd name",
        GUID,
        b'Content-Disposition: form-data; name=file; filename="=?utf-8?B?5pel5pysLmpwZw==?="; '
        b"filename*=utf-8''%E6%97%A5%E6%9C%AC.jpg",
        "日本.jpg",
    ),
    (
        ".NET, an odd name in mail's encoding alone",
        GUID,
        b'Content-Disposition: form-data; name="file"; filename="=?utf-8?B?5pel5pysLmpwZw==?="',
        "日本.jpg",
    ),
    (".NET, no name", GUID, b"Content-Disposition: form-data; name=file", None),
    (
        "Dart",
        b"dart-http-boundary-ZgD3XJSl6mPWkGY_Yx8d",
        b'content-type: image/jpeg\r\ncontent-disposition: form-data; name="file"; filename="dog.jpeg"',
        "dog.jpeg",
    ),
    (
        "a browser, in Windows-1252",
        b"----WebKitFormBoundary7MA4YWxkTrZu0gW",
        FILE + b'; filename="na\xefve &#26085;.jpg"' + JPEG,
        "na\N{REPLACEMENT CHARACTER}ve &#26085;.jpg",
    ),
    (
        "JavaMail",
        b"----=_Part_0_1234.5678",
        JPEG[2:] + b'\r\nContent-Disposition: form-data; name=file; \r\n\tfilename="dog: 1.jpeg"',
        "dog: 1.jpeg",
    ),
    ("Internet Explorer", b"---------------------------7d", FILE + b'; filename="C:\\me\\dog.jpeg"' + JPEG, "dog.jpeg"),
]
# Other ways to write a part's header, and the resulting file name.
HEADERS: list[tuple[bytes, str | None]] = [
    (b"CONTENT-DISPOSITION:form-data;NAME=file;FILENAME=dog.jpeg", "dog.jpeg"),
    (b"Content-Disposition: form-data; name*=utf-8''file; filename*=iso-8859-1'en'caf%E9.jpg", "café.jpg"),
    (FILE + b"; filename*=shift_jis''%95%5C.jpg", "表.jpg"),
    (FILE + b"; filename*=nothing''caf%C3%A9.jpg", "café.jpg"),
    (FILE + b"; filename*=utf-8''%ED%A0%80.jpg", 3 * "\N{REPLACEMENT CHARACTER}" + ".jpg"),
    (FILE + b"; filename*=utf-8''%FF.jpg", "\N{REPLACEMENT CHARACTER}.jpg"),
    (FILE + b'; filename="=?iso-8859-1?Q?caf=E9?= =?utf-8?Q?_=E6=97=A5.jpg?="', "café 日.jpg"),
    (FILE + b'; filename="=?nothing?Q?caf=E9.jpg?="', "=?nothing?Q?caf=E9.jpg?="),
    (FILE + b'; filename="=?utf-8?B?!?="', None),
    (FILE + b'; filename="=?utf-7?Q?+2AA-.jpg?="', "?.jpg"),
    (FILE + b'; filename="\xed\xa0\x80.jpg"', 3 * "\N{REPLACEMENT CHARACTER}" + ".jpg"),
    (FILE + '; filename="👍🏽\N{RIGHT-TO-LEFT OVERRIDE}gpj.png"'.encode(), "👍🏽\N{RIGHT-TO-LEFT OVERRIDE}gpj.png"),
    (FILE + b'; filename="a\nb.jpg"', "a\nb.jpg"),
    (FILE + b'; filename="a\rb.jpg"', "a\rb.jpg"),
    (FILE + b'; filename="a\r\nb.jpg"', "a b.jpg"),
    (FILE + b'; filename="a\r\nb: c.jpg"', None),
    (FILE + b'; filename="a"b".jpg"', "a"),
    (FILE + b'; filename="a\\"; foo="b"', 'a"; foo='),
    (FILE + b'; filename="a\\', None),
    (FILE + b'; filename="\0\x1b[31m.jpg"', "\0\x1b[31m.jpg"),
    (FILE + b'; filename=" "', " "),
    (FILE + b'; filename="' + 4000 * b"a" + b'.jpg"', 255 * "a"),
    (FILE + b"; filename=my dog.jpg", "my"),
    (FILE + b"; filename*=", None),
    (FILE + b"; filename*=utf-8''", None),
]


def body_of(boundary: bytes, header: bytes, content: bytes) -> bytes:
    return b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (boundary, header, content, boundary)


def filename_of(client: FlaskClient, boundary: bytes, header: bytes, content: bytes = IMAGE) -> str | None:
    """Send a form to each endpoint that accepts one; return its file's name, if it is classified."""
    form = {
        "data": body_of(boundary, header, content),
        "content_type": f'multipart/form-data; boundary="{boundary.decode()}"',
    }
    assert client.post("/predict", **form).status_code == 200, header
    assert "Eskimo dog" in client.post("/", **form).text, header
    [result] = client.post(PATH, **form).get_json()["results"]
    assert result["error"] is None, header
    filename: str | None = result["filename"]
    return filename


@pytest.mark.usefixtures("worker")
def test_the_forms_of_clients_are_read(client: FlaskClient) -> None:
    found = {name: filename_of(client, boundary, header) for name, boundary, header, _ in FORMS}
    assert found == {name: filename for name, _, _, filename in FORMS}


@pytest.mark.usefixtures("worker")
def test_an_image_is_taken_whatever_its_name_is(client: FlaskClient) -> None:
    assert {header: filename_of(client, b"b", header) for header, _ in HEADERS} == dict(HEADERS)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        (b"base64", encodebytes(IMAGE).replace(b"\n", b"\r\n")),
        (b"BASE64 ", encodebytes(IMAGE)),
        (b"quoted-printable", b2a_qp(IMAGE, istext=False)),
        (b"8bit", IMAGE),
        (b"", IMAGE),
    ],
)
def test_a_part_may_be_encoded_as_in_mail(client: FlaskClient, encoding: bytes, content: bytes) -> None:
    header = FILE + b'; filename="dog.jpeg"\r\nContent-Transfer-Encoding: ' + encoding
    assert filename_of(client, b"===============8047363736177219756==", header, content) == "dog.jpeg"


@pytest.mark.parametrize(
    ("encoding", "words"), [(b"uuencode", "unknown Content-Transfer-Encoding"), (b"base64", "not in base64")]
)
def test_a_part_that_is_not_encoded_as_it_says_is_refused(client: FlaskClient, encoding: bytes, words: str) -> None:
    header = FILE + b'; filename="dog.jpeg"\r\nContent-Transfer-Encoding: ' + encoding
    response = client.post("/predict", data=body_of(b"b", header, b"a"), content_type="multipart/form-data; boundary=b")
    assert response.status_code == 400
    assert words in response.headers["X-Error"]
