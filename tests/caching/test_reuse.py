"""Storing and reusing responses (RFC 9111), through the socket."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from threading import Event

import httpx
import pytest

from edgerouter import CacheLimits, Edge, Limits, cache
from edgerouter.testing import Running

from ..metrics import metric
from ..origins import Origin, Reply, Seen, wait_until
from ..responses import status_of

Site = Callable[..., httpx.Client]


def test_a_second_request_is_a_hit_with_age_and_via(origin: Origin, site: Site) -> None:
    origin.on("/page", Reply(200, {"Cache-Control": "max-age=60", "Content-Type": "text/plain"}, "hello"))
    client = site()
    first, second = client.get("/page"), client.get("/page")
    assert (first.text, second.text) == ("hello", "hello")
    assert origin.count("/page") == 1
    assert "fwd=uri-miss" in status_of(first) and "stored" in status_of(first)
    assert status_of(second).startswith("edgerouter; hit")
    assert "ttl=" in status_of(second)
    assert 0 <= int(second.headers["age"]) <= 2
    assert second.headers["via"] == "1.1 edgerouter"


@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ({"Cache-Control": "max-age=60"}, True),
        ({"Cache-Control": "s-maxage=60, max-age=0"}, True),
        ({"Cache-Control": "max-age=0"}, False),
        ({"Cache-Control": "no-store, max-age=60"}, False),
        ({"Cache-Control": "private, max-age=60"}, False),
        ({"Cache-Control": "no-cache, max-age=60"}, False),
        ({"Cache-Control": "MAX-AGE=60"}, True),
        ({"Cache-Control": 'max-age="60"'}, True),
        ({"Cache-Control": "max-age=60, max-age=0"}, False),
        pytest.param({"Expires": formatdate(time.time() + 3600, usegmt=True)}, True, id="Expires in an hour"),
        ({"Expires": "0"}, False),
        pytest.param({"Expires": formatdate(time.time() - 3600, usegmt=True)}, False, id="Expires an hour ago"),
        ({"Cache-Control": "max-age=60", "Expires": "0"}, True),
        pytest.param(
            {"Last-Modified": formatdate(time.time() - 100 * 86400, usegmt=True)},
            True,
            id="modified a hundred days ago",
        ),
        ({}, False),
        ({"CDN-Cache-Control": "max-age=60", "Cache-Control": "no-store"}, True),
        ({"CDN-Cache-Control": "no-store", "Cache-Control": "max-age=60"}, False),
        ({"Cache-Control": "max-age=60", "Vary": "*"}, False),
        ({"Cache-Control": "max-age=60", "Set-Cookie": "a=1"}, False),
        ({"Cache-Control": "max-age=60", "Age": "100"}, False),
    ],
)
def test_a_response_is_reused_without_asking_only_when_it_may(
    origin: Origin, site: Site, fields: dict[str, str], stored: bool
) -> None:
    origin.on("/r", Reply(200, fields, "body"))
    client = site()
    for _ in range(2):
        assert client.get("/r").text == "body"
    assert origin.count("/r") == (1 if stored else 2), fields


@pytest.mark.parametrize(
    ("status", "fields", "stored"),
    [
        (404, {"Cache-Control": "max-age=60"}, True),
        (500, {"Cache-Control": "max-age=60"}, True),
        (201, {"Cache-Control": "max-age=60"}, True),
        (404, {}, False),
        (301, {"Location": "/else", "Cache-Control": "max-age=60"}, True),
        (206, {"Cache-Control": "max-age=60", "Content-Range": "bytes 0-3/4"}, False),
    ],
)
def test_statuses_are_stored_by_their_own_rules(
    origin: Origin, site: Site, status: int, fields: dict[str, str], stored: bool
) -> None:
    origin.on("/s", Reply(status, fields, "body"))
    client = site()
    for _ in range(2):
        assert client.get("/s").status_code == status
    assert origin.count("/s") == (1 if stored else 2)


def test_a_stale_response_is_validated_and_freshened_by_304(origin: Origin, site: Site) -> None:
    def answer(seen: Seen) -> Reply:
        if seen.get("if-none-match") == '"v1"':
            return Reply(304, {"ETag": '"v1"', "Cache-Control": "max-age=60", "X-New": "yes"})
        return Reply(200, {"ETag": '"v1"', "Cache-Control": "max-age=0"}, "content")

    origin.on("/v", answer)
    client = site()
    assert client.get("/v").text == "content"
    second = client.get("/v")
    assert (second.status_code, second.text, second.headers["x-new"]) == (200, "content", "yes")
    assert "fwd=stale" in status_of(second) and "fwd-status=304" in status_of(second)
    third = client.get("/v")
    assert status_of(third).startswith("edgerouter; hit")
    assert origin.count("/v") == 2


def test_vary_tells_variants_apart(origin: Origin, site: Site) -> None:
    def answer(seen: Seen) -> Reply:
        return Reply(
            200, {"Cache-Control": "max-age=60", "Vary": "Accept-Language"}, seen.get("accept-language") or "none"
        )

    origin.on("/l", answer)
    client = site()
    for _ in range(2):
        for language in ("de", "fr"):
            assert client.get("/l", headers={"accept-language": language}).text == language
    assert origin.count("/l") == 2


def test_conditional_requests_are_answered_from_the_store(origin: Origin, site: Site) -> None:
    origin.on("/c", Reply(200, {"Cache-Control": "max-age=60", "ETag": '"a"'}, "content"))
    client = site()
    client.get("/c")
    for condition, status in (('"a"', 304), ('W/"a"', 304), ('"b", "a"', 304), ("*", 304), ('"b"', 200)):
        response = client.get("/c", headers={"if-none-match": condition})
        assert response.status_code == status, condition
        assert response.text == ("" if status == 304 else "content")
        assert response.headers["etag"] == '"a"'
    assert origin.count("/c") == 1


def test_ranges_are_cut_from_the_stored_response(origin: Origin, site: Site) -> None:
    origin.on(
        "/r", Reply(200, {"Cache-Control": "max-age=60", "ETag": '"a"', "Content-Type": "text/plain"}, "0123456789")
    )
    client = site()
    client.get("/r")
    for asked, want, place in (
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=5-100", "56789", "bytes 5-9/10"),
    ):
        response = client.get("/r", headers={"range": asked})
        assert (response.status_code, response.text, response.headers["content-range"]) == (206, want, place)
    refused = client.get("/r", headers={"range": "bytes=20-"})
    assert (refused.status_code, refused.headers["content-range"]) == (416, "bytes */10")
    several = client.get("/r", headers={"range": "bytes=0-1,4-5"})
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert "bytes 0-1/10" in several.text and "\r\n45\r\n" in several.text
    assert len(several.content) == int(several.headers["content-length"])
    assert client.get("/r", headers={"range": "bytes=0-1", "if-range": '"b"'}).status_code == 200
    assert origin.count("/r") == 1


def test_head_is_answered_from_a_stored_get(origin: Origin, site: Site) -> None:
    origin.on("/h", Reply(200, {"Cache-Control": "max-age=60"}, "content"))
    client = site()
    client.get("/h")
    head = client.head("/h")
    assert (head.status_code, head.text, head.headers["content-length"]) == (200, "", "7")
    assert origin.count("/h") == 1


def test_an_unsafe_method_makes_the_stored_response_unusable(origin: Origin, site: Site) -> None:
    origin.on("/u", Reply(200, {"Cache-Control": "max-age=60"}, "x"))
    client = site()
    client.get("/u")
    client.post("/u", content=b"change")
    client.get("/u")
    assert [seen.method for seen in origin.requests] == ["GET", "POST", "GET"]


def test_a_failed_unsafe_method_leaves_the_stored_response(origin: Origin, site: Site) -> None:
    origin.on("/u", lambda seen: Reply(200 if seen.method == "GET" else 500, {"Cache-Control": "max-age=60"}, "x"))
    client = site()
    client.get("/u")
    client.post("/u", content=b"change")
    client.get("/u")
    assert [seen.method for seen in origin.requests] == ["GET", "POST"]


def test_responses_to_authorized_requests_are_not_shared_unless_they_say_so(origin: Origin, site: Site) -> None:
    origin.on("/a", Reply(200, {"Cache-Control": "max-age=60"}, "x"))
    origin.on("/p", Reply(200, {"Cache-Control": "public, max-age=60"}, "x"))
    client = site()
    for path, count in (("/a", 2), ("/p", 1)):
        for _ in range(2):
            client.get(path, headers={"authorization": "Basic eDp5"})
        assert origin.count(path) == count


def test_two_hundred_concurrent_misses_make_one_origin_request(
    origin: Origin, serve: Callable[[Edge], Running]
) -> None:
    go = Event()

    def slow(seen: Seen) -> Reply:
        go.wait(60)
        return Reply(200, {"Cache-Control": "max-age=60"}, "shared")

    origin.on("/one", slow)
    edge = Edge("test", limits=Limits(cache=CacheLimits(coalesce_timeout=60)))
    edge.route("/*", to=edge.origin("first", origin.url))
    running = serve(edge)
    count = 200
    # One client: two hundred would each read the certificate store.
    crowd = httpx.Client(base_url=running.url, timeout=60, limits=httpx.Limits(max_connections=None))
    with crowd, ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(crowd.get, "/one") for _ in range(count)]
        origin.wait_for(1, "/one")
        wait_until(lambda: metric(running, "edgerouter_connections") >= count, what="the others beside the leader")
        go.set()
        assert {future.result().text for future in futures} == {"shared"}
    assert origin.count("/one") == 1


def test_followers_are_released_when_the_answer_may_not_be_shared(origin: Origin, site: Site) -> None:
    origin.on("/private", lambda seen: Reply(200, {"Cache-Control": "private"}, seen.get("x-who") or ""))
    client = site()
    with ThreadPoolExecutor(16) as pool:
        futures = {
            str(i): pool.submit(httpx.get, f"{client.base_url}/private", headers={"x-who": str(i)}, timeout=20)
            for i in range(16)
        }
        for who, future in futures.items():
            assert future.result().text == who


def test_an_incomplete_body_is_never_stored(origin: Origin, site: Site) -> None:
    origin.on(
        "/cut", Reply(raw=b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100000\r\n\r\nonly this")
    )
    client = site()
    for _ in range(2):
        with pytest.raises(httpx.HTTPError):
            client.get("/cut")
    assert origin.count("/cut") == 2


def test_only_if_cached_gets_504_without_asking(origin: Origin, site: Site) -> None:
    client = site()
    assert client.get("/never", headers={"cache-control": "only-if-cached"}).status_code == 504
    assert origin.requests == []


def test_stale_while_revalidate_serves_at_once_and_refreshes_behind(origin: Origin, site: Site) -> None:
    versions = iter(["one", "two", "three"])
    origin.on(
        "/swr", lambda seen: Reply(200, {"Cache-Control": "max-age=0, stale-while-revalidate=60"}, next(versions))
    )
    client = site()
    assert client.get("/swr").text == "one"
    assert client.get("/swr").text == "one"
    origin.wait_for(2, "/swr")


def test_the_last_good_copy_stands_in_when_the_origin_dies(origin: Origin, site: Site) -> None:
    origin.on("/sie", Reply(200, {"Cache-Control": "max-age=0, stale-if-error=600"}, "good"))
    client = site()
    assert client.get("/sie").text == "good"
    origin.kill()
    response = client.get("/sie")
    assert (response.status_code, response.text) == (200, "good")


def test_optimized_ignores_query_and_cookies_and_does_not_send_them(origin: Origin, site: Site) -> None:
    origin.on("/o", Reply(200, {}, "x"))
    client = site(cache=cache.OPTIMIZED)
    for i in range(3):
        client.get(f"/o?i={i}", headers={"cookie": f"a={i}"})
    assert origin.count("/o") == 1
    assert origin.requests[0].target == "/o"
    assert origin.requests[0].get("cookie") is None


def test_a_route_with_caching_disabled_never_stores(origin: Origin, site: Site) -> None:
    origin.on("/d", Reply(200, {"Cache-Control": "max-age=60"}, "x"))
    client = site(cache=cache.DISABLED)
    for _ in range(2):
        client.get("/d?q=1")
    assert origin.count("/d") == 2
    assert origin.requests[0].target == "/d?q=1"
