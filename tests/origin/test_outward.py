"""An origin's own URLs in its responses reach the viewer as the viewer knows them."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from edgerouter import CachePolicy, Edge, Rewrite, cache
from edgerouter.testing import Running

from ..conftest import Serve
from ..origins import Origin, Reply

Client = Callable[[Running], httpx.Client]
Site = Callable[..., httpx.Client]

INNER = "app.internal"


@pytest.fixture
def shop(origin: Origin, serve: Serve, client_for: Client) -> Site:
    """``shop(prefix=, settings=, **route)``: an edge whose route leads to the origin under this prefix."""

    def make(
        pattern: str = "/*", prefix: str = "", settings: dict[str, object] | None = None, **route: object
    ) -> httpx.Client:
        edge = Edge("test")
        made = edge.origin("app", origin.url + prefix, **{"host": INNER, **(settings or {})})  # type: ignore[arg-type]
        edge.route(pattern, to=made, **route)  # type: ignore[arg-type]
        client = client_for(serve(edge))
        client.headers["host"] = "shop.example"
        return client

    return make


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (f"http://{INNER}/next?a=b#c", "http://shop.example/next?a=b#c"),
        (f"HTTP://{INNER.upper()}/next", "http://shop.example/next"),
        (f"http://{INNER}:80/next", "http://shop.example/next"),
        (f"http://{INNER}", "http://shop.example"),
        (f"//{INNER}/next", "//shop.example/next"),
        # Another scheme is meant: a redirect to https must not lead back here.
        (f"https://{INNER}/next", "https://shop.example/next"),
        (f"http://{INNER}:8080/next", f"http://{INNER}:8080/next"),
        (f"http://{INNER}.evil.example/", f"http://{INNER}.evil.example/"),
        (f"http://user@{INNER}/", f"http://user@{INNER}/"),
        ("http://other.example/next", "http://other.example/next"),
        ("http://shop.example/next", "http://shop.example/next"),
        ("/next", "/next"),
        ("next", "next"),
    ],
)
@pytest.mark.parametrize("field", ["location", "content-location"])
def test_the_inner_host_becomes_the_outer_one(origin: Origin, shop: Site, field: str, said: str, seen: str) -> None:
    origin.default = Reply(302 if field == "location" else 200, {field: said})
    assert shop().get("/").headers[field] == seen


def test_bytes_outside_ascii_do_not_keep_the_inner_host(origin: Origin, shop: Site) -> None:
    said = f"http://{INNER}/straße?q=⌣".encode()
    origin.default = Reply(302, {"Location": said.decode("latin-1")})
    locations = [value for name, value in shop().get("/").headers.raw if name.lower() == b"location"]
    assert locations == [said.replace(INNER.encode(), b"shop.example")]


def test_the_origins_own_address_is_its_name_as_well(origin: Origin, shop: Site) -> None:
    origin.default = Reply(302, {"Location": f"{origin.url}/next"})
    assert shop().get("/").headers["location"] == "http://shop.example/next"
    client = shop(settings={"host": "origin"})
    assert client.get("/").headers["location"] == "http://shop.example/next"


def test_the_outer_port_is_kept(origin: Origin, shop: Site) -> None:
    origin.default = Reply(302, {"Location": f"http://{INNER}/next"})
    response = shop().get("/", headers={"host": "shop.example:8443"})
    assert response.headers["location"] == "http://shop.example:8443/next"


@pytest.mark.parametrize(
    ("route", "prefix", "said", "seen"),
    [
        ({"pattern": "/shop/*", "strip_prefix": "/shop"}, "", "/next", "/shop/next"),
        ({"pattern": "/shop/*", "strip_prefix": "/shop"}, "", f"http://{INNER}/next", "http://shop.example/shop/next"),
        # The origin knows X-Forwarded-Prefix and has done it already.
        ({"pattern": "/shop/*", "strip_prefix": "/shop"}, "", "/shop/next", "/shop/next"),
        ({"pattern": "/shop/*", "strip_prefix": "/shop"}, "", "/shopping", "/shop/shopping"),
        ({}, "/app", "/app/next", "/next"),
        ({}, "/app", "/app", "/"),
        ({}, "/app", f"http://{INNER}/app/next?q", "http://shop.example/next?q"),
        ({}, "/app", "/apple", "/apple"),
        # No URL of the viewer leads there.
        ({}, "/app", f"http://{INNER}/other", f"http://{INNER}/other"),
        # Not a host (RFC 3986 §4.2).
        ({}, "/app", "/app//evil.example/x", "/.//evil.example/x"),
        ({"add_prefix": "/v2"}, "/app", "/app/v2/next", "/next"),
        ({"pattern": "/shop/*", "strip_prefix": "/shop", "add_prefix": "/v2"}, "", "/v2/next", "/shop/next"),
        ({"pattern": "/shop/*", "strip_prefix": "/shop"}, "/app", "/app/next", "/shop/next"),
        ({"rewrite": Rewrite("/*", "/all")}, "/app", "/app/next", "/app/next"),
    ],
)
def test_prefixes_go_and_return(
    origin: Origin, shop: Site, route: dict[str, object], prefix: str, said: str, seen: str
) -> None:
    origin.default = Reply(302, {"Location": said})
    assert shop(prefix=prefix, **route).get("/shop/a").headers["location"] == seen


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (f"5; url=http://{INNER}/next", "5; url=http://shop.example/next"),
        (f"0;URL='http://{INNER}/next'", "0; url='http://shop.example/next'"),
        (f'0, url = "http://{INNER}/a;b"', '0, url="http://shop.example/a;b"'),
        ("5", "5"),
        ("5; url=http://other.example/", "5; url=http://other.example/"),
    ],
)
def test_refresh_is_rewritten(origin: Origin, shop: Site, said: str, seen: str) -> None:
    origin.default = Reply(200, {"Refresh": said})
    assert shop().get("/").headers["refresh"] == seen


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (f"a=b; Domain={INNER}; Secure", "a=b; Secure"),
        (f"a=b; domain=.{INNER.upper()}", "a=b"),
        ("a=b; Domain=internal", "a=b; Domain=internal"),
        ("a=b; Path=/app/x; HttpOnly", "a=b; Path=/shop/x; HttpOnly"),
        ("a=b; Path=/app", "a=b; Path=/shop"),
        ("a=b; Path=/", "a=b; Path=/"),
        ("a=b", "a=b"),
        (f"__Host-a=b; Domain={INNER}; Path=/app/x", f"__Host-a=b; Domain={INNER}; Path=/app/x"),
        ("__secure-a=b; Path=/app/x", "__secure-a=b; Path=/app/x"),
        ("a=Domain=app.internal; Path=/shop/x", "a=Domain=app.internal; Path=/shop/x"),
    ],
)
def test_cookies_are_for_the_viewers_host_and_path(origin: Origin, shop: Site, said: str, seen: str) -> None:
    origin.default = Reply(200, {"Set-Cookie": said})
    client = shop("/shop/*", prefix="/app", strip_prefix="/shop")
    assert client.get("/shop/a").headers["set-cookie"] == seen


def test_a_cookie_for_the_root_is_for_the_prefix(origin: Origin, shop: Site) -> None:
    origin.default = Reply(200, [("Set-Cookie", "a=b; Path=/"), ("Set-Cookie", "c=d; Path=/x")])
    client = shop("/shop/*", strip_prefix="/shop")
    assert client.get("/shop/a").headers.get_list("set-cookie") == ["a=b; Path=/shop", "c=d; Path=/shop/x"]


def test_what_is_stored_is_the_viewers(origin: Origin, shop: Site) -> None:
    origin.default = Reply(301, {"Location": f"http://{INNER}/next", "Cache-Control": "max-age=60"})
    client = shop()
    for _ in range(2):
        assert client.get("/").headers["location"] == "http://shop.example/next"
    # Another host or port is another key: nobody is sent elsewhere.
    assert client.get("/", headers={"host": "b.example"}).headers["location"] == "http://b.example/next"
    assert origin.count() == 2


def test_a_redirect_by_another_name_invalidates_what_it_names(origin: Origin, shop: Site) -> None:
    client = shop(prefix="/app")
    for said in (f"http://{INNER}/app/item", "/app/item", "http://shop.example/item"):
        origin.on("/app/item", Reply(200, {"Cache-Control": "max-age=60"}, "item"))
        origin.on("/app/add", Reply(303, {"Location": said}))
        for _ in range(2):
            client.get("/item")
        assert "; hit" in client.get("/item").headers["cache-status"]
        client.post("/add")
        assert "; hit" not in client.get("/item").headers["cache-status"], said


def test_where_host_and_prefix_are_the_viewers_nothing_changes(origin: Origin, shop: Site) -> None:
    fields = [("Location", "http://shop.example/app/x"), ("Set-Cookie", "a=b; Domain=shop.example; Path=/app")]
    origin.default = Reply(302, fields)
    response = shop(settings={"host": "viewer"}).get("/")
    assert response.headers["location"] == "http://shop.example/app/x"
    assert response.headers["set-cookie"] == "a=b; Domain=shop.example; Path=/app"


def test_urls_of_the_origin_are_left_alone_where_the_origin_says_so(origin: Origin, shop: Site) -> None:
    origin.default = Reply(302, {"Location": f"http://{INNER}/next"})
    client = shop(settings={"rewrite_urls": False})
    assert client.get("/").headers["location"] == f"http://{INNER}/next"


@pytest.mark.parametrize("policy", [CachePolicy(), cache.DISABLED], ids=["cached", "uncached"])
def test_the_origin_is_told_the_prefix(origin: Origin, shop: Site, policy: CachePolicy) -> None:
    origin.default = Reply(200, {}, "x")
    client = shop("/shop/*", strip_prefix="/shop", cache=policy)
    client.get("/shop/a", headers={"X-Forwarded-Prefix": "/forged"})
    assert origin.requests[0].target == "/a"
    assert origin.requests[0].all("x-forwarded-prefix") == ["/shop"]
    edited = shop(
        "/shop/*", strip_prefix="/shop", cache=policy, headers={"request": {"set": {"X-Forwarded-Prefix": "/own"}}}
    )
    edited.get("/shop/b")
    assert origin.requests.pop(1).all("x-forwarded-prefix") == ["/own"]
    shop(cache=policy).get("/a")
    assert origin.requests[1].all("x-forwarded-prefix") == []
