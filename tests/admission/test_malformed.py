"""Malformed requests get their status and never reach an origin (RFC 9112)."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from ..origins import Origin, Reply
from ..raw import connect, exchange, read_all, responses

Site = Callable[..., httpx.Client]

BAD = [
    (b"GET / HTTP/1.1\r\n\r\n", 400, "no Host"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "two Hosts"),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "a space in Host"),
    (b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400, "userinfo in Host"),
    (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "two spaces"),
    (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "a space after the version"),
    (b"GET / HTTP/1.1\nHost: a\n\n", 400, "bare LF"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400, "bare CR"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400, "NUL"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400, "a space before the colon"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400, "obs-fold"),
    (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400, "an empty name"),
    (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "a bad method"),
    (b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "a raw byte in the target"),
    (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "a fragment"),
    (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "an encoded NUL"),
    (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "a bad escape"),
    (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "absolute-form against Host"),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "HTTP/2.0 in text"),
    (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "HTTP/3.0 in text"),
    (b"GET / HTTX/1.1\r\nHost: a\r\n\r\n", 400, "no HTTP"),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "CL and TE",
    ),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        400,
        "TE and CL",
    ),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, "two lengths"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400, "a signed length"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400, "a list of lengths"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400, "a length beyond counting"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n", 413, "a length over the limit"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "an unknown coding"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, "chunked twice"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, "not quite chunked"),
    (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "chunked in HTTP/1.0"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: something\r\nContent-Length: 0\r\n\r\n", 417, "an unknown expectation"),
    (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "a long URL"),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "many fields"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70000 + b"\r\n\r\n", 431, "a large head"),
    (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501, "CONNECT"),
]


@pytest.mark.parametrize(("data", "status", "why"), BAD, ids=[why for _, _, why in BAD])
def test_a_malformed_request_is_refused_and_never_forwarded(
    origin: Origin, site: Site, data: bytes, status: int, why: str
) -> None:
    origin.default = Reply(200, {}, "reached")
    client = site()
    answers = responses(exchange(str(client.base_url), data))
    assert [answer.status for answer in answers] == [status], why
    assert answers[0].get("connection") == "close"
    assert origin.requests == []


@pytest.mark.parametrize(("data", "status", "why"), BAD[:20], ids=[why for _, _, why in BAD[:20]])
def test_the_verdict_does_not_depend_on_how_the_bytes_arrive(
    origin: Origin, site: Site, data: bytes, status: int, why: str
) -> None:
    client = site()
    with connect(str(client.base_url)) as sock:
        for byte in data:
            try:
                sock.sendall(bytes([byte]))
            except OSError:
                break
        assert [answer.status for answer in responses(read_all(sock))] == [status], why
    assert origin.requests == []


def test_answers_to_pipelined_requests_come_before_the_refusal(origin: Origin, site: Site) -> None:
    origin.default = Reply(200, {}, "fine")
    client = site()
    good = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
    answers = responses(exchange(str(client.base_url), good + good + b"BAD\r\n\r\n"))
    assert [answer.status for answer in answers] == [200, 200, 400]
    assert [seen.target for seen in origin.requests] == ["/good", "/good"]


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"-1\r\n",
        b"3;\x00\r\nabc\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
    ],
)
def test_broken_chunks_end_the_request(origin: Origin, site: Site, body: bytes) -> None:
    origin.default = Reply(200, {}, "reached")
    client = site()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    answers = responses(exchange(str(client.base_url), head + body + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert all(answer.status == 400 for answer in answers)
    assert len(answers) <= 1
    assert all(seen.target != "/smuggled" for seen in origin.requests)


def test_fields_that_only_the_edge_may_set_do_not_pass(origin: Origin, site: Site) -> None:
    origin.default = Reply(200, {}, "x")
    client = site()
    forged = {
        "x-user-id": "admin",
        "x-user-role": "root",
        "x-variant": "b",
        "x-forwarded-for": "6.6.6.6",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "evil",
        "x_user_id": "admin",
        "forwarded": "for=6.6.6.6",
    }
    client.get("/", headers=forged)
    seen = origin.requests[0]
    for name in ("x-user-id", "x-user-role", "x-variant", "x_user_id", "forwarded"):
        assert seen.get(name) is None, name
    assert seen.get("x-forwarded-for") == "127.0.0.1"
    assert seen.get("x-forwarded-proto") == "http"
    assert seen.get("x-forwarded-host") == httpx.URL(str(client.base_url)).netloc.decode()


def test_hop_by_hop_fields_end_at_the_edge(origin: Origin, site: Site) -> None:
    origin.on(
        "/", Reply(200, {"Connection": "x-secret", "X-Secret": "1", "Keep-Alive": "timeout=5", "X-Kept": "1"}, "x")
    )
    client = site()
    response = client.get("/", headers={"connection": "x-drop", "x-drop": "1", "x-kept": "1", "proxy-connection": "a"})
    seen = origin.requests[0]
    assert seen.get("x-drop") is None and seen.get("proxy-connection") is None and seen.get("x-kept") == "1"
    assert "x-secret" not in response.headers and "keep-alive" not in response.headers
    assert response.headers["x-kept"] == "1"


def test_paths_are_normalised_before_they_are_matched_and_sent(origin: Origin, site: Site) -> None:
    origin.default = Reply(200, {}, "x")
    client = site()
    base = str(client.base_url)
    for sent, got in (
        (b"/a/../b", "/b"),
        (b"/a/%2e%2e/b", "/b"),
        (b"/%7euser", "/~user"),
        (b"/a/./b?x=/../y", "/a/b?x=/../y"),
        (b"/%2f", "/%2F"),
    ):
        exchange(base, b"GET " + sent + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert origin.requests[-1].target == got
