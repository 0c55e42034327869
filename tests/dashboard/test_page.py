"""The dashboard in a real browser: its numbers, its text, its keyboard, and no finding of axe-core."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import CachePolicy, Edge, Jwt, Secret
from edgerouter.server import Server
from edgerouter.testing import Running

from ..origins import Origin, Reply, wait_until
from ..processes import Process, free_port
from ..service_worker.browser import Browser
from .conftest import TOKEN

VIEWS = ("overview", "traffic", "cache", "requests", "functions", "events", "plan", "costs")
MARKUP = "<img/src=x/onerror=window.hacked=1>"


BROKEN = """
from edgerouter import Context, Edge, Request, Response

edge = Edge("shop")


@edge.function("/broken/{name}")
def broken(request: Request, ctx: Context) -> Response:
    raise RuntimeError(f"no {request.params['name']}: {request.headers.get('x-why')}")
"""


def shop(origin: Origin) -> Edge:
    origin.on("/page", Reply(200, {"Cache-Control": "max-age=60", "Vary": "X-Colour"}, "<p>page</p>"))
    edge = Edge("shop")
    first = edge.origin("first", origin.url)
    edge.route("/own/*", to=first, auth=Jwt.hs256(Secret.literal("k" * 32)), cache=CachePolicy(enabled=False))
    edge.route("/*", to=first)
    return edge


@pytest.fixture
def edge(origin: Origin, serve: Callable[[Edge], Running]) -> Running:
    return serve(shop(origin))


def opened(browser: Browser, url: str, view: str = "overview") -> None:
    browser.go("about:blank")
    browser.go(f"{url}/dashboard#/{view}")
    wait_until(lambda: browser.run("return document.querySelector('nav a[aria-current]') !== null"), what="the view")


def show(browser: Browser, view: str) -> None:
    """Goes to a view by its link."""
    browser.run(f"location.hash = '#/{view}'")
    current = f"document.querySelector('nav a[aria-current]')?.hash === '#/{view}'"
    there = f"return {current} && document.querySelectorAll('main .panel').length > 0"
    wait_until(lambda: browser.run(there) is True, what=f"the view {view}")


def shown(browser: Browser, pattern: str) -> str:
    """The text of the page, once a pattern is in it."""
    wait_until(lambda: re.search(pattern, browser.text) is not None, what=f"{pattern} in the page", timeout=20)
    return browser.text


def test_the_numbers_are_those_of_the_metrics(browser: Browser, edge: Running) -> None:
    with httpx.Client(base_url=edge.url) as client:
        for path in ["/page"] * 30 + ["/nothing"] * 12:
            client.get(path)
    opened(browser, edge.admin_url)
    text = shown(browser, r"42 since the start")
    metrics = httpx.get(f"{edge.admin_url}/metrics").text

    def total(name: str, part: str = "") -> float:
        lines = [line for line in metrics.splitlines() if line.startswith(name) and part in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    assert total("edgerouter_requests_total") == 42
    hits, looked_up = total("edgerouter_requests_total", 'cache="hit"'), 42
    assert f"{100 * hits / looked_up:.1f} % since the start" in text
    sent, fetched = total("edgerouter_response_bytes_total"), total("edgerouter_origin_response_bytes_total")
    assert sent > fetched > 0
    assert f"{sent:.0f} B since the start" in text and f"{100 * (sent - fetched) / sent:.1f} %" in text
    opened(browser, edge.admin_url, "traffic")
    text = shown(browser, r"first\s+healthy")
    assert re.search(rf"first\s+healthy\s+\S+\s+{total('edgerouter_origin_requests_total'):.0f}\s", text), text
    assert re.search(r"4xx\s+12\b", text), text


def token(claims: dict[str, str]) -> str:
    import jwt

    return jwt.encode(claims, "k" * 32, "HS256")


def test_everything_that_visitors_choose_is_text(browser: Browser, edge: Running) -> None:
    opened(browser, edge.admin_url, "requests")
    shown(browser, "Listening")
    fields = {"user-agent": MARKUP, "referer": f"http://a/{MARKUP}", "x-colour": MARKUP}
    with httpx.Client(base_url=edge.url, headers=fields) as client:
        client.get("/page")
        client.get(f"/own/{MARKUP}?q={MARKUP}", headers={"authorization": f"Bearer {token({'sub': MARKUP})}"})
    shown(browser, "/own/")
    # Each request with all its fields.
    buttons = "document.querySelectorAll('main th button.plain')"
    assert browser.run(f"return {buttons}.length") == 2
    for index in range(2):
        browser.run(f"{buttons}[{index}].click()")
        assert MARKUP in browser.run("return document.querySelector('dialog[open]').innerText")
        browser.run("document.querySelector('dialog[open] button').click()")
    opened(browser, edge.admin_url, "cache")
    assert MARKUP in shown(browser, "/page\\b[^\\n]*x-colour")
    assert browser.run("return window.hacked === undefined && document.querySelector('main img') === null")


def test_a_traceback_is_text_too(browser: Browser, run: Callable[..., Process], tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(BROKEN)
    admin = f"127.0.0.1:{free_port()}"
    process = run("run", str(app), "--listen", "127.0.0.1:0", "--admin", admin)
    url = process.wait_for(r"http://127\.0\.0\.1:(?!9090)\d+")[0]
    httpx.get(f"{url}/broken/thing", headers={"x-why": MARKUP})
    for view in ("functions", "events"):
        opened(browser, f"http://{admin}", view)
        assert f"RuntimeError: no thing: {MARKUP}" in shown(browser, "RuntimeError: no thing")
    assert browser.run("return window.hacked === undefined && document.querySelector('main img') === null")


def test_no_finding_of_axe_core(browser: Browser, edge: Running) -> None:
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    httpx.get(f"{edge.url}/page")
    rules = {"resultTypes": ["violations"]}
    run = f"axe.run(document, {json.dumps(rules)})"
    findings: dict[str, Any] = {}
    opened(browser, edge.admin_url)
    browser.run(axe)
    for theme in ("light", "dark"):
        browser.run(f"document.documentElement.dataset.theme = '{theme}'")
        for view in VIEWS:
            show(browser, view)
            found = browser.wait(f"{run}.then((all) => all.violations.map((one) => [one.id, one.nodes[0].html]))")
            if found:
                findings[f"{theme} {view}"] = found
    assert not findings, json.dumps(findings, indent=1)


def test_a_purge_is_tried_confirmed_and_listed(browser: Browser, edge: Running) -> None:
    httpx.get(f"{edge.url}/page")
    opened(browser, edge.admin_url, "cache")
    shown(browser, "/page")
    browser.run("document.getElementById('purge-kind').value = 'paths'")
    browser.run("document.getElementById('purge-value').value = '/p*'")
    browser.run("[...document.querySelectorAll('button')].find((one) => one.textContent === 'Dry run').click()")
    assert "Nothing was purged" in shown(browser, "Would purge 1 responses")
    assert httpx.get(f"{edge.url}/page").headers["cache-status"].count("hit")
    browser.run("[...document.querySelectorAll('button')].find((one) => one.textContent === 'Purge …').click()")
    browser.run("document.querySelector('dialog[open] .danger').click()")
    shown(browser, "is in effect")
    assert "hit" not in httpx.get(f"{edge.url}/page").headers["cache-status"]


def test_a_reload_shows_its_difference(browser: Browser, edge: Running, origin: Origin) -> None:
    opened(browser, edge.admin_url, "plan")
    shown(browser, "first plan since the start")
    changed = shop(origin)
    changed.route("/new/*", respond="new")
    edge.reload(changed)
    text = shown(browser, r"\+ .*/new/\*")
    assert "version 2" in text


def test_the_page_asks_for_the_token_and_a_phone_has_all_of_it(browser: Browser, guarded: Server) -> None:
    browser.resize(390, 800)
    try:
        browser.go(f"{guarded.admin_url}/dashboard")
        shown(browser, "Log in")
        for given, pattern in (("wrong", "is not a token"), (TOKEN, "Requests by status")):
            browser.run(f"document.getElementById('token').value = {json.dumps(given)}")
            browser.run("document.querySelector('form.login').requestSubmit()")
            shown(browser, pattern)
        assert browser.run("return document.cookie") == ""
        for view in VIEWS:
            show(browser, view)
            width = browser.run("return document.documentElement.scrollWidth")
            assert width <= 390, f"{view} is {width} wide"
    finally:
        browser.resize(1280, 900)
