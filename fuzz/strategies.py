"""Hypothesis strategies for requests, by kind: uploads of image files, forms, headers, reports, addresses, JSON."""

import gzip
import json
import struct
import zlib
from base64 import b64encode
from dataclasses import replace
from functools import partial
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from fuzz.images import image_files
from fuzz.pieces import png
from fuzz.request import HostileRequest

_FORM = "multipart/form-data; boundary=hostile"
_PICTURE = png(3, 2)
_filenames = st.sampled_from([b"photo.jpg", b"photo.PNG", b"a.gif", b"x.jpeg"])
# Characters that a server lets through: Latin-1 without control characters.
_header_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=60)
_access_headers = st.sampled_from(
    [
        "Authorization",
        "Host",
        "Origin",
        "Sec-Fetch-Site",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Prefix",
        "X-Forwarded-Proto",
    ]
)
_other_headers = st.sampled_from(
    [
        "X-Request-ID",
        "HX-Request",
        "Cookie",
        "Range",
        "If-None-Match",
        "If-Modified-Since",
        "Transfer-Encoding",
        "Expect",
        "Content-Encoding",
        "Inference-Header-Content-Length",
    ]
)
_header_values = st.one_of(
    _header_text,
    st.binary(max_size=20).map(lambda data: f"Basic {b64encode(data).decode()}"),
    st.sampled_from(
        ["Bearer ", "Basic", "Basic !", "Digest a=b", "null", "[::1", "::1%eth0", "1.2.3.4, ", "bytes=9-1", "-1"]
    ),
    st.sampled_from(['"x, 203.0.113.1', "pictures.example:8080", "https", "/a/b/", "//evil.example", "/.."]),
)
_line_ends = st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r", b""])
_header_lines = st.one_of(
    st.sampled_from(
        [
            b'Content-Disposition: form-data; name="file"; filename="a.png"',
            b'Content-Disposition: form-data; name="file"; filename="\xff\xfe.png"',
            b"Content-Disposition: form-data; name=file; filename*=UTF-8''a%ff.png",
            b'Content-Disposition: form-data; name="file"; filename="=?utf-7?B?2AA=?= =?x?q?a?="',
            b"Content-Disposition: form-data; name*=utf-16''a%00; filename*=idna''xn--%ff.png",
            b'Content-Disposition: form-data; name="file"',
            b"Content-Disposition: form-data",
            b"Content-Disposition: attachment",
            b"Content-Disposition:" + b" form-data;" * 50,
            b"Content-Type: image/png; charset=nothing",
            b"Content-Length: 3",
            b"Content-Length: -1",
            b"Content-Transfer-Encoding: base64",
            b"Content-Transfer-Encoding: quoted-printable",
            b" continued",
            b"no colon",
            b"\xff\xfe: \xff",
        ]
    ),
    st.binary(max_size=60),
)


@st.composite
def _forms(draw: DrawFn) -> HostileRequest:
    """Return a form whose parts, lines and ends may have any shape."""
    body = draw(st.sampled_from([b"", b"", b"", b"preamble\r\n", b"\r\n"]))
    for _ in range(draw(st.integers(0, 4))):
        body += b"--hostile" + draw(_line_ends)
        for line in draw(st.lists(_header_lines, max_size=4)):
            body += line + draw(_line_ends)
        body += draw(_line_ends) + draw(st.just(_PICTURE) | st.binary(max_size=20)) + draw(_line_ends)
    body += draw(st.sampled_from([b"--hostile--\r\n", b"--hostile--", b"--hostile", b"", b"--hostile--\r\nmore"]))
    content_type = draw(st.one_of(st.just(_FORM), _content_types))
    return HostileRequest(
        "forms", body, content_type, draw(st.sampled_from(["/predict", "/v1/predictions", "/", "/feedback"]))
    )


_content_types = st.one_of(
    st.sampled_from(
        [
            "",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            'multipart/form-data; boundary="hostile"',
            "multipart/form-data; boundary=" + "x" * 3000,
            "multipart/form-data; boundary=hostile; boundary=other",
            "multipart/form-data; charset=utf-16; boundary=hostile",
            "multipart/mixed; boundary=hostile",
            "application/x-www-form-urlencoded",
            "application/json",
        ]
    ),
    _header_text,
)

_names = st.one_of(
    st.text(max_size=80),
    st.from_regex(r"[0-9a-f]{64}\.(png|jpg|svg)", fullmatch=True),
    st.sampled_from(["../uploads/.sweep", "a" * 300]),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


_reports = st.one_of(
    st.builds(lambda name, rest: json.dumps({"filename": name, "prediction": rest}), _names | _json, _json),
    _json.map(json.dumps),
    st.text(),
    st.sampled_from(["[" * 3000, '{"filename":' * 300, "9" * 4000, '"\\ud800"', "x" * 5000]),
)


# The fields that the page sends beside a report.
_said = st.dictionaries(st.sampled_from(["label", "none", "undo"]), st.text(max_size=40), max_size=2)


def _feedback(report: str, said: dict[str, str]) -> HostileRequest:
    fields = {"report": report, **said}
    body = "&".join(f"{name}={quote_plus(value, errors='surrogatepass')}" for name, value in fields.items()).encode()
    return HostileRequest("reports", body, "application/x-www-form-urlencoded", "/feedback")


def _feedback_in_json(report: object, said: dict[str, object]) -> HostileRequest:
    body = json.dumps({"report": report, **said}).encode()
    return HostileRequest("reports", body, "application/json", "/feedback")


def _with_headers(path: str, headers: dict[str, str]) -> HostileRequest:
    return replace(HostileRequest.upload("headers", _PICTURE, path=path), headers=headers)


_ADDRESSES = [
    "/display/",
    "/?error=",
    "/feedback?report=",
    "/",
    "/v1/predictions/",
    "/v1/predictions/x?wait=",
    "/v1/feedback?cursor=",
    "/v1/models/",
    "/v1/problems/",
    "/v2/models/",
    "/v2/models/fuzz/versions/",
]


@st.composite
def _compressed(draw: DrawFn) -> HostileRequest:
    """Return a form that is compressed, and may be damaged."""
    form = HostileRequest.upload("compressed bodies", _PICTURE).body + draw(st.sampled_from([b"", bytes(1000)]))
    coding, body = draw(
        st.sampled_from([("gzip", gzip.compress(form, mtime=0)), ("deflate", zlib.compress(form)), ("br", form)])
    )
    damage = draw(st.none() | st.tuples(st.integers(0, len(body)), st.binary(max_size=4)))
    if damage:
        place, data = damage
        body = body[:place] + data + body[draw(st.integers(place, len(body))) :]
    path = draw(st.sampled_from(["/predict", "/v1/predictions", "/", "/feedback"]))
    return HostileRequest("compressed bodies", body, _FORM, path, headers={"Content-Encoding": coding})


_documents = st.one_of(
    _json.map(json.dumps),
    st.builds(
        lambda data, rest: json.dumps({"images": [{"data": data}], **rest}), _names | _json, _json.filter(_is_object)
    ),
    st.text(),
    st.sampled_from(["[" * 3000, '{"images":' * 300, '{"top_k":' + "9" * 4000 + "}", '"\\ud800"', '{"images": [{}]}']),
)


def _document(address: str, body: str) -> HostileRequest:
    return HostileRequest("documents", body.encode("utf-8", "surrogatepass"), "application/json", address)


_tensors = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["image", "x"]),
        "datatype": st.sampled_from(["BYTES", "UINT8", "FP32"]),
        "shape": st.lists(st.integers(-1, 4) | st.integers(), max_size=5) | _json,
    },
    optional={
        "data": st.lists(st.integers(0, 256), max_size=50) | st.just([b64encode(_PICTURE).decode()]) | _json,
        "parameters": st.builds(lambda size: {"binary_data_size": size}, st.integers(-1, 200) | _json) | _json,
    },
)
_outputs = st.lists(
    st.builds(
        lambda name, parameters: {"name": name, "parameters": parameters},
        st.sampled_from(["scores", "labels", "x"]),
        st.dictionaries(st.sampled_from(["binary_data", "classification"]), st.integers(-1, 6) | _json) | _json,
    ),
    max_size=3,
)
_inferences = st.builds(
    lambda inputs, others: json.dumps({"inputs": inputs, **others}).encode(),
    st.lists(_tensors, max_size=2) | _json,
    st.fixed_dictionaries({}, optional={"outputs": _outputs | _json, "parameters": _json, "id": _json}),
)


def _inference(head: bytes, images: list[bytes], length: str | None) -> HostileRequest:
    """Return a request with binary images after its JSON, and with a length header that may be wrong."""
    body = head + b"".join(struct.pack("<I", len(image)) + image for image in images)
    headers = {"Inference-Header-Content-Length": str(len(head)) if length is None else length}
    return HostileRequest("inferences", body, "application/octet-stream", "/v2/models/fuzz/infer", headers=headers)


def _address(path: str, name: str) -> HostileRequest:
    return HostileRequest("addresses", path=path + quote(name, errors="surrogatepass"), content_type="", method="GET")


def strategies() -> dict[str, SearchStrategy[HostileRequest]]:
    """Return the strategy for every kind of request."""
    uploads = {
        kind: st.builds(partial(HostileRequest.upload, kind), files, _filenames)
        for kind, files in image_files().items()
    }
    return {
        **uploads,
        "forms": _forms(),
        "compressed bodies": _compressed(),
        "headers": st.builds(
            _with_headers,
            st.sampled_from(
                [
                    *("/predict", "/v1/predictions", "/v2/models/fuzz/infer"),
                    *("/", "/feedback", "/labels", "/readyz", "/static/page.css"),
                ]
            ),
            st.dictionaries(_access_headers | _other_headers, _header_values, min_size=1, max_size=4),
        ),
        "reports": st.builds(_feedback, _reports, _said)
        | st.builds(_feedback_in_json, _reports | _json, _said | _json.filter(_is_object)),
        "addresses": st.builds(_address, st.sampled_from(_ADDRESSES), _names),
        "inferences": st.builds(
            _inference,
            _inferences,
            st.lists(st.just(_PICTURE) | st.binary(max_size=20), max_size=3),
            st.none() | st.integers(-1, 300).map(str) | _header_text,
        ),
        "documents": st.builds(
            _document,
            st.sampled_from(
                [*("/v1/predictions", "/v1/predictions?top_k=1"), *("/v1/predictions/x/feedback", "/feedback", "/")]
            ),
            _documents,
        ),
    }
