"""Parses forms: multipart ones with the library `multipart`, since Werkzeug's own parser takes six times as long."""

import io
from collections.abc import Iterator
from typing import IO

import multipart  # type: ignore[import-untyped]  # it has no stubs
from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.formparser import FormDataParser
from werkzeug.utils import cached_property

from jobs.errors import BadForm, FieldTooLarge, PartHeaderTooLarge, TooManyParts

# Larger buffers cost more than they save; and what is less than is asked for, Werkzeug copies twice more.
_CHUNK_BYTES = 256 * 1024
_MAX_PARTS = 20
_MAX_FIELD_BYTES = 64 * 1024

_Parsed = tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]  # the body's stream, fields, files


class FormParser(FormDataParser):
    """Reads a form into memory; how large a body may be is limited before, by `MAX_CONTENT_LENGTH`."""

    def parse(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str] | None = None
    ) -> _Parsed:
        """Return the stream, the fields and the files. Raises `BadForm`, or the `TooLarge` of what is too much."""
        if mimetype == "application/x-www-form-urlencoded":
            return super().parse(_within_limits(stream), mimetype, content_length, options)
        if mimetype != "multipart/form-data":
            return super().parse(stream, mimetype, content_length, options)
        fields: MultiDict[str, str] = MultiDict()
        files: MultiDict[str, FileStorage] = MultiDict()
        try:
            for part, content in _parts(stream, (options or {}).get("boundary", ""), content_length or _CHUNK_BYTES):
                if part.filename is None:
                    fields.add(part.name, content.decode("utf-8", "replace"))
                else:
                    files.add(part.name, FileStorage(io.BytesIO(content), part.filename, part.name))
        except multipart.ParserLimitReached as err:  # we set no other limit there
            raise PartHeaderTooLarge from err
        except multipart.MultipartError as err:
            raise BadForm(f"The form is damaged: {err.args[0]}.") from err
        return stream, fields, files


class FormRequest(Request):
    """A request whose form is parsed by `FormParser`, and whose body is read without a copy where it is in memory."""

    form_data_parser_class = FormParser

    @cached_property
    def stream(self) -> IO[bytes]:
        """Return the body as a file. Raises `RequestEntityTooLarge`."""
        limited = super().stream  # in pieces of 64 KB, put together twice
        received = self.environ["wsgi.input"]
        return received if isinstance(received, io.BytesIO) else limited


def _within_limits(stream: IO[bytes]) -> IO[bytes]:
    """Return a form that is written as in a URL, if it is no larger than a field of others may be.

    Werkzeug parses it at once, whatever it costs. Raises `TooManyParts` or `FieldTooLarge`.
    """
    data = stream.read(_MAX_FIELD_BYTES + 1)
    if len(data) > _MAX_FIELD_BYTES:
        raise FieldTooLarge
    if data.count(b"&") >= _MAX_PARTS:
        raise TooManyParts
    return io.BytesIO(data)


def _parts(stream: IO[bytes], boundary: str, length: int) -> Iterator[tuple[multipart.MultipartSegment, bytes]]:
    """Yield each part of a form with its content. Raises `TooManyParts` or `FieldTooLarge` as soon as one is."""
    parts = 0
    part: multipart.MultipartSegment = None
    content = io.BytesIO()
    for event in multipart.PushMultipartParser(boundary).parse_blocking(stream.read, min(length, _CHUNK_BYTES)):
        if isinstance(event, multipart.MultipartSegment):
            parts, part, content = parts + 1, event, io.BytesIO()
            if parts > _MAX_PARTS:
                raise TooManyParts
        elif event is not None:
            content.write(event)
            if part.filename is None and part.bytes_received > _MAX_FIELD_BYTES:
                raise FieldTooLarge
        else:
            yield part, content.getvalue()
