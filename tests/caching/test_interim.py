"""Interim responses of an origin are passed on, and never stored (RFC 9110 §15.2)."""

from __future__ import annotations

import socket
import threading

from edgerouter import Edge, cache

from ..conftest import Serve
from ..origins import Origin, Reply, Seen
from ..raw import RawResponse, connect, exchange, read_until, responses
from .conftest import Cached

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Own: 1\r\n\r\n"
FINAL = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nConnection: close\r\nContent-Length: 5\r\n\r\nfinal"


def asks(path: str, extra: str = "", method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: a\r\n{extra}\r\n".encode()


def last(path: str, extra: str = "") -> bytes:
    return asks(path, f"Connection: close\r\n{extra}")


def statuses(found: list[RawResponse]) -> list[int]:
    return [response.status for response in found]


def test_they_come_before_the_final_response_while_the_origin_is_still_at_work(cached: Cached) -> None:
    goes_on = threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" + HINTS)
        assert goes_on.wait(60)
        connection.sendall(FINAL)

    cached.origin.on("/slow", answer)
    with connect(cached.edge.url) as sock:
        sock.sendall(asks("/slow"))
        early = b""
        while early.count(b"\r\n\r\n") < 2:
            early += sock.recv(65536)
        goes_on.set()
        whole = responses(early + read_until(sock, b"final"))
        # The connection goes on, and the second response comes from the store, without anything before it.
        sock.sendall(asks("/slow"))
        stored = responses(read_until(sock, b"final"))
    processing, hints, final = whole
    assert statuses(whole) == [102, 103, 200]
    assert (hints.get("link"), hints.get("x-own")) == ("</a.css>; rel=preload", "1")
    assert hints.get("via") == "1.1 edgerouter" and processing.get("link") is None
    assert final.body == b"final" and final.get("link") is None and final.get("x-own") is None
    assert statuses(stored) == [200] and stored[0].get("link") is None
    assert cached.origin.count("/slow") == 1


def test_they_come_first_when_the_origin_sends_all_at_once(cached: Cached) -> None:
    for path in ("/a", "/b", "/c"):
        cached.origin.on(path, Reply(raw=HINTS + FINAL))
    # Requests in one piece: each has its own before its own final response.
    found = responses(exchange(cached.edge.url, asks("/a") + asks("/a") + asks("/b") + last("/c")))
    assert statuses(found) == [103, 200, 200, 103, 200, 103, 200]


def test_they_are_passed_on_for_every_method_and_past_the_cache(origin: Origin, serve: Serve) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    url = serve(edge).url
    origin.on("/x", Reply(raw=HINTS + b"HTTP/1.1 100 Continue\r\n\r\n" + FINAL))
    assert statuses(responses(exchange(url, last("/x")))) == [103, 100, 200]
    posted = last("/x", "Content-Length: 2\r\n").replace(b"GET", b"POST") + b"hi"
    assert statuses(responses(exchange(url, posted))) == [103, 100, 200]
    head = exchange(url, last("/x").replace(b"GET", b"HEAD"))
    assert head.startswith(b"HTTP/1.1 103 ") and b"HTTP/1.1 200 OK" in head and not head.endswith(b"final")


def test_a_client_that_knows_none_gets_none(cached: Cached) -> None:
    cached.origin.on("/x", Reply(raw=HINTS + FINAL))
    found = exchange(cached.edge.url, asks("/x", version="1.0"))
    assert found.startswith(b"HTTP/1.1 200 OK") and b"103" not in found


def test_they_are_bounded_and_carry_nothing_of_one_hop_or_of_a_content(cached: Cached) -> None:
    odd = b"HTTP/1.1 103 Early Hints\r\nConnection: x-hop\r\nX-Hop: 1\r\nCache-Tag: t\r\nContent-Length: 3\r\n\r\n"
    cached.origin.on("/odd", Reply(raw=odd + FINAL))
    hints, final = responses(exchange(cached.edge.url, last("/odd")))
    assert [name.lower() for name, _ in hints.headers] == ["via"] and final.body == b"final"
    cached.origin.on("/flood", Reply(raw=HINTS * 200 + FINAL))
    found = responses(exchange(cached.edge.url, last("/flood")))
    assert statuses(found) == [103] * 16 + [200]
    large = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 20_000 + b"\r\n\r\n"
    cached.origin.on("/large", Reply(raw=large + HINTS + FINAL))
    assert statuses(responses(exchange(cached.edge.url, last("/large")))) == [103, 200]


def test_those_who_wait_for_anothers_fetch_get_its_final_response_only(cached: Cached) -> None:
    goes_on = threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(HINTS)
        assert goes_on.wait(60)
        connection.sendall(FINAL)

    cached.origin.on("/shared", answer)
    with connect(cached.edge.url) as leader, connect(cached.edge.url) as follower:
        leader.sendall(asks("/shared"))
        early = read_until(leader, b"\r\n\r\n")
        follower.sendall(asks("/shared"))
        goes_on.set()
        assert statuses(responses(early + read_until(leader, b"final"))) == [103, 200]
        assert statuses(responses(read_until(follower, b"final"))) == [200]
    assert cached.origin.count("/shared") == 1


def test_a_client_that_does_not_read_never_gets_them_in_the_middle_of_a_response(cached: Cached) -> None:
    size = 16 << 20
    head = f"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: {size}\r\n\r\n".encode()
    cached.origin.on("/large", Reply(raw=head + b"x" * size))
    cached.origin.on("/next", Reply(raw=HINTS + FINAL))
    with connect(cached.edge.url) as sock:
        sock.sendall(asks("/large") + last("/next"))
        cached.origin.wait_for(1, "/large")
        received = b""
        while more := sock.recv(1 << 16):
            received += more
    found = responses(bytes(received))
    assert found[0].body.count(b"x") == size and found[-1].body == b"final"
    # Dropped where there was no room between the two, and nowhere else.
    assert statuses(found) in ([200, 103, 200], [200, 200])
