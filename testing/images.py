"""One photo in all forms that people send, and files that are no images."""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

DOG = (Path(__file__).parents[1] / "tests" / "dog.jpeg").read_bytes()


@dataclass(frozen=True)
class Form:
    """A file, and the picture that a person sees in it."""

    filename: str
    data: bytes
    seen: Image.Image


def save(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """Return the image as a file."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def forms() -> dict[str, Form]:
    """Return the photo of a dog in every form."""
    photo = Image.open(io.BytesIO(DOG)).convert("RGB")
    grey = photo.convert("L")
    palette = photo.quantize(256)
    cut_out, on_white = _cut_out(photo)
    rotated = photo.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn it a quarter to the right"
    return {
        "baseline JPEG": Form("dog.jpg", save(photo, "JPEG", quality=95), photo),
        "progressive JPEG": Form("dog.jpeg", save(photo, "JPEG", quality=95, progressive=True), photo),
        "CMYK JPEG": Form("dog.jpg", save(photo.convert("CMYK"), "JPEG", quality=95), photo),
        "grey JPEG": Form("dog.jpg", save(grey, "JPEG", quality=95), grey),
        "EXIF-rotated JPEG": Form("dog.JPG", save(rotated, "JPEG", quality=95, exif=exif), photo),
        "PNG": Form("dog.PNG", save(photo, "PNG"), photo),
        "grey PNG": Form("dog.png", save(grey, "PNG"), grey),
        "16-bit PNG": Form("dog.png", save(_sixteen_bits(grey), "PNG"), grey),
        "palette PNG": Form("dog.png", save(palette, "PNG"), palette),
        "transparent PNG": Form("dog.png", save(cut_out, "PNG"), on_white),
        "transparent palette PNG": Form("dog.png", save(cut_out.quantize(256), "PNG"), on_white),
        "JPEG without its end": Form("dog.jpg", save(photo, "JPEG", quality=95)[:-2], photo),
        "transparent 16-bit PNG": _cut_out_of_grey(grey),
        "GIF of a small first frame": _framed(palette),
        "GIF": Form("dog.GIF", save(palette, "GIF"), palette),
        "animated GIF": Form(
            "dog.gif", save(palette, "GIF", save_all=True, append_images=[Image.new("P", photo.size)]), palette
        ),
    }


def _cut_out(photo: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Return the photo with its left third made transparent, and its appearance on a white page."""
    mask = Image.new("L", photo.size, 255)
    mask.paste(0, (0, 0, photo.width // 3, photo.height))
    cut_out = photo.copy()
    cut_out.putalpha(mask)
    on_white = Image.new("RGB", photo.size, "white")
    on_white.paste(photo, mask=mask)
    return cut_out, on_white


def _cut_out_of_grey(grey: Image.Image) -> Form:
    """Return the grey photo with its left third in a transparent colour, which has a distinct low byte."""
    third, colour = grey.width // 3, 0x1234
    seen = grey.copy()
    seen.paste(255, (0, 0, third, grey.height))
    levels = [colour if place % grey.width < third else 257 * level for place, level in enumerate(grey.tobytes())]
    stored = Image.frombytes("I;16", grey.size, struct.pack(f"<{len(levels)}H", *levels))
    return Form("dog.png", save(stored, "PNG", transparency=colour), seen)


def _framed(palette: Image.Image) -> Form:
    """Return the photo as a GIF with 20 pixels of empty screen around it."""
    seen = Image.new("RGB", (palette.width + 40, palette.height + 40), "white")
    seen.paste(palette.convert("RGB"), (20, 20))
    data = save(palette, "GIF")
    data = data[:6] + struct.pack("<HH", *seen.size) + data[10:]
    return Form("dog.gif", data.replace(b"," + bytes(4), b"," + struct.pack("<HH", 20, 20), 1), seen)


def _sixteen_bits(grey: Image.Image) -> Image.Image:
    return Image.frombytes("I;16", grey.size, b"".join(struct.pack("<H", level * 257) for level in grey.tobytes()))


def pixel_bomb() -> bytes:
    """Return a PNG of a few bytes that claims 50,000 x 50,000 pixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(1000)))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# name -> (file name, content, status)
BAD_FILES: dict[str, tuple[str, bytes, int]] = {
    "empty": ("dog.jpg", b"", 400),
    "a text": ("dog.jpg", b"hello", 400),
    "a page": ("dog.png", b"<!doctype html><script>alert(1)</script>", 400),
    "an image of another type": ("dog.png", save(Image.new("RGB", (9, 9)), "BMP"), 400),
    "an image with another ending": ("dog.txt", DOG, 400),
    "truncated JPEG": ("dog.jpg", DOG[: len(DOG) // 2], 400),
    "truncated PNG": ("dog.png", save(Image.effect_noise((64, 64), 50), "PNG")[:2000], 400),
    "truncated GIF": ("dog.gif", save(Image.effect_noise((64, 64), 50), "GIF")[:1500], 400),
    "header only": ("dog.png", b"\x89PNG\r\n\x1a\n", 400),
    "pixel bomb": ("dog.png", pixel_bomb(), 413),
    "too many bytes": ("dog.jpg", DOG + bytes(10_000_000), 413),
    "far too many bytes": ("dog.jpg", bytes(30_000_000), 413),
}
