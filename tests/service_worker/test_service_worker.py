"""The generated service worker in a real browser, with the network there and gone."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from edgerouter import ConfigError, Edge, Experiment
from edgerouter.server import Server
from edgerouter.settings import Settings
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen, wait_until
from .browser import Browser, BrowserError

HTML = {"Content-Type": "text/html; charset=utf-8"}
REGISTER = "<script>navigator.serviceWorker.register('/sw.js')</script>"
CACHED = """
    caches.keys()
        .then((names) => Promise.all(names.map((name) => caches.open(name).then((cache) => cache.keys()))))
        .then((lists) => lists.flat().map((request) => new URL(request.url).pathname).sort())
"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    made = Browser(tmp_path / "profile")
    yield made
    made.close()


@pytest.fixture
def pages(origin: Origin) -> Origin:
    origin.on("/", Reply(200, HTML, f"<body>home{REGISTER}</body>"))
    origin.on("/about", Reply(200, HTML, "<body>about us</body>"))
    origin.on("/offline.html", Reply(200, HTML, "<body>no network</body>"))
    origin.on("/app.css", Reply(200, {"Content-Type": "text/css"}, "body { color: black }"))
    return origin


def site(origin: Origin, **more: object) -> Edge:
    edge = Edge("shop")
    edge.route("/*", to=edge.origin("first", origin.url))
    edge.service_worker(precache=["/app.css"], offline="/offline.html", **more)  # type: ignore[arg-type]
    return edge


def installed(browser: Browser, url: str) -> None:
    """Opens the site and waits until the worker controls the page."""
    assert browser.go(url).startswith("home")
    browser.wait("navigator.serviceWorker.ready")
    wait_until(lambda: browser.run("return navigator.serviceWorker.controller !== null"), what="the worker's control")


def fetched(browser: Browser, path: str, options: str = "{}") -> str:
    return str(browser.wait(f"fetch({path!r}, {options}).then((response) => response.text())"))


def cut(edge: Running) -> None:
    """Takes the network away: nothing listens at the site's address any more."""
    edge.server.stop(0)
    with pytest.raises(httpx.ConnectError):
        httpx.get(edge.url)


def cached(browser: Browser) -> list[str]:
    return list(browser.wait(CACHED))


def test_the_script_is_served_so_that_browsers_always_look_for_a_new_one(
    pages: Origin, serve: Callable[[Edge], Running]
) -> None:
    edge = serve(site(pages, scope="/", api=["/api/*"]))
    script = httpx.get(f"{edge.url}/sw.js")
    assert script.status_code == 200
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["cache-control"] == "no-cache"
    assert script.headers["service-worker-allowed"] == "/"
    tag = script.headers["etag"]
    assert tag.strip('"') in script.text, "the caches bear the version"
    again = httpx.get(f"{edge.url}/sw.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert again.headers["cache-control"] == "no-cache"
    head = httpx.head(f"{edge.url}/sw.js")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(script.content)))
    assert httpx.post(f"{edge.url}/sw.js").status_code != 200
    assert pages.count("/sw.js") == 1, "only what is no GET or HEAD is for the site's own routes"


def test_the_version_follows_the_route_table(pages: Origin, serve: Callable[[Edge], Running]) -> None:
    edge = serve(site(pages))
    first = httpx.get(f"{edge.url}/sw.js").headers["etag"]
    edge.reload(site(pages))
    assert httpx.get(f"{edge.url}/sw.js").headers["etag"] == first
    other = site(pages)
    other.route("/new", respond="new")
    edge.reload(other)
    assert httpx.get(f"{edge.url}/sw.js").headers["etag"] != first


def test_without_network_visited_pages_and_the_offline_page_answer(
    pages: Origin, browser: Browser, serve: Callable[[Edge], Running]
) -> None:
    edge = serve(site(pages))
    installed(browser, edge.url)
    assert cached(browser) == ["/app.css", "/offline.html"], "installing precaches the list"
    assert browser.go(f"{edge.url}/about") == "about us"
    wait_until(lambda: "/about" in cached(browser), what="the visited page in the cache")
    cut(edge)
    assert browser.go(f"{edge.url}/about") == "about us"
    assert browser.go(f"{edge.url}/never-visited") == "no network"
    assert fetched(browser, "/app.css") == "body { color: black }"
    with pytest.raises(BrowserError, match="TypeError"):
        fetched(browser, "/api/never-asked")


def test_navigations_get_the_newest_page_while_there_is_a_network(
    pages: Origin, browser: Browser, serve: Callable[[Edge], Running]
) -> None:
    edge = serve(site(pages))
    installed(browser, edge.url)
    versions = itertools.count(1)
    pages.on("/news", lambda _: Reply(200, HTML, f"<body>news {next(versions)}</body>"))
    assert [browser.go(f"{edge.url}/news") for _ in range(3)] == ["news 1", "news 2", "news 3"]
    wait_until(lambda: "/news" in cached(browser), what="the page in the cache")
    cut(edge)
    assert browser.go(f"{edge.url}/news") == "news 3"


def test_the_api_is_answered_from_the_cache_and_refreshed_behind(
    pages: Origin, browser: Browser, serve: Callable[[Edge], Running]
) -> None:
    edge = serve(site(pages))
    versions = itertools.count(1)
    released = threading.Event()

    def answer(_seen: Seen) -> Reply:
        version = next(versions)
        if version > 1:
            assert released.wait(60)
        return Reply(200, {"Content-Type": "application/json"}, str(version))

    pages.on("/api/popular", answer)
    installed(browser, edge.url)
    assert fetched(browser, "/api/popular") == "1"
    wait_until(lambda: "/api/popular" in cached(browser), what="the answer in the cache")
    assert fetched(browser, "/api/popular") == "1", "nobody waits for the network"
    pages.wait_for(2, "/api/popular")
    released.set()
    wait_until(lambda: fetched(browser, "/api/popular") != "1", what="the refreshed answer")
    known = fetched(browser, "/api/popular")
    cut(edge)
    assert int(fetched(browser, "/api/popular")) >= int(known)


def test_what_is_somebodys_own_or_no_success_is_never_kept(
    pages: Origin, browser: Browser, serve: Callable[[Edge], Running]
) -> None:
    edge = serve(site(pages))
    installed(browser, edge.url)
    pages.default = lambda seen: Reply(200, {}, seen.path)
    pages.on("/api/private", Reply(200, {"Cache-Control": "Max-Age=60,PRIVATE"}, "mine"))
    pages.on("/api/private-field", Reply(200, {"Cache-Control": 'private="x-user"'}, "mine"))
    pages.on("/api/no-store", Reply(200, {"Cache-Control": "no-store"}, "secret"))
    pages.on("/api/cookie", Reply(200, {"Set-Cookie": "session=1"}, "mine"))
    pages.on("/api/vary", Reply(200, {"Vary": "Accept-Encoding, Cookie"}, "mine"))
    pages.on("/api/broken", Reply(500, {}, "broken"))
    pages.on("/api/missing", Reply(404, {}, "missing"))
    for path in ["private", "private-field", "no-store", "cookie", "vary", "broken", "missing"]:
        assert fetched(browser, f"/api/{path}")
    assert fetched(browser, "/api/post", "{method: 'POST', body: 'x'}") == "/api/post"
    assert fetched(browser, "/api/token", "{headers: {Authorization: 'Bearer 1'}}") == "/api/token"
    assert fetched(browser, "/elsewhere") == "/elsewhere"
    # Kept, and requested last: what came before it has been through the worker.
    assert fetched(browser, "/api/plain") == "/api/plain"
    wait_until(lambda: "/api/plain" in cached(browser), what="the plain answer in the cache")
    assert cached(browser) == ["/api/plain", "/app.css", "/offline.html"]
    # A page that has become somebody's own takes the place of the one that was kept.
    assert browser.go(f"{edge.url}/about") == "about us"
    wait_until(lambda: "/about" in cached(browser), what="the page in the cache")
    pages.on("/about", Reply(200, {**HTML, "Set-Cookie": "session=1"}, "<body>hello Ada</body>"))
    assert browser.go(f"{edge.url}/about") == "hello Ada"
    wait_until(lambda: "/about" not in cached(browser), what="the page being forgotten")
    cut(edge)
    assert browser.go(f"{edge.url}/about") == "no network"


def test_authorized_answers_are_kept_where_the_site_says_so(
    pages: Origin, browser: Browser, serve: Callable[[Edge], Running]
) -> None:
    edge = serve(site(pages, authorized=True))
    pages.on("/api/token", Reply(200, {}, "known"))
    installed(browser, edge.url)
    assert fetched(browser, "/api/token", "{headers: {Authorization: 'Bearer 1'}}") == "known"
    wait_until(lambda: "/api/token" in cached(browser), what="the answer in the cache")


def test_a_new_route_table_replaces_the_worker_and_its_caches(
    pages: Origin, browser: Browser, serve: Callable[[Edge], Running]
) -> None:
    edge = serve(site(pages))
    installed(browser, edge.url)
    before = browser.wait("caches.keys()")
    other = site(pages)
    other.route("/new", respond="new")
    edge.reload(other)
    browser.wait("navigator.serviceWorker.getRegistration().then((known) => known.update()).then(() => true)")

    def replaced() -> bool:
        names = browser.wait("caches.keys()")
        return bool(names) and not set(names) & set(before)

    wait_until(replaced, what="the new worker's caches, and no old ones")
    assert cached(browser) == ["/app.css", "/offline.html"]


def test_the_browser_keeps_no_more_than_the_bound(
    pages: Origin, browser: Browser, serve: Callable[[Edge], Running]
) -> None:
    edge = serve(site(pages, entries=3))
    pages.default = lambda seen: Reply(200, {}, seen.path)
    installed(browser, edge.url)
    for number in range(6):
        fetched(browser, f"/api/{number}")
    expected = ["/api/3", "/api/4", "/api/5", "/app.css", "/offline.html"]
    wait_until(lambda: cached(browser) == expected, what="the newest three")
    assert cached(browser) == expected, "and so it stays"


def test_an_experiments_cookie_marks_nothing_but_the_origins_does(
    pages: Origin, serve: Callable[[Edge], Running]
) -> None:
    edge = Edge("shop")
    edge.route(
        "/*",
        to=edge.origin("first", pages.url),
        experiment=Experiment("home", variants={"a": 1, "b": 1}, cookie="ab"),
    )
    edge.service_worker(precache=["/app.css"])
    served = serve(edge)
    plain = httpx.get(f"{served.url}/about")
    assert "set-cookie" in plain.headers and "x-edge-personal" not in plain.headers
    pages.on("/mine", Reply(200, {"Set-Cookie": "session=1"}, "mine"))
    assert httpx.get(f"{served.url}/mine").headers["x-edge-personal"] == "1"


def test_an_edge_comes_back_at_its_address_and_the_browser_uses_it(pages: Origin, browser: Browser) -> None:
    server = Server.start(site(pages), Settings(listen="127.0.0.1:0", workers=1))
    url = server.urls[0]
    try:
        installed(browser, url)
        assert server.stop(5)
        assert browser.go(f"{url}/new-page") == "no network"
        pages.on("/new-page", Reply(200, HTML, "<body>here again</body>"))
        server = Server.start(site(pages), Settings(listen=url.removeprefix("http://"), workers=1))
        assert browser.go(f"{url}/new-page") == "here again"
    finally:
        server.stop(0)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"path": "sw.js"}, "ServiceWorker.path"),
        ({"precache": ["https://elsewhere.example/x"]}, "ServiceWorker.precache[0]"),
        ({"api": ["//elsewhere.example/*"]}, "ServiceWorker.api[0]"),
        ({"offline": "offline.html"}, "ServiceWorker.offline"),
        ({"entries": -1}, "ServiceWorker.entries"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Edge("t").service_worker(**fields)  # type: ignore[arg-type]
    assert [found.path for found in caught.value.problems] == [problem]


def test_a_worker_that_could_not_be_installed_or_reached_is_refused(origin: Origin) -> None:
    edge = Edge("t")
    edge.route("/app/*", to=edge.origin("first", origin.url))
    edge.route("/sw.js", respond="mine")
    edge.service_worker(precache=["/app/x.css", "/nowhere.css"], offline="/gone.html")
    with pytest.raises(ConfigError) as caught:
        edge.compile()
    assert [found.path for found in caught.value.problems] == [
        "service_workers[0].path",
        "service_workers[0].precache[1]",
        "service_workers[0].offline",
    ]
