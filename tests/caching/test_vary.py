"""The stored response that a request selects (RFC 9111 §4.1)."""

from __future__ import annotations

import httpx
import pytest

from edgerouter import CachePolicy, Edge, ForwardPolicy
from edgerouter.testing import running

from ..origins import Origin, Reply, Seen
from .conftest import Cached, Fields, MakeCached, status_of


def vary(cached: Cached, names: str, stored: Fields, asked: Fields) -> bool:
    """True if a response with this Vary, to a request with some fields, is reused for one with others."""
    path = cached.answer({"Cache-Control": "max-age=60", "Vary": names})
    for headers in (stored, asked):
        cached.client.get(path, headers=headers)
    return cached.origin.count(path) == 1


def test_a_response_is_reused_when_all_named_fields_agree(cached: Cached) -> None:
    for names, stored, asked, reused in (
        ("Foo", {"foo": "1"}, {"foo": "1"}, True),
        ("foo", {"Foo": "1"}, {"fOO": "1"}, True),
        ("Foo", {"foo": "1"}, {"foo": "2"}, False),
        ("Foo", {"foo": "1"}, {}, False),
        ("Foo", {}, {"foo": "1"}, False),
        ("Foo", {"foo": "1", "other": "2"}, {"foo": "1", "other": "3"}, True),
        ("Foo, Bar", {"foo": "1", "bar": "a"}, {"bar": "a", "foo": "1"}, True),
        ("Foo, Bar", {"foo": "1", "bar": "a"}, {"foo": "1", "bar": "b"}, False),
        ("Foo, Bar, Baz", {"foo": "1", "baz": "3"}, {"foo": "1", "baz": "3"}, True),
        ("Foo", {"foo": "1, 2"}, [("foo", "1"), ("foo", "2")], True),
        ("Foo", {"foo": "1,2"}, {"foo": "1 ,  2"}, True),
        ("Foo", {"foo": "1,2"}, {"foo": "2,1"}, False),
        ("Foo", {"foo": "a"}, {"foo": "A"}, False),
        ("Accept-Language", {"accept-language": "en, de"}, {"accept-language": "EN,De"}, True),
        ("Accept-Language", {"accept-language": "en, de"}, {"accept-language": "de, en"}, False),
        ("Accept-Encoding", {"accept-encoding": "gzip, br"}, {"accept-encoding": "br;q=1.0,GZIP"}, True),
        ("Accept-Encoding", {"accept-encoding": "gzip, zstd"}, {"accept-encoding": "gzip"}, False),
        ("Accept-Encoding", {"accept-encoding": "gzip;q=0"}, {"accept-encoding": "gzip"}, False),
    ):
        assert vary(cached, names, stored, asked) == reused, (names, stored, asked)


@pytest.mark.parametrize("value", ["*", "*, *", ", *", "*, Foo", "Foo, *", "a b"])
def test_a_star_is_never_reused(cached: Cached, value: str) -> None:
    assert not vary(cached, value, {"foo": "1"}, {"foo": "1"})
    path = cached.answer({"Cache-Control": "max-age=60", "Vary": value})
    assert "detail=vary-star" in status_of(cached.get(path))


def test_vary_is_read_from_all_lines(cached: Cached) -> None:
    lines = [("Cache-Control", "max-age=60"), ("Vary", ""), ("Vary", "Foo"), ("Vary", "*")]
    assert not cached.reuses(lines)
    lines = [("Cache-Control", "max-age=60"), ("Vary", "Foo"), ("Vary", "Bar")]
    assert not cached.reuses(lines, bar="1")
    assert cached.reuses(lines, baz="1")


def test_variants_live_beside_each_other(cached: Cached) -> None:
    path = cached.path()
    cached.origin.on(
        path, lambda seen: Reply(200, {"Cache-Control": "max-age=60", "Vary": "Foo"}, seen.get("foo") or "none")
    )
    for _ in range(2):
        for value in ("1", "2", "3"):
            assert cached.get(path, foo=value).text == value
        assert cached.get(path).text == "none"
    assert cached.origin.count(path) == 4


def test_a_vary_that_grows_never_mixes_responses(cached: Cached) -> None:
    path = cached.path()

    def answer(seen: Seen) -> Reply:
        names = "Foo" if seen.get("foo") == "1" else "Foo, Bar"
        return Reply(200, {"Cache-Control": "max-age=60", "Vary": names}, f"{seen.get('foo')}{seen.get('bar')}")

    cached.origin.on(path, answer)
    for _ in range(3):
        for foo, bar in (("1", "a"), ("2", "a"), ("2", "b")):
            text = cached.get(path, foo=foo, bar=bar).text
            assert text in (f"{foo}{bar}", "1a") and text[0] == foo


def test_a_response_for_an_address_is_for_the_client_that_has_it(origin: Origin) -> None:
    def answer(seen: Seen) -> Reply:
        fields = {"Cache-Control": "max-age=60", "Vary": "Accept, x-forwarded-for"}
        return Reply(200, fields, seen.get("x-forwarded-for") or "")

    origin.default = answer
    for unkeyed, texts in (((), ["127.0.0.1", "127.0.0.2"]), (("X-Forwarded-For",), ["127.0.0.1", "127.0.0.1"])):
        edge = Edge("test")
        forward = ForwardPolicy(unkeyed=unkeyed)
        edge.route("/*", to=edge.origin("first", origin.url), cache=CachePolicy(), forward=forward)
        with running(edge) as served:
            found = []
            for address in ("127.0.0.1", "127.0.0.2"):
                transport = httpx.HTTPTransport(local_address=address)
                with httpx.Client(base_url=served.url, transport=transport) as client:
                    found.append(client.get("/"))
        assert [response.text for response in found] == texts
        assert all("detail=vary-star" in status_of(response) for response in found) == (not unkeyed)


def test_more_names_than_the_bound_select_nothing(cached: Cached) -> None:
    names = [f"X-{number}" for number in range(65)]
    assert cached.reuses({"Cache-Control": "max-age=60", "Vary": ", ".join(names[:64])})
    path = cached.answer({"Cache-Control": "max-age=60", "Vary": ", ".join(names)})
    cached.get(path)
    assert "detail=vary-star" in status_of(cached.get(path))


def test_an_origin_that_names_other_fields_each_time_is_stored_under_the_last_ones(cached: Cached) -> None:
    path = cached.path()

    def answer(seen: Seen) -> Reply:
        turn = seen.get("x-turn")
        names = ", ".join(f"X-{turn}-{number}" for number in range(60))
        return Reply(200, {"Cache-Control": "max-age=60", "Vary": f"X-Turn, {names}"}, turn or "")

    cached.origin.on(path, answer)
    for turn in range(12):
        assert cached.get(path, x_turn=str(turn)).text == str(turn)
        assert "; hit" in status_of(cached.get(path, x_turn=str(turn)))


def test_a_name_that_an_origin_sends_no_longer_selects_no_longer(cached: Cached) -> None:
    """A `Vary: User-Agent` by mistake makes each browser a miss, and is over when the origin is repaired."""
    path = cached.path()
    names = "Foo, User-Agent"
    cached.origin.on(
        path, lambda seen: Reply(200, {"Cache-Control": "max-age=60", "Vary": names}, seen.get("foo") or "")
    )
    cached.get(path, foo="0", user_agent="0")
    names = "Foo"
    before = cached.origin.count(path)
    for browser in range(200):
        assert cached.get(path, foo="1", user_agent=str(browser)).text == "1"
    assert cached.origin.count(path) - before < 140
    for browser in range(200, 210):
        assert "; hit" in status_of(cached.get(path, foo="1", user_agent=str(browser)))
    assert cached.get(path, foo="2", user_agent="0").text == "2"


def test_a_missing_variant_says_so(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": "max-age=60", "Vary": "Foo"})
    cached.get(path, foo="1")
    assert "fwd=vary-miss" in status_of(cached.get(path, foo="2"))


def test_the_normalised_encoding_is_what_the_origin_is_asked_and_what_counts(make_cached: MakeCached) -> None:
    cached = make_cached(accept_encoding=True)
    path = cached.path()
    fields = {"Cache-Control": "max-age=60", "Vary": "Accept-Encoding"}
    cached.origin.on(path, lambda seen: Reply(200, fields, seen.get("accept-encoding") or ""))
    for asked, sent in (
        ("gzip, deflate, br, zstd", "br,zstd,gzip"),
        ("br, gzip, zstd;q=0.1", "br,zstd,gzip"),
        ("gzip;q=0.5", "gzip"),
        ("deflate", "identity"),
        ("identity", "identity"),
    ):
        assert cached.get(path, accept_encoding=asked).text == sent
    assert cached.origin.count(path) == 3


def test_cookies_select_only_where_vary_says_so(cached: Cached) -> None:
    assert cached.reuses({"Cache-Control": "max-age=60"}, cookie="a=b")
    assert not cached.reuses({"Cache-Control": "max-age=60", "Vary": "Cookie"}, cookie="a=b")
