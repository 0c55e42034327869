"""Variants are stored, validated and purged with the image that they were made from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from edgerouter import CachePolicy, Edge, Images
from edgerouter.errors import ConfigError

from ..origins import Reply, Seen
from ..purges import completed
from .conftest import FRESH, WEBP, Gallerist
from .pictures import coded, photo

PATHS = ("/_image?url=/photos/a.jpg&w=160", "/photos/a.jpg?w=160")


def test_the_second_request_is_a_hit_and_both_ways_share_it(gallery: Gallerist) -> None:
    site = gallery()
    first = site.get(PATHS[0], WEBP)
    assert "fwd=" in first.headers["cache-status"]
    for path in PATHS:
        answer = site.get(path, WEBP)
        assert "; hit" in answer.headers["cache-status"]
        assert answer.content == first.content
    assert (site.origin.count("/photos/a.jpg"), site.count("images_made_total")) == (1, 1)
    # One spelling of the variant for all clients: another order, and what the client says of itself.
    spelt = site.get("/_image?f=auto&w=160&url=%2Fphotos%2Fa.jpg", WEBP + ", text/html", accept_encoding="br")
    assert "; hit" in spelt.headers["cache-status"]


@pytest.mark.parametrize(
    "purge",
    [
        {"urls": ["/photos/a.jpg"]},
        {"tags": ["pictures"]},
        {"paths": ["/photos/*"]},
    ],
    ids=["url", "tag", "path"],
)
def test_a_purge_of_the_image_removes_its_variants(gallery: Gallerist, purge: dict[str, Any]) -> None:
    site = gallery()
    for path in (*PATHS, "/photos/a.jpg?w=320"):
        site.get(path, WEBP)
    site.put("/photos/a.jpg", coded(photo().rotate(180)), etag='"v2"')
    if "urls" in purge:
        purge = {"urls": [f"{site.served.url}{path}" for path in purge["urls"]]}
    completed(site.served, site.served.server.purge(**purge))
    for path in (*PATHS, "/photos/a.jpg?w=320"):
        answer = site.get(path, WEBP)
        assert answer.headers["etag"] == 'W/"v2"', path


def test_a_variant_is_validated_by_the_tag_of_its_image(gallery: Gallerist) -> None:
    site = gallery(route={"cache": CachePolicy(stale_while_revalidate=0)})
    content = coded(photo())

    def answer(seen: Seen) -> Reply:
        if seen.get("if-none-match") in {'"v1"', 'W/"v1"'}:
            return Reply(304, {"etag": '"v1"', "cache-control": "max-age=600"})
        return Reply(200, {"content-type": "image/jpeg"} | FRESH | {"cache-control": "no-cache"}, content)

    site.origin.on("/photos/a.jpg", answer)
    first = site.get("/photos/a.jpg?w=160", WEBP)
    again = site.get("/photos/a.jpg?w=160", WEBP)
    assert (again.content, again.headers["content-type"]) == (first.content, "image/webp")
    assert site.origin.count("/photos/a.jpg") == 2
    assert site.count("images_made_total") == 1
    known = site.get("/photos/a.jpg?w=160", WEBP, if_none_match=first.headers["etag"])
    assert (known.status_code, known.content) == (304, b"")


def test_variants_share_one_fetch_of_their_image(gallery: Gallerist) -> None:
    site = gallery(route={"cache": CachePolicy(stale_while_revalidate=0)})
    content, began = coded(photo()), Event()

    def slowly(seen: Seen) -> Reply:
        assert began.wait(60)
        return Reply(200, {"content-type": "image/jpeg"} | FRESH, content)

    site.origin.on("/photos/a.jpg", slowly)
    with ThreadPoolExecutor(4) as clients:
        paths = [f"/photos/a.jpg?w={width}" for width in (160, 320)] + [f"/_image?url=/photos/a.jpg&h={160}&q=40"]
        answers = [clients.submit(site.get, path, WEBP) for path in paths]
        site.origin.wait_for(1)
        began.set()
        assert [answer.result().status_code for answer in answers] == [200] * 3
    later = site.get("/photos/a.jpg?w=480", WEBP)
    assert (later.status_code, later.headers["etag"]) == (200, 'W/"v1"')
    assert (site.origin.count("/photos/a.jpg"), site.count("images_made_total")) == (1, 4)
    # Stored by its own URL, with the same tags.
    completed(site.served, site.served.server.purge(tags=["pictures"]))
    for width in (160, 320):
        assert "; fwd=" in site.get(f"/photos/a.jpg?w={width}", WEBP).headers["cache-status"]
    assert site.origin.count("/photos/a.jpg") == 2


def test_an_image_that_may_not_be_stored_is_fetched_for_each_variant(gallery: Gallerist) -> None:
    site = gallery()
    site.put("/photos/a.jpg", coded(photo()), **{"cache-control": "no-store"})
    for width in (160, 320, 160):
        assert site.get(f"/photos/a.jpg?w={width}", WEBP).status_code == 200
    assert site.origin.count("/photos/a.jpg") == 3


def test_a_variant_is_as_old_as_its_image(gallery: Gallerist) -> None:
    site = gallery()
    site.get("/photos/a.jpg?w=160", WEBP)
    site.served.set_clock(400)
    second = site.get("/photos/a.jpg?w=320", WEBP)
    age = int(second.headers["age"])
    # The request takes some of it.
    assert 400 <= age <= 430 and f"ttl={600 - age}" in second.headers["cache-status"]
    site.served.set_clock(601)
    # The clock of the origin stays behind.
    site.origin.on("/photos/a.jpg", Reply(304, {"etag": '"v1"', "cache-control": "max-age=6000"}))
    for width in (160, 320):
        known = site.get(f"/photos/a.jpg?w={width}", WEBP)
        assert "fwd=stale" in known.headers["cache-status"] and known.status_code == 200
    assert (site.origin.count("/photos/a.jpg"), site.count("images_made_total")) == (2, 2)


def test_an_image_whose_origin_is_gone_fails_as_it_does_itself(gallery: Gallerist) -> None:
    site = gallery(route={"cache": CachePolicy(stale_if_error=600)})
    first = site.get("/photos/a.jpg?w=160", WEBP)
    site.origin.kill()
    assert site.get("/photos/b.jpg?w=160", WEBP).status_code == site.get("/photos/b.txt").status_code == 502
    site.served.set_clock(700)
    stale = site.get("/photos/a.jpg?w=160", WEBP)
    assert (stale.status_code, stale.content) == (200, first.content)
    # Made of the stale image, which the same policy allows.
    assert site.get("/photos/a.jpg?w=320", WEBP).status_code == 200
    site.served.set_clock(1_300)
    assert site.get("/photos/a.jpg?w=160", WEBP).status_code == 502


def test_parts_and_heads_of_a_variant(gallery: Gallerist) -> None:
    site = gallery()
    whole = site.get("/photos/a.jpg?w=160", WEBP)
    part = site.get("/photos/a.jpg?w=160", WEBP, range="bytes=0-9")
    assert part.content in {whole.content, whole.content[:10]}
    head = site.get("/photos/a.jpg?w=160", WEBP, "HEAD")
    assert (head.headers["content-length"], head.content) == (str(len(whole.content)), b"")
    fresh = site.get("/photos/a.jpg?w=320", WEBP, "HEAD")
    assert (fresh.status_code, fresh.headers["content-type"], fresh.content) == (200, "image/webp", b"")
    # It leaves the variant in the store.
    made = site.count("images_made_total")
    stored = site.get("/photos/a.jpg?w=320", WEBP)
    assert "; hit" in stored.headers["cache-status"] and site.count("images_made_total") == made
    assert fresh.headers["content-length"] == str(len(stored.content))


def test_an_origin_that_fails_leaves_the_stale_variant(gallery: Gallerist) -> None:
    site = gallery(route={"cache": CachePolicy(stale_if_error=600)})
    site.put("/photos/a.jpg", coded(photo()), **{"cache-control": "max-age=0"})
    first = site.get("/photos/a.jpg?w=160", WEBP)
    site.origin.on("/photos/a.jpg", Reply(503))
    assert site.get("/photos/a.jpg?w=160", WEBP).content == first.content


def test_a_page_of_the_origin_is_passed(gallery: Gallerist) -> None:
    site = gallery()
    site.origin.on("/photos/gone.jpg", Reply(404, {"content-type": "text/html"}, "<p>gone</p>"))
    for path in ("/_image?url=/photos/gone.jpg&w=160", "/photos/gone.jpg?w=160"):
        answer = site.get(path)
        assert (answer.status_code, answer.text) == (404, "<p>gone</p>")


def test_explain_names_the_variant() -> None:
    edge = Edge("test")
    site = edge.origin("site", "http://127.0.0.1:1")
    edge.images("/_image", sources=[site])
    edge.route("/photos/*", to=site, images=Images())
    for path in PATHS:
        steps = edge.explain("GET", f"http://h{path}", [("accept", WEBP)])
        assert "w=160 f=auto:webp q=75" in {step["decision"] for step in steps}
    assert any("image w=160 f=auto:webp q=75" in step["reason"] + step["decision"] for step in steps)


def test_a_policy_refuses_values_out_of_range_by_their_field() -> None:
    bad: dict[str, Any]
    for bad in ({"widths": ()}, {"widths": (0,)}, {"qualities": (101,)}, {"formats": ("gif",)}, {"svg": True}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            Images(**bad)
