"""Pictures for tests, made and compared with Pillow."""

from __future__ import annotations

import math
import struct
import zlib
from io import BytesIO

from PIL import Image

ORIENTATION = 0x0112


def photo(width: int = 400, height: int = 300, mode: str = "RGB") -> Image.Image:
    """Smooth colours with an edge, of which each corner is another one."""
    across = Image.linear_gradient("L").rotate(90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    disc = Image.radial_gradient("L").resize((width, height))
    picture = Image.merge("RGB", (across, down, disc.point(lambda value: 255 if value > 140 else value)))
    if mode == "RGBA":
        picture.putalpha(disc.point(lambda value: 255 - value))
    return picture.convert(mode)


def coded(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **({"quality": 92} | options if kind in {"JPEG", "WEBP"} else options))
    return out.getvalue()


def opened(content: bytes) -> Image.Image:
    picture = Image.open(BytesIO(content))
    picture.load()
    return picture


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB: 30 look alike, 40 look the same."""
    assert one.size == other.size
    first, second = one.convert("RGB").tobytes(), other.convert("RGB").tobytes()
    error = sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) / len(first)
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_head(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG in grey that announces a size, whatever its data holds."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")
