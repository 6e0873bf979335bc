"""Parses forms: multipart ones with the library `multipart`, as Werkzeug's own parser takes six times as long."""

import binascii
import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.errors import MessageError
from email.header import decode_header, make_header
from itertools import islice, pairwise
from typing import IO
from urllib.parse import unquote

import multipart  # type: ignore[import-untyped]  # it has no stubs
from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.formparser import FormDataParser
from werkzeug.utils import cached_property

from api.http import connection, content_encoding
from api.uploads.structure import begins_like_image
from runtime import waiting
from runtime.errors import BadForm, FieldTooLarge, NoFile, PartHeaderTooLarge, TooManyParts

# Larger buffers cost more than they save; and Werkzeug copies reads that return less than requested twice more.
_CHUNK_BYTES = 256 * 1024
_MAX_PARTS = 20
_MAX_FIELD_BYTES = 64 * 1024
# Lines of a part's header: each continuation line costs as much as all before it.
_MAX_HEADER_LINES = 20
# Bytes searched for the headers of a part without content.
_MAX_HEADERS_BYTES = 4096
# The form field of files.
FILE = "file"
# Non-ASCII text in a part's header (RFC 8187), as older clients write it.
_EXTENDED = re.compile(r""";\s*(name|filename)\*\s*=\s*"?([\w.:+-]*)'[\w-]*'([^"\s;]*)""", re.ASCII | re.IGNORECASE)
# Content encodings of a part; HTTP does not need them, but libraries for mail use them.
_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    **dict.fromkeys(("", "7bit", "8bit", "binary"), bytes),
    "base64": binascii.a2b_base64,
    "quoted-printable": binascii.a2b_qp,
}

_Parsed = tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]  # the body's stream, fields, files


class FormParser(FormDataParser):
    """Parses a form in memory; `MAX_CONTENT_LENGTH` limits the size of the body before."""

    def parse(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str] | None = None
    ) -> _Parsed:
        """Return the stream, the fields and the files. Raises `BadForm`, or a kind of `TooLarge`."""
        if mimetype == "application/x-www-form-urlencoded":
            return super().parse(_within_limits(stream), mimetype, content_length, options)
        if mimetype != "multipart/form-data":
            return super().parse(stream, mimetype, content_length, options)
        boundary = (options or {}).get("boundary")
        if not boundary:
            raise BadForm("The header Content-Type names no boundary of the form. Have your client write that header.")
        try:
            return stream, *_sorted(_parts(_separated(stream, boundary), boundary, content_length or _CHUNK_BYTES))
        except multipart.ParserLimitReached as err:  # we set no other limit there
            raise PartHeaderTooLarge from err
        except multipart.MultipartError as err:
            raise BadForm(
                f"The form is damaged: {err.args[0]}. Have an HTTP client write it, in lines that end in CRLF."
            ) from err


class FormRequest(Request):
    """A request that parses forms with `FormParser`, and reads a body in memory without copying it."""

    form_data_parser_class = FormParser

    @cached_property
    def stream(self) -> IO[bytes]:
        """Return the body as a file, decompressed.

        Raises `RequestEntityTooLarge`, `TooManyBytes`, `BadEncoding` or `UnsupportedEncoding`.
        """
        limited = super().stream  # in pieces of 64 KB, joined twice
        received = self.environ["wsgi.input"]
        body = received if isinstance(received, io.BytesIO) else limited
        coding = content_encoding.coding_of(self.headers.get("Content-Encoding", ""))
        return self._decoded(body, coding) if coding else body

    def _decoded(self, body: IO[bytes], coding: str) -> IO[bytes]:
        """Decompress the body, and replace the received one."""
        decode = waiting.blocking(content_encoding.decode)  # it may be a thousand times larger than what was sent
        decoded = decode(body, coding, self.max_content_length or 0)
        connection.current().replace_body(decoded)
        self.environ["CONTENT_LENGTH"] = str(len(decoded.getbuffer()))
        return decoded


def _within_limits(stream: IO[bytes]) -> IO[bytes]:
    """Return a URL-encoded form, if it is no larger than a field of a multipart form may be.

    Werkzeug parses it at once, at any cost. Raises `NoFile`, `TooManyParts` or `FieldTooLarge`.
    """
    data = stream.read(_MAX_FIELD_BYTES + 1)
    if begins_like_image(data):  # as `curl --data-binary` sends it
        raise NoFile('The body is an image itself. Send it in a multipart form, as the field "file".')
    if len(data) > _MAX_FIELD_BYTES:
        raise FieldTooLarge
    if data.count(b"&") >= _MAX_PARTS:
        raise TooManyParts
    return io.BytesIO(data)


def _separated(stream: IO[bytes], boundary: str) -> IO[bytes]:
    """Return a form with a line end after each part that ends with its headers, as the parser needs it.

    The standard allows parts without it (RFC 2046), and Werkzeug's test client writes empty fields like this.
    """
    if not isinstance(stream, io.BytesIO):
        return stream
    delimiter = b"--" + boundary.encode()
    with stream.getbuffer() as form:
        blank_lines = islice(re.finditer(b"\r\n(\r\n)" + re.escape(delimiter), form), _MAX_PARTS + 1)
        ends = [
            line.end(1)
            for line in blank_lines
            if _are_headers(bytes(form[max(0, line.start() - _MAX_HEADERS_BYTES) : line.start(1)]), delimiter)
        ]
        if not ends:
            return stream
        separated = io.BytesIO()
        for start, end in pairwise([0, *ends]):
            separated.write(form[start:end])
            separated.write(b"\r\n")
        separated.write(form[ends[-1] :])
    separated.seek(0)
    return separated


def _are_headers(before: bytes, delimiter: bytes) -> bool:
    """Return whether the text before a blank line ends with a part's headers."""
    ahead, _, headers = before.rpartition(delimiter + b"\r\n")
    return ahead[-2:] in {b"", b"\r\n"} and b"\r\n" in headers and b"\r\n\r\n" not in headers


@dataclass(slots=True)
class _Part:
    """A part of a form: the names of its field and file, its content encoding, and the content."""

    name: str
    filename: str | None
    encoding: str
    content: io.BytesIO = field(default_factory=io.BytesIO)
    size: int = 0

    @property
    def is_file(self) -> bool:
        """Whether the part is a file, judged by what has been received."""
        if self.filename is not None or self.name != FILE:
            return self.filename is not None
        with self.content.getbuffer() as content:
            return begins_like_image(bytes(content[:16]))

    def add(self, piece: bytes) -> None:
        """Add a piece of the content; a single piece is not copied."""
        if self.size:
            self.content.write(piece)
        else:
            self.content = io.BytesIO(piece)
            self.content.seek(len(piece))
        self.size += len(piece)

    def decoded(self) -> bytes:
        """Return the content without its mail encoding. Raises `BadForm`."""
        if self.encoding not in _DECODERS:
            raise BadForm("A part of the form has an unknown Content-Transfer-Encoding. Send it without one.")
        try:
            return _DECODERS[self.encoding](self.content.getvalue())
        except binascii.Error as err:
            raise BadForm(f"A part of the form is not in {self.encoding}, as it says. Send it as it is.") from err


def _sorted(parts: Iterator[_Part]) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
    """Return the fields and the files of a form.

    An image without a file name is a file, too. Any other part with an empty file name is what browsers send if no file
    was chosen.
    """
    fields: MultiDict[str, str] = MultiDict()
    files: MultiDict[str, FileStorage] = MultiDict()
    for part in parts:
        content = part.decoded()
        if part.filename or (part.name == FILE and begins_like_image(content)):
            files.add(part.name, FileStorage(io.BytesIO(content), part.filename, part.name))
        elif part.filename is None:
            fields.add(part.name, content.decode("utf-8", "replace"))
    return fields, files


def _parts(stream: IO[bytes], boundary: str, length: int) -> Iterator[_Part]:
    """Yield each part of a form. Raises `TooManyParts` or `FieldTooLarge` as early as possible."""
    parts = 0
    for event in _Parser(boundary).parse_blocking(stream.read, min(length, _CHUNK_BYTES)):
        if isinstance(event, multipart.MultipartSegment):
            parts, part = parts + 1, _begun(event)
            if parts > _MAX_PARTS:
                raise TooManyParts
        elif event is None:
            yield part
        else:
            part.add(event)
            if part.size > _MAX_FIELD_BYTES and not part.is_file:
                raise FieldTooLarge


class _Parser(multipart.PushMultipartParser):  # type: ignore[misc]  # it has no types
    """A parser that accepts headers in any encoding, and file names with line ends in them."""

    def __init__(self, boundary: str) -> None:
        super().__init__(boundary, header_charset="latin-1")
        self._lines = 0

    def _on_segment_headerline(self, line: bytes) -> None:
        self._lines = self._lines + 1 if self._segment_headerlist else 1
        if self._lines > _MAX_HEADER_LINES:
            raise multipart.ParserLimitReached("Too many lines of a header")
        continues = line[:1] in b" \t" or b":" not in line
        super()._on_segment_headerline(b" " + line.lstrip(b" \t") if continues else line)


def _begun(segment: multipart.MultipartSegment) -> _Part:
    """Return a new part from its headers. Raises `BadForm`."""
    if segment.header("Content-Type", "").strip().lower().startswith("multipart/"):  # `curl -F file=@one,two`
        raise BadForm('A part of the form has parts itself. Send each file as a part of its own, named "file".')
    name, filename = _plain(segment.name), segment.filename and _from_mail(_plain(segment.filename))
    for which, charset, value in _EXTENDED.findall(segment["Content-Disposition"]):
        if which.lower() == "name":
            name = _unquoted(value, charset)
        else:
            filename = _unquoted(value, charset)
    return _Part(name, filename, segment.header("Content-Transfer-Encoding", "").strip().lower())


def _plain(text: str) -> str:
    """Decode text whose bytes were read as Latin-1 as UTF-8, with replacement characters for invalid bytes."""
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "replace")


def _unquoted(text: str, charset: str) -> str:
    """Decode percent-encoded text."""
    try:
        return _without_surrogates(unquote(text, charset, "replace"))
    except (LookupError, ValueError):  # an unknown charset
        return unquote(text)


def _from_mail(text: str) -> str:
    """Decode text that may be encoded as in a mail's header (RFC 2047), as .NET does."""
    if text.startswith("=?") and text.endswith("?=") and text.isascii() and text.isprintable():
        with suppress(MessageError, LookupError, ValueError):
            return _without_surrogates(str(make_header(decode_header(text))))
    return text


def _without_surrogates(text: str) -> str:
    return text.encode(errors="replace").decode()
