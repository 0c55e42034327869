"""Lists of networks and hosts that an edge serves, through the socket."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from edgerouter import AddressPolicy, ConfigError, Edge
from edgerouter.testing import Running

from ..conftest import Serve
from ..metrics import metric
from ..origins import Origin, Reply

Client = Callable[[Running], httpx.Client]


def came_from(address: str) -> dict[str, str]:
    return {"x-forwarded-for": address}


def test_a_route_serves_the_networks_of_its_allow_list_only(origin: Origin, serve: Serve, client_for: Client) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "content")
    edge = Edge("test", trusted_proxies=["127.0.0.1"])
    to = edge.origin("first", origin.url)
    edge.route("/*", to=to)
    edge.route("/office/*", to=to, addresses=AddressPolicy(allow=["10.0.0.0/8", "2001:db8::/32"], deny=["10.9.0.0/16"]))
    running = serve(edge)
    client = client_for(running)
    for address, status in (
        ("10.1.2.3", 200),
        ("2001:db8:1::7", 200),
        ("10.9.0.1", 403),
        ("203.0.113.7", 403),
        ("::ffff:10.1.2.3", 200),
    ):
        # The first of them stores the response: a hit is refused as well.
        assert client.get("/office/x", headers=came_from(address)).status_code == status, address
        assert client.get("/x", headers=came_from(address)).status_code == 200
    refused = client.get("/office/x", headers=came_from("203.0.113.7"))
    assert "detail=address" in refused.headers["cache-status"]
    assert client.get("/x%2f..%2foffice/x", headers=came_from("203.0.113.7")).status_code == 400
    assert origin.count("/office/x") == 1
    assert metric(running, "edgerouter_cache_forwarded_total", '{reason="address"}') == 3


def test_a_site_refuses_the_networks_of_its_deny_list_on_every_route(
    origin: Origin, serve: Serve, client_for: Client
) -> None:
    origin.default = Reply(200, {}, "content")
    edge = Edge("test", trusted_proxies=["127.0.0.1"], addresses=AddressPolicy(deny=["203.0.113.0/24"]))
    edge.route("/*", to=edge.origin("first", origin.url))
    client = client_for(serve(edge))
    assert client.get("/x", headers=came_from("203.0.113.7")).status_code == 403
    assert client.get("/x", headers=came_from("203.0.114.7")).status_code == 200
    assert client.get("/x").status_code == 200


def test_a_host_that_the_site_does_not_serve_gets_421(origin: Origin, serve: Serve, client_for: Client) -> None:
    origin.default = Reply(200, {}, "content")
    edge = Edge("test", hosts=["www.example.com", "*.shop.example.com"])
    edge.route("/*", to=edge.origin("first", origin.url))
    client = client_for(serve(edge))
    for host, status in (
        ("www.example.com", 200),
        ("WWW.example.com:8080", 200),
        ("a.b.shop.example.com", 200),
        ("shop.example.com", 421),
        ("example.com", 421),
        ("127.0.0.1", 421),
        ("www.example.com.evil.test", 421),
    ):
        response = client.get("/x", headers={"host": host})
        assert response.status_code == status, host
        assert response.headers["cache-status"].endswith("detail=misdirected") == (status == 421)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "without any it has no effect"),
        ({"allow": []}, "would serve nobody"),
        ({"allow_countries": (), "allow_asns": [], "deny": ["10.0.0.0/8"]}, "would serve nobody"),
        ({"deny": ["10.0.0.0/40"]}, r"deny\[0\]"),
        ({"allow": ["::ffff:10.0.0.0/104"]}, "IPv4 written as IPv4"),
        ({"allow": [7]}, "must be a non-empty string"),
    ],
)
def test_a_list_that_no_address_can_match_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AddressPolicy(**fields)  # type: ignore[arg-type]


def test_a_route_for_a_host_that_is_not_served_is_refused_at_its_line() -> None:
    edge = Edge("test", hosts=["www.example.com"])
    edge.route("other.example.com/*", respond="x")
    with pytest.raises(ConfigError, match=r"routes\[0\]\.host: .*is never requested"):
        edge.compile()
