"""Tenants: the parties that share a bill, by their routes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from edgerouter import CachePolicy, ConfigError, Edge, cache
from edgerouter.costs.ledger import Ledger
from edgerouter.costs.prices import Prices
from edgerouter.costs.report import of_ledger, of_usage, textfile
from edgerouter.costs.tenants import OTHERS, Owners
from edgerouter.costs.terms import Tenant
from edgerouter.costs.usage import Usage
from edgerouter.monitoring.samples import Samples
from edgerouter.testing import Running

from ..origins import Origin, Reply
from ..processes import command

Serve = Callable[[Edge], Running]
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC).timestamp()

PRICES = """
name = "shared"
[requests]
per_million = 1_000_000
[egress]
per_gb = [{up_to = 0.00001, price = 0}, {price = 1_000_000}]
[origin]
per_gb = 1_000_000
[machines]
per_month = 90
[[tenants]]
name = "shop"
routes = ["/shop/*", "shop.example.com/*"]
[[tenants]]
name = "blog"
routes = ["/blog"]
"""


def test_tenants_and_others_pay_the_whole_bill_by_what_they_used() -> None:
    prices = Prices.read(PRICES, "p")
    owned = {
        "shop": Usage(requests=6, answered_by_cache=3, looked_up=6, bytes=30_000, origin_bytes=3_000),
        "blog": Usage(requests=3, bytes=10_000, origin_bytes=1_000),
        OTHERS: Usage(requests=1),
    }
    whole = Usage(requests=10, bytes=40_000, origin_bytes=4_000)
    report = of_usage(prices, whole, owned)
    # Ten requests at 1, 30 kB of 40 at 1 a kB, 4 kB from origins at 1.
    assert report["total"] == pytest.approx(10 + 30 + 4)
    costs = {tenant["name"]: tenant["cost"] for tenant in report["tenants"]}
    assert costs == pytest.approx({"shop": 6 + 22.5 + 3, "blog": 3 + 7.5 + 1, OTHERS: 1})
    assert report["tenants"][0]["hit_rate"] == 0.5
    assert sum(tenant["share"] for tenant in report["tenants"]) == pytest.approx(1)


def test_a_route_belongs_to_the_first_tenant_whose_pattern_has_it() -> None:
    owners = Owners([Tenant("a", ("/a/*", "*.a.example/*")), Tenant("b", ("/a/b", "/[b]", "*x*y*"))])
    for route, name in (
        ("/a/*", "a"),
        ("/a/b", "a"),
        ("www.a.example/*", "a"),
        ("/[b]", "b"),
        ("/b", OTHERS),
        ("0x1y2", "b"),
        ("0y1x2", OTHERS),
        ("", OTHERS),
    ):
        assert owners.of(route) == name, route


def test_amounts_of_tenants_are_those_of_their_routes_in_a_scrape() -> None:
    text = """
edgerouter_requests_total{route="/shop/*",cache="hit",status="2xx"} 5
edgerouter_requests_total{route="/shop/*",cache="miss",status="2xx"} 2
edgerouter_requests_total{route="/shop/cart",cache="pass",status="5xx"} 1
edgerouter_requests_total{route="/blog",cache="function",status="2xx"} 4
edgerouter_requests_total{route="/*",cache="hit",status="2xx"} 9
edgerouter_response_bytes_total{route="/shop/*"} 100
edgerouter_route_origin_bytes_total{route="/shop/*"} 40
"""
    found = Owners(Prices.read(PRICES, "p").tenants).usage(Samples.read(text, 0.0))
    assert found["shop"] == Usage(
        requests=8, answered_by_cache=5, looked_up=7, bytes=100, origin_requests=3, origin_bytes=40
    )
    assert found["blog"] == Usage(requests=4, function_calls=4)
    assert found[OTHERS].requests == 9


def test_a_ledger_keeps_the_month_of_each_tenant_and_begins_anew_with_other_routes() -> None:
    book = Ledger()
    for at, requests in ((0, 100), (60, 150), (120, 30)):
        counted = {"shop": ("shop#1", Usage(requests=requests, bytes=requests))}
        book.observe("edge", Usage(requests=requests, bytes=requests), NOVEMBER + at, counted)
    assert book.of_tenants(NOVEMBER + 200)["shop"].requests == pytest.approx(50 + 30)
    book = Ledger.from_dict(json.loads(json.dumps(book.as_dict())))
    book.observe("edge", Usage(requests=31, bytes=31), NOVEMBER + 180, {"shop": ("shop#2", Usage(requests=9_000))})
    assert book.of_tenants(NOVEMBER + 200)["shop"].requests == pytest.approx(80)
    text = textfile(of_ledger(Prices.read(PRICES, "p"), book, NOVEMBER + 200))
    assert 'edgerouter_cost_tenant_spent{currency="USD",tenant="shop"}' in text
    keys = Owners([Tenant("a", ("/a",))]).keys(), Owners([Tenant("a", ("/b",))]).keys()
    assert keys[0]["a"] != keys[1]["a"] and keys[0][OTHERS] != keys[1][OTHERS]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("tenants = 5", "p: tenants", "1 to 64 tables"),
        ("tenants = []", "p: tenants", "1 to 64 tables"),
        ('[[tenants]]\nname = "a"', "p: tenants[0]", "a table with name and routes"),
        ('[[tenants]]\nname = "(others)"\nroutes = ["/a"]', "p: tenants[0].name", "opens with no ("),
        ('[[tenants]]\nname = "a"\nroutes = []', "p: tenants[0].routes", "1 to 256 labels"),
        ('[[tenants]]\nname = "a"\nroutes = ["/a"]\n' * 2, "p: tenants[1].name", "another tenant"),
    ],
    ids=range(6),
)
def test_a_mistake_in_tenants_is_named(text: str, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Prices.read(f'name = "x"\n{text}', "p")
    assert any(problem.path == path and message in problem.message for problem in refused.value.problems)


def test_the_report_of_a_real_edge_has_the_tenants(origin: Origin, serve: Serve, tmp_path: Path) -> None:
    edge = Edge("test")
    site = edge.origin("site", origin.url)
    edge.route("/*", to=site, cache=cache.DISABLED)
    edge.route("/shop/*", to=site, cache=CachePolicy(ttl=600))
    edge.route("/blog", to=site, cache=cache.DISABLED)
    origin.default = Reply(200, {}, "x" * 10_000)
    (tmp_path / "prices.toml").write_text(PRICES)
    served = serve(edge)
    with httpx.Client(base_url=served.url) as client:
        paths = ("/shop/a", "/shop/a", "/shop/a", "/blog", "/other")
        sent = sum(len(client.get(path).content) for path in paths)
    admin = served.admin_url.removeprefix("http://")
    done = command("cost", "report", "--prices", str(tmp_path / "prices.toml"), "--admin", admin, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    tenants = {tenant["name"]: tenant for tenant in found["tenants"]}
    assert {name: tenant["requests"] for name, tenant in tenants.items()} == {"shop": 3, "blog": 1, OTHERS: 1}
    assert {name: tenant["origin_bytes"] for name, tenant in tenants.items()} == dict.fromkeys(tenants, 10_000)
    assert sum(tenant["bytes"] for tenant in tenants.values()) == sent == found["usage"]["bytes"]
    assert found["usage"]["origin_bytes"] == 30_000
    assert sum(tenant["cost"] for tenant in tenants.values()) == pytest.approx(found["total"])
    assert "shop" in command("cost", "report", "--prices", str(tmp_path / "prices.toml"), "--admin", admin).stdout
