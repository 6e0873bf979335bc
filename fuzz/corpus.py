"""Good image files to damage, and files, forms, compressed bodies and JSON designed to do harm."""

import gzip
import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator

from PIL import Image

from fuzz.pieces import chunk, png, png_header, saved, segment, sub_blocks, tiff
from fuzz.request import HostileRequest

# Pixel data of 1 MB that take 1 KB in a PNG.
_MEGABYTE = zlib.compress(bytes(1 << 20), 9)
_JPEG = saved(Image.new("RGB", (16, 16), "teal"), "JPEG")
_GIF = saved(Image.new("P", (8, 8)), "GIF")
_GIF_HEAD, _GIF_FRAME = _GIF[: _GIF.index(b",")], _GIF[_GIF.index(b",") : -1]


def good_files() -> dict[str, list[bytes]]:
    """Return small images in every form, by format."""
    photo = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    large, black = photo.resize((600, 460)), Image.new("RGB", (64, 48))
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "PNG": [
            saved(photo, "PNG", exif=exif, dpi=(72, 72)),
            saved(photo.convert("1"), "PNG"),
            saved(photo.quantize(16), "PNG", transparency=3),
            saved(photo.convert("LA"), "PNG"),
            saved(photo.convert("RGBA"), "PNG", icc_profile=b"profile"),
            saved(photo, "PNG", save_all=True, append_images=[black]),
            png(64, 48, 16, depth=16, colour_type=0),
            png(33, 21, 64, depth=16, colour_type=6, interlaced=1),
        ],
        "JPEG": [
            saved(photo, "JPEG", exif=exif, comment=b"a photo"),
            saved(photo, "JPEG", progressive=True, icc_profile=b"profile" * 99),
            saved(photo.convert("L"), "JPEG"),
            saved(photo.convert("CMYK"), "JPEG", restart_marker_rows=1),
            saved(photo, "MPO", save_all=True, append_images=[black]),
            saved(large, "JPEG", quality=30, subsampling=2),
            saved(large, "JPEG", quality=30, progressive=True, exif=exif),
        ],
        "GIF": [
            saved(photo.quantize(64), "GIF", comment=b"a drawing"),
            saved(photo.quantize(64), "GIF", transparency=5, interlace=0),
            saved(photo, "GIF", save_all=True, append_images=[black, photo], duration=50, loop=0),
        ],
    }


def _overlapping_tags(size: int) -> bytes:
    """Return EXIF data in which every tag claims nearly all of the data."""
    count = min(65_535, size // 12 - 10)
    return tiff([(tag, 7, 12 * count, 8) for tag in range(count)])


def _png_before(chunks: bytes) -> Callable[[int], bytes]:
    return lambda size: png(8, 8, chunks=chunks * (size // len(chunks)))


def _jpeg_before(piece: bytes) -> Callable[[int], bytes]:
    return lambda size: _JPEG[:2] + piece * (size // len(piece)) + _JPEG[2:]


def _gif_before(piece: bytes, head: bytes = b"", tail: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: _GIF_HEAD + head + piece * (size // len(piece)) + tail + _GIF_FRAME + b";"


def _with_scans(size: int, side: int, most: int = sys.maxsize) -> bytes:
    """Return a progressive JPEG whose last scan but one is repeated, with the table it needs."""
    jpeg = saved(Image.new("RGB", (side, side), "teal"), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xc4")
    scan = jpeg[jpeg.rindex(b"\xff\xc4", 0, last) : last]
    count = min((size - len(jpeg)) // len(scan), most - jpeg.count(b"\xff\xda"))
    return jpeg[:last] + scan * count + jpeg[last:]


def _hidden_exif(markers: Iterable[int]) -> bytes:
    """Return segments with these markers, of EXIF segments."""
    exif = segment(0xE1, b"Exif\0\0".ljust(16, b"x"))
    return b"".join(segment(marker, exif * 3000) for marker in markers)


def _jpeg_of_size(width: int, height: int) -> bytes:
    start = _JPEG.index(b"\xff\xc0") + 5
    return _JPEG[:start] + struct.pack(">HH", height, width) + _JPEG[start + 4 :]


# Names of files, and functions that make each with about `size` bytes.
FILES: dict[str, Callable[[int], bytes]] = {
    "PNG of texts that inflate": _png_before(chunk(b"zTXt", b"k\0\0" + _MEGABYTE)),
    "PNG of colour profiles that inflate": _png_before(chunk(b"iCCP", b"k\0\0" + _MEGABYTE)),
    "PNG of empty texts": _png_before(chunk(b"tEXt")),
    "PNG of unknown chunks": _png_before(chunk(b"abCd")),
    "PNG of empty pixels": _png_before(chunk(b"IDAT")),
    "PNG of frames": lambda size: png(8, 8)[:-12] + chunk(b"fcTL", bytes(26)) * (size // 38) + chunk(b"IEND"),
    "PNG of frames without its picture": lambda size: (
        png(8, 8, chunks=chunk(b"acTL", struct.pack(">II", 9, 0)))[:-12]
        + chunk(b"fcTL", struct.pack(">5I6x", 0, 8, 8, 0, 0))
        + chunk(b"fdAT", bytes(4)) * (size // 16)
        + chunk(b"IEND")
    ),
    "PNG of a transparent colour in 25 megapixels": lambda _: png(
        5000, 5000, 48, depth=16, chunks=chunk(b"tRNS", bytes(6))
    ),
    "PNG with one large text": lambda size: png(8, 8, chunks=chunk(b"tEXt", bytes(size))),
    "PNG with a text that inflates once more": lambda _: png(8, 8, chunks=chunk(b"zTXt", b"k\0\0" + _MEGABYTE * 2)),
    "PNG with overlapping EXIF tags": lambda size: png(8, 8, chunks=chunk(b"eXIf", _overlapping_tags(size))),
    "PNG of allowed metadata": lambda _: png(8, 8, chunks=chunk(b"eXIf", _overlapping_tags(3_000_000))),
    "PNG of 49 megapixels": lambda _: png(7000, 7000),
    "PNG of 49 megapixels, 64 bits each, interlaced": lambda _: png(
        7000, 7000, 64, depth=16, colour_type=6, interlaced=1
    ),
    "PNG of 60,000 x 60,000 pixels": lambda _: png_header(60_000, 60_000) + chunk(b"IDAT", _MEGABYTE),
    "PNG of 2^31 x 2^31 pixels": lambda _: png_header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", _MEGABYTE),
    "PNG of one column": lambda _: png(1, 65_535, 8, colour_type=0),
    "PNG of one row": lambda _: png(65_535, 1, 8, colour_type=0),
    "PNG of width 0": lambda _: png(0, 8),
    "PNG of fewer pixels than it says": lambda _: png_header(4000, 4000) + png(8, 8)[33:],
    "PNG of more pixels than it says": lambda _: png_header(8, 8) + png(4000, 4000)[33:],
    "PNG of a second, larger header": lambda _: png(8, 8, chunks=png_header(4000, 4000)[8:]),
    "PNG of a palette that is not there": lambda _: png(8, 8, 8, colour_type=3),
    "PNG without a header": lambda _: png(8, 8)[:8] + png(8, 8)[33:],
    "JPEG of empty segments": _jpeg_before(segment(0xE3)),
    "JPEG of EXIF segments": _jpeg_before(segment(0xE1, b"Exif\0\0x")),
    "JPEG of large EXIF segments": _jpeg_before(segment(0xE1, b"Exif\0\0".ljust(65_533, b"x"))),
    "JPEG of colour profiles": _jpeg_before(segment(0xE2, b"ICC_PROFILE\0\1\1")),
    "JPEG of comments": _jpeg_before(segment(0xFE, b"x")),
    "JPEG of empty tables": _jpeg_before(segment(0xC4)),
    "JPEG of sizes": _jpeg_before(_JPEG[_JPEG.index(b"\xff\xc0") :][:19]),
    "JPEG of filling bytes": _jpeg_before(b"\xff"),
    "JPEG of bytes between segments": _jpeg_before(b"\1"),
    "JPEG of restarts": lambda size: _JPEG[:-2] + b"\xff\xd0" * (size // 2) + b"\xff\xd9",
    "JPEG of metadata behind an end": lambda size: _JPEG[:-2].replace(
        b"\xff\xda", b"\xff\xd9" + segment(0xE1, b"Exif\0\0x") * (size // 11) + b"\xff\xda"
    ),
    "JPEG of EXIF in extensions": _jpeg_before(_hidden_exif(range(0xF0, 0xFE))),
    "JPEG of EXIF in reserved segments": _jpeg_before(_hidden_exif([0x02, 0xBF, 0xC8, 0xDE, 0xDF])),
    "JPEG of EXIF behind a restart": _jpeg_before(b"\xff\xd0" + _hidden_exif([0xEF])),
    "JPEG of Photoshop's resources": _jpeg_before(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\0\0\0\0\0\0\0" * 5400)),
    "JPEG of further pictures": _jpeg_before(segment(0xE2, b"MPF\0" + _overlapping_tags(60_000))),
    "JPEG without an end": lambda size: _with_scans(size, 100)[:-2],
    "JPEG of 9 megapixels in as many scans as allowed, without an end": lambda size: _with_scans(size, 3000, 100)[:-2],
    "JPEG of small scans": lambda size: _with_scans(size, 1000),
    "JPEG of 49 megapixels in small scans": lambda size: _with_scans(size, 7000),
    "JPEG of 25 megapixels in as many scans as allowed": lambda _: _with_scans(1_000_000, 5000, 100),
    "JPEG of 65,500 x 65,500 pixels": lambda _: _jpeg_of_size(65_500, 65_500),
    "JPEG of more pixels than there are": lambda _: _jpeg_of_size(7000, 7000),
    "JPEG of fewer pixels than there are": lambda _: _jpeg_of_size(1, 1),
    "JPEG of height 0": lambda _: _jpeg_of_size(16, 0),
    "JPEG with overlapping EXIF tags": lambda _: (
        _JPEG[:2] + segment(0xE1, b"Exif\0\0" + _overlapping_tags(65_000)) + _JPEG[2:]
    ),
    "JPEG followed by noise": lambda size: _JPEG + random.Random(0).randbytes(size),  # noqa: S311 - no secret
    "GIF of frames": lambda size: _GIF_HEAD + _GIF_FRAME * (size // len(_GIF_FRAME)) + b";",
    "GIF of comments": _gif_before(b"!\xfe" + sub_blocks(b"x")),
    "GIF with one comment of small blocks": _gif_before(b"\1x", b"!\xfe", b"\0"),
    "GIF with one large comment": lambda size: _GIF_HEAD + b"!\xfe" + sub_blocks(bytes(size)) + _GIF_FRAME + b";",
    "GIF of graphic controls": _gif_before(b"!\xf9" + sub_blocks(bytes(4))),
    "GIF of empty extensions": _gif_before(b"!\xff\0"),
    "GIF of extensions behind one without blocks": _gif_before(b"!\xfe" + sub_blocks(b"!\xfe\1x\0" * 4000), b"!\xf9\0"),
    "GIF of graphic controls of wrong sizes": _gif_before(b"!\xf9" + sub_blocks(bytes(5))),
    "GIF of bytes between blocks": _gif_before(b"\1"),
    "GIF of 65,535 x 65,535 pixels": lambda _: _GIF[:6] + b"\xff" * 4 + _GIF[10:],
    "GIF of a frame larger than its screen": lambda _: (
        _GIF_HEAD + b"," + struct.pack("<HHHH", 0, 0, 65_535, 65_535) + _GIF_FRAME[9:] + b";"
    ),
    "GIF of 49 megapixels and one frame of few": lambda _: _GIF[:6] + struct.pack("<HH", 7000, 7000) + _GIF[10:],
    "GIF of width 0": lambda _: _GIF_HEAD[:6] + bytes(4) + _GIF_HEAD[10:] + b"," + bytes(8) + _GIF_FRAME[9:] + b";",
    "nothing": lambda _: b"",
    "zeros": bytes,
}

_PART = b'--hostile\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'

# Names of form bodies, and functions that make each with about `size` bytes.
FORMS: dict[str, Callable[[int], bytes]] = {
    "many parts": lambda size: _PART % (b"a", b"") * (size // len(_PART)),
    "one long field": lambda size: _PART % (b"a", b"x" * size),
    "one long header": lambda size: _PART % (b"a" * size, b""),
    "many headers": lambda size: b"--hostile\r\n" + b"A: b\r\n" * (size // 6) + b"\r\n",
    "nearly boundaries": lambda size: _PART % (b"a", b"\r\n--hostil" * (size // 10)),
    "carriage returns": lambda size: _PART % (b"file", b"\r" * size),
    "a preamble and no part": lambda size: b"x" * size,
    "boundaries alone": lambda size: b"--hostile\r\n" * (size // 11),
    "quotes": lambda _: _PART % (b'a"' + b'; a="\\' * 500, b""),
    "nothing": lambda _: b"",
}


# Empty deflate blocks with their own tables, which take as long to read as others: 90 bits each.
_EMPTY_BLOCKS = bytes.fromhex(
    "04c081000000000090ff6b100007020000000040feaf41001c080000000000f9bf060170200000000000e4ff1a"
)
_GZIP_HEAD = gzip.compress(b"", mtime=0)[:10]

# Names of gzip bodies, and functions that make each with about `size` bytes, compressed or decompressed.
COMPRESSED: dict[str, Callable[[int], bytes]] = {
    "what becomes too large": lambda size: gzip.compress(bytes(100 * size), 1),
    "what becomes a form": lambda size: gzip.compress(_PART % (b"file", _JPEG + bytes(size)) + b"--hostile--\r\n"),
    "what is compressed twice": lambda size: gzip.compress(gzip.compress(bytes(size))),
    "many members": lambda size: gzip.compress(b"") * (size // 20),
    "blocks of nothing": lambda size: _GZIP_HEAD + _EMPTY_BLOCKS * (size // len(_EMPTY_BLOCKS)),
    "a name without an end": lambda size: _GZIP_HEAD[:3] + b"\x08" + _GZIP_HEAD[4:] + b"x" * size,
}


# Names of JSON documents, and functions that make each with about `size` bytes.
DOCUMENTS: dict[str, Callable[[int], bytes]] = {
    "names": lambda size: b"{" + b",".join(b'"%d":1' % number for number in range(size // 12)) + b"}",
    "empty texts": lambda size: b'{"images":[' + b'"",' * (size // 3),
    "numbers": lambda size: b'{"images":[' + b"0," * (size // 2),
    "as many numbers as are read": lambda _: b'{"images":[0' + b",0" * 299_000 + b"]}",
    "objects": lambda size: b'{"images":[' + b"{}," * (size // 3),
    "as many unknown names as are read": lambda _: b'{"images":[{"":0' + b',"x":0' * 4900 + b"}]}",
    "lists in lists": lambda size: b"[" * size,
    "digits": lambda size: b'{"top_k":' + b"9" * size + b"}",
    "quotes": lambda size: b'{"images":[{"data":"' + b'\\"' * (size // 2) + b'"}]}',
    "emoji": lambda size: b'{"images":[{"data":"' + "🦊".encode() * (size // 4) + b'"}]}',
    "base64 in lines of nothing": lambda size: b'{"images":[{"data":"' + b"\\n" * (size // 2) + b'"}]}',
    "base64 without an end": lambda size: b'{"images":[{"data":"' + b"A" * size,
    "white space": lambda size: b"{" + b" " * size + b"}",
}


# The part of `size` reserved for the other parts of a file.
_MARGIN_BYTES = 60_000


def hostile_requests(size: int) -> Iterator[HostileRequest]:
    """Yield requests designed to do harm; if more bytes do more harm, each has nearly `size`."""
    for make in FILES.values():
        yield HostileRequest.upload("files made by hand", make(size - _MARGIN_BYTES))
    for make in FORMS.values():
        yield HostileRequest("forms made by hand", make(size - _MARGIN_BYTES) + b"--hostile--\r\n")
    for make in COMPRESSED.values():
        body = make(size - _MARGIN_BYTES)
        yield HostileRequest("compressed bodies made by hand", body, headers={"Content-Encoding": "gzip"})
    for make in DOCUMENTS.values():
        for path in ("/v1/predictions", "/v2/models/fuzz/infer", "/feedback"):
            yield HostileRequest("documents made by hand", make(size - _MARGIN_BYTES), "application/json", path)
