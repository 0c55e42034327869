"""Variants have the size, format and colours of their URL and of what the client accepts."""

from __future__ import annotations

import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from ..origins import wait_until
from . import pictures
from .conftest import CHROME, WEBP, Gallerist
from .pictures import coded, opened, photo, psnr


@pytest.mark.parametrize("kind", ["webp", "jpeg", "png"])
@pytest.mark.parametrize("query", ["w=160", "w=160&h=160", "w=160&h=160&fit=cover&crop=left", "w=160&h=160&fit=fill"])
def test_a_variant_looks_like_that_of_pillow(gallery: Gallerist, kind: str, query: str) -> None:
    site = gallery()
    answer = site.image("/a.jpg", f"{query}&f={kind}&q=90")
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"image/{kind}"), answer.text
    source = opened(coded(photo()))
    if "cover" in query:
        wanted = ImageOps.fit(source, (160, 160), Image.Resampling.LANCZOS, centering=(0, 0.5))
    elif "fill" in query:
        wanted = source.resize((160, 160), Image.Resampling.LANCZOS)
    else:
        wanted = source.resize((160, 120), Image.Resampling.LANCZOS)
    assert psnr(opened(answer.content), wanted) > (45 if kind == "png" else 34)


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "PNG"), ("RGB", "WEBP"), ("P", "GIF"), ("L", "JPEG"), ("CMYK", "JPEG"), ("I;16", "PNG")]
)
def test_every_kind_of_source_is_decoded(gallery: Gallerist, mode: str, kind: str) -> None:
    site = gallery()
    picture = photo().convert("L").convert("I").point(lambda value: value * 256) if mode == "I;16" else photo()
    picture = picture.convert(mode)
    content = coded(picture, kind)
    # The media type of the origin is not what counts.
    site.put("/b", content, "image/png")
    answer = site.image("/b", "w=160&f=png")
    assert answer.status_code == 200, answer.text
    wanted = photo().convert("L") if mode in {"L", "I;16"} else opened(content)
    wanted = wanted.convert("RGB").resize((160, 120), Image.Resampling.LANCZOS)
    assert psnr(opened(answer.content), wanted) > 33


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("query", ["w=160&f=png", "w=320&h=160&fit=fill&f=png", "w=160&h=480&fit=cover&f=png"])
@pytest.mark.parametrize("progressive", [False, True], ids=["sequential", "progressive"])
def test_a_photograph_that_is_decoded_smaller_looks_the_same(
    gallery: Gallerist, subsampling: str, query: str, progressive: bool
) -> None:
    site = gallery()
    turned = Image.Exif()
    turned[pictures.ORIENTATION] = 6
    content = coded(photo(1_203, 1_601), subsampling=subsampling, progressive=progressive, exif=turned)
    site.put("/large.jpg", content)
    picture = opened(site.image("/large.jpg", query).content)
    source = ImageOps.exif_transpose(opened(content))
    if "cover" in query:
        wanted = ImageOps.fit(source, (160, 480), Image.Resampling.LANCZOS)
    else:
        wanted = source.resize((160, 120) if "fill" not in query else (320, 160), Image.Resampling.LANCZOS)
    assert psnr(picture, wanted) > 38


@pytest.mark.parametrize("cut", [200, 5_000, -2_000])
def test_a_large_photograph_that_is_cut_off_is_what_it_was_before(gallery: Gallerist, cut: int) -> None:
    site = gallery()
    content = coded(photo(1_600, 1_200))[:cut]
    site.put("/cut.jpg", content)
    whole, small = site.image("/cut.jpg", "f=png"), site.image("/cut.jpg", "w=160&f=png")
    assert (whole.status_code, small.status_code) in {(200, 200), (422, 422)}
    if whole.status_code == 200:
        wanted = opened(whole.content).resize((160, 120), Image.Resampling.LANCZOS)
        assert psnr(opened(small.content), wanted) > 38


@pytest.mark.parametrize(("quality", "sampling"), [(75, (2, 2)), (90, (1, 1))])
def test_colours_of_a_jpeg_are_halved_below_a_quality_of_90(
    gallery: Gallerist, quality: int, sampling: tuple[int, int]
) -> None:
    picture = opened(gallery().image("/a.jpg", f"w=160&f=jpeg&q={quality}").content)
    assert isinstance(picture, JpegImageFile)
    assert picture.layer[0][1:3] == sampling


@pytest.mark.parametrize("kind", ["webp", "png", "avif", "jpeg"])
def test_transparency_stays_and_is_white_in_jpeg(gallery: Gallerist, kind: str) -> None:
    site = gallery()
    site.put("/b.png", coded(photo(64, 64, "RGBA"), "PNG"), "image/png")
    answer = site.image("/b.png", f"f={kind}&q=90")
    picture, source = opened(answer.content), photo(64, 64, "RGBA")
    white = Image.alpha_composite(Image.new("RGBA", source.size, "white"), source)
    if kind == "jpeg":
        assert psnr(picture, white) > 33
    else:
        assert picture.mode == "RGBA"
        assert psnr(picture.getchannel("A"), source.getchannel("A")) > 33
        assert psnr(Image.alpha_composite(Image.new("RGBA", source.size, "white"), picture), white) > 33


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_and_metadata_is_gone(gallery: Gallerist, orientation: int) -> None:
    site = gallery()
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = orientation
    exif[0x010F] = "a maker of cameras"
    content = coded(photo(160, 120), "JPEG", exif=exif)
    site.put("/turned.jpg", content)
    answer = site.image("/turned.jpg", "h=160&w=160&f=png")
    picture = opened(answer.content)
    assert psnr(picture, ImageOps.exif_transpose(opened(content))) > 45
    assert b"maker" not in answer.content and not picture.getexif()


def test_colours_of_a_wide_profile_are_converted(gallery: Gallerist) -> None:
    site = gallery()
    # A profile whose red and green are exchanged shows whether it is used.
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for at, name in ((srgb.index(b"rXYZ"), b"gXYZ"), (srgb.index(b"gXYZ"), b"rXYZ")):
        srgb[at : at + 4] = name
    red, green, blue = photo(64, 48).split()
    content = coded(Image.merge("RGB", (green, red, blue)), "PNG", icc_profile=bytes(srgb))
    site.put("/wide.png", content, "image/png")
    answer = site.image("/wide.png", "f=png")
    picture = opened(answer.content)
    assert "icc_profile" not in picture.info
    assert psnr(picture, photo(64, 48)) > 40


@pytest.mark.parametrize(
    ("accept", "fields", "kind", "size"),
    [
        ("*/*", {}, "image/jpeg", (160, 120)),
        (WEBP, {}, "image/webp", (160, 120)),
        ("image/webp;q=0, */*", {}, "image/jpeg", (160, 120)),
        (WEBP, {"sec_ch_dpr": "2"}, "image/webp", (320, 240)),
    ],
)
def test_the_format_is_negotiated(
    gallery: Gallerist, accept: str, fields: dict[str, str], kind: str, size: tuple[int, int]
) -> None:
    site = gallery()
    for path in ("/_image?url=/a.jpg&w=160&f=auto", "/photos/a.jpg?w=160"):
        answer = site.get(path, accept, **fields)
        assert (answer.headers["content-type"], opened(answer.content).size) == (kind, size)
        varies = {name.strip() for line in answer.headers.get_list("vary") for name in line.split(",")}
        assert varies == {"accept", "save-data", "sec-ch-dpr", "dpr"}


def test_a_client_that_saves_data_gets_fewer_bytes(gallery: Gallerist) -> None:
    site = gallery()
    plain = site.image("/a.jpg", "w=320", WEBP)
    saved = site.image("/a.jpg", "w=320", WEBP, save_data="on")
    assert len(saved.content) < len(plain.content)
    assert site.image("/a.jpg", "w=320&q=75", WEBP, save_data="on").content == plain.content


def test_an_image_is_never_enlarged_and_one_pixel_stays(gallery: Gallerist) -> None:
    site = gallery()
    assert opened(site.image("/a.jpg", "w=2560").content).size == (400, 300)
    site.put("/dot.png", coded(photo(1, 1), "PNG"), "image/png")
    assert opened(site.image("/dot.png", "w=160&h=160&fit=cover&f=webp").content).size == (1, 1)


def test_an_animation_becomes_its_first_frame(gallery: Gallerist) -> None:
    site = gallery()
    frames = [photo(64, 48), Image.new("RGB", (64, 48), "red")]
    for kind in ("GIF", "WEBP", "PNG"):
        content = coded(frames[0], kind, save_all=True, append_images=frames[1:], loop=0)
        site.put("/move", content)
        picture = opened(site.image("/move", "f=png").content)
        assert getattr(picture, "n_frames", 1) == 1
        assert psnr(picture, opened(content)) > 28


def test_avif_is_made_behind_the_first_webp(gallery: Gallerist) -> None:
    site = gallery()
    site.put("/s.png", coded(photo(64, 48), "PNG"), "image/png")
    first = site.image("/s.png", "", CHROME)
    assert first.headers["content-type"] == "image/webp"
    wait_until(lambda: site.count("images_made_total", 'format="avif"') == 1, what="the variant in AVIF")
    wait_until(lambda: site.image("/s.png", "", CHROME).headers["content-type"] == "image/avif", what="a hit in AVIF")
    answer = site.image("/s.png", "", CHROME)
    assert "; hit" in answer.headers["cache-status"]
    assert psnr(opened(answer.content), photo(64, 48)) > 30
    assert site.image("/s.png", "", WEBP).headers["content-type"] == "image/webp"
    assert site.count("images_made_total") == 2


def test_a_route_with_images_scales_them_and_passes_the_rest(gallery: Gallerist) -> None:
    site = gallery()
    site.put("/photos/list.json", b"{}", "application/json")
    site.put("/photos/icon.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml")
    for path, accept, kind in [
        ("/photos/a.jpg", "*/*", "image/jpeg"),
        ("/photos/a.jpg", WEBP, "image/webp"),
        ("/photos/list.json", WEBP, "application/json"),
        ("/photos/icon.svg", WEBP, "image/svg+xml"),
    ]:
        answer = site.get(path, accept)
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert opened(site.get("/photos/a.jpg?w=160&v=2", WEBP).content).size == (160, 120)
    assert site.origin.requests[-1].target == "/photos/a.jpg?v=2"
    assert site.get("/photos/list.json?w=160").status_code == 415
