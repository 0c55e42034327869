"""Variants of images: the time of the edge's threads beside libvips and Pillow, for the same image, size and quality.

    pip install pyvips-binary pyvips pillow
    python -m benchmarks.images [--rounds 5] [--image photo.jpg]

Each round has all three make all variants, in turn. The edge's time is that of its threads
(``edgerouter_images_seconds_total``); the others decode, scale and encode in this process. One thread each. A library
that is not installed is named and left out. Before anything is timed the results are compared.
"""

from __future__ import annotations

import argparse
import importlib
import math
import re
import statistics
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import httpx

from edgerouter import Edge, ImageLimits, Images, Limits, cache
from edgerouter.testing import FakeOrigin, Reply, running

from .machine import describe

WIDTHS = (320, 640, 1_280)
FORMATS = ("jpeg", "webp")
QUALITY = 75
Make = Callable[[int, str], bytes]


def made_up(width: int = 4_000, height: int = 3_000) -> bytes:
    """A JPEG with smooth parts, edges and noise, where no photograph is given."""
    from PIL import Image

    noise = Image.effect_noise((width, height), 60)
    ramp = Image.linear_gradient("L").resize((width, height))
    disc = Image.radial_gradient("L").resize((width, height))
    out = BytesIO()
    Image.merge("RGB", (Image.blend(noise, disc, 0.7), ramp, disc)).save(out, "JPEG", quality=90)
    return out.getvalue()


def with_pillow(image: bytes) -> Make:
    from PIL import Image

    def make(width: int, form: str) -> bytes:
        picture = Image.open(BytesIO(image))
        height = round(picture.height * width / picture.width)
        out = BytesIO()
        picture.resize((width, height), Image.Resampling.LANCZOS).save(out, form.upper(), quality=QUALITY)
        return out.getvalue()

    return make


def with_vips(image: bytes) -> Make:
    pyvips = importlib.import_module("pyvips")
    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)

    def make(width: int, form: str) -> bytes:
        picture = pyvips.Image.thumbnail_buffer(image, width)
        suffix = ".jpg" if form == "jpeg" else f".{form}"
        written: bytes = picture.write_to_buffer(suffix, Q=QUALITY, keep=0)
        return written

    return make


def psnr(one: bytes, other: bytes) -> float:
    from PIL import Image

    first, second = (Image.open(BytesIO(content)).convert("RGB").tobytes() for content in (one, other))
    error = sum((a - b) ** 2 for a, b in zip(first[::97], second[::97], strict=True)) / len(first[::97])
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--image", type=Path, help="a JPEG; one is made up without it")
    given = options.parse_args()
    image = given.image.read_bytes() if given.image else made_up()

    others: dict[str, Make] = {}
    for name, prepare in (("libvips", with_vips), ("Pillow", with_pillow)):
        try:
            others[name] = prepare(image)
        except ImportError as missing:
            print(f"{name} is left out: {missing}")
    with FakeOrigin() as origin:
        origin.on("/photo.jpg", Reply(200, {"content-type": "image/jpeg", "cache-control": "no-store"}, image))
        edge = Edge("images", limits=Limits(images=ImageLimits(threads=1)))
        site = edge.origin("site", origin.url)
        edge.route("/*", to=site, cache=cache.STANDARD, images=Images(widths=WIDTHS))
        with running(edge) as served, httpx.Client(base_url=served.url, timeout=60) as client:

            def by_edge(width: int, form: str) -> bytes:
                return client.get(f"/photo.jpg?w={width}&f={form}&q={QUALITY}").raise_for_status().content

            def seconds() -> float:
                found = re.search(r"^edgerouter_images_seconds_total ([\d.]+)$", served.server.metrics(), re.MULTILINE)
                assert found is not None
                return float(found[1])

            for name, make in others.items():
                for form in FORMATS:
                    likeness = psnr(by_edge(640, form), make(640, form))
                    print(f"likeness to {name}, {form}: {likeness:.1f} dB")
            times: dict[tuple[str, str, int], list[float]] = {}
            for _ in range(given.rounds):
                for form in FORMATS:
                    for width in WIDTHS:
                        before = seconds()
                        by_edge(width, form)
                        times.setdefault(("edgerouter", form, width), []).append(seconds() - before)
                        for name, make in others.items():
                            begun = time.perf_counter()
                            make(width, form)
                            times.setdefault((name, form, width), []).append(time.perf_counter() - begun)
    print("\n" + ", ".join(f"{name}: {value}" for name, value in describe().items()) + "\n")
    names = ["edgerouter", *others]
    print("| ms for a variant | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for form in FORMATS:
        for width in WIDTHS:
            cells = [f"{statistics.median(times[name, form, width]) * 1_000:.1f}" for name in names]
            print(f"| {form}, {width} wide | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
