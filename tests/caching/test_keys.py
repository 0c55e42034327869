"""One URL and another (RFC 9110 §4.2.3, RFC 3986 §6.2): nobody gets an answer to another one."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from edgerouter import CachePolicy, Edge
from edgerouter.testing import Running, running

from ..origins import Origin, Reply, Seen
from ..raw import exchange, responses
from ..responses import is_hit

LIFE = {"Cache-Control": "max-age=600"}


def where(seen: Seen) -> Reply:
    """An origin that says in the answer which URL was requested."""
    names = (seen.get("x-forwarded-proto"), seen.get("host"), seen.get("x-forwarded-host"))
    return Reply(200, LIFE, " ".join(name or "-" for name in names))


@pytest.fixture
def served(origin: Origin) -> Iterator[Running]:
    """An edge that sends its origin the host of the viewer's request, behind a proxy that may say the scheme."""
    edge = Edge("test", trusted_proxies=["127.0.0.0/8"])
    edge.route("/*", to=edge.origin("first", origin.url, host="viewer"))
    origin.default = where
    with running(edge) as running_edge:
        yield running_edge


def get(served: Running, path: str, host: str, scheme: str = "http") -> httpx.Response:
    return httpx.get(served.url + path, headers={"Host": host, "X-Forwarded-Proto": scheme})


def test_a_port_makes_another_url(served: Running) -> None:
    poisoned = get(served, "/p", "shop.example:1337")
    assert poisoned.text == "http shop.example:1337 shop.example:1337"
    clean = get(served, "/p", "shop.example")
    assert not is_hit(clean)
    assert clean.text == "http shop.example shop.example"
    assert is_hit(get(served, "/p", "shop.example:1337")) and is_hit(get(served, "/p", "shop.example"))


def test_a_redirect_to_https_is_not_served_to_those_who_came_by_https(served: Running, origin: Origin) -> None:
    def upgrade(seen: Seen) -> Reply:
        if seen.get("x-forwarded-proto") == "http":
            return Reply(301, {**LIFE, "Location": f"https://{seen.get('host')}/s"})
        return Reply(200, LIFE, "page")

    origin.on("/s", upgrade)
    assert get(served, "/s", "shop.example").status_code == 301
    secure = get(served, "/s", "shop.example", "https")
    assert (secure.status_code, secure.text) == (200, "page")
    assert is_hit(get(served, "/s", "shop.example")) and is_hit(get(served, "/s", "shop.example", "https"))


@pytest.mark.parametrize(
    ("scheme", "hosts"),
    [
        ("http", ["shop.example", "SHOP.example:80", "shop.example:", "shop.example.", "shop.example.:080"]),
        ("https", ["shop.example:443", "shop.example", "Shop.Example.:443"]),
        ("http", ["shop.example:443", "shop.example.:0443"]),
        ("https", ["[::1]", "[::1]:443", "[::1]:"]),
    ],
)
def test_spellings_of_one_authority_are_one_url_and_reach_the_origin_alike(
    served: Running, origin: Origin, scheme: str, hosts: list[str]
) -> None:
    first, *others = (get(served, "/one", host, scheme) for host in hosts)
    assert not is_hit(first)
    assert all(is_hit(other) and other.text == first.text for other in others)
    for host in hosts:
        get(served, f"/{host.encode().hex()}", host, scheme)
    assert len({seen.get("host") for seen in origin.requests}) == 1


@pytest.mark.parametrize(
    "host", ["shop.example:65536", "shop.example:x", "shop.example:-1", "shop.example:80:80", ":80"]
)
def test_a_port_that_is_none_is_refused(served: Running, origin: Origin, host: str) -> None:
    data = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    assert responses(exchange(served.url, data))[0].status == 400
    assert origin.requests == []


@pytest.mark.parametrize(
    ("purge", "gone"),
    [
        ({"urls": ["http://shop.example/a"]}, ["http ", "https ", "http :8080", "https :8443"]),
        ({"urls": ["https://shop.example/a"]}, ["http ", "https ", "http :8080", "https :8443"]),
        ({"urls": ["https://shop.example:443/a"]}, ["http ", "https ", "http :8080", "https :8443"]),
        ({"urls": ["http://shop.example:8080/a"]}, ["http :8080"]),
        ({"urls": ["http://shop.example:8443/a"]}, ["https :8443"]),
        ({"urls": ["http://shop.example:9/a"]}, []),
        ({"paths": ["shop.example/a"]}, ["http ", "https ", "http :8080", "https :8443"]),
        ({"paths": ["/a*"]}, ["http ", "https ", "http :8080", "https :8443"]),
        ({"hosts": ["shop.example"]}, ["http ", "https ", "http :8080", "https :8443"]),
    ],
    ids=str,
)
def test_a_purge_reaches_every_scheme_and_every_port_that_it_does_not_leave_out(
    served: Running, purge: dict[str, list[str]], gone: list[str]
) -> None:
    urls = ["http ", "https ", "http :8080", "https :8443"]

    def hits(url: str) -> bool:
        scheme, port = url.split(" ")
        return is_hit(get(served, "/a", f"shop.example{port}", scheme))

    assert not any(hits(url) for url in urls)
    assert all(hits(url) for url in urls)
    served.server.purge(**purge)  # type: ignore[call-overload]
    assert [url for url in urls if not hits(url)] == gone


@pytest.mark.parametrize("url", ["http://shop.example:65536/", "http://shop.example:x/", "http://shop.example:+1/"])
def test_a_purge_of_a_port_that_is_none_is_refused(served: Running, url: str) -> None:
    with pytest.raises(Exception, match=r"urls\[0\]"):
        served.server.purge([url])


def test_an_unsafe_request_ends_what_is_stored_for_its_own_origin_only(served: Running) -> None:
    for host, scheme in (("h", "http"), ("h:8080", "http"), ("h", "https")):
        get(served, "/w", host, scheme)
    httpx.post(served.url + "/w", headers={"Host": "h:8080"})
    assert not is_hit(get(served, "/w", "h:8080"))
    assert is_hit(get(served, "/w", "h")) and is_hit(get(served, "/w", "h", "https"))


def test_a_field_that_connection_names_is_in_no_key_as_it_does_not_go_on(origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, {**LIFE, "Vary": "X-Vary"}, f"{seen.get('x-plan')} {seen.get('x-vary')}")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=CachePolicy(headers=["x-plan"]))
    fields = {"x-plan": "gold", "x-vary": "1"}
    with running(edge) as served:
        hidden = httpx.get(f"{served.url}/page", headers={**fields, "connection": "x-plan, X-Vary, keep-alive"})
        assert hidden.text == "None None"
        assert httpx.get(f"{served.url}/page", headers=fields).text == "gold 1"
        assert httpx.get(f"{served.url}/page").text == "None None"
    assert origin.count() == 2
