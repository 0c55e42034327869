"""Requests that name no variant, and images that are none: clear answers in bounded time and memory."""

from __future__ import annotations

import zlib
from datetime import timedelta

import httpx
import pytest

from edgerouter import Edge, HttpLimits, ImageLimits, Images, Jwt, Limits, SignedUrls
from edgerouter.errors import ConfigError
from edgerouter.testing import running

from ..origins import Origin, Reply
from . import pictures
from .conftest import WEBP, Gallerist
from .pictures import coded, opened, photo


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("url=/a.jpg&w=161", 'w: "161": must be one of 160, 320,'),
        ("url=/a.jpg&w=160&h=1", 'h: "1": must be one of 160, 320,'),
        ("url=/a.jpg&q=74", 'q: "74": must be one of 40, 60, 75, 90'),
        ("url=/a.jpg&f=bmp", 'f: "bmp": must be auto or one of avif, webp, jpeg, png'),
        ("url=/a.jpg&dpr=9", 'dpr: "9": must be 1, 2 or 3'),
        ("url=/a.jpg&w=160&w=320", 'w: "320": must be given once'),
        ("w=160", 'url: "": must be a path as in /photo.jpg'),
        ("url=//evil.example/a.jpg", "must be a path as in /photo.jpg"),
        ("url=https://a@b/a.jpg", "must have no user"),
        ("url=https://a:0/a.jpg", "must have a port from 1 to 65535"),
        ("url=https://./a.jpg", "must have a host"),
    ],
)
def test_a_wrong_parameter_is_named(gallery: Gallerist, query: str, says: str) -> None:
    site = gallery()
    answer = site.get(f"/_image?{query}")
    assert answer.status_code == 400 and says in answer.text
    assert site.origin.count() == 0


BOMB = zlib.compress(b"\0" * (20 << 20), 9)


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        pytest.param(
            pictures.png_head(30_000, 30_000, BOMB), 422, "900000000 pixels; the limit is 32000000", id="huge"
        ),
        pytest.param(pictures.png_head(5_000, 5_000, BOMB), 422, "malformed or cut off", id="bomb"),
        pytest.param(pictures.png_head(0, 9), 422, "malformed or cut off", id="no pixels"),
        pytest.param(coded(photo(), "PNG")[:2_000], 422, "malformed or cut off", id="cut off PNG"),
        pytest.param(coded(photo(), "WEBP")[:500], 422, "malformed or cut off", id="cut off WebP"),
        pytest.param(coded(photo(), "JPEG")[:100], 422, "malformed or cut off", id="cut off JPEG"),
        pytest.param(coded(photo(), "JPEG")[:-100], 422, "malformed or cut off", id="JPEG without its last rows"),
        pytest.param(b"\xff\xd8\xff" + b"\0" * 100, 422, "malformed or cut off", id="no JPEG"),
        pytest.param(b"GIF89a", 422, "malformed or cut off", id="no GIF"),
        pytest.param(b"", 415, "no image that this edge decodes", id="nothing"),
        pytest.param(b"<html></html>", 415, "no image that this edge decodes", id="a page"),
        pytest.param(b"%PDF-1.7", 415, "no image that this edge decodes", id="a document"),
        pytest.param(b"<svg xmlns='x'><script/></svg>", 415, "SVG images are not served", id="SVG"),
    ],
)
def test_an_image_that_is_none_is_refused_and_the_refusal_is_stored(
    gallery: Gallerist, content: bytes, status: int, says: str
) -> None:
    site = gallery()
    site.put("/bad", content)
    for _ in range(2):
        answer = site.image("/bad", "w=160")
        assert answer.status_code == status and says in answer.text, answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert site.origin.count("/bad") == 1
    assert site.count("images_failed_total") == 1


def test_bounds_of_bytes_and_pixels(gallery: Gallerist) -> None:
    limits = Limits(images=ImageLimits(source_bytes=20_000, pixels=100_000, avif_pixels=1_000))
    site = gallery(limits)
    site.put("/long.jpg", b"\xff\xd8\xff" + b"\0" * 20_000)
    assert "more than 20000 bytes (limits.images.source_bytes)" in site.image("/long.jpg").text
    site.origin.on("/chunked.jpg", Reply(200, {"content-type": "image/jpeg"}, chunks=[b"\xff" * 9_000] * 3))
    assert site.image("/chunked.jpg").status_code == 422
    assert "120000 pixels; the limit is 100000 (limits.images.pixels)" in site.image("/a.jpg").text
    site.put("/s.png", coded(photo(64, 48), "PNG"))
    assert "3072 pixels; the limit is 1000 (limits.images.avif_pixels)" in site.image("/s.png", "f=avif").text


def test_an_image_that_no_memory_is_there_for_is_refused_at_once(gallery: Gallerist) -> None:
    """It waited for the whole of body_timeout, and held all memory for bodies meanwhile."""
    site = gallery(Limits(http=HttpLimits(request_memory_bytes=8 << 20, body_timeout=3_600)))
    most = (8 << 20) * 3 // 8 * 5 // 8
    small = coded(photo())
    site.put("/fits.jpg", small[:-2] + bytes(most - len(small)) + small[-2:])
    assert site.image("/fits.jpg", "w=160").status_code == 200
    site.put("/long.jpg", small[:-2] + bytes(most + 1 - len(small)) + small[-2:])
    said = f"The image has more than {most} bytes (limits.http.request_memory_bytes)."
    answer = site.image("/long.jpg", "w=160")
    assert (answer.status_code, answer.text.strip()) == (422, said)
    site.origin.on("/chunked.jpg", Reply(200, {"content-type": "image/jpeg"}, chunks=[small, bytes(most)]))
    answer = site.image("/chunked.jpg", "w=160")
    assert (answer.status_code, answer.text.strip()) == (422, said)


def test_svg_and_avif_pass_as_they_are_where_the_policy_allows_it(gallery: Gallerist) -> None:
    site = gallery(svg="pass")
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    site.put("/b.svg", svg, "image/svg+xml")
    answer = site.image("/b.svg", "w=160")
    assert (answer.content, answer.headers["content-type"]) == (svg, "image/svg+xml")
    assert "sandbox" in answer.headers["content-security-policy"]
    avif = coded(photo(16, 16), "AVIF")
    site.put("/b.avif", avif, "image/avif")
    assert site.image("/b.avif", "w=160").content == avif
    assert gallery(avif="refuse").image("/b.avif", "w=160").status_code == 415


def test_images_of_guarded_paths_and_other_origins_are_refused(origin: Origin, second: Origin) -> None:
    edge = Edge("test")
    site, other = edge.origin("site", origin.url), edge.origin("other", second.url)
    edge.images("/_image", sources=[site])
    edge.route("/*", to=site)
    edge.route("/private/*", to=site, auth=Jwt.hs256("secret-of-at-least-32-characters!"))
    edge.route("/hooked/*", to=site)
    edge.route("/other/*", to=other)

    @edge.on("viewer_request", "/hooked/*")
    def guard(request: object, ctx: object) -> None: ...

    content = coded(photo(32, 32))
    origin.default = Reply(200, {"content-type": "image/jpeg"}, content)
    with running(edge) as served, httpx.Client(base_url=served.url) as client:
        for url, status in [
            ("/a.jpg", 200),
            (f"{origin.url}/a.jpg", 200),
            (f"{served.url}/a.jpg", 200),
            ("/private/a.jpg", 403),
            ("/x/../private/a.jpg", 403),
            ("/private%2fa.jpg", 403),
            ("/hooked/a.jpg", 403),
            ("/other/a.jpg", 403),
            ("/_image?url=/a.jpg", 403),
            ("https://elsewhere.example/a.jpg", 403),
            (f"{second.url}/a.jpg", 403),
        ]:
            answer = client.get("/_image", params={"url": url, "w": "160"})
            assert answer.status_code == status, (url, answer.text)
        assert client.post("/_image", params={"url": "/a.jpg"}).status_code == 405
    assert second.count() == 0


def test_open_ranges_need_signed_urls(origin: Origin) -> None:
    def declared(**options: object) -> None:
        edge = Edge("test")
        site = edge.origin("site", origin.url)
        edge.images("/_image", sources=[site], **options)  # type: ignore[arg-type]
        edge.compile()

    for name in ("widths", "heights", "qualities"):
        with pytest.raises(ConfigError, match=rf"images\.{name}: null: would let anybody have any number of variants"):
            declared(images={name: None})
    signed = SignedUrls(secrets={"k": "secret-of-at-least-32-characters!"})
    declared(images=Images(widths=None, heights=None, qualities=None), signed=signed)
    edge = Edge("test")
    edge.images("/_image", sources=[])
    with pytest.raises(ConfigError, match="must name an origin or a host"):
        edge.compile()


def test_a_signed_url_opens_any_size(origin: Origin) -> None:
    edge = Edge("test")
    site = edge.origin("site", origin.url)
    signed = SignedUrls(secrets={"k": "secret-of-at-least-32-characters!"})
    edge.images("/_image", sources=[site], images=Images(widths=None), signed=signed)
    edge.route("/*", to=site)
    origin.on("/a.jpg", Reply(200, {"content-type": "image/jpeg"}, coded(photo())))
    with running(edge) as served, httpx.Client() as client:
        url = signed.sign(f"{served.url}/_image?url=/a.jpg&w=123", expires=timedelta(hours=1))
        assert opened(client.get(url, headers={"accept": WEBP}).content).width == 123
        assert client.get(url.replace("w=123", "w=124")).status_code == 403
