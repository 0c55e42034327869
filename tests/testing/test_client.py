"""``Client``: an edge with the test's own origins, clock, addresses, variants and faults."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from edgerouter import (
    ConfigError,
    Context,
    DiskCache,
    Edge,
    Experiment,
    Jwt,
    RateLimit,
    Request,
    Secret,
    cache,
)
from edgerouter.testing import CacheResult, Client, FakeOrigin, Fault, Received, Reply

from ..origins import wait_until

#: A lifetime of sixty seconds, some of which may have passed on a busy machine.
SIXTY = range(50, 61)
SECRET = "a secret of thirty-two bytes or more"


def application() -> Edge:
    edge = Edge("site", hosts=["*.example.com", "127.0.0.1"], disk_cache=DiskCache("/absent/cache", size=1 << 30))
    site = edge.origin("site", "https://origin.example.net/base", retries=0, tls_server_name="other.example.net")
    edge.origin("spare", "unix:/run/spare.sock")
    edge.route("/page/*", to=site, cache=cache.STANDARD)
    edge.route("/secure", respond="by TLS", viewer="https-only")
    edge.route("/limited", respond="seldom", rate_limit=RateLimit("seldom", 1, per=60))
    edge.route("/home", to=site, experiment=Experiment("home", variants={"old": 1, "new": 1}))
    edge.route("/by-id", to=site, experiment=Experiment("ids", by="header:x-user", variants={"old": 1, "new": 9}))
    token = Jwt.hs256(Secret.literal(SECRET))
    edge.route("/mine", to=site, auth=token, experiment=Experiment("subs", by="sub", variants={"old": 1, "new": 1}))

    @edge.function("/who")
    def who(request: Request, ctx: Context) -> str:
        return f"{request.client} {request.url}"

    @edge.function("/fails")
    def fails(request: Request, ctx: Context) -> str:
        raise ValueError("a fault of the function")

    return edge


def page(request: Received) -> Reply:
    shown = f"{request.path} {request.get('host')} {request.get('x-variant')}"
    return Reply(200, {"cache-control": "max-age=60"}, shown)


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(application(), origins={"site": page}) as made:
        yield made


def test_origins_reply_as_the_test_says_and_receive_what_they_would_in_service(client: Client) -> None:
    assert client.get("/page/1?q=a").text == "/base/page/1 origin.example.net None"
    received = client.origins["site"].requests[-1]
    assert (received.method, received.target) == ("GET", "/base/page/1?q=a")
    assert received.get("x-forwarded-for") == "127.0.0.1"
    client.origins["site"].on("/base/page/2", Reply.json({"a": 1}, 201))
    answer = client.get("/page/2")
    assert (answer.status_code, answer.json()) == (201, {"a": 1})
    client.origins["site"].on("/base/page/*", 418)
    assert client.get("/page/3").status_code == 418
    assert client.origins["site"].count("/base/page/3") == 1 and client.origins["spare"].count() == 0


def test_the_clock_is_set_and_origins_follow_it(client: Client) -> None:
    with pytest.raises(LookupError, match="make a request first"):
        _ = client.cache
    first = client.get("/page/a")
    assert client.cache._replace(ttl=None) == CacheResult(False, "uri-miss", True, None, "absent")
    assert client.cache.ttl in SIXTY
    client.clock.advance(timedelta(seconds=30))
    client.get("/page/a")
    assert client.cache.hit and client.cache.ttl in range(20, 31)
    client.clock.advance(31)
    client.get("/page/a")
    assert client.cache.forwarded == "stale" and client.cache.ttl in SIXTY
    client.clock.set(datetime(2030, 1, 1, tzinfo=UTC))
    assert client.get("/page/b").headers["date"].startswith("Tue, 01 Jan 2030 00:00:")
    assert client.cache.ttl in SIXTY and first.text == "/base/page/a origin.example.net None"
    with pytest.raises(ValueError, match="time zone"):
        client.clock.set(datetime(2030, 1, 1))  # noqa: DTZ001  # it is refused
    for wrong in (float("nan"), "60", True):
        with pytest.raises(ValueError, match="must be seconds"):
            client.clock.advance(wrong)  # type: ignore[arg-type]
    for far in (1e30, -1e30, 9e11):
        with pytest.raises(ValueError, match="between the years 1970 and 9999"):
            client.clock.advance(far)
    with pytest.raises(ValueError, match="between the years 1970 and 9999"):
        client.clock.set(datetime(1969, 12, 31, tzinfo=UTC))


def test_a_client_has_any_address_and_host_with_and_without_tls(client: Client) -> None:
    assert client.get("/who").text == "127.0.0.1 http://www.example.com/who"
    client.address = "203.0.113.7"
    assert client.get("https://shop.example.com:8443/who").text == "203.0.113.7 https://shop.example.com:8443/who"
    client.address = "2001:db8::7"
    forged = client.get("/who", headers={"x-forwarded-for": "198.51.100.1", "cf-connecting-ip": "198.51.100.1"})
    assert forged.text == "2001:db8::7 http://www.example.com/who"
    assert client.get("http://elsewhere.example/who").status_code == 421
    assert client.get("/secure").status_code == 403
    assert client.get("https://www.example.com/secure").text == "by TLS"
    with Client(application(), http2=True) as other:
        found = [other.get(url).http_version for url in ("/who", "https://www.example.com/who")]
        assert found == ["HTTP/1.1", "HTTP/2"]
    for address, expected in (("192.0.2.1", [200, 429]), ("192.0.2.2", [200, 429])):
        client.address = address
        assert [client.get("/limited").status_code for _ in expected] == expected
    for wrong in ("nowhere", 5):
        with pytest.raises(ValueError, match="must be an IP address"):
            client.address = wrong  # type: ignore[assignment]


def test_a_client_is_in_the_variant_that_the_test_chooses(client: Client) -> None:
    for variant in ("old", "new", "old"):
        client.choose("home", variant)
        assert client.get("/home").text.endswith(f" {variant}")
        client.choose("ids", variant)
        assert client.get("/by-id").text.endswith(f" {variant}")
        token = jwt.encode({"sub": client.id_for("subs", variant), "exp": client.clock.now() + 60}, SECRET, "HS256")
        assert client.get("/mine", headers={"authorization": f"Bearer {token}"}).text.endswith(f" {variant}")
    with Client(application(), origins={"site": page}, variants={"home": "new"}, headers={"x-a": "1"}) as other:
        assert [other.get("/home").text.split()[-1] for _ in range(3)] == ["new"] * 3
        assert other.origins["site"].requests[-1].get("x-a") == "1"
    for experiment, variant, message in (
        ("none", "old", "no experiment of the edge; it has home, ids, subs"),
        ("home", "none", "no variant of 'home'; it has old, new"),
        ("subs", "old", "in the token"),
    ):
        with pytest.raises(ValueError, match=message):
            client.choose(experiment, variant)


@pytest.mark.parametrize("kind", ["refuse", "reset", "truncate", "garbage"])
def test_an_origin_fails_as_the_test_says_and_recovers(client: Client, kind: Fault) -> None:
    origin = client.origins["site"]
    origin.fault(kind)
    assert client.get("/page/x").status_code == 502
    origin.fault(None)
    assert client.get("/page/x").status_code == 200
    if kind != "refuse":
        # A request whose connection was in use before is sent again when that ends without a response.
        origin.fault(kind, times=2 if kind == "reset" else 1)
        assert [client.get(f"/page/{it}").status_code for it in "yz"] == [502, 200]


def test_a_stalled_origin_is_waited_for_and_goes_on() -> None:
    edge = Edge("site")
    edge.route("/*", to=edge.origin("site", "http://127.0.0.1:1"))
    with Client(edge, origins={"site": {"/": "there"}}) as client, ThreadPoolExecutor(1) as pool:
        client.origins["site"].fault("stall")
        answer = pool.submit(client.get, "/")
        client.origins["site"].wait_for(1)
        assert not answer.done()
        client.origins["site"].fault(None)
        assert answer.result(60).text == "there"
    with pytest.raises(ValueError, match="must be one of refuse, reset"):
        FakeOrigin().fault("burns")  # type: ignore[arg-type]  # it is refused
    with pytest.raises(ValueError, match="times -1 must be a number of requests"):
        FakeOrigin().fault("reset", times=-1)


def test_what_is_no_reply_is_refused_when_it_is_given_or_answered_with_the_reason() -> None:
    with pytest.raises(TypeError, match=r"is no reply: give a Reply, such as Reply\.json"):
        FakeOrigin({"/": {"id": 7}})  # type: ignore[dict-item]  # it is refused
    origin = FakeOrigin(lambda request: None)  # type: ignore[arg-type, return-value]  # it is refused
    response = httpx.get(origin.url)
    assert (response.status_code, "None is no reply" in response.text) == (500, True)
    origin.close()
    for answers, error, message in [
        ({"/": 99}, ValueError, "99 is no status of a reply"),
        ({"/": True}, TypeError, "True is no reply"),
        ({"page": "text"}, ValueError, "'page' must be a path, such as /page or"),
        (
            [("/", "text")],
            TypeError,
            "site: the replies are a mapping of paths, or a function of the request, not list",
        ),
        (5, TypeError, "site: the replies are a mapping of paths, or a function of the request, not int"),
    ]:
        with pytest.raises(error, match=message):
            Client(application(), origins={"site": answers})  # type: ignore[dict-item]  # it is refused


def test_the_recorder_has_every_exchange_with_the_part_of_the_cache(client: Client) -> None:
    client.get("/page/r")
    client.address = "203.0.113.7"
    client.post("/page/r", content=b"x")
    client.get("/page/r")
    seen = [(it.request.method, it.address, it.response.status_code, it.cache.hit) for it in client.exchanges]
    assert seen == [
        ("GET", "127.0.0.1", 200, False),
        ("POST", "203.0.113.7", 200, False),
        ("GET", "203.0.113.7", 200, False),
    ]
    assert [it.method for it in client.origins["site"].requests] == ["GET", "POST", "GET"]


def test_tracebacks_are_for_clients_of_this_machine(client: Client) -> None:
    assert "a fault of the function" in client.get("/fails").text
    client.address = "203.0.113.7"
    assert "a fault of the function" not in client.get("/fails").text


def test_another_edge_is_put_in_service_and_the_user_s_own_is_not_changed(client: Client) -> None:
    other = Edge("site")
    other.route("/*", to=other.origin("site", "http://127.0.0.1:1"))
    assert client.reload(other) == 2
    assert client.get("/page/1").text == "/page/1 127.0.0.1:1 None"
    assert other.to_dict()["origins"][0]["url"] == "http://127.0.0.1:1" and not other.listeners
    assert other.server is client.server and other.purge(everything=True).id


def test_an_edge_that_is_refused_leaves_the_one_in_service(client: Client) -> None:
    before = client.edge
    refused = Edge("site")
    refused.route("/*", to="nothing")
    with pytest.raises(ConfigError, match="nothing"):
        client.reload(refused)
    assert client.edge is before and client.get("/page/1").status_code == 200


def test_names_and_errors_are_those_of_the_site_and_of_httpx(client: Client) -> None:
    with pytest.raises(ConfigError, match=r"Client\.origins: other.*it has site, spare"):
        Client(application(), origins={"other": page})
    broken = Edge("broken")
    broken.route("/*", to="nothing")
    with pytest.raises(ConfigError, match="nothing"):
        Client(broken)
    client.server.stop(0)
    with pytest.raises(httpx.TransportError):
        client.get("/who")


TEST = """
def test_the_application(edge_client, edge_app):
    client = edge_client(edge_app, origins={"site": {"/a": "one"}})
    assert client.get("/a").text == "one"


def test_an_origin(edge_client, edge_app, fake_origin):
    origin = fake_origin({"/b": "two"})
    client = edge_client(edge_app, origins={"site": origin})
    assert client.get("/b").text == "two" and origin.count() == 1
"""
UNUSED = """
import sys


def test_nothing_is_loaded():
    assert not [name for name in sys.modules if name == "edgerouter" or name.startswith("edgerouter.")]
"""


def pytest_in(folder: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(arguments, cwd=folder, env=clean, capture_output=True, text=True, timeout=60, check=False)


def test_the_plugin_of_pytest_has_fixtures_and_costs_nothing_unused(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nedgerouter_app = app.py\n")
    (tmp_path / "app.py").write_text(
        "from edgerouter import Edge\n"
        "edge = Edge('site')\n"
        "edge.route('/*', to=edge.origin('site', 'https://www.example.com'))\n"
    )
    (tmp_path / "test_1_unused.py").write_text(UNUSED)
    (tmp_path / "test_2_used.py").write_text(TEST)
    found = pytest_in(tmp_path)
    assert "3 passed" in found.stdout, found.stdout + found.stderr


def test_clients_are_where_the_test_says() -> None:
    edge = Edge("site")
    edge.geo(["/nowhere/GeoLite2-City.mmdb"], regions={"fra1": (50.0, 8.6), "iad1": (38.9, -77.4)})

    @edge.function("/")
    def where(request: Request, ctx: Context) -> list[object]:
        geo = request.geo
        return [geo.country, geo.region, geo.city, geo.latitude, geo.time_zone, geo.asn, ctx.region]

    berlin: dict[str, object] = {
        "country": "DE",
        "region": "BE",
        "city": "Berlin-Schöneberg am Rathaus John F. Kennedy",
        "latitude": 52.5,
        "longitude": 13.4,
        "time_zone": "Europe/Berlin",
        "asn": 64_496,
        "eu": True,
    }
    places: dict[str, dict[str, object]] = {
        "203.0.113.7": berlin,
        "198.51.100.0/24": {"country": "US"},
        "198.51.100.9": {"country": "CA"},
    }
    with Client(edge, places={**places, "2001:db8::/32": {"country": "FR"}}) as client:
        for address, want in (
            ("203.0.113.7", ["DE", "BE", berlin["city"], 52.5, "Europe/Berlin", 64_496, "fra1"]),
            ("203.0.113.8", [None] * 7),
            ("198.51.100.1", ["US", *[None] * 6]),
            ("198.51.100.9", ["CA", *[None] * 6]),
            ("2001:db8:1::1", ["FR", *[None] * 6]),
        ):
            client.address = address
            assert client.get("/").json() == want, address
    for wrong, text in (({"x": {}}, "must be an address"), ({"203.0.113.7": {"land": "DE"}}, "must be one of country")):
        with pytest.raises(ValueError, match=text):
            Client(edge, places=wrong)
    plain = Edge("site")
    plain.route("/", respond="x")
    with pytest.raises(ConfigError, match="looks no places up"):
        Client(plain, places={})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"origins": 5}, "Client.origins: must be a mapping, not int"),
        ({"variants": "treatment"}, "Client.variants: must be a mapping, not str"),
        ({"places": ["DE"]}, "Client.places: must be a mapping, not list"),
        ({"cookies": "a=b"}, "Client.cookies: must be a mapping, not str"),
        ({"headers": 5}, "'int' object is not iterable"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_client_that_cannot_be_made_leaves_no_server(given: dict[str, Any], message: str) -> None:
    edge = Edge("t")
    edge.route("/*", respond="x")
    with Client(edge) as client:
        assert client.get("/").text == "x"
    threads = Path("/proc/self/task")
    before = len(list(threads.iterdir()))
    with pytest.raises(TypeError) as refused:
        Client(edge, **given)
    assert str(refused.value) == message
    wait_until(lambda: len(list(threads.iterdir())) <= before, what="the end of the server's threads")
    with pytest.raises(TypeError, match=r"Client\.edge: must be an Edge or the path of its file, not int"):
        Client(5)  # type: ignore[arg-type]


def test_the_first_example_of_the_page_is_a_test_that_passes() -> None:
    page = Path(__file__).parents[2] / "docs" / "testing.md"
    example = page.read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(compile(example, str(page), "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert [test() for test in tests] == [None]
