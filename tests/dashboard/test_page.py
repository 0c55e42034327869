"""The dashboard in a real browser: its numbers, its text, its keyboard, and no finding of axe-core."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import CachePolicy, Edge, Experiment, Jwt, Secret
from edgerouter.comparing.counted import of_edges
from edgerouter.comparing.statistics import Arm, difference, p_value, split_p_value, wilson
from edgerouter.costs.ledger import Ledger
from edgerouter.costs.prices import Prices
from edgerouter.costs.report import of_ledger
from edgerouter.costs.usage import Usage
from edgerouter.server import Server
from edgerouter.settings import Settings
from edgerouter.testing import Running

from ..origins import Origin, Reply, wait_until
from ..processes import Process, free_port
from ..service_worker.browser import Browser
from .conftest import TOKEN

VIEWS = ("overview", "traffic", "cache", "requests", "functions", "experiments", "events", "plan", "costs")
#: Text of views that is there once their data has come.
LOADED = {"experiments": r"95 % interval[^$]*\d+ % to", "costs": r"spent\s+[\d.]+ EUR"}
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
    edge = Edge("shop", trusted_proxies=["127.0.0.1"], trusted_proxy_fields=["CF-IPCountry"])
    edge.geo(country_fields=["CF-IPCountry"], count_countries=True)
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
    wait_until(lambda: re.search(pattern, browser.text) is not None, what=f"{pattern} in the page", timeout=60)
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


def test_the_state_of_all_origins_is_no_better_than_that_of_each(
    browser: Browser, edge: Running, origin: Origin
) -> None:
    opened(browser, edge.admin_url, "traffic")
    shown(browser, "All origins healthy")
    origin.kill()
    assert httpx.get(f"{edge.url}/unknown").status_code == 502
    text = shown(browser, "first: last request failed")
    assert "All origins healthy" not in text


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


def report(name: str) -> dict[str, Any]:
    """A report as ``edgerouter cost watch --report`` writes it, made by the same code."""
    now = time.time()
    book = Ledger()
    usage = Usage(
        requests=3e6,
        answered_by_cache=2e6,
        looked_up=2.5e6,
        bytes=12e9,
        origin_requests=1e6,
        origin_bytes=4e9,
        countries={"DE": 9e9},
    )
    book.observe("edge", Usage(), now - 8 * 3_600, {name: ("key", Usage())})
    book.observe("edge", usage, now, {name: ("key", usage)})
    tenant = json.dumps(name, ensure_ascii=False)
    prices = f'name = {tenant}\ncurrency = "EUR"\n[requests]\nper_million = 2\n'
    prices += f'[[egress.regions]]\nname = {tenant}\ncountries = ["*"]\nper_gb = 0.1\n'
    prices += f'[budget]\nper_month = 50\n[[tenants]]\nname = {tenant}\nroutes = ["/*"]\n'
    return {**of_ledger(Prices.read(prices, "p"), book, now), "at": now}


@pytest.fixture
def full(origin: Origin, tmp_path: Path) -> Iterator[Server]:
    """An edge with something in every view."""
    edge = shop(origin)
    variants = {"control": 1, "treatment": 1}
    home = Experiment("home", variants=variants, by="header:x-id", conversion="/thanks")
    edge.route("/thanks", respond="thank you")
    edge.route("/home", respond="home", experiment=home)
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(report(MARKUP)))
    settings = Settings(listen="127.0.0.1:0", admin="127.0.0.1:0", workers=1, cost_report=str(file))
    with Server.start(edge, settings) as server, httpx.Client(base_url=server.urls[0]) as client:
        for number in range(150):
            headers = {"x-id": str(number), "user-agent": MARKUP}
            client.get("/home", headers={**headers, "cf-ipcountry": "FR"})
            if number % 3 == 0:
                client.get("/thanks", headers=headers)
        client.get("/page")
        yield server


def test_an_experiment_has_the_counts_and_the_statistics_of_the_report(browser: Browser, full: Server) -> None:
    opened(browser, full.admin_url or "", "experiments")
    shown(browser, "Rates with their intervals")
    answer = httpx.get(f"{full.admin_url}/v1/experiments").json()
    found = of_edges([answer], "home", None)
    text = shown(browser, r"p\s+Value a visitor")
    for row in found["variants"]:
        low, high = row["rate_interval"]
        rates = f"{100 * row['rate']:.1f} %", f"{100 * low:.1f} % to {100 * high:.1f} %"
        assert re.search(rf"{row['variant']}\s+{row['visitors']}\s+{row['conversions']}\s+", text), text
        assert all(rate in text for rate in rates), (rates, text)
    assert browser.run("return document.querySelectorAll('main svg.chart path.line').length") == 2
    assert browser.run("return document.querySelectorAll('main .strip rect.estimate').length") == 2
    # Its arithmetic is that of the command.
    arms = [Arm(900, 41), Arm(1_012, 88), Arm(3, 0), Arm(0, 0)]
    for one, other in itertools.pairwise(arms):
        both = ({"visitors": arm.visitors, "conversions": arm.conversions} for arm in (one, other))
        given = ", ".join(map(json.dumps, both))
        first = given.split("}, ")[0] + "}"
        parts = (f"own.pValue({given}, 0.02)", f"...own.difference({given}, 0.02, 0.05)", f"...own.wilson({first})")
        splits = ("own.splitValue([900, 1012], [1, 1])", "own.splitValue([900, 700], [1, 1])")
        module = "import('/dashboard/statistics.js')"
        numbers = browser.wait(f"{module}.then((own) => [{', '.join([*parts, *splits])}])")
        want = [p_value(one, other, 0.02), *difference(one, other, 0.02, 0.05), *wilson(one)]
        want += [split_p_value([900, 1_012], [1, 1]), split_p_value([900, 700], [1, 1])]
        assert numbers == pytest.approx(want, rel=1e-6, abs=1e-9)


def test_the_costs_of_the_month_are_those_of_the_report(browser: Browser, full: Server) -> None:
    found = report(MARKUP)
    opened(browser, full.admin_url or "", "costs")
    text = shown(browser, "The month by the ledger")
    text = shown(browser, r"spent\s+[\d.]+ EUR")
    assert f"spent\n{found['total']:.2f} EUR" in text and "Tenants" in text
    for line in found["bill"]:
        assert re.search(rf"{re.escape(line['item'])}\s", text) and f"{line['cost']:.2f} EUR" in text
    assert re.search(r"DE\s.*8\.4 GiB\s+0\.90 EUR\s+\(unknown\)\s.*2\.8 GiB\s+0\.30 EUR", text, re.DOTALL), text
    assert MARKUP in text and f"of {found['budget']['per_month']:.2f} EUR" in text
    assert browser.run("return document.querySelectorAll('main svg.chart path.line').length") >= 3
    assert browser.run("return window.hacked === undefined && document.querySelector('main img') === null")
    opened(browser, full.admin_url or "", "traffic")
    assert re.search(r"To viewers by country\s+FR\s", shown(browser, "FR"))


def test_no_finding_of_axe_core(browser: Browser, full: Server) -> None:
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    rules = {"resultTypes": ["violations"]}
    run = f"axe.run(document, {json.dumps(rules)})"
    findings: dict[str, Any] = {}
    opened(browser, full.admin_url or "")
    browser.run(axe)
    for theme in ("light", "dark"):
        browser.run(f"document.documentElement.dataset.theme = '{theme}'")
        for view in VIEWS:
            show(browser, view)
            shown(browser, LOADED.get(view, ""))
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


def wider(browser: Browser, screen: int) -> dict[str, int]:
    """The views that are wider than a screen of so many pixels, with their widths."""
    widths = {}
    for view in VIEWS:
        show(browser, view)
        widths[view] = browser.run("return document.documentElement.scrollWidth")
    return {view: width for view, width in widths.items() if width > screen}


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
        assert wider(browser, 390) == {}
    finally:
        browser.resize(1280, 900)


def test_long_names_make_no_view_wider_than_a_narrow_phone(browser: Browser, serve: Callable[[Edge], Running]) -> None:
    edge = Edge("shop")
    origin = edge.origin("o" * 64, "http://127.0.0.1:9")
    edge.route("/" + "long-" * 60 + "*", to=origin)
    edge.route("/מרחבא/*", to=origin)
    running = serve(edge)
    httpx.get(f"{running.url}/{'long-' * 60}")
    browser.resize(320, 700)
    try:
        opened(browser, running.admin_url)
        assert wider(browser, 320) == {}
    finally:
        browser.resize(1280, 900)
