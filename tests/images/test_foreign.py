"""Images of hosts that are no origins: from addresses that the policy allows, and from no other."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import Any

import httpx
import pytest

from edgerouter import Edge, Images
from edgerouter.errors import ConfigError
from edgerouter.testing import Running, running

from ..origins import Origin, Reply, Seen
from ..processes import free_port
from .conftest import FRESH, WEBP
from .pictures import coded, opened, photo, psnr

PHOTO = coded(photo(64, 48))
LOOPBACK = ["127.0.0.1/32", "::1"]
Fetch = Callable[..., httpx.Response]


@pytest.fixture
def fetching() -> Iterator[Callable[..., Fetch]]:
    """``fetching(*hosts, networks=…)`` serves ``/_image`` for them, and gives a function that requests an image."""
    with ExitStack() as stack:

        def make(*hosts: str, networks: list[str] = LOOPBACK, **options: Any) -> Fetch:
            edge = Edge("test")
            edge.images("/_image", sources=hosts, networks=networks, **options)
            served = stack.enter_context(running(edge))
            client = stack.enter_context(httpx.Client(base_url=served.url, timeout=30))

            def get(url: str, query: str = "", **fields: str) -> httpx.Response:
                parameters = {"url": url} | dict(pair.split("=", 1) for pair in query.split("&") if pair)
                headers = {"accept": WEBP} | {name.replace("_", "-"): value for name, value in fields.items()}
                return client.get("/_image", params=parameters, headers=headers)

            return get

        yield make


def image(**fields: str) -> Reply:
    return Reply(200, {"content-type": "image/jpeg"} | FRESH | fields, PHOTO)


def test_an_image_of_another_host_is_fetched_once(origin: Origin, fetching: Callable[..., Fetch]) -> None:
    origin.on("/a.jpg", image(**{"set-cookie": "a=b", "x-other": "1"}))
    get = fetching(origin.url)
    first = get(f"{origin.url}/a.jpg?v=1", "f=png", cookie="session=1", authorization="Basic eDp5", user_agent="me")
    assert psnr(opened(first.content), opened(PHOTO)) > 45
    assert "set-cookie" not in first.headers and "x-other" not in first.headers
    seen = origin.requests[-1]
    assert (seen.method, seen.target, seen.get("host")) == ("GET", "/a.jpg?v=1", origin.url.removeprefix("http://"))
    names = {name.lower() for name, _ in seen.headers}
    assert names <= {"host", "accept", "accept-encoding", "user-agent", "via", "cdn-loop"}
    assert "; hit" in get(f"{origin.url}/a.jpg?v=1", "f=png").headers["cache-status"]
    # Another URL is another image.
    assert "; hit" not in get(f"{origin.url}/a.jpg?v=2", "f=png").headers["cache-status"]
    assert origin.count("/a.jpg") == 2


def test_variants_share_one_fetch_of_an_image_of_another_host(origin: Origin, fetching: Callable[..., Fetch]) -> None:
    began = Event()
    content = Reply(200, {"content-type": "image/jpeg"} | FRESH, coded(photo()))

    def slowly(seen: Seen) -> Reply:
        assert began.wait(10)
        return content

    origin.on("/a.jpg", slowly)
    get = fetching(origin.url)
    with ThreadPoolExecutor(3) as clients:
        wanted = [("w=160", (160, 120)), ("w=320", (320, 240)), ("h=160&q=40", (213, 160))]
        answers = [(clients.submit(get, f"{origin.url}/a.jpg", query), size) for query, size in wanted]
        origin.wait_for(1)
        began.set()
        for answer, size in answers:
            assert opened(answer.result().content).size == size
    assert opened(get(f"{origin.url}/a.jpg", "w=480").content).size == (400, 300)
    assert origin.count("/a.jpg") == 1
    # The images of two URLs are two.
    assert get(f"{origin.url}/b.jpg", "w=160").status_code == 404
    assert get(f"{origin.url}/a.jpg?x", "w=160").status_code == 200
    assert origin.count("/a.jpg") == 2


@pytest.mark.parametrize("status", [404, 500])
def test_an_image_that_a_host_does_not_have_is_not_kept(
    origin: Origin, fetching: Callable[..., Fetch], status: int
) -> None:
    origin.on("/a.jpg", Reply(status, {"cache-control": "max-age=600"}, b"none"))
    get = fetching(origin.url)
    answer = get(f"{origin.url}/a.jpg", "w=160")
    assert answer.status_code == (404 if status == 404 else 502) and "The host of the image" in answer.text
    origin.on("/a.jpg", image())
    for width in (160, 320):
        assert get(f"{origin.url}/a.jpg", f"w={width}").status_code == 200
    assert origin.count("/a.jpg") == 2


def test_it_is_validated_by_its_tag(origin: Origin, fetching: Callable[..., Fetch]) -> None:
    def answer(seen: Seen) -> Reply:
        if seen.get("if-none-match"):
            return Reply(304, {"etag": '"v1"', "cache-control": "max-age=600"})
        return image(**{"cache-control": "no-cache"})

    origin.on("/a.jpg", answer)
    get = fetching(origin.url)
    assert get(f"{origin.url}/a.jpg").content == get(f"{origin.url}/a.jpg").content
    assert [seen.get("if-none-match") is not None for seen in origin.requests] == [False, True]


def test_hosts_and_networks_that_are_not_named_are_refused(
    origin: Origin, second: Origin, fetching: Callable[..., Fetch]
) -> None:
    origin.default = second.default = image()
    local = f"http://localhost:{origin.port}"
    all_but_one = sorted({str(found[4][0]) for found in socket.getaddrinfo("localhost", 1)})[1:]
    for networks, url, status in [
        (LOOPBACK, f"{local}/a.jpg", 200),
        ([], f"{local}/a.jpg", 403),
        (all_but_one, f"{local}/a.jpg", 403),
        ([], f"{origin.url}/a.jpg", 403),
        (LOOPBACK, f"http://[::ffff:127.0.0.1]:{origin.port}/a.jpg", 403),
        (LOOPBACK, f"{second.url}/a.jpg", 403),
        (LOOPBACK, f"https://127.0.0.1:{origin.port}/a.jpg", 403),
        (LOOPBACK, f"http://127.1:{origin.port}/a.jpg", 403),
        (LOOPBACK, "/a.jpg", 404),
    ]:
        before = origin.count()
        answer = fetching(origin.url, local, networks=networks)(url)
        assert answer.status_code == status, (networks, url, answer.text)
        assert origin.count() == before + (status == 200)
    assert second.count() == 0


def test_each_redirect_is_judged_anew(origin: Origin, second: Origin, fetching: Callable[..., Fetch]) -> None:
    other = f"http://127.0.0.2:{origin.port}"

    def to(location: str) -> Reply:
        return Reply(302, {"location": location})

    for path, answer in {
        "/1": to("/2"),
        "/2": to(f"{origin.url}/3"),
        "/3": to("/a.jpg#part"),
        "/a.jpg": image(),
        "/4": to("/1"),
        "/loop": to("/loop"),
        "/unlisted": to(f"{second.url}/a.jpg"),
        "/private": to(f"{other}/a.jpg"),
        "/metadata": to("http://169.254.169.254/latest"),
        "/nowhere": to("data:image/png;base64,AA"),
        "/lost": Reply(302),
    }.items():
        origin.on(path, answer)
    get = fetching(origin.url, other, "http://169.254.169.254", networks=["127.0.0.1/32"])
    for path, status, says in [
        ("/1", 200, ""),
        ("/4", 422, "redirected more than 3 times"),
        ("/loop", 422, "redirected more than 3 times"),
        ("/unlisted", 403, "redirected to a host that images may not come from"),
        ("/private", 403, "has an address that images may not come from"),
        ("/metadata", 403, "has an address that images may not come from"),
        ("/nowhere", 422, "redirects to no URL"),
        ("/lost", 422, "redirects to no URL"),
    ]:
        got = get(f"{origin.url}{path}")
        assert got.status_code == status, (path, got.text)
        assert status == 200 or says in got.text
    assert second.count() == 0


def test_the_edge_never_fetches_from_its_own_listeners(fetching: Callable[..., Fetch]) -> None:
    port = free_port()
    edge = Edge("test")
    edge.listen(f"127.0.0.1:{port}")
    edge.images("/_image", sources=[f"http://127.0.0.1:{port}"], networks=LOOPBACK)
    edge.route("/*", respond="here")
    served: Running
    with running(edge) as served:
        answer = httpx.get(f"{served.url}/_image", params={"url": f"http://127.0.0.1:{port}/a.jpg"})
        assert answer.status_code == 403 and "has an address that images may not come from" in answer.text


@pytest.mark.parametrize(
    ("reply", "status", "kind"),
    [
        (Reply(404, {"content-type": "text/html"}, "<script>"), 404, "text/plain"),
        (Reply(500, {"content-type": "text/html"}, "<script>"), 502, "text/plain"),
        (Reply(401, {"content-type": "text/html"}, "<script>"), 422, "text/plain"),
        (Reply(200, {"content-type": "text/html"}, "<script>"), 415, "text/plain"),
        (Reply(200, {"content-type": "text/html"}, "<html><svg>"), 200, "image/svg+xml"),
    ],
)
def test_no_page_of_another_host_is_shown(
    origin: Origin, fetching: Callable[..., Fetch], reply: Reply, status: int, kind: str
) -> None:
    origin.on("/a", reply)
    answer = fetching(origin.url, images=Images(svg="pass"))(f"{origin.url}/a")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, kind), answer.text
    assert status != 200 or "sandbox" in answer.headers["content-security-policy"]
    assert status == 200 or "<script>" not in answer.text


def test_a_host_that_is_gone_or_cuts_off_is_an_error(origin: Origin, fetching: Callable[..., Fetch]) -> None:
    get = fetching(origin.url)
    origin.on("/short", Reply(200, {"content-type": "image/jpeg", "content-length": "9999"}, PHOTO[:50], close=True))
    assert get(f"{origin.url}/short").status_code == 502
    origin.kill()
    assert get(f"{origin.url}/a.jpg").status_code == 502


def test_a_host_that_no_image_can_be_fetched_from_is_refused() -> None:
    for host, says in [
        ("*", "would fetch from everywhere"),
        ("ftp://h", "must be a host, with https:// or http://"),
        ("h:0", "must have a port from 1 to 65535"),
        ("a.*.example", "may have"),
    ]:
        edge = Edge("test")
        edge.images("/_image", sources=[host])
        with pytest.raises(ConfigError, match=r"image_sources\.hosts\[0\]") as raised:
            edge.compile()
        assert says in str(raised.value)
    edge = Edge("test")
    site = edge.origin("site", "http://127.0.0.1:1")
    edge.images("/_image", sources=[site], networks=["10.0.0.0/8"])
    with pytest.raises(ConfigError, match="has no effect without hosts"):
        edge.compile()
