"""Directives of requests and responses in Cache-Control beyond lifetimes (RFC 9111 §5.2)."""

from __future__ import annotations

import time

import pytest

from ..origins import Reply
from .conftest import Cached, date, status_of, validating

FRESH = {"Cache-Control": "max-age=60"}


def aged(age: int, rest: str = "max-age=60") -> dict[str, str]:
    return {"Cache-Control": rest, "Age": str(age)}


def test_requests_bound_what_they_take(cached: Cached) -> None:
    for fields, asked, reused in (
        (aged(30), "max-age=20", False),
        (aged(30), "max-age=40", True),
        (aged(30), "max-age=x", False),
        (aged(30), "max-age=40, max-age=20", False),
        (aged(30), "min-fresh=20", True),
        (aged(30), "min-fresh=40", False),
        (aged(30), "min-fresh=x", False),
        (aged(90), "max-stale=20", False),
        (aged(90), "max-stale=40", True),
        (aged(90), "max-stale", True),
        (aged(90), "max-stale=40, max-stale=10", False),
        (aged(90), "max-stale=x", False),
        (aged(90), "MAX-STALE", True),
        (aged(30), "max-age=20, max-stale=15", True),
        (aged(30), "max-age=20, max-stale=5", False),
        (aged(30), "no-cache", False),
        (aged(90, "max-age=60, must-revalidate"), "max-stale", False),
        (aged(90, "max-age=60, proxy-revalidate"), "max-stale", False),
        (aged(90, "s-maxage=60"), "max-stale", False),
        (aged(30, "max-age=60, immutable"), "max-age=0", True),
        (aged(90, "max-age=60, immutable"), "max-age=0", False),
        (aged(30, "max-age=60, immutable"), "no-cache", False),
    ):
        assert cached.reuses(fields, cache_control=asked) == reused, (fields, asked)


def test_pragma_counts_where_cache_control_is_silent(cached: Cached) -> None:
    assert not cached.reuses(FRESH, pragma="no-cache")
    assert cached.reuses(FRESH, pragma="foo")
    assert cached.reuses(FRESH, pragma="no-cache", cache_control="max-age=60")


def test_only_if_cached_gets_what_is_stored_or_504(cached: Cached) -> None:
    path = cached.answer(FRESH)
    missing = cached.get(path, cache_control="only-if-cached")
    assert (missing.status_code, cached.origin.count(path)) == (504, 0)
    assert "detail=only-if-cached" in status_of(missing)
    cached.get(path)
    assert cached.get(path, cache_control="only-if-cached").status_code == 200
    cached.at(61)
    assert cached.get(path, cache_control="only-if-cached").status_code == 504
    assert cached.get(path, cache_control="only-if-cached, max-stale").status_code == 200


def test_a_request_may_forbid_storing(cached: Cached) -> None:
    assert not cached.reuses(FRESH, first={"cache-control": "no-store"})


@pytest.mark.parametrize("rest", ["must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache"])
def test_a_stale_response_that_must_be_validated_is_not_sent_when_the_origin_is_gone(cached: Cached, rest: str) -> None:
    path = cached.answer({"Cache-Control": f"max-age=10, {rest}", "ETag": '"a"'})
    cached.get(path)
    cached.at(11)
    cached.origin.kill()
    assert cached.get(path, cache_control="max-stale, stale-if-error=600").status_code == 502


def test_no_cache_is_validated_each_time_even_when_it_is_fresh(cached: Cached) -> None:
    path = cached.path()
    cached.origin.on(path, validating('"a"', Cache_Control="No-Cache, max-age=600"))
    for _ in range(3):
        response = cached.get(path)
        assert (response.status_code, response.text) == (200, "content")
    asked = [seen.get("if-none-match") for seen in cached.origin.requests]
    assert asked == [None, '"a"', '"a"']


@pytest.mark.parametrize("directive", ["no-cache", "private"])
def test_named_fields_are_left_out_of_what_is_stored(cached: Cached, directive: str) -> None:
    fields = [
        ("Cache-Control", f'{directive}="X-One, x-two"'),
        ("Cache-Control", "max-age=60"),
        ("X-One", "1"),
        ("X-Two", "2"),
        ("X-Three", "3"),
    ]
    path = cached.answer(fields)
    first, stored = cached.get(path), cached.get(path)
    assert cached.origin.count(path) == 1
    assert [first.headers.get(name) for name in ("x-one", "x-two", "x-three")] == ["1", "2", "3"]
    assert "x-one" not in stored.headers and "x-two" not in stored.headers
    assert stored.headers["x-three"] == "3"


def test_a_cookie_that_is_named_private_does_not_forbid_storing_the_rest(cached: Cached) -> None:
    fields = {"Cache-Control": 'private="set-cookie", max-age=60', "Set-Cookie": "a=b"}
    path = cached.answer(fields)
    assert cached.get(path).headers["set-cookie"] == "a=b"
    assert "set-cookie" not in cached.get(path).headers
    assert cached.origin.count(path) == 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("status", [301, 302, 404, 500])
def test_named_fields_of_every_status_go_to_the_client_that_brought_them(
    cached: Cached, status: int, chunked: bool
) -> None:
    """A login answers with a redirect and a cookie, and a load balancer names the cookie in `no-cache`."""
    fields = {"Cache-Control": 'max-age=60, no-cache="set-cookie"', "Set-Cookie": "a=b", "ETag": '"a"'}
    path = cached.path()
    cached.origin.on(
        path, Reply(status, fields, "" if chunked else "short", chunks=[b"sh", b"ort"] if chunked else None)
    )
    first, stored = cached.get(path), cached.get(path)
    assert (first.status_code, first.headers.get("set-cookie"), first.text) == (status, "a=b", "short")
    assert (stored.status_code, stored.headers.get("set-cookie")) == (status, None)
    assert cached.origin.count(path) == 1


def test_named_fields_are_not_of_a_failed_condition(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": 'max-age=60, no-cache="set-cookie"', "Set-Cookie": "a=b", "ETag": '"a"'})
    failed = cached.get(path, if_match='"b"')
    assert (failed.status_code, "set-cookie" in failed.headers) == (412, False)


def test_a_validation_brings_named_fields_to_the_client_that_caused_it_and_to_nobody_else(cached: Cached) -> None:
    fields = {"Cache-Control": 'max-age=60, no-cache="X-One, Content-Length, Age"', "X-One": "new"}
    path = cached.path()
    cached.origin.on(path, validating('"1"', **fields))
    cached.get(path)
    assert "x-one" not in cached.get(path, range="bytes=0-1").headers
    cached.origin.on(path, validating('"1"', **fields, Date=date(time.time() + 100)))
    cached.at(100)
    part = cached.get(path, range="bytes=0-1")
    assert (part.status_code, part.content, part.headers["x-one"]) == (206, b"co", "new")
    assert part.headers["content-length"] == "2"
    assert "x-one" not in cached.get(path).headers
    assert cached.origin.count(path) == 2


def test_stale_if_error_of_either_side_lets_the_stored_response_stand_in(cached: Cached) -> None:
    for own, asked, after, status in (
        ("max-age=10, stale-if-error=100", "", 100, 200),
        ("max-age=10, stale-if-error=100", "", 111, 503),
        ("max-age=10", "stale-if-error=100", 100, 200),
        ("max-age=10", "stale-if-error=100", 112, 503),
        ("max-age=10", "stale-if-error=x", 20, 503),
        ("max-age=10", "", 20, 503),
    ):
        path = cached.answer({"Cache-Control": own}, "good")
        cached.at(0)
        cached.get(path)
        cached.origin.on(path, Reply(503, {"Cache-Control": "no-store"}, "bad"))
        cached.at(after)
        response = cached.get(path, cache_control=asked) if asked else cached.get(path)
        assert response.status_code == status, (own, asked, after)
        if status == 200:
            assert "detail=stale-if-error" in status_of(response)


def test_what_a_request_wants_fresh_may_be_stale_on_an_error_but_not_what_it_wants_validated(cached: Cached) -> None:
    for asked, status in (
        ("max-age=0", 200),
        ("min-fresh=5", 200),
        ("no-cache", 503),
        ("no-cache, stale-if-error=600", 200),
    ):
        path = cached.answer({"Cache-Control": "max-age=10, stale-if-error=100"}, "good")
        cached.at(0)
        cached.get(path)
        cached.origin.on(path, Reply(503, {}, "bad"))
        cached.at(20)
        assert cached.get(path, cache_control=asked).status_code == status, asked


def test_an_answer_that_is_no_failure_of_the_origin_replaces_the_stored_one(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": "max-age=0, stale-if-error=600"}, "good")
    cached.get(path)
    for status in (404, 501, 505):
        cached.origin.on(path, Reply(status, {"Cache-Control": "no-store"}, "new"))
        assert cached.get(path).status_code == status


def test_must_understand_lets_what_is_understood_be_stored(cached: Cached) -> None:
    fields = {"Cache-Control": "max-age=60, no-store, must-understand"}
    assert cached.reuses(fields)
    assert not cached.reuses(fields, status=599)
    assert not cached.reuses({"Cache-Control": "max-age=60, must-understand"}, status=599)


def test_the_words_of_a_malformed_member_forbid_and_allow_nothing(cached: Cached) -> None:
    """A lifetime is guessed by `Last-Modified`, so that a private page with a wrong separator would be shared."""
    modified = {"Last-Modified": date(time.time() - 1_000_000)}
    for value, reused in (
        ("private; max-age=60", False),
        ("public; private", False),
        ("no-store;", False),
        ("no-store =1", False),
        ("no-cache no-store", False),
        ('ext="1, no-store', False),
        ('ext="1, no-store"', True),
        ("ext=private", True),
        ("public; foo", True),
    ):
        assert cached.reuses({**modified, "Cache-Control": value}) == reused, value


def test_what_could_never_be_reused_is_not_stored_and_says_so(cached: Cached) -> None:
    path = cached.answer({"Date": date(time.time())})
    response = cached.get(path)
    assert "stored" not in status_of(response).split("; ")
    assert "detail=not-reusable" in status_of(response)
