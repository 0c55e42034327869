"""Each scope of a purge, hard and soft: what it names is gone or stale at once, everything else stays."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from edgerouter import CachePolicy, Edge, Experiment

from ..origins import Origin, Reply, Seen
from ..responses import is_hit
from .conftest import MakeShop, Shop

ALL = ["/", "/static/css/a.css", "/static/css/deep/b.css?v=1", "/static/js/a.js", "/page?x=1"]


@pytest.mark.parametrize(
    ("what", "gone"),
    [
        ({"urls": ["http://shop.example/"]}, ["/"]),
        ({"urls": ["https://SHOP.example:443/page?x=1"]}, ["/page?x=1"]),
        ({"urls": ["https://shop.example/page"]}, []),
        ({"urls": ["https://other.example/"]}, []),
        ({"paths": ["/page?x=1"]}, ["/page?x=1"]),
        ({"paths": ["/page*"]}, ["/page?x=1"]),
        ({"paths": ["/static/css/*.css"]}, ["/static/css/a.css", "/static/css/deep/b.css?v=1"]),
        ({"paths": ["/static/*"]}, ["/static/css/a.css", "/static/css/deep/b.css?v=1", "/static/js/a.js"]),
        ({"paths": ["shop.example/static/js/*"]}, ["/static/js/a.js"]),
        ({"paths": ["other.example/*"]}, []),
        ({"paths": ["/*"]}, ALL),
        ({"hosts": ["Shop.Example"]}, ALL),
        ({"hosts": ["other.example"]}, []),
        ({"tags": ["all"]}, ALL),
        ({"tags": ["al", "ll", "All"]}, []),
        ({"everything": True}, ALL),
    ],
    ids=str,
)
def test_a_purge_takes_what_it_names_and_nothing_else(
    make_shop: MakeShop, what: dict[str, Any], gone: list[str]
) -> None:
    shop = make_shop(headers={"Cache-Tag": "all, of, them"})
    shop.fill(*ALL)
    dry = shop.served.server.purge(dry_run=True, **what)
    assert dry.matched.objects == len(gone) and len(dry.sample) == len(gone)
    assert all(is_hit(shop.get(path)) for path in ALL), "a dry run purges nothing"
    purge = shop.completed(shop.purge(**what) if "urls" not in what else shop.purge(*what["urls"]))
    assert [path for path in ALL if not is_hit(shop.get(path))] == gone
    assert purge.matched.objects == len(gone)
    assert (purge.matched.bytes > 0) == bool(gone)
    assert (purge.warning is None) == bool(gone)
    assert all(is_hit(shop.get(path)) for path in ALL), "what comes after a purge is stored as ever"


@pytest.mark.parametrize(
    "what",
    [{"paths": ["/page"]}, {"paths": ["/pa*"]}, {"hosts": ["shop.example"]}, {"tags": ["t"]}, {"everything": True}],
)
def test_a_soft_purge_leaves_a_stale_copy_that_serves_while_it_is_refreshed(
    make_shop: MakeShop, what: dict[str, Any]
) -> None:
    shop = make_shop(headers={"Surrogate-Key": "t", "Cache-Control": "max-age=600, stale-while-revalidate=60"})
    shop.fill("/page")
    purge = shop.purge(soft=True, **what)
    stale = shop.get("/page")
    assert stale.text == "1" and "; hit; ttl=" in stale.headers["cache-status"]
    shop.origin.wait_for(2, "/page")
    shop.completed(purge)
    served = {shop.get("/page").text for _ in range(20)}
    assert served <= {"1", "2"}
    assert shop.origin.count("/page") == 2, "it is refreshed once"


def test_a_soft_purge_still_stands_in_for_a_dead_origin_and_a_hard_one_does_not(make_shop: MakeShop) -> None:
    shop = make_shop(headers={"Cache-Control": "max-age=600, stale-if-error=600"})
    shop.fill("/soft", "/hard")
    shop.completed(shop.purge(paths=["/soft"], soft=True))
    shop.purge(paths=["/hard"])
    shop.origin.kill()
    assert shop.get("/soft").status_code == 200
    assert shop.get("/hard").status_code in (502, 504)


def test_a_soft_purge_revalidates_and_a_304_makes_it_fresh(make_shop: MakeShop) -> None:
    shop = make_shop()

    def answer(seen: Seen) -> Reply:
        if seen.get("if-none-match") == '"v1"':
            return Reply(304, {"ETag": '"v1"', "Cache-Control": "max-age=600"})
        return Reply(200, {"ETag": '"v1"', "Cache-Control": "max-age=600", "Cache-Tag": "t"}, "body")

    shop.origin.default = answer
    shop.fill("/page")
    shop.completed(shop.purge(tags=["t"], soft=True))
    assert shop.get("/page").text == "body"
    assert shop.origin.requests[-1].get("if-none-match") == '"v1"'
    assert is_hit(shop.get("/page"))
    shop.purge(tags=["t"])
    assert not is_hit(shop.get("/page")), "the tags outlive the 304, which named none"
    assert shop.origin.requests[-1].get("if-none-match") is None, "what is gone is not validated"


def test_tags_come_from_the_named_fields_and_viewers_do_not_see_them(make_shop: MakeShop) -> None:
    def declare(edge: Edge, first: Any) -> None:
        edge.route("/plain/*", to=first)
        edge.route("/own/*", to=first, cache=CachePolicy(tags=["X-Topics"], send_tags=True))
        edge.route("/passed/*", to=first, cache=CachePolicy(enabled=False))

    shop = make_shop(declare, headers={"Cache-Tag": "a,b", "Surrogate-Key": "c d", "X-Topics": "e"})
    for path in ("/plain/x", "/plain/x", "/passed/x"):
        response = shop.get(path)
        assert "cache-tag" not in response.headers and "surrogate-key" not in response.headers
        assert response.headers["x-topics"] == "e"
    shop.fill("/own/x")
    assert shop.get("/own/x").headers["x-topics"] == "e"
    for tag, path in (("a", "/plain/x"), ("d", "/plain/x"), ("e", "/own/x")):
        assert is_hit(shop.get(path))
        shop.purge(tags=[tag])
        assert not is_hit(shop.get(path)), tag
    assert is_hit(shop.get("/own/x"))
    shop.purge(tags=["a", "c"])
    assert is_hit(shop.get("/own/x"))


def test_no_twin_is_left_of_variants_experiments_and_cookies(make_shop: MakeShop, origin: Origin) -> None:
    def declare(edge: Edge, first: Any) -> None:
        edge.route(
            "/*",
            to=first,
            cache=CachePolicy(cookies=["plan"], headers=["X-Device"]),
            experiment=Experiment("home", cookie="ab", variants={"a": 50, "b": 50}),
        )

    shop = make_shop(declare, headers={"Vary": "Accept-Language"})
    shapes = [
        {"accept_language": language, "cookie": f"plan={plan}; ab={variant}", "x_device": device}
        for language in ("en", "de")
        for plan in ("free", "paid")
        for variant in ("a", "b")
        for device in ("phone", "desk")
    ]
    for shape in shapes:
        shop.get("/page", **shape)
        assert is_hit(shop.get("/page", **shape))
    purge = shop.completed(shop.purge("http://shop.example/page"))
    assert purge.matched.objects == len(shapes)
    for shape in shapes:
        assert not is_hit(shop.get("/page", **shape)), shape
        assert is_hit(shop.get("/page", **shape)), "the new one is kept"


@pytest.mark.parametrize("completed", [False, True])
def test_a_purge_names_what_viewers_see_whatever_the_route_makes_of_it(make_shop: MakeShop, completed: bool) -> None:
    def declare(edge: Edge, first: Any) -> None:
        edge.route("/old/*", to=first, rewrite=("/old/{rest:path}", "/new/{rest}"))
        edge.route("/app/*", to=first, strip_prefix="/app", add_prefix="/v2")
        edge.route("/none/*", to=first, cache=CachePolicy(query="none"))
        edge.route("/some/*", to=first, cache=CachePolicy(query=["id"]))
        edge.route("/*", to=first, index="index.html")

    shop = make_shop(declare)
    for seen, purged in (
        ("/old/x", "/old/x"),
        ("/app/y", "/app/y"),
        ("/docs/", "/docs/"),
        ("/none/a?utm=1", "/none/a?utm=2"),
        ("/none/b?utm=1", "/none/b"),
        ("/some/a?id=1&utm=1", "/some/a?id=1&utm=2"),
        ("/%7Euser/a%2fb", "/~user/a%2Fb"),
        ("/q?name=%7e%c3%a9", "/q?name=~%C3%A9"),
    ):
        shop.fill(seen)
        purge = shop.purge(f"http://shop.example{purged}")
        if completed:
            assert shop.completed(purge).matched.objects == 1, purged
        assert not is_hit(shop.get(seen)), purged


def test_a_url_is_gone_by_each_of_its_names(make_shop: MakeShop) -> None:
    def declare(edge: Edge, first: Any) -> None:
        edge.route("/*", to=first, index="index.html")

    shop = make_shop(declare)
    shop.fill("/docs/index.html")
    assert not is_hit(shop.get("/docs/never"))
    shop.completed(shop.purge("http://shop.example/docs/"))
    assert not is_hit(shop.get("/docs/")), "stored for another name of the same document"
    shop.completed(shop.purge("http://shop.example/docs/index.html"))
    assert not is_hit(shop.get("/docs/"))


def test_an_error_page_can_be_purged(make_shop: MakeShop, origin: Origin) -> None:
    def declare(edge: Edge, first: Any) -> None:
        edge.route("/*", to=first, errors={404: "/404.html"})

    shop = make_shop(declare)
    for path in ("/gone", "/lost"):
        origin.on(path, Reply(404, {"Cache-Control": "no-store"}, "no"))
    first = shop.get("/gone").text
    assert shop.get("/lost").text == first
    shop.purge("http://shop.example/404.html")
    second = shop.get("/lost").text
    assert second != first
    assert shop.get("/gone").text == second


def test_every_purge_is_counted_in_the_metrics(shop: Shop) -> None:
    shop.fill("/a", "/b")
    shop.completed(shop.purge(paths=["/a", "/b*"], tags=["x"]))
    shop.completed(shop.purge(everything=True))
    metrics = httpx.get(f"{shop.admin}/metrics").text
    for line in (
        'edgerouter_purges_total{scope="url"} 1',
        'edgerouter_purges_total{scope="path"} 1',
        'edgerouter_purges_total{scope="tag"} 1',
        'edgerouter_purges_total{scope="host"} 0',
        'edgerouter_purges_total{scope="everything"} 1',
        "edgerouter_purges_in_progress 0",
        "edgerouter_purge_matched_objects_total 2",
    ):
        assert line in metrics.splitlines(), line


@pytest.mark.parametrize("what", [{"urls": ["http://shop.example/v"]}, {"paths": ["/v*"]}, {"hosts": ["shop.example"]}])
def test_a_purged_url_with_variants_is_a_miss_of_the_url(make_shop: MakeShop, what: dict[str, Any]) -> None:
    shop = make_shop(headers={"Vary": "X-Device"})
    for device in ("a", "b"):
        shop.get("/v", x_device=device)
        assert is_hit(shop.get("/v", x_device=device))
    shop.completed(shop.purge(**what) if "urls" not in what else shop.purge(*what["urls"]))
    first = shop.get("/v", x_device="a").headers["cache-status"]
    assert "fwd=uri-miss" in first and "detail=purged" in first
    new = shop.get("/v", x_device="c").headers["cache-status"]
    assert "fwd=vary-miss" in new and "detail=variant-absent" in new, "of the variants since the purge"
    assert is_hit(shop.get("/v", x_device="a")) and is_hit(shop.get("/v", x_device="c"))
    assert not is_hit(shop.get("/v", x_device="b")) and is_hit(shop.get("/v", x_device="b"))
