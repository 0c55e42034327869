"""Every recipe of the cookbook runs as it stands, but for the ports, and does what its text says."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import jwt
import pytest

from edgerouter import Edge
from edgerouter.application import FileApplication
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen
from ..responses import is_hit

COOKBOOK = Path(__file__).parents[2] / "docs" / "cookbook.md"
RECIPES = dict(re.findall(r"^## (.+?)\n.*?```python\n(.*?)```", COOKBOOK.read_text(), re.DOTALL | re.MULTILINE))
SECRET = "a secret of thirty-two bytes or more"

Cook = Callable[[str], httpx.Client]


@pytest.fixture
def cook(
    tmp_path: Path, origin: Origin, second: Origin, serve: Callable[[Edge], Running], monkeypatch: pytest.MonkeyPatch
) -> Cook:
    """``cook(heading)`` serves the recipe under that heading and gives a client for it."""
    monkeypatch.setenv("JWT_SECRET", SECRET)

    def make(heading: str) -> httpx.Client:
        recipe = RECIPES[heading]
        for written, real in (("http://127.0.0.1:9000", origin.url), ("http://127.0.0.1:9001", second.url)):
            recipe = recipe.replace(written, real)
        file = tmp_path / "app.py"
        file.write_text(recipe)
        served = serve(FileApplication(str(file)).load())
        return httpx.Client(base_url=served.url, headers={"x-admin": served.admin_url}, timeout=10.0)

    return make


def test_there_are_ten_recipes_and_each_has_a_test() -> None:
    tested = {name for name in RECIPES if f'cook("{name}")' in Path(__file__).read_text()}
    assert len(RECIPES) >= 10
    assert tested == set(RECIPES)


def test_requests_are_spread_over_the_origins_and_one_that_fails_is_left_out(
    cook: Cook, origin: Origin, second: Origin
) -> None:
    for one in (origin, second):
        one.on("/healthz", Reply(200))
        one.default = Reply(200, {}, one.name)
    client = cook("Requests spread over several origins")
    assert sorted(client.get("/").text for _ in range(9)) == ["first"] * 6 + ["second"] * 3
    origin.kill()
    assert {client.get("/").text for _ in range(6)} == {"second"}


def test_assets_stay_for_a_year_and_pages_are_served_stale_while_they_are_refreshed(cook: Cook, origin: Origin) -> None:
    origin.default = Reply(200, {}, "made")
    client = cook("Assets for a year, pages for a minute")
    for path in ("/assets/app.3f9a.js", "/page"):
        assert not is_hit(client.get(path))
        assert is_hit(client.get(path))
    assert is_hit(client.get("/assets/app.3f9a.js?whatever"))
    ttl = re.search(r"ttl=(\d+)", client.get("/assets/app.3f9a.js").headers["cache-status"])
    assert ttl is not None and int(ttl[1]) > 31_000_000


def test_the_second_origin_answers_when_the_first_is_killed(cook: Cook, origin: Origin, second: Origin) -> None:
    origin.default = Reply(200, {"cache-control": "no-store"}, "first")
    second.default = Reply(200, {"cache-control": "no-store"}, "second")
    client = cook("A second origin when the first one fails")
    assert client.get("/").text == "first"
    origin.kill()
    assert client.get("/").text == "second"


def test_the_api_is_for_users_with_a_token_and_the_origin_learns_who_they_are(cook: Cook, origin: Origin) -> None:
    origin.default = Reply(200, {}, "yours")
    client = cook("An API for users with a token")
    assert client.get("/api/me").status_code == 401
    wrong = jwt.encode({"sub": "ada", "exp": time.time() + 60}, SECRET + "!", "HS256")
    assert client.get("/api/me", headers={"authorization": f"Bearer {wrong}"}).status_code == 403
    assert origin.count() == 0
    right = jwt.encode({"sub": "ada", "role": "editor", "exp": time.time() + 60}, SECRET, "HS256")
    answer = client.get("/api/me", headers={"authorization": f"Bearer {right}", "x-user-role": "admin"})
    assert (answer.status_code, answer.text) == (200, "yours")
    seen = origin.requests[-1]
    assert (seen.all("x-user-id"), seen.all("x-user-role")) == (["ada"], ["editor"])


def test_visitors_keep_their_version_of_the_home_page(cook: Cook, origin: Origin) -> None:
    def page(seen: Seen) -> Reply:
        return Reply(200, {"cache-control": "max-age=60"}, seen.get("x-variant") or "none")

    origin.on("/", page)
    client = cook("Two versions of the home page")
    versions = set()
    for _ in range(40):
        client.cookies.clear()
        first = client.get("/")
        assert first.cookies["home"] == first.text
        assert client.get("/", headers={"cookie": f"home={first.text}"}).text == first.text
        versions.add(first.text)
    assert versions == {"old", "new"}


def test_old_addresses_are_redirected(cook: Cook) -> None:
    client = cook("Old addresses")
    moved = client.get("/blog/2024/hello?ref=mail")
    assert (moved.status_code, moved.headers["location"]) == (301, "/articles/hello?ref=mail")
    apex = client.get("/a/b?c=d", headers={"host": "example.com"})
    assert (apex.status_code, apex.headers["location"]) == (308, "https://www.example.com/a/b?c=d")


def test_campaign_parameters_split_no_cache_and_never_reach_the_origin(cook: Cook, origin: Origin) -> None:
    origin.default = Reply(200, {}, "sale")
    client = cook("Campaign parameters that do not split the cache")
    assert not is_hit(client.get("/sale?page=2&utm_source=mail"))
    assert is_hit(client.get("/sale?page=2&utm_source=ad"))
    assert not is_hit(client.get("/sale?page=3&utm_source=ad"))
    assert [seen.target for seen in origin.requests] == ["/sale?page=2", "/sale?page=3"]


def test_a_path_of_the_application_gets_its_page_and_a_call_keeps_its_404(cook: Cook, origin: Origin) -> None:
    origin.on("/index.html", Reply(200, {"content-type": "text/html"}, "<!doctype html>"))
    client = cook("A single-page application")
    navigation = {"sec-fetch-mode": "navigate", "accept": "text/html"}
    page = client.get("/orders/7", headers=navigation)
    assert (page.status_code, page.text) == (200, "<!doctype html>")
    assert client.get("/logo.png").status_code == 404
    assert client.get("/api/orders/7", headers=navigation).status_code == 404


def test_json_made_at_the_edge_is_kept_for_a_minute(cook: Cook) -> None:
    client = cook("JSON made at the edge, kept for a minute")
    assert client.get("/price/42").json() == {"sku": "42", "cents": 1999}
    deadline = time.monotonic() + 60
    while "age" not in (answer := client.get("/price/42")).headers:
        assert time.monotonic() < deadline
    assert answer.json() == {"sku": "42", "cents": 1999}


def test_every_response_has_the_security_headers_hits_too(cook: Cook, origin: Origin) -> None:
    origin.default = Reply(200, {"server": "secret/1.0", "cache-control": "max-age=60"}, "x")
    client = cook("Security headers on every response")
    for response in (client.get("/"), client.get("/")):
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"
        assert "server" not in response.headers
    assert is_hit(client.get("/"))


def test_a_purge_of_an_article_renews_its_pages_only(cook: Cook, origin: Origin) -> None:
    for path, tags in (("/article/7", "article-7"), ("/", "article-7, article-8"), ("/article/8", "article-8")):
        origin.on(path, Reply(200, {"cache-tag": tags}, path))
    client = cook("Publish an article, purge its pages")
    for path in ("/article/7", "/", "/article/8"):
        client.get(path)
        assert is_hit(client.get(path))
    purged = httpx.post(f"{client.headers['x-admin']}/v1/purges", json={"tags": ["article-7"]})
    assert purged.status_code in (200, 201, 202)
    assert [is_hit(client.get(path)) for path in ("/article/7", "/", "/article/8")] == [False, False, True]
