"""Bytes to viewers by country: counted by a real edge, priced by region, kept by the ledger."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerouter import CachePolicy, ConfigError, Context, Edge, Request, Response, cache
from edgerouter.costs.ledger import Ledger
from edgerouter.costs.prices import Prices
from edgerouter.costs.projection import project
from edgerouter.costs.usage import Usage
from edgerouter.testing import running

from ..geo.files import CITIES, write
from ..origins import Origin, Reply
from ..processes import command

PRICES = """
name = "by country"
bytes_per_gb = 1_000
[[egress.regions]]
name = "Europe"
countries = ["DE", "FR"]
per_gb = [{up_to = 3, price = 1}, {price = 0.5}]
[[egress.regions]]
name = "elsewhere"
countries = ["*", "US"]
per_gb = 4
"""
REGIONS = ("Europe", "elsewhere")
GERMANY, BRAZIL, NOWHERE = "192.0.2.7", "198.51.100.9", "192.0.2.200"


def made(origin: Origin, folder: Path) -> Edge:
    edge = Edge("test", trusted_proxies=["127.0.0.1"], trusted_proxy_fields=["CF-IPCountry"])
    edge.geo([write(folder / "City.mmdb", CITIES)], country_fields=["CF-IPCountry"], count_countries=True)
    edge.route("/*", to=edge.origin("site", origin.url), cache=CachePolicy(ttl=600))
    edge.route("/api/*", to="site", cache=cache.DISABLED)

    @edge.function("/stream")
    def stream(request: Request, ctx: Context) -> Response:
        return Response(b"x" * 100 for _ in range(3))

    @edge.function("/place")
    def place(request: Request, ctx: Context) -> Response:
        return Response.text(request.geo.country or "nowhere")

    return edge


def test_the_bytes_of_each_country_are_those_that_its_clients_counted(origin: Origin, tmp_path: Path) -> None:
    origin.default = Reply(200, {}, "x" * 1_000)
    model = tmp_path / "prices.toml"
    model.write_text(PRICES)
    counted: Counter[str] = Counter()
    with running(made(origin, tmp_path)) as served, httpx.Client(base_url=served.url) as client:
        for country, address in (("DE", GERMANY), ("BR", BRAZIL), ("", NOWHERE)):
            for path in ("/a", "/a", "/api/x", "/stream", "/place"):
                response = client.get(path, headers={"x-forwarded-for": address})
                assert response.status_code == 200
                counted[country] += len(response.content)
        named = {"x-forwarded-for": GERMANY, "cf-ipcountry": "US"}
        counted["US"] += len(client.get("/a", headers=named).content)
        client.head("/a", headers=named)
        scrape = httpx.get(f"{served.admin_url}/metrics").text
        printed = command("cost", "report", "--prices", str(model), "--admin", served.admin_url, "--json")
        table = command("cost", "report", "--prices", str(model), "--admin", served.admin_url)
    family = "edgerouter_country_response_bytes_total"
    samples = [line.rsplit(" ", 1) for line in scrape.splitlines() if line.startswith(f"{family}{{")]
    assert {labels: int(value) for labels, value in samples} == {
        f'{family}{{country="{country}"}}': bytes_ for country, bytes_ in counted.items()
    }
    assert printed.returncode == 0, printed.stderr
    found = json.loads(printed.stdout)
    assert found["usage"]["bytes"] == counted.total()
    assert found["unplaced_bytes"] == counted[""]
    assert {row["country"]: row["bytes"] for row in found["countries"]} == dict(counted)
    costs = {region: sum(row["cost"] for row in found["countries"] if row["region"] == region) for region in REGIONS}
    bill = {line["item"]: (line["amount"], line["cost"]) for line in found["bill"]}
    europe, elsewhere = counted["DE"] / 1_000, (counted.total() - counted["DE"]) / 1_000
    assert bill["to viewers, Europe"] == pytest.approx((europe, 3 + (europe - 3) * 0.5))
    assert bill["to viewers, elsewhere"] == pytest.approx((elsewhere, elsewhere * 4))
    assert costs == pytest.approx({region: bill[f"to viewers, {region}"][1] for region in REGIONS})
    assert "unknown countries" in table.stdout and "count_countries" not in table.stdout


def test_an_edge_that_counts_no_countries_is_priced_as_all_others_and_the_report_says_so(
    origin: Origin, tmp_path: Path
) -> None:
    origin.default = Reply(200, {}, "x" * 1_000)
    model = tmp_path / "prices.toml"
    model.write_text(PRICES)
    edge = Edge("test")
    edge.route("/*", to=edge.origin("site", origin.url), cache=CachePolicy(ttl=600))
    with running(edge) as served:
        httpx.get(f"{served.url}/a")
        printed = command("cost", "report", "--prices", str(model), "--admin", served.admin_url)
    assert "to viewers, elsewhere" in printed.stdout and "Europe" not in printed.stdout
    assert "count_countries of Edge.geo" in printed.stdout


AMOUNTS = st.floats(0, 1e12)
USAGES = st.builds(
    Usage, requests=AMOUNTS, bytes=AMOUNTS, countries=st.dictionaries(st.sampled_from(["DE", "US", "BR"]), AMOUNTS)
)


@given(USAGES, USAGES)
def test_a_sum_and_a_growth_of_usages_have_all_countries(one: Usage, other: Usage) -> None:
    total = one.plus(other)
    assert total.countries == {
        code: one.countries.get(code, 0) + other.countries.get(code, 0) for code in {**one.countries, **other.countries}
    }
    assert total.since(one).bytes == pytest.approx(other.bytes, abs=1)
    assert Usage.from_dict(json.loads(json.dumps(total.as_dict()))) == total


@pytest.mark.parametrize(
    "countries", [[], {"": 1.0}, {"de": 1.0}, {"DEU": 1.0}, {"DE": -1.0}, {"DE": "1"}, {"DE": True}]
)
def test_countries_that_are_none_are_no_usage(countries: object) -> None:
    with pytest.raises(ValueError, match=r"countries|is not an amount"):
        Usage.from_dict({"countries": countries})


def test_the_ledger_keeps_countries_and_the_month_is_projected_by_country() -> None:
    book = Ledger()
    for day in range(5):
        counters = Usage(
            requests=day, bytes=2_000 * day, countries={"DE": 1_500.0 * day, **({"FR": 500.0} if day else {})}
        )
        book.observe("edge", counters, 1_793_500_000.0 + 86_400 * day)
    kept = Ledger.from_dict(json.loads(json.dumps(book.as_dict())))
    assert kept == book
    month = sum((usage.countries["DE"] for usage in book.months.values()), 0.0)
    assert month == pytest.approx(6_000)
    found = project(Usage(), [Usage(bytes=10, countries={"DE": 10}), Usage(), Usage(bytes=20, countries={"US": 20})], 3)
    assert found is not None
    assert found.expected.countries == pytest.approx({"DE": 10, "US": 20})


def test_counters_of_another_start_are_growth_even_if_they_are_larger() -> None:
    book = Ledger()
    book.observe("edge", Usage(requests=10, bytes=10), 1_793_500_000.0, started=1.0)
    book.observe("edge", Usage(requests=15, bytes=15), 1_793_500_060.0, started=1.0)
    book.observe("edge", Usage(requests=100, bytes=100), 1_793_500_120.0, started=2.0)
    assert book.month(1_793_500_120.0).requests == pytest.approx(105)
    # The ledger of a version that did not know starts, and an edge that does not say its own.
    older = Ledger.from_dict({name: value for name, value in book.as_dict().items() if name != "starts"})
    older.observe("edge", Usage(requests=130, bytes=130), 1_793_500_180.0, started=2.0)
    assert older.month(1_793_500_180.0).requests == pytest.approx(135)


def region(name: str, **fields: object) -> str:
    lines = (f"{field} = {json.dumps(value)}" for field, value in {"name": name, "per_gb": 1, **fields}.items())
    return "[[egress.regions]]\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("regions", "path", "message"),
    [
        (region("a", countries=["DE"]), "p: egress.regions", "must have one with countries"),
        (region("a", countries=["DE", "DE", "*"]), "p: egress.regions", "is in two regions"),
        (region("a", countries=["*"]) + region("b", countries=["*"]), "p: egress.regions", "is in two regions"),
        (region("a", countries=["*"]) + region("b", share=1), "p: egress.regions", "all have a share, or all"),
        (region("a", countries=["*"], share=1), "p: egress.regions[0]", "share or countries"),
        (region("a"), "p: egress.regions[0]", "share or countries"),
        (region("a", countries=[]), "p: egress.regions[0].countries", "ISO 3166-1"),
        (region("a", countries="DE"), "p: egress.regions[0].countries", "ISO 3166-1"),
        (region("a", countries=["de"]), "p: egress.regions[0].countries", "ISO 3166-1"),
        (region("a", countries=["Germany"]), "p: egress.regions[0].countries", "ISO 3166-1"),
        (region("a", countries=[["DE"]]), "p: egress.regions[0].countries", "ISO 3166-1"),
        (region("", countries=["*"]), "p: egress.regions[0].name", "printable text"),
        (region("\x1b[2J", countries=["*"]), "p: egress.regions[0].name", "printable text"),
    ],
)
def test_a_mistake_in_regions_is_named(regions: str, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Prices.read(f'name = "a"\n{regions}', "p")
    (problem,) = refused.value.problems
    assert problem.path == path and message in problem.message
