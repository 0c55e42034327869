"""``ctx.fetch`` to hosts that are no origins: those that the edge names, at addresses that it may connect to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from edgerouter import (
    AsyncContext,
    CachePolicy,
    ConfigError,
    Context,
    Edge,
    FetchError,
    FetchHosts,
    FunctionLimits,
    Limits,
    Request,
    Response,
    cache,
)
from edgerouter.testing import running

from ..origins import Origin, Reply, Seen, requests_on
from ..processes import free_port

LOOPBACK = ["127.0.0.0/8", "::1/128"]
Fetch = Callable[..., Any]


def echo(seen: Seen) -> Reply:
    fields = {name.lower(): value for name, value in seen.headers}
    found = {"method": seen.method, "target": seen.target, "body": seen.body.decode(), "fields": fields}
    return Reply(
        200,
        {"content-type": "application/json", "set-cookie": "a=b", "connection": "x-hop", "x-hop": "1"},
        json.dumps(found),
    )


@pytest.fixture
def fetching() -> Iterator[Callable[..., Fetch]]:
    """``fetching(*hosts)`` serves a function that fetches; its result is what it got, or the error's text."""
    with contextlib.ExitStack() as stack:

        def make(*hosts: str, networks: list[str] = LOOPBACK, limits: Limits | None = None) -> Fetch:
            wanted: list[tuple[str, dict[str, Any]]] = []
            edge = Edge("test", fetch=FetchHosts(hosts=hosts, networks=networks), limits=limits or Limits())

            async def awaited(request: Request, ctx: AsyncContext) -> Any:
                (url, options) = wanted.pop()
                try:
                    found = await ctx.fetch(url, **options)
                    return {"status": found.status, "fields": dict(found.headers.items()), "text": found.body.decode()}
                except (FetchError, ValueError) as error:
                    return {"error": type(error).__name__, "text": str(error)}

            def plain(request: Request, ctx: Context) -> Any:
                found = ctx.fetch(wanted[-1][0], **wanted.pop()[1])
                return {"status": found.status, "fields": dict(found.headers.items()), "text": found.body.decode()}

            edge.function("/awaited")(awaited)
            edge.function("/plain")(plain)
            client = stack.enter_context(httpx.Client(base_url=stack.enter_context(running(edge)).url, timeout=30))

            def get(url: str, kind: str = "awaited", **options: Any) -> Any:
                wanted.append((url, options))
                return client.get(f"/{kind}", headers={"authorization": "Bearer own", "cookie": "own=1"}).json()

            return get

        yield make


@pytest.mark.parametrize("kind", ["awaited", "plain"])
def test_a_function_fetches_from_a_host_that_the_edge_names(
    origin: Origin, fetching: Callable[..., Fetch], kind: str
) -> None:
    origin.default = echo
    get = fetching(origin.url)
    found = get(f"{origin.url}/a?b=c", kind, method="PUT", body="ä", headers={"x-own": "1", "connection": "x-own"})
    assert found["status"] == 200 and found["fields"]["set-cookie"] == "a=b" and "x-hop" not in found["fields"]
    seen = json.loads(found["text"])
    assert (seen["method"], seen["target"], seen["body"]) == ("PUT", "/a?b=c", "ä")
    # Nothing of the outer request goes along.
    fields = seen["fields"]
    assert set(fields) <= {"host", "x-own", "content-length", "user-agent", "accept-encoding", "via", "cdn-loop"}
    assert (fields["host"], fields["accept-encoding"]) == (origin.url.removeprefix("http://"), "identity")
    assert (
        json.loads(get(f"{origin.url}", kind, headers={"authorization": "x"})["text"])["fields"]["authorization"] == "x"
    )


def test_hosts_and_addresses_that_are_not_named_are_refused(
    origin: Origin, second: Origin, fetching: Callable[..., Fetch]
) -> None:
    origin.default = second.default = Reply(200, {}, "secret")
    port = origin.port
    local = f"http://localhost:{port}"
    all_but_one = sorted({str(found[4][0]) for found in socket.getaddrinfo("localhost", 1)})[1:]
    forms = [f"http://{host}:{port}" for host in ("2130706433", "0177.0.0.1", "0x7f.1", "127.1")]
    named = fetching(origin.url, local)
    closed = fetching(origin.url, local, *forms, networks=[])
    partly = fetching(local, networks=all_but_one)
    for get, url, error, text in [
        (named, second.url, "ValueError", "is not the host of this request"),
        (named, f"https://127.0.0.1:{port}/", "ValueError", "not among the hosts"),
        (named, f"http://[::ffff:127.0.0.1]:{port}/", "ValueError", "not among the hosts"),
        (named, f"http://[64:ff9b::7f00:1]:{port}/", "ValueError", "not among the hosts"),
        (named, f"http://127.1:{port}/", "ValueError", "not among the hosts"),
        (named, f"http://a@127.0.0.1:{port}/", "ValueError", "names a user"),
        (named, f"http://127.0.0.1:{port}@{second.url[7:]}/", "ValueError", "names a user"),
        (named, f"http://ｌocalhost:{port}/", "ValueError", "xn--"),
        (named, f"http://localhost\\.evil.example:{port}/", "ValueError", "no valid host"),
        (named, f"http://loc%61lhost:{port}/", "ValueError", "no valid host"),
        (named, f"http://[::1%25lo]:{port}/", "ValueError", "no valid host"),
        (named, "http://localhost:0/", "ValueError", "no valid port"),
        (closed, origin.url, "FetchError", "private networks are named in FetchHosts(networks="),
        (closed, local, "FetchError", "private network"),
        *((closed, form, "FetchError", "private network") for form in forms),
        (partly, local, "FetchError", "private network"),
    ]:
        found = get(url)
        assert (found.get("error"), text in found["text"]) == (error, True), (url, found)
    assert origin.requests == second.requests == []
    capitals = fetching(f"HTTP://LOCALHOST:{port}")
    for get, url in (
        (named, f"HTTP://LOCALHOST:{port}/"),
        (named, f"http://localhost.:{port}/"),
        (capitals, f"http://localhost:{port}/"),
    ):
        assert get(url)["text"] == "secret"
        assert origin.requests.pop().get("host") == local.removeprefix("http://")


def test_the_listeners_of_the_edge_are_never_connected_to(fetching: Callable[..., Fetch]) -> None:
    port = free_port()
    edge = Edge(
        "test", fetch=FetchHosts(hosts=[f"http://127.0.0.1:{port}", f"http://localhost:{port}"], networks=LOOPBACK)
    )
    edge.listen(f"127.0.0.1:{port}")

    @edge.function("/{host}")
    async def call(request: Request, ctx: AsyncContext, host: str) -> str:
        try:
            return (await ctx.fetch(f"http://{host}:{port}/localhost")).body.decode()
        except FetchError as error:
            return str(error)

    with running(edge) as served:
        for host in ("127.0.0.1", "localhost"):
            text = httpx.get(f"{served.url}/{host}", timeout=30).text
            assert "is a listener of this edge, which is never fetched from" in text and "networks" not in text


@pytest.mark.parametrize("stored", [None, cache.OPTIMIZED], ids=["not stored", "stored"])
def test_a_loop_of_functions_over_several_edges_ends_by_the_number_of_those_that_it_has_passed(
    stored: CachePolicy | None,
) -> None:
    ports = free_port(), free_port()
    calls: list[int] = []

    def edge_of(number: int) -> Edge:
        other = f"http://127.0.0.1:{ports[1 - number]}"
        edge = Edge("test", fetch=FetchHosts(hosts=[other], networks=LOOPBACK))
        edge.listen(f"127.0.0.1:{ports[number]}")

        # A request that followed the fetch that it comes from would wait until `coalesce_timeout`.
        @edge.function("/loop", cache=stored)
        async def loop(request: Request, ctx: AsyncContext) -> Response:
            calls.append(number)
            found = await ctx.fetch(f"{other}/loop")
            return Response(found.body, found.status)

        return edge

    with running(edge_of(0)), running(edge_of(1)):
        answer = httpx.get(f"http://127.0.0.1:{ports[0]}/loop", timeout=30)
    assert (answer.status_code, calls) == (508, [0, 1, 0, 1, 0])


def test_redirects_are_followed_as_the_fetch_standard_says(
    origin: Origin, second: Origin, fetching: Callable[..., Fetch]
) -> None:
    origin.default = second.default = echo
    for status in (301, 302, 303, 307, 308):
        origin.on(f"/{status}", Reply(status, {"location": "../there?x=ü#part"}))
        origin.on(f"/away/{status}", Reply(status, {"location": f"{second.url}/there"}))
    get = fetching(origin.url, second.url)
    given = {"authorization": "x", "cookie": "y", "content-type": "text/plain", "x-own": "1"}
    for status in (301, 302, 303, 307, 308):
        seen = json.loads(get(f"{origin.url}/{status}", method="POST", body="a", headers=given)["text"])
        kept = status in (307, 308)
        assert (seen["method"], seen["body"]) == (("POST", "a") if kept else ("GET", "")), status
        assert ("content-type" in seen["fields"]) == kept and seen["target"] == "/there?x=%C3%BC"
        assert seen["fields"]["authorization"] == "x" and seen["fields"]["cookie"] == "y"
        away = json.loads(get(f"{origin.url}/away/{status}", headers=given)["text"])["fields"]
        assert away["host"] == second.url[7:] and away["x-own"] == "1" and not {"authorization", "cookie"} & set(away)
    assert json.loads(get(f"{origin.url}/303", method="PUT", body="a")["text"])["method"] == "GET"
    assert json.loads(get(f"{origin.url}/302", method="PUT", body="a")["text"])["method"] == "PUT"
    assert get(f"{origin.url}/303", method="HEAD")["status"] == 200
    assert get(f"{origin.url}/301", redirect="manual")["status"] == 301
    assert "redirect='error'" in get(f"{origin.url}/301", redirect="error")["text"]


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/café?q=€", "/caf%C3%A9?q=%E2%82%AC"),
        (b"/caf\xe9", "/caf%C3%A9"),
        ("/%C3%A9", "/%C3%A9"),
        ("/a b", "/a%20b"),
    ],
    ids=["utf-8", "latin-1", "encoded", "space"],
)
def test_a_redirect_that_is_not_ascii_leads_to_the_url_that_browsers_take_it_for(
    origin: Origin, fetching: Callable[..., Fetch], location: str | bytes, target: str
) -> None:
    origin.default = echo
    line = location if isinstance(location, bytes) else location.encode()
    origin.on("/from", Reply(raw=b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: " + line + b"\r\n\r\n"))
    found = fetching(origin.url)(f"{origin.url}/from")
    assert json.loads(found["text"])["target"] == target


def test_an_address_of_ipv6_is_a_host_in_any_spelling(fetching: Callable[..., Fetch]) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        for seen in requests_on(connection):
                            host = (seen.get("host") or "").encode()
                            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(host) + host)

        threading.Thread(target=answer, daemon=True).start()
        get = fetching(f"http://[0:0:0:0:0:0:0:1]:{port}")
        for host in ("[::1]", "[0::0001]", "[0:0:0:0:0:0:0:1]"):
            assert get(f"http://{host}:{port}/a")["text"] == f"[::1]:{port}"
        assert "not among the hosts" in get(f"http://[::2]:{port}/a")["text"]
        assert "not among the hosts" in get(f"http://[::1]:{port + 1}/a")["text"]
        listener.shutdown(socket.SHUT_RDWR)


def test_json_has_its_type_unless_another_is_given(origin: Origin, fetching: Callable[..., Fetch]) -> None:
    origin.default = echo
    get = fetching(origin.url)
    for headers, kind in [
        (None, "application/json"),
        ({"x-a": "b"}, "application/json"),
        ({"Content-Type": "application/vnd.api+json"}, "application/vnd.api+json"),
    ]:
        found = json.loads(get(origin.url, method="POST", json=[1], headers=headers)["text"])
        assert (found["fields"]["content-type"], found["body"]) == (kind, "[1]")


def test_a_redirect_leads_to_no_other_place_than_a_url_may(
    origin: Origin, second: Origin, fetching: Callable[..., Fetch]
) -> None:
    second.default = Reply(200, {}, "secret")
    get = fetching(origin.url, f"http://localhost:{origin.port}", networks=["127.0.0.1/32"])
    for location, text in [
        (second.url, "not among the hosts"),
        (f"//127.0.0.1:{second.port}/", "not among the hosts"),
        (f"http://a:b@127.0.0.1:{origin.port}/", "names a user"),
        ("http://169.254.169.254/latest/meta-data/", "not among the hosts"),
        ("file:///etc/passwd", "neither a path nor a URL"),
        ("http://[bad/", "cannot be fetched"),
        ("/", "more than 3 redirects"),
    ]:
        origin.default = Reply(302, {"location": location})
        found = get(origin.url)
        assert found["error"] == "FetchError" and text in found["text"], (location, found)
    assert second.requests == []
    origin.default = Reply(302, {})
    assert get(origin.url)["status"] == 302


def test_a_response_has_bounds_and_a_failure_is_an_error(origin: Origin, fetching: Callable[..., Fetch]) -> None:
    origin.default = Reply(200, {}, "x" * 2000)
    origin.on("/short", Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"))
    get = fetching(origin.url, limits=Limits(functions=FunctionLimits(fetch_bytes=1024)))
    assert "limits.functions.fetch_bytes" in get(origin.url)["text"]
    assert get(f"{origin.url}/short")["error"] == "FetchError"
    assert "cache 'reload' has no effect" in get(origin.url, cache="reload")["text"]
    assert "must be follow, manual or error" in get(origin.url, redirect="no")["text"]
    origin.kill()
    assert get(origin.url)["error"] == "FetchError"


@pytest.mark.parametrize(
    ("hosts", "networks", "place"),
    [
        ([], [], "fetch.hosts"),
        (["*"], [], "fetch.hosts[0]"),
        (["ftp://a.example"], [], "fetch.hosts[0]"),
        (["a.example"], ["x"], "fetch.networks[0]"),
        (["http://"], [], 'fetch.hosts[0]: "http://": must name a host'),
        (
            ["2001:DB8::1"],
            [],
            'fetch.hosts[0]: "2001:DB8::1": must be in brackets, as an address',
        ),
        (["https://::1"], [], '"[::1]"'),
    ],
)
def test_hosts_that_cannot_be_read_are_refused(hosts: list[str], networks: list[str], place: str) -> None:
    edge = Edge("test", fetch=FetchHosts(hosts=hosts, networks=networks))
    edge.route("/*", to=edge.origin("o", "http://127.0.0.1:1"))
    with pytest.raises(ConfigError) as raised:
        edge.compile()
    assert place in str(raised.value)


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "10.0.0.0/0", "::ffff:0:0/0"])
def test_no_network_of_all_addresses_is_named(network: str) -> None:
    fetching = Edge("test", fetch=FetchHosts(hosts=["a.example"], networks=["10.0.0.0/8", network]))
    images = Edge("test")
    images.images("/_image", sources=["a.example"], networks=["10.0.0.0/8", network])
    for edge in (fetching, images):
        with pytest.raises(ConfigError, match=r"networks\[1\].*none of all addresses"):
            edge.compile()
