"""Places of clients through the socket: what origins, keys, routes, guards, hooks and functions make of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import jwt
import pytest

from edgerouter import (
    AddressPolicy,
    CachePolicy,
    ConfigError,
    Context,
    Edge,
    ForwardPolicy,
    GeoPolicy,
    Request,
    Response,
    When,
)
from edgerouter.application import FileApplication
from edgerouter.cache import DISABLED
from edgerouter.testing import Running

from ..conftest import Serve
from ..metrics import metric
from ..origins import Origin, Reply, wait_until
from .files import BERLIN, CITIES, NETWORKS, PARIS, write

Client = Callable[[Running], httpx.Client]

GERMANY, BRAZIL, FRANCE, NOWHERE = "192.0.2.7", "198.51.100.9", "203.0.113.200", "192.0.2.200"


def came_from(address: str, **fields: str) -> dict[str, str]:
    return {"x-forwarded-for": address, **fields}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("geo")
    return [write(folder / "City.mmdb", CITIES), write(folder / "ASN.mmdb", NETWORKS, "Test-ASN")]


@pytest.fixture
def edge(files: list[Path]) -> Edge:
    edge = Edge("test", trusted_proxies=["127.0.0.1"], trusted_proxy_fields=["CF-IPCountry"])
    edge.geo(files, regions={"fra1": (50.0, 8.6), "iad1": (38.9, -77.4), "gru1": (-23.4, -46.5)})
    return edge


def geo_fields(origin: Origin) -> dict[str, str]:
    names = ("x-geo-", "cloudfront-viewer-", "cf-ipcountry")
    return {name.lower(): value for name, value in origin.requests[-1].headers if name.lower().startswith(names)}


def test_a_function_reads_every_fact_and_the_nearest_region(edge: Edge, serve: Serve, client_for: Client) -> None:
    @edge.function("/where")
    def where(request: Request, ctx: Context) -> Response:
        geo = request.geo
        facts = (geo.country, geo.region, geo.city, geo.latitude, geo.longitude, geo.time_zone, geo.asn, geo.eu)
        return Response.json({"facts": facts, "region": ctx.region, "repr": repr(geo)})

    running = serve(edge)
    client = client_for(running)
    for address, facts, region in (
        (GERMANY, ["DE", "BE", "Berlin", 52.52, 13.4, "Europe/Berlin", 64500, True], "fra1"),
        (BRAZIL, ["BR", "SP", "São Paulo", -23.5, -46.6, "America/Sao_Paulo", None, False], "gru1"),
        ("2001:db8:1::1", ["DE", "BE", "Berlin", 52.52, 13.4, "Europe/Berlin", None, True], "fra1"),
        (NOWHERE, [None, None, None, None, None, None, 64500, None], None),
        ("127.0.0.1", [None] * 8, None),
    ):
        found = client.get("/where", headers=came_from(address)).json()
        assert (found["facts"], found["region"]) == (facts, region), address
    assert found["repr"] == "<Geo unknown>"
    assert metric(running, "edgerouter_geo_lookups_total", '{result="found"}') == 4
    assert metric(running, "edgerouter_geo_lookups_total", '{result="unknown"}') == 1


@pytest.mark.parametrize("naming", ["x-geo", "cloudfront"])
def test_the_origin_gets_the_facts_of_the_policy_and_no_forged_ones(
    files: list[Path], naming: str, origin: Origin, serve: Serve, client_for: Client
) -> None:
    origin.default = Reply(200, {}, "content")
    edge = Edge("test", trusted_proxies=["127.0.0.1"], trusted_proxy_fields=["CloudFront-Viewer-*"])
    edge.geo(files, naming=naming)  # type: ignore[arg-type]
    facts = ["country", "city", "latitude", "time_zone", "asn", "eu", "region", "longitude"]
    to = edge.origin("first", origin.url)
    edge.route("/*", to=to, cache=DISABLED, forward=ForwardPolicy(headers="none", geo=facts))  # type: ignore[arg-type]
    client = client_for(serve(edge))
    forged = {"X-Geo-City": "x", "X-Geo_Country": "x", "CloudFront-Viewer-City": "x", "X-Geo-EU": "x"}
    client.get("/a", headers=came_from(BRAZIL, **forged))
    values = ["BR", "SP", "S%C3%A3o Paulo", "-23.5", "-46.6", "America/Sao_Paulo", "0"]
    plain = ["x-geo-country", "x-geo-region", "x-geo-city", "x-geo-latitude", "x-geo-longitude", "x-geo-time-zone"]
    cloudfront = [
        "cloudfront-viewer-country",
        "cloudfront-viewer-country-region",
        "cloudfront-viewer-city",
        "cloudfront-viewer-latitude",
        "cloudfront-viewer-longitude",
        "cloudfront-viewer-time-zone",
    ]
    names = [*(plain if naming == "x-geo" else cloudfront), "x-geo-eu"]
    assert geo_fields(origin) == dict(zip(names, values, strict=True))
    client.get("/a", headers=came_from("127.0.0.1", **forged))
    assert geo_fields(origin) == {}


def test_facts_in_the_key_make_a_response_for_each_value(
    edge: Edge, origin: Origin, serve: Serve, client_for: Client
) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "content")
    to = edge.origin("first", origin.url)
    edge.route("/country/*", to=to, cache=CachePolicy(geo=["country"]))
    edge.route("/hidden/*", to=to, cache=CachePolicy(geo=["eu"]), forward=ForwardPolicy(geo=[]))
    edge.route("/sent/*", to=to, forward=ForwardPolicy(geo=["city"]))
    unkeyed = ForwardPolicy(geo=["city"], unkeyed=["X-Geo-City"])
    edge.route("/declared/*", to=to, forward=unkeyed)
    edge.route("/*", to=to)
    running = serve(edge)
    client = client_for(running)

    def hits(path: str) -> str:
        answers = [client.get(path, headers=came_from(at)) for at in (GERMANY, FRANCE, BRAZIL, NOWHERE, GERMANY)]
        return "".join("h" if "; hit" in answer.headers["cache-status"] else "m" for answer in answers)

    assert hits("/country/a") == "mmmmh"
    assert geo_fields(origin) == {}  # of the address without a country
    assert hits("/hidden/a") == "mhmmh"
    assert geo_fields(origin) == {}
    assert hits("/sent/a") == "mmmmh"
    assert hits("/declared/a") == "mhhhh"
    assert geo_fields(origin) == {"x-geo-city": "Berlin"}
    before = metric(running, "edgerouter_geo_lookups_total", '{result="found"}')
    assert hits("/plain") == "mhhhh"
    assert metric(running, "edgerouter_geo_lookups_total", '{result="found"}') == before


def test_a_condition_on_the_country_chooses_the_route_and_is_looked_up_for_its_candidates_only(
    edge: Edge, origin: Origin, serve: Serve, client_for: Client
) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "content")
    to = edge.origin("first", origin.url)
    edge.route("/shop", respond="dach", when=When(country=["de", "AT", "CH"]))
    edge.route("/shop", respond="br", when=When(country="BR"))
    edge.route("/*", to=to)
    running = serve(edge)
    client = client_for(running)
    for address, text in ((GERMANY, "dach"), (BRAZIL, "br"), (FRANCE, "content"), (NOWHERE, "content")):
        assert client.get("/shop", headers=came_from(address)).text == text
    found = metric(running, "edgerouter_geo_lookups_total", '{result="found"}')
    assert found + metric(running, "edgerouter_geo_lookups_total", '{result="unknown"}') == 4
    client.get("/other", headers=came_from(GERMANY))
    assert metric(running, "edgerouter_geo_lookups_total", '{result="found"}') == found
    steps = edge.explain("GET", "http://test/shop", [("X-Forwarded-For", BRAZIL)])
    assert [step["decision"] for step in steps if step["phase"] == "route"] == ["country BR", "/shop"]


def test_lists_by_country_and_network_guard_the_site_and_a_route(
    files: list[Path], origin: Origin, serve: Serve, client_for: Client
) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "content")
    edge = Edge("test", trusted_proxies=["127.0.0.1"], addresses=AddressPolicy(deny_asns=[64511]))
    edge.geo(files)
    to = edge.origin("first", origin.url)
    edge.route("/*", to=to)
    edge.route("/eu", to=to, addresses=AddressPolicy(allow=["127.0.0.1"], allow_countries=["DE", "FR"]))
    edge.route("/not-br", to=to, addresses={"deny_countries": ["BR"]})
    client = client_for(serve(edge))
    for path, address, status in (
        ("/a", "203.0.113.7", 403),
        ("/a", FRANCE, 200),
        ("/eu", GERMANY, 200),
        ("/eu", BRAZIL, 403),
        ("/eu", NOWHERE, 403),
        ("/eu", "127.0.0.1", 200),
        ("/not-br", BRAZIL, 403),
        ("/not-br", NOWHERE, 200),
    ):
        response = client.get(path, headers=came_from(address))
        assert response.status_code == status, (path, address)
    refused = edge.explain("GET", "http://test/not-br", [("X-Forwarded-For", BRAZIL)])[-1]
    assert "deny_countries" in refused["reason"]


def test_a_country_is_taken_from_a_trusted_proxy_only_by_policy(
    files: list[Path], origin: Origin, serve: Serve, client_for: Client
) -> None:
    origin.default = Reply(200, {}, "content")
    edge = Edge("test", trusted_proxies=["127.0.0.1"], trusted_proxy_fields=["CF-IPCountry"])
    edge.geo(files, country_fields=["CF-IPCountry"])
    to = edge.origin("first", origin.url)
    edge.route("/*", to=to, cache=DISABLED, forward=ForwardPolicy(geo=["country", "city"]))

    @edge.function("/where")
    def where(request: Request, ctx: Context) -> Response:
        return Response.json([request.geo.country, request.geo.city])

    client = client_for(serve(edge))
    for said, place in (
        ("CH", ["CH", None]),
        ("de", ["DE", "Berlin"]),
        ("XX", ["DE", "Berlin"]),
        ("", ["DE", "Berlin"]),
    ):
        assert client.get("/where", headers=came_from(GERMANY, **{"CF-IPCountry": said})).json() == place
    for said, want in (
        ("CH", {"x-geo-country": "CH", "cf-ipcountry": "CH"}),
        ("DE", {"x-geo-country": "DE", "x-geo-city": "Berlin", "cf-ipcountry": "DE"}),
        ("XX", {"x-geo-country": "DE", "x-geo-city": "Berlin", "cf-ipcountry": "XX"}),
        ("T1", {"x-geo-country": "DE", "x-geo-city": "Berlin", "cf-ipcountry": "T1"}),
    ):
        client.get("/a", headers=came_from(GERMANY, **{"CF-IPCountry": said}))
        assert geo_fields(origin) == want
    stranger = Edge("test")
    stranger.geo(files)
    to = stranger.origin("first", origin.url)
    stranger.route("/*", to=to, cache=DISABLED, forward=ForwardPolicy(geo=["country"]))
    client_for(serve(stranger)).get("/a", headers=came_from(GERMANY, **{"CF-IPCountry": "CH"}))
    assert geo_fields(origin) == {}


def test_what_an_origin_hook_reads_keeps_a_response_from_others_unless_the_key_has_it(
    edge: Edge, origin: Origin, serve: Serve, client_for: Client
) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "content")
    to = edge.origin("first", origin.url)
    edge.route("/keyed/*", to=to, cache=CachePolicy(geo=["country"]), forward=ForwardPolicy(geo=[]))
    edge.route("/*", to=to)

    @edge.on("origin_request", "/*")
    def tell(request: Request, ctx: Context) -> None:
        request.headers["x-currency"] = "BRL" if request.geo.country == "BR" else "EUR"

    client = client_for(serve(edge))
    for path, outcomes in (("/keyed/a", "mmh"), ("/other", "mmm")):
        answers = [client.get(path, headers=came_from(at)) for at in (GERMANY, BRAZIL, GERMANY)]
        seen = "".join("h" if "; hit" in answer.headers["cache-status"] else "m" for answer in answers)
        assert seen == outcomes
    assert origin.requests[1].get("x-currency") == "BRL"


def test_a_replaced_file_is_read_and_a_broken_one_leaves_the_one_before(
    tmp_path: Path, serve: Serve, client_for: Client
) -> None:
    path = write(tmp_path / "City.mmdb", {"192.0.2.0/24": BERLIN})
    edge = Edge("test", trusted_proxies=["127.0.0.1"])
    edge.geo(str(path), interval=0.02)

    @edge.function("/where")
    def where(request: Request, ctx: Context) -> Response:
        return Response(request.geo.city or "unknown")

    running = serve(edge)
    client = client_for(running)

    def city() -> str:
        return client.get("/where", headers=came_from(GERMANY)).text

    assert city() == "Berlin"
    write(path, {"192.0.2.0/24": PARIS})
    wait_until(lambda: city() == "Paris")
    failed = f'{{file="{path}",result="failed"}}'
    for broken in (b"", path.read_bytes()[:-200], b"not a file of this kind" * 100):
        before = metric(running, "edgerouter_geo_file_loads_total", failed)
        (tmp_path / "broken").write_bytes(broken)
        (tmp_path / "broken").replace(path)
        wait_until(lambda before=before: metric(running, "edgerouter_geo_file_loads_total", failed) > before)  # type: ignore[misc]
        assert city() == "Paris"
    path.unlink()
    assert city() == "Paris"
    with pytest.raises(ConfigError, match=r"geo\.files\[0\]: .*cannot be read"):
        running.reload(edge)
    write(path, {"192.0.2.0/24": BERLIN})
    wait_until(lambda: city() == "Berlin")
    assert running.reload(edge) == 2 and city() == "Berlin"


def problems(make: Callable[[Edge], object], **site: object) -> str:
    edge = Edge("test", **site)  # type: ignore[arg-type]
    edge.route("/x", respond="x")

    def compiled() -> None:
        make(edge)
        edge.compile()

    with pytest.raises(ConfigError) as raised:
        compiled()
    return str(raised.value)


def test_check_says_what_is_wrong(tmp_path: Path, files: list[Path]) -> None:
    (tmp_path / "text.mmdb").write_text("nothing")
    missing = problems(lambda edge: edge.geo([tmp_path / "no.mmdb", tmp_path / "text.mmdb"]))
    assert "geo.files[0]" in missing and "cannot be read: No such file" in missing
    assert "geo.files[1]" in missing and "MaxMind's format" in missing
    assert "must name a file, or give country_fields" in problems(lambda edge: edge.geo())
    unlisted = problems(lambda edge: edge.geo(country_fields=["CF-IPCountry"]))
    assert "geo.country_fields[0]" in unlisted and "trusted_proxy_fields" in unlisted
    assert "at most 4 files" in problems(lambda edge: edge.geo(files * 3))
    assert "latitude and longitude" in problems(lambda edge: edge.geo(files, regions={"a": (91, 0)}))
    assert "declared already" in problems(lambda edge: [edge.geo(files), edge.geo(files)])

    def needing(**route: object) -> Callable[[Edge], object]:
        return lambda edge: edge.route("/y", to=edge.origin("o", "http://127.0.0.1:1"), **route)  # type: ignore[arg-type]

    for route, path in (
        ({"when": When(country="DE")}, "routes[1].when[0].country"),
        ({"cache": CachePolicy(geo=["country"])}, "routes[1].cache.geo"),
        ({"forward": ForwardPolicy(geo=["country"])}, "routes[1].forward.geo"),
        ({"addresses": AddressPolicy(deny_countries=["DE"])}, "routes[1].addresses"),
    ):
        assert f"{path}: needs geo on the edge" in problems(needing(**route))
    assert "addresses: needs geo" in problems(lambda edge: None, addresses=AddressPolicy(allow_asns=[1]))
    for wrong, message in (
        (lambda: When(country=["Germany"]), "two letters"),
        (lambda: When(country=[]), "at least one country"),
        (lambda: When(country="DE", present=True), "cannot be combined"),
        (lambda: AddressPolicy(allow_countries=["XX"]), "two letters"),
        (lambda: AddressPolicy(deny_asns=["AS1"]), "numbers of autonomous systems"),  # type: ignore[list-item]
        (lambda: CachePolicy(geo=["planet"]), "must be one of country"),  # type: ignore[list-item]
        (lambda: GeoPolicy("x.mmdb", naming="mine"), "must be one of x-geo"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match=message):
            wrong()


def test_the_geo_handler_of_the_examples_answers(
    files: list[Path], tmp_path: Path, serve: Serve, client_for: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "a secret of thirty-two bytes or more"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEO_FILES", ":".join(map(str, files)))
    monkeypatch.setenv("JWT_SECRET", secret)
    app = Path(__file__).parents[2] / "examples" / "geo" / "app.py"
    edge = FileApplication(str(app)).load()
    with edge.bindings() as env:
        env.DB.exec((app.parent / "migrations" / "DB" / "0001_users.sql").read_text())
        env.DB.prepare("INSERT INTO users (id, name) VALUES (?, ?)").bind("ann", "Ann").run()
    client = client_for(serve(edge))
    token = jwt.encode({"sub": "ann", "exp": 4_000_000_000}, secret, algorithm="HS256")
    found = client.get("/", headers=came_from(GERMANY, Authorization=f"Bearer {token}")).json()
    assert found == {
        "city": "Berlin",
        "country": "DE",
        "region": "BE",
        "lat": 52.52,
        "lon": 13.4,
        "served_for": "fra1",
        "user": {"id": "ann", "name": "Ann"},
    }
    unknown = client.get("/").json()
    assert (unknown["city"], unknown["served_for"], unknown["user"]) == ("Unknown", None, None)
