"""Checks that a decoder reads exactly the parts of an image file that jobs/image_walk.py finds."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import MARKER
from PIL.PngImagePlugin import PngStream

from api.uploads.structure import ImageLimits, image_format
from fuzz.corpus import FILES, good_files
from fuzz.images import image_files
from jobs.image_walk import (
    GIF_FRAME,
    GIF_GRAPHIC_CONTROL,
    JPEG_SCAN,
    JPEG_SIZES,
    JPEG_TABLES,
    gif_blocks,
    jpeg_segments,
    png_chunks,
)
from model.bare_picture import bare_picture
from runtime.errors import ServiceError

LIMITS = ImageLimits(pixels=100_000, frames=1000, metadata_bytes=4_000_000)
# Exceptions that Pillow may raise on damaged files.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, RuntimeError, ArithmeticError)

# The parts that a decoder needs for pixels: chunks, markers, blocks.
NEEDED: set[Any] = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
NEEDED |= JPEG_SIZES | JPEG_TABLES | {JPEG_SCAN, 0xE0, 0xEE} | {GIF_FRAME, GIF_GRAPHIC_CONTROL}

# A part's kind, and its position in the file.
Step = tuple[Any, int]


def steps_of_the_walk(file: bytes) -> list[Step]:
    """Return the parts of a file; of a JPEG, those before its pixels, which Pillow reads itself."""
    if file.startswith(b"\x89PNG"):
        return [(chunk.kind, chunk.content) for chunk in png_chunks(file)]
    if file.startswith(b"\xff\xd8"):
        segments = [(segment.marker, segment.content) for segment in jpeg_segments(file)]
        return segments[: 1 + [marker for marker, _ in segments].index(JPEG_SCAN)]
    return [(block.kind, block.content) for block in gif_blocks(file)]


def steps_of_pillow(file: bytes) -> list[Step]:
    """Return the parts that Pillow's parsers read while they open and decode a file, as far as they get."""
    steps: list[Step] = []
    with ExitStack() as recording:
        for record in (recorded_chunks, recorded_segments, recorded_blocks):
            recording.enter_context(record(steps))
        try:
            image = Image.open(BytesIO(file), formats=["PNG", "JPEG", "GIF"])
            if isinstance(image, GifImageFile):
                steps.append((GIF_FRAME, image.tile[0].offset))
            image.load()
        except (UnidentifiedImageError, *DAMAGE):
            pass
    return steps


@contextmanager
def recorded_chunks(steps: list[Step]) -> Iterator[None]:
    read = PngStream.read

    def recorded(stream: PngStream) -> tuple[bytes, int, int]:
        kind, position, length = read(stream)
        if (kind, position) not in steps[-1:]:  # Pillow puts the chunk after the pixels back
            steps.append((kind, position))
        return kind, position, length

    with patch.object(PngStream, "read", recorded):
        yield


@contextmanager
def recorded_segments(steps: list[Step]) -> Iterator[None]:
    def recorded(handler: Callable[[Any, int], None] | None) -> Callable[[Any, int], None]:
        def handle(image: Any, marker: int) -> None:
            steps.append((marker & 0xFF, image.fp.tell()))
            if handler:
                handler(image, marker)

        return handle

    known = {marker: (*names, recorded(handler)) for marker, (*names, handler) in MARKER.items()}
    with patch.dict(MARKER, known):
        yield


@contextmanager
def recorded_blocks(steps: list[Step]) -> Iterator[None]:
    """Record extensions by the bytes before their first sub-block, and all other sub-blocks that are not empty."""
    data = GifImageFile.data

    def recorded(image: GifImageFile) -> bytes | None:
        assert image.fp is not None
        position = image.fp.tell()
        block = data(image)
        if block is not None:
            image.fp.seek(position - 2)
            steps.append((image.fp.read(2), position))
            image.fp.seek(position + 1 + len(block))
        return block

    with patch.object(GifImageFile, "data", recorded):
        yield


def assert_no_other_steps(data: bytes) -> None:
    """Compare the parts in the file that a worker decodes of an accepted upload."""
    try:
        image_format(data, LIMITS)
        file = bare_picture(data).file
    except (ServiceError, *DAMAGE):
        return
    steps = steps_of_pillow(file)
    assert {kind for kind, _ in steps} <= NEEDED
    assert steps == steps_of_the_walk(file)[: len(steps)]


@given(st.one_of(*image_files().values()))
@settings(max_examples=300)
def test_a_decoder_takes_no_steps_but_those_of_the_walk(data: bytes) -> None:
    assert_no_other_steps(data)


@pytest.mark.parametrize("name", [name for name in FILES if "megapixels" not in name])
def test_no_file_that_was_made_to_do_harm_leads_a_decoder_elsewhere(name: str) -> None:
    assert_no_other_steps(FILES[name](300_000))


@pytest.mark.parametrize("data", [data for files in good_files().values() for data in files])
def test_a_decoder_takes_every_step_of_the_walk_through_a_good_file(data: bytes) -> None:
    file = bare_picture(data).file
    assert steps_of_pillow(file) == steps_of_the_walk(file)
