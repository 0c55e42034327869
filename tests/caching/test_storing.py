"""Responses that may be stored, and the parts that are (RFC 9111 §3)."""

from __future__ import annotations

import pytest

from ..origins import Reply, Seen
from ..raw import connect, responses
from .conftest import Cached, MakeCached, status_of

FRESH = {"Cache-Control": "max-age=60"}


def test_a_response_to_an_authorized_request_is_shared_only_when_it_says_so(cached: Cached) -> None:
    who = {"authorization": "Basic eDp5"}
    for value, reused in (
        ("max-age=60", False),
        ("public, max-age=60", True),
        ("must-revalidate, max-age=60", True),
        ("s-maxage=60", True),
    ):
        assert cached.reuses({"Cache-Control": value}, first=who) == reused, value
    assert cached.reuses(FRESH, authorization="Basic eDp5"), "a public response serves the authorized too"


def test_a_post_does_not_answer_a_get_by_itself(cached: Cached) -> None:
    for fields in (FRESH, {"Content-Location": ""}, {**FRESH, "Content-Location": "/other"}):
        path = cached.answer(fields)
        cached.client.post(path, content=b"x")
        cached.get(path)
        assert [seen.method for seen in cached.origin.requests if seen.path == path] == ["POST", "GET"]


def test_a_post_answers_a_get_when_it_says_for_how_long_it_is_what_the_url_stands_for(cached: Cached) -> None:
    path = cached.path()

    def answer(seen: Seen) -> Reply:
        return Reply(200, {**FRESH, "Content-Location": path, "X-Method": seen.method}, seen.body or b"empty")

    cached.origin.on(path, answer)
    for body in (b"first", b"second"):
        assert cached.client.post(path, content=body).content == body
        for _ in range(2):
            got = cached.get(path)
            assert (got.content, got.headers["x-method"]) == (body, "POST")
    # Never the other way round: each POST reaches the origin.
    assert [seen.method for seen in cached.origin.requests if seen.path == path] == ["POST", "POST"]


def test_a_get_with_a_body_is_neither_stored_nor_answered_with_anothers_range(cached: Cached) -> None:
    path = cached.answer(FRESH)
    for _ in range(2):
        cached.client.request("GET", path, content=b"question")
    assert cached.origin.count(path) == 2


@pytest.mark.parametrize(
    "fields",
    [{"Cache-Control": "no-store"}, {**FRESH, "Vary": "*"}, {**FRESH, "Set-Cookie": "a=b"}],
    ids=["Cache-Control", "Vary", "Set-Cookie"],
)
def test_connection_takes_no_field_from_the_decision_to_store(cached: Cached, fields: dict[str, str]) -> None:
    name = list(fields)[-1]
    path = cached.answer({**fields, "Connection": name})
    answers = [cached.get(path) for _ in range(2)]
    assert cached.origin.count(path) == 2
    assert all(answer.headers[name] == fields[name] for answer in answers)


def test_fields_of_one_hop_are_not_stored(cached: Cached) -> None:
    fields = {
        **FRESH,
        "Connection": "x-one, x-two",
        "X-One": "1",
        "X-Two": "2",
        "X-Three": "3",
        "Keep-Alive": "timeout=5",
        "Proxy-Authenticate": "Basic",
        "Proxy-Authentication-Info": "x",
        "Proxy-Connection": "keep-alive",
        "TE": "trailers",
        "Upgrade": "foo",
    }
    path = cached.answer(fields)
    cached.get(path)
    stored = cached.get(path)
    assert cached.origin.count(path) == 1
    assert stored.headers["x-three"] == "3"
    gone = ("x-one", "x-two", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-connection")
    assert not [name for name in (*gone, "te", "upgrade") if name in stored.headers]


def test_other_fields_are_stored_as_they_are(cached: Cached) -> None:
    fields = [
        *FRESH.items(),
        ("X-Test", "1"),
        ("X-Test", "2"),
        ("Content-MD5", "rL0Y20zC+Fzt72VPzMSk2A=="),
        ("Content-Range", "something"),
        ("Content-Location", "/foo"),
        ("Clear-Site-Data", "cookies"),
        ("X-Frame-Options", "deny"),
        ("ETag", '"caf\xe9"'),
    ]
    path = cached.answer(fields)
    cached.get(path)
    stored = cached.get(path)
    assert cached.origin.count(path) == 1
    for name, value in fields:
        assert value.encode("latin-1") in [v for k, v in stored.headers.raw if k.lower() == name.lower().encode()]


def test_a_cookie_forbids_storing_unless_the_policy_strips_it(cached: Cached, make_cached: MakeCached) -> None:
    fields = {**FRESH, "Set-Cookie": "a=b"}
    assert not cached.reuses(fields)
    stripping = make_cached(set_cookie="strip")
    path = stripping.answer(fields)
    stripping.get(path)
    stored = stripping.get(path)
    assert stripping.origin.count(path) == 1 and "set-cookie" not in stored.headers


def test_trailers_are_taken_off_and_the_body_is_stored_whole(cached: Cached) -> None:
    raw = (
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n"
    )
    cached.origin.on("/trailers", Reply(raw=raw))
    assert cached.get("/trailers").text == "hello"
    stored = cached.get("/trailers")
    assert (stored.text, stored.headers["content-length"]) == ("hello", "5")
    assert cached.origin.count("/trailers") == 1


@pytest.mark.parametrize("status", [204, 301])
def test_a_response_without_a_body_is_stored(cached: Cached, status: int) -> None:
    path = cached.answer(FRESH, body="", status=status)
    cached.get(path)
    response = cached.get(path)
    assert (response.status_code, response.content, cached.origin.count(path)) == (status, b"", 1)


def test_queries_are_different_urls(cached: Cached) -> None:
    path = cached.answer(FRESH)
    for query in ("?a=1", "?a=2", "?a=1", "?", ""):
        cached.get(path + query)
    assert cached.origin.count(path) == 4


def test_a_part_is_never_given_for_the_whole(cached: Cached) -> None:
    fields = {**FRESH, "Content-Range": "bytes 0-3/8"}
    path = cached.answer(fields, "0123", 206)
    assert cached.get(path, range="bytes=0-3").status_code == 206
    cached.origin.on(path, Reply(200, FRESH, "01234567"))
    assert cached.get(path).text == "01234567"


def test_a_head_response_is_not_stored_as_an_empty_get(cached: Cached) -> None:
    path = cached.answer(FRESH, "content")
    head = cached.client.head(path)
    assert (head.status_code, head.headers["content-length"]) == (200, "7")
    assert cached.get(path).text == "content"
    assert [seen.method for seen in cached.origin.requests] == ["HEAD", "GET"]


def test_an_interim_response_is_not_taken_for_the_final_one(cached: Cached) -> None:
    raw = (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\nfinal"
    )
    cached.origin.on("/interim", Reply(raw=raw))
    for _ in range(2):
        assert cached.get("/interim").text == "final"
    assert cached.origin.count("/interim") == 1


def test_a_response_that_is_older_does_not_replace_a_fresh_newer_one(cached: Cached) -> None:
    from email.utils import formatdate
    from time import time

    now = time()
    cached.origin.on("/o", Reply(200, {**FRESH, "Date": formatdate(now, usegmt=True)}, "newer"))
    cached.get("/o")
    cached.origin.on("/o", Reply(200, {**FRESH, "Date": formatdate(now - 20, usegmt=True)}, "older"))
    assert cached.get("/o", cache_control="no-cache").text == "older"
    assert cached.get("/o").text == "newer"


def test_http_1_0_clients_get_the_stored_body_by_length(cached: Cached) -> None:
    path = cached.answer(FRESH, "content")
    cached.get(path)
    with connect(cached.edge.url) as sock:
        host = cached.edge.url.removeprefix("http://")
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        data = b""
        while more := sock.recv(65536):
            data += more
    (response,) = responses(data)
    assert (response.status, response.body) == (200, b"content")
    assert "hit" in (response.get("cache-status") or "")


def test_a_stored_miss_says_so(cached: Cached) -> None:
    path = cached.answer(FRESH)
    parts = status_of(cached.get(path)).split("; ")
    assert parts[0] == "edgerouter"
    assert {"fwd=uri-miss", "fwd-status=200", "stored", "detail=absent"} <= set(parts)
