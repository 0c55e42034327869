"""Routes: matching, precedence, viewer policy, rewrites, header and forward policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from edgerouter import CachePolicy, ConfigError, Context, Edge, ForwardPolicy, HeaderPolicy, Request, Response, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen
from ..raw import exchange, responses

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]
Site = Callable[..., httpx.Client]


def echo_target(seen: Seen) -> Reply:
    return Reply(200, {}, seen.target)


@pytest.fixture
def table(origin: Origin, serve: Serve, client_for: ClientFor) -> Callable[..., httpx.Client]:
    """``table(("/a", {...}), ...)``: each route adds ``X-Route`` with its pattern to the response."""
    origin.default = echo_target

    def make(*routes: tuple[str, dict[str, Any]]) -> httpx.Client:
        edge = Edge("test")
        first = edge.origin("first", origin.url)
        for number, (pattern, settings) in enumerate(routes):
            marked = HeaderPolicy(response={"set": {"X-Route": str(number)}})
            edge.route(pattern, **({"to": first, "cache": cache.DISABLED, "headers": marked} | settings))
        return client_for(serve(edge))

    return make


def test_precedence_does_not_depend_on_declaration_order(table: Callable[..., httpx.Client]) -> None:
    client = table(
        ("/*", {}),
        ("/img/*", {}),
        ("/img/??.png", {}),
        ("/img/aa.png", {}),
        ("*.example.com/*", {}),
        ("www.example.com/*", {}),
    )
    for host, path, route in (
        ("x", "/", 0),
        ("x", "/img/a.gif", 1),
        ("x", "/img/ab.png", 2),
        ("x", "/img/abc.png", 1),
        ("x", "/img/aa.png", 3),
        ("a.example.com", "/img/aa.png", 4),
        ("www.example.com", "/", 5),
        ("WWW.Example.COM:8080", "/", 5),
        ("example.com", "/", 0),
    ):
        assert client.get(path, headers={"host": host}).headers["x-route"] == str(route), (host, path)


def test_priority_overrides_the_order_of_patterns(table: Callable[..., httpx.Client]) -> None:
    client = table(("/*", {"priority": 1}), ("/a", {}))
    assert client.get("/a").headers["x-route"] == "0"


def test_conditions_and_methods_choose_among_routes_of_one_path(table: Callable[..., httpx.Client]) -> None:
    client = table(
        ("/c", {"when": [{"header": "x-beta", "equals": "1"}], "priority": 3}),
        ("/c", {"when": [{"cookie": "who", "matches": "a*"}], "priority": 2}),
        ("/c", {"when": [{"query": "q", "present": True}], "priority": 1}),
        ("/c", {"methods": ["GET"]}),
    )
    for headers, query, route in (({"x-beta": "1"}, "", 0), ({"cookie": "who=abc"}, "", 1), ({}, "?q", 2), ({}, "", 3)):
        client.cookies.clear()
        assert client.get(f"/c{query}", headers=headers).headers["x-route"] == str(route)
    refused = client.post("/c")
    assert refused.status_code == 405
    assert set(refused.headers["allow"].replace(" ", "").split(",")) >= {"GET", "HEAD"}
    assert client.get("/nowhere").status_code == 404


def test_index_fallback_rewrite_and_prefixes_change_the_path_that_the_origin_gets(
    origin: Origin, table: Callable[..., httpx.Client]
) -> None:
    client = table(
        ("/site/*", {"index": "index.html"}),
        ("/strip/*", {"strip_prefix": "/strip"}),
        ("/add/*", {"add_prefix": "/v1"}),
        ("/old/*", {"rewrite": ("/old/{rest:path}", "/new/{rest}")}),
        ("/app/*", {"fallback": "/app.html"}),
    )
    assert client.get("/site/").text == "/site/index.html"
    assert client.get("/site/a/?q=1").text == "/site/a/index.html?q=1"
    assert client.get("/strip/a").text == "/a"
    assert client.get("/add/a").text == "/v1/add/a"
    assert client.get("/old/a/b").text == "/new/a/b"
    origin.on("/app/deep/link", Reply(404, {}, "no"))
    origin.on("/app.html", Reply(200, {"Content-Type": "text/html"}, "the app"))
    page = client.get("/app/deep/link", headers={"accept": "text/html"})
    assert (page.status_code, page.text) == (200, "the app")
    assert client.get("/app/deep/link", headers={"accept": "image/png"}).status_code == 404
    # A list may stand on several lines.
    for second in (b"text/html", b"application/xml, Text/HTML; q=0.9", b"text/html, \xe4"):
        lines = [(b"accept", b"image/png"), (b"accept", second)]
        assert client.get("/app/deep/link", headers=lines).text == "the app", second


def test_a_redirect_keeps_the_query_and_never_leads_to_another_host(table: Callable[..., httpx.Client]) -> None:
    client = table(
        ("/go/{name}", {"to": None, "redirect": "/there/{name}"}),
        ("/out/{rest:path}", {"to": None, "redirect": {"location": "/{rest}", "status": 308}}),
    )
    assert client.get("/go/a?q=1").headers["location"] == "/there/a?q=1"
    response = client.get("/out//evil.example/")
    assert response.status_code in (308, 400)
    assert not response.headers.get("location", "").startswith("//")


def test_viewer_policies_go_by_the_scheme_that_a_trusted_proxy_says(
    origin: Origin, serve: Serve, client_for: ClientFor
) -> None:
    origin.default = echo_target
    for trusted, expected in (([], (403, 301)), (["127.0.0.0/8"], (200, 200))):
        edge = Edge("test", trusted_proxies=trusted)
        first = edge.origin("first", origin.url)
        edge.route("/only/*", to=first, viewer="https-only")
        edge.route("/*", to=first, viewer="redirect-to-https")
        client = client_for(serve(edge))
        https = {"x-forwarded-proto": "https", "host": "shop.example"}
        assert (
            client.get("/only/a", headers=https).status_code,
            client.get("/a?b=c", headers=https).status_code,
        ) == expected
        plain = client.get("/a?b=c", headers={"host": "shop.example"})
        assert (plain.status_code, plain.headers["location"]) == (301, "https://shop.example/a?b=c")
        for port, kept in (("80", ""), ("443", ""), ("8443", ":8443")):
            response = client.get("/a", headers={"host": f"shop.example:{port}"})
            assert response.headers["location"] == f"https://shop.example{kept}/a", "RFC 6797 §8.3"
        assert client.post("/a", headers={"host": "shop.example"}).status_code == 308
        assert client.get("/only/a").status_code == 403


def test_header_policies_change_requests_and_responses(origin: Origin, site: Site) -> None:
    origin.default = Reply(200, {"X-Powered-By": "x", "X-Old": "1"}, "x")
    policy = HeaderPolicy(
        request={"set": {"X-Set": "1"}, "add": {"X-Add": "2"}, "remove": ["X-Gone"]},
        response={"set": {"X-Old": "2"}, "add": {"X-New": "3"}, "remove": ["X-Powered-By"]},
    )
    client = site(headers=policy)
    response = client.get("/", headers={"x-gone": "1", "x-set": "client"})
    seen = origin.requests[0]
    assert (seen.all("x-set"), seen.get("x-add"), seen.get("x-gone")) == (["1"], "2", None)
    assert (response.headers["x-old"], response.headers["x-new"]) == ("2", "3")
    assert "x-powered-by" not in response.headers


def test_forward_policies_choose_what_the_origin_gets(origin: Origin, site: Site) -> None:
    origin.default = Reply(200, {}, "x")
    client = site(
        cache=cache.DISABLED,
        forward=ForwardPolicy(
            query={"only": ["a"]}, cookies={"except": ["secret"]}, headers={"only": ["accept-language"]}
        ),
    )
    client.get("/p?a=1&b=2&a=3", headers={"cookie": "secret=1; kept=2", "accept-language": "de", "x-private": "1"})
    seen = origin.requests[0]
    assert seen.target == "/p?a=1&a=3"
    assert seen.get("cookie") == "kept=2"
    assert (seen.get("accept-language"), seen.get("x-private"), seen.get("user-agent")) == ("de", None, None)


def test_an_error_page_of_the_route_answers_in_place_of_an_error(origin: Origin, site: Site) -> None:
    origin.on("/oops.html", Reply(200, {"Cache-Control": "max-age=60", "Content-Type": "text/html"}, "a kind page"))
    origin.on("/broken", Reply(500, {}, "a stack trace"))
    client = site(errors={404: "/oops.html", 500: "/oops.html"})
    for path, status in (("/missing", 404), ("/broken", 500)):
        response = client.get(path)
        assert (response.status_code, response.text) == (status, "a kind page")


def test_the_origin_is_addressed_as_configured(origin: Origin, serve: Serve, client_for: ClientFor) -> None:
    origin.default = Reply(200, {}, "x")
    edge = Edge("test")
    edge.route("/own/*", to=edge.origin("own", origin.url))
    edge.route("/viewer/*", to=edge.origin("viewer", origin.url, host="viewer"))
    edge.route(
        "/fixed/*", to=edge.origin("fixed", f"{origin.url}/base", host="fixed.example", headers={"X-Edge-Key": "k"})
    )
    client = client_for(serve(edge))
    for path in ("/own/a", "/viewer/a", "/fixed/a"):
        client.get(path, headers={"host": "shop.example"})
    own, viewer, fixed = origin.requests
    assert own.get("host") == f"127.0.0.1:{origin.port}"
    assert viewer.get("host") == "shop.example"
    assert (fixed.get("host"), fixed.target, fixed.get("x-edge-key")) == ("fixed.example", "/base/fixed/a", "k")
    assert own.get("x-forwarded-host") == "shop.example"
    assert own.get("via") == "1.1 edgerouter"


def test_http_1_0_and_absolute_form_work(origin: Origin, site: Site) -> None:
    origin.default = echo_target
    base = str(site().base_url)
    for data in (
        b"GET /a HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET http://a/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ):
        (answer,) = responses(exchange(base, data))
        assert (answer.status, answer.body) == (200, b"/a"), data


@pytest.mark.parametrize(
    ("trusted", "sent", "client", "chain", "proto"),
    [
        ((), "6.6.6.6", "127.0.0.1", "127.0.0.1", "http"),
        (("10.0.0.0/8",), "6.6.6.6", "127.0.0.1", "127.0.0.1", "http"),
        (("127.0.0.0/8",), "6.6.6.6", "6.6.6.6", "6.6.6.6, 127.0.0.1", "https"),
        (
            ("127.0.0.0/8", "10.0.0.0/8"),
            "6.6.6.6, 7.7.7.7, 10.0.0.1",
            "7.7.7.7",
            "6.6.6.6, 7.7.7.7, 10.0.0.1, 127.0.0.1",
            "https",
        ),
        (("127.0.0.0/8",), "2001:db8::1", "2001:db8::1", "2001:db8::1, 127.0.0.1", "https"),
        (("127.0.0.0/8",), "unknown", "127.0.0.1", "unknown, 127.0.0.1", "https"),
    ],
)
def test_only_trusted_proxies_say_who_asks_and_how(
    origin: Origin, serve: Serve, trusted: tuple[str, ...], sent: str, client: str, chain: str, proto: str
) -> None:
    origin.default = Reply(200, {}, "x")
    edge = Edge("test", trusted_proxies=trusted)
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)

    @edge.on("viewer_request", "/*")
    def note(request: Request, ctx: Context) -> None:
        request.headers["x-client"] = f"{request.client} {request.scheme}"

    base = serve(edge).url
    httpx.get(f"{base}/", headers={"x-forwarded-for": sent, "x-forwarded-proto": "https", "x-forwarded-host": "other"})
    seen = origin.requests[0]
    assert seen.get("x-client") == f"{client} {proto}"
    assert seen.all("x-forwarded-for") == [chain]
    assert seen.all("x-forwarded-proto") == [proto]
    assert seen.all("x-forwarded-host") == ["other" if proto == "https" else httpx.URL(base).netloc.decode()]


def test_a_parameter_never_leads_to_another_host(table: Callable[..., httpx.Client]) -> None:
    client = table(("/go/{rest:path}", {"to": None, "redirect": "/{rest}", "cache": cache.STANDARD}))
    base = str(client.base_url)
    for sent, location in (
        (b"/go/a", "/a"),
        (b"/go//evil.example", "/.//evil.example"),
        (b"/go/%5Cevil.example", "/%5Cevil.example"),
    ):
        data = b"GET " + sent + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert responses(exchange(base, data))[0].get("location") == location


def test_the_host_that_a_trusted_proxy_was_asked_for_goes_on_and_is_in_the_key(
    origin: Origin, serve: Serve, client_for: ClientFor
) -> None:
    def echo(seen: Seen) -> Reply:
        host = seen.get("x-forwarded-host")
        return Reply(200, {"Cache-Control": "max-age=60", "Content-Location": f"http://inner/{host}"}, str(host))

    origin.default = echo
    edge = Edge("test", trusted_proxies=["127.0.0.0/8"])
    edge.route("/*", to=edge.origin("first", origin.url, host="inner"))
    client = client_for(serve(edge))
    for _ in range(2):
        for said, seen in (
            ("a.example", "a.example"),
            ("B.Example:80", "b.example"),
            ("c.example:8080", "c.example:8080"),
            ("evil, d.example", "d.example"),
            ("not a host", "edge.example"),
        ):
            response = client.get("/page", headers={"host": "edge.example", "x-forwarded-host": said})
            assert response.text == seen
            assert response.headers["content-location"] == f"http://{seen}/{seen}"
    assert origin.count() == 5


def test_the_url_of_a_request_keeps_its_port(origin: Origin, serve: Serve, client_for: ClientFor) -> None:
    edge = Edge("test")

    @edge.function("/url")
    def url(request: Request, ctx: Context) -> Response:
        return Response.text(f"{request.url} {request.host}")

    client = client_for(serve(edge))
    for host, seen in (
        ("shop.example:8443", "http://shop.example:8443/url?a=b shop.example"),
        ("shop.example:80", "http://shop.example/url?a=b shop.example"),
        ("[::1]:8080", "http://[::1]:8080/url?a=b [::1]"),
    ):
        assert client.get("/url?a=b", headers={"host": host}).text == seen


def for_function(edge: Edge, **options: Any) -> None:
    @edge.function("/a", **options)
    def answer(request: Request, ctx: Context) -> Response:
        return Response("a")


def for_application(edge: Edge, **options: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    edge.mount("/a", app, **options)


EDITS = HeaderPolicy(request={"remove": ["X-Debug"]})


@pytest.mark.parametrize(
    ("declare", "options", "problem"),
    [
        pytest.param(for_function, {"headers": EDITS}, "headers.request: .* has function", id="edits, function"),
        pytest.param(for_application, {"headers": EDITS}, "headers.request: .* has function", id="edits, mount"),
        pytest.param(
            lambda edge, **options: edge.route("/a", respond="a", **options),
            {"headers": EDITS},
            "headers.request: .* has respond",
            id="edits, respond",
        ),
        pytest.param(
            lambda edge, **options: edge.route("/a", respond="a", **options),
            {"cache": CachePolicy(ttl=60)},
            "cache: has no effect: the edge makes the response itself",
            id="cache, respond",
        ),
        pytest.param(
            lambda edge, **options: edge.route("/a", redirect="/b", **options),
            {"cache": cache.OPTIMIZED},
            "cache: has no effect: the edge makes the response itself",
            id="cache, redirect",
        ),
        pytest.param(
            lambda edge, **options: edge.images("/a", sources=[edge.origin("b", "http://b.example")], **options),
            {"cache": CachePolicy(ttl=60)},
            "cache: has no effect without hosts of others",
            id="cache, images",
        ),
    ],
)
def test_a_policy_that_a_target_has_no_use_for_is_refused(
    declare: Callable[..., object], options: dict[str, Any], problem: str
) -> None:
    edge = Edge("test")
    declare(edge, **options)
    with pytest.raises(ConfigError, match=rf"routes\[0\]\.{problem}"):
        edge.compile()
