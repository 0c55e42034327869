"""Conditional requests on both sides (RFC 9111 §4.3, RFC 9110 §13)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
import pytest

from ..origins import Reply, Seen, wait_until
from .conftest import Cached, date, status_of, validating

FRESH = {"Cache-Control": "max-age=60"}


@pytest.mark.parametrize(
    ("stored", "asked", "matches"),
    [
        ('"a"', '"a"', True),
        ('"a"', 'W/"a"', True),
        ('W/"a"', '"a"', True),
        ('W/"a"', 'W/"a"', True),
        ('"a"', '"a", "b", "c"', True),
        ('"a"', '"b", "a", "c"', True),
        ('"a"', '"b","c",W/"a"', True),
        ('"a,b"', '"x", "a,b"', True),
        ('"a"', "*", True),
        ('"a"', '"b"', False),
        ('"a"', '"A"', False),
        ('"a"', "a", False),
        ('"a"', '"a', False),
        ('"a,b"', '"a", "b"', False),
        ('"caf\xe9"', '"caf\xe9"', True),
    ],
)
def test_if_none_match_is_compared_weakly_with_what_is_stored(
    cached: Cached, stored: str, asked: str, matches: bool
) -> None:
    path = cached.answer({**FRESH, "ETag": stored, "Content-Type": "text/plain"}, "content")
    cached.get(path)
    response = cached.client.get(path, headers=[(b"if-none-match", asked.encode("latin-1"))])
    assert response.status_code == (304 if matches else 200)
    assert response.text == ("" if matches else "content")
    assert (b"etag", stored.encode("latin-1")) in [(k.lower(), v) for k, v in response.headers.raw]
    assert cached.origin.count(path) == 1


def test_tags_on_several_lines_are_one_list(cached: Cached) -> None:
    path = cached.answer({**FRESH, "ETag": '"b"'})
    cached.get(path)
    lines = [("if-none-match", '"a"'), ("if-none-match", '"b"')]
    assert cached.client.get(path, headers=lines).status_code == 304


def test_if_modified_since_is_judged_by_last_modified_or_date(cached: Cached) -> None:
    now = time.time()
    modified = {**FRESH, "Last-Modified": date(now - 3000), "Date": date(now)}
    rfc850 = time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(now - 3000))
    for fields, since, status in (
        (modified, date(now - 3000), 304),
        (modified, date(now - 2000), 304),
        (modified, date(now - 4000), 200),
        (modified, rfc850, 304),
        (modified, "yesterday", 200),
        ({**FRESH, "Date": date(now)}, date(now + 10), 304),
        ({**FRESH, "Date": date(now)}, date(now - 10), 200),
    ):
        path = cached.answer(fields)
        cached.get(path)
        response = cached.get(path, if_modified_since=since)
        assert (response.status_code, cached.origin.count(path)) == (status, 1), (fields, since)


def test_if_none_match_is_preferred_to_if_modified_since(cached: Cached) -> None:
    now = time.time()
    path = cached.answer({**FRESH, "ETag": '"a"', "Last-Modified": date(now - 5000)})
    cached.get(path)
    assert cached.get(path, if_none_match='"a"', if_modified_since=date(now - 9000)).status_code == 304
    assert cached.get(path, if_none_match='"b"', if_modified_since=date(now)).status_code == 200


def test_conditions_do_not_apply_to_other_statuses(cached: Cached) -> None:
    path = cached.answer({**FRESH, "ETag": '"a"'}, status=404)
    cached.get(path)
    assert cached.get(path, if_none_match='"a"').status_code == 404


def test_a_condition_that_misses_fetches_the_whole_and_is_answered_from_it(cached: Cached) -> None:
    path = cached.answer({**FRESH, "ETag": '"a"'}, "content")
    first = cached.get(path, if_none_match='"a"')
    assert (first.status_code, first.text) == (304, "")
    assert cached.origin.requests[0].get("if-none-match") is None
    assert cached.get(path).text == "content"
    assert cached.origin.count(path) == 1


def test_a_condition_on_what_may_not_be_stored_is_answered_all_the_same(cached: Cached) -> None:
    path = cached.path()
    cached.origin.on(path, validating('"a"', Cache_Control="private"))
    assert cached.get(path, if_none_match='"a"').status_code == 304
    assert cached.get(path, if_none_match='"b"').text == "content"
    assert cached.get(path, if_none_match='"a"').status_code == 304
    assert cached.origin.requests[-1].get("if-none-match") == '"a"', "the origin judges it"
    assert cached.get(path).text == "content"


def test_a_stale_response_is_validated_by_every_validator_it_has(cached: Cached) -> None:
    now = time.time()
    for fields in (
        {"ETag": '"a"'},
        {"ETag": 'W/"a"'},
        {"Last-Modified": date(now - 1000)},
        {"ETag": '"a"', "Last-Modified": date(now - 1000)},
    ):
        path = cached.answer({"Cache-Control": "max-age=10", **fields}, "content")
        cached.at(0)
        cached.get(path)
        cached.origin.on(path, Reply(304, {"Cache-Control": "max-age=10", **fields}))
        cached.at(11)
        response = cached.get(path)
        assert (response.status_code, response.text) == (200, "content")
        asked = cached.origin.requests[-1]
        assert asked.get("if-none-match") == fields.get("ETag")
        assert asked.get("if-modified-since") == fields.get("Last-Modified")
        assert "fwd-status=304" in status_of(response)


def test_a_client_s_condition_on_a_stale_response_is_answered_after_validation(cached: Cached) -> None:
    path = cached.path()
    cached.origin.on(path, validating('"a"', Cache_Control="max-age=10"))
    cached.get(path)
    cached.at(11)
    assert cached.get(path, if_none_match='"a"').status_code == 304
    cached.at(22)
    assert cached.get(path, if_none_match='"old"').text == "content"
    assert [seen.get("if-none-match") for seen in cached.origin.requests] == [None, '"a"', '"a"']


def test_a_304_updates_the_stored_fields_but_those_that_describe_the_stored_bytes(cached: Cached) -> None:
    path = cached.answer(
        {"Cache-Control": "max-age=1", "ETag": '"a"', "X-A": "old", "X-Kept": "1", "Content-Type": "text/plain"},
        "12345",
    )
    cached.get(path)
    update = [
        ("Cache-Control", "max-age=3600"),
        ("ETag", '"a"'),
        ("X-A", "new"),
        ("X-A", "newer"),
        ("Content-Foo", "1"),
        ("Content-Type", "text/html"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", "10"),
        ("Set-Cookie", "a=b"),
    ]
    cached.origin.on(path, Reply(304, update))
    cached.at(10)
    for cookie, response in (("a=b", cached.get(path)), (None, cached.get(path))):
        assert (response.status_code, response.text) == (200, "12345")
        headers = response.headers
        assert headers["x-a"] == "new, newer"
        assert (headers["x-kept"], headers["content-foo"], headers["content-type"]) == ("1", "1", "text/html")
        assert (headers["content-length"], headers["cache-control"]) == ("5", "max-age=3600")
        # The client whose request brought it gets it, and it is not kept.
        assert "content-encoding" not in headers and headers.get("set-cookie") == cookie
    assert cached.origin.count(path) == 2


def test_a_304_does_not_bring_the_digest_of_its_own_content(cached: Cached) -> None:
    path = cached.path()
    whole = {"ETag": '"a"', "Cache-Control": "no-cache", "Content-Digest": "sha-256=:whole:"}

    def answer(seen: Seen) -> Reply:
        none = whole | {"Content-Digest": "sha-256=:none:"}
        return Reply(304, none) if seen.get("if-none-match") else Reply(200, whole, "content")

    cached.origin.on(path, answer)
    for _ in range(3):
        assert cached.get(path).headers["content-digest"] == "sha-256=:whole:"


@pytest.mark.parametrize("now_says", ["no-store", "private"])
def test_a_304_that_forbids_keeping_ends_the_stored_response(cached: Cached, now_says: str) -> None:
    path = cached.answer({"Cache-Control": "max-age=1", "ETag": '"a"'}, "content")
    cached.get(path)
    cached.origin.on(path, Reply(304, {"Cache-Control": f"{now_says}, max-age=60", "ETag": '"a"'}))
    cached.at(10)
    assert cached.get(path).text == "content"
    cached.origin.on(path, Reply(200, FRESH, "new"))
    assert cached.get(path).text == "new"


MODIFIED = date(784111777)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"ETag": '"a"'}, {"ETag": '"b"'}),
        ({"ETag": 'W/"a"'}, {"ETag": 'W/"b"'}),
        ({"ETag": '"a"'}, {"ETag": 'W/"b"'}),
        ({"Last-Modified": MODIFIED}, {"ETag": 'W/"b"'}),
        ({"Last-Modified": MODIFIED}, {"Last-Modified": date(784111778)}),
        ({"ETag": '"a"', "Last-Modified": MODIFIED}, {"Last-Modified": date(784111778)}),
    ],
    ids=str,
)
def test_a_304_about_another_response_is_not_believed(
    cached: Cached, known: dict[str, str], said: dict[str, str]
) -> None:
    path = cached.answer({"Cache-Control": "max-age=1", **known}, "old")
    cached.get(path)

    def confused(seen: Seen) -> Reply:
        if seen.get("if-none-match") or seen.get("if-modified-since"):
            return Reply(304, {**said, **FRESH})
        return Reply(200, {"ETag": '"b"', **FRESH}, "new")

    cached.origin.on(path, confused)
    cached.at(10)
    assert cached.get(path).text == "new"
    assert cached.get(path, if_none_match='"b"').status_code == 304
    assert cached.origin.count(path) == 3


@pytest.mark.parametrize("how", ["a validation", "a refresh"])
def test_a_304_brings_nothing_back_that_another_response_has_replaced(cached: Cached, how: str) -> None:
    window = "stale-while-revalidate=600" if how == "a refresh" else "stale-if-error=0"
    path = cached.answer({"Cache-Control": f"max-age=1, {window}", "ETag": '"a"'}, "old")
    cached.get(path)
    late = Event()

    def confirms(seen: Seen) -> Reply:
        if seen.get("cache-control") == "no-cache":
            return Reply(200, {"ETag": '"b"', **FRESH}, "new")
        assert late.wait(60)
        return Reply(304, {"ETag": '"a"', **FRESH})

    cached.origin.on(path, confirms)
    cached.at(10)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.get, cached.edge.url + path, timeout=60)
        cached.origin.wait_for(2, path)
        assert cached.get(path, cache_control="no-cache").text == "new"
        assert cached.get(path).text == "new"
        late.set()
        assert first.result(60).text == "old"
    metrics = f"{cached.edge.admin_url}/metrics"
    wait_until(lambda: "edgerouter_fetches_in_flight 0" in httpx.get(metrics).text, what="the end of the fetch")
    later = cached.get(path)
    assert later.text == "new" and "; hit" in status_of(later)


def test_a_304_that_nobody_asked_for_is_no_answer(cached: Cached) -> None:
    path = cached.path()
    cached.origin.on(path, Reply(304, {"ETag": '"a"', **FRESH}))
    assert cached.get(path).status_code == 502


def test_a_full_answer_to_a_validation_replaces_the_stored_response(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": "max-age=1", "ETag": '"a"', "X-Old": "1"}, "old")
    cached.get(path)
    cached.origin.on(path, Reply(200, {**FRESH, "ETag": '"b"'}, "new"))
    cached.at(10)
    for _ in range(2):
        response = cached.get(path)
        assert response.text == "new" and "x-old" not in response.headers
    assert cached.origin.count(path) == 2


def test_a_head_response_makes_the_stored_get_new(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": "max-age=10", "ETag": '"a"', "X-A": "1", "X-B": "1"}, "content")
    cached.get(path)
    cached.origin.on(path, Reply(200, {"Cache-Control": "max-age=1000", "ETag": '"a"', "X-A": "2"}, "content"))
    cached.at(11)
    assert cached.client.head(path).headers["x-a"] == "2"
    assert [seen.method for seen in cached.origin.requests] == ["GET", "HEAD"]
    response = cached.get(path)
    assert (response.text, response.headers["x-a"], response.headers["x-b"]) == ("content", "2", "1")
    assert cached.origin.count(path) == 2


@pytest.mark.parametrize("change", [{"ETag": '"b"'}, {"Content-Length": "8"}])
def test_a_head_response_that_differs_ends_the_stored_get(cached: Cached, change: dict[str, str]) -> None:
    path = cached.answer({"Cache-Control": "max-age=60", "ETag": '"a"'}, "content")
    cached.get(path)
    cached.origin.on(path, Reply(200, {"Cache-Control": "max-age=60", "ETag": '"a"', **change}, "content2"))
    cached.client.head(path, headers={"cache-control": "no-cache"})
    assert cached.get(path).text == "content2"


def test_a_head_response_does_not_end_what_was_stored_after_it_was_asked_for(cached: Cached) -> None:
    path = cached.path()
    asked, answered = Event(), Event()

    def answer(seen: Seen) -> Reply:
        if seen.method == "HEAD":
            asked.set()
            assert answered.wait(20)
            return Reply(200, {"Cache-Control": "max-age=60", "ETag": '"b"'}, "content")
        tag = '"a"' if cached.origin.count(path) == 1 else '"b"'
        return Reply(200, {"Cache-Control": "max-age=60", "ETag": tag}, "content")

    cached.origin.on(path, answer)
    cached.get(path)
    with ThreadPoolExecutor(1) as pool:
        head = pool.submit(cached.client.head, path, headers={"cache-control": "no-cache"})
        assert asked.wait(20)
        assert cached.get(path, cache_control="no-cache").headers["etag"] == '"b"'
        answered.set()
        assert head.result().headers["etag"] == '"b"'
    assert "; hit" in status_of(cached.get(path))


def test_if_match_and_if_unmodified_since_are_judged_by_the_fresh_response(cached: Cached) -> None:
    now = time.time()
    path = cached.answer({**FRESH, "ETag": '"a"', "Last-Modified": date(now - 1000)})
    cached.get(path)
    for headers, status in (
        ({"if-match": '"a"'}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": 'W/"a"'}, 412),
        ({"if-match": '"b"'}, 412),
        ({"if-unmodified-since": date(now - 2000)}, 412),
        ({"if-unmodified-since": date(now)}, 200),
    ):
        assert cached.client.get(path, headers=headers).status_code == status, headers


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"ETag": 'W/"a"'}, {"ETag": 'W/"a"'}),
        ({"ETag": '"a"'}, {"ETag": 'W/"a"'}),
        ({"Last-Modified": MODIFIED}, {"Last-Modified": MODIFIED}),
        ({"ETag": '"a"'}, {}),
    ],
    ids=str,
)
def test_a_304_about_the_stored_response_makes_it_new(
    cached: Cached, known: dict[str, str], said: dict[str, str]
) -> None:
    path = cached.answer({"Cache-Control": "max-age=1", **known}, "good")
    cached.get(path)
    cached.origin.on(path, Reply(304, {**said, **FRESH}))
    cached.at(10)
    assert cached.get(path).text == "good"
    assert "; hit" in status_of(cached.get(path))
    assert cached.origin.count(path) == 2


def test_a_304_with_a_strong_tag_does_not_make_a_weak_one_strong(cached: Cached) -> None:
    """nginx gives a compressed response a weak tag, and the same one as a strong tag in each 304."""
    path = cached.answer({"Cache-Control": "max-age=1", "ETag": 'W/"a"'}, "good")
    cached.get(path)
    cached.origin.on(path, Reply(304, {"ETag": '"a"', **FRESH}))
    cached.at(10)
    for _ in range(2):
        response = cached.get(path)
        assert (response.text, response.headers["etag"]) == ("good", 'W/"a"')
    assert cached.get(path, range="bytes=0-1", if_range='"a"').status_code == 200
    assert cached.origin.count(path) == 2
    cached.at(100)
    cached.origin.on(path, Reply(304, {"ETag": 'W/"a"', **FRESH}))
    assert cached.get(path).headers["etag"] == 'W/"a"'
    assert cached.origin.requests[-1].get("if-none-match") == 'W/"a"'


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_validation_with_credentials_leaves_what_others_stored(cached: Cached, method: str) -> None:
    path = cached.path()
    cached.origin.on(path, validating('"a"', Cache_Control="max-age=60"))
    cached.get(path)
    cached.at(100)
    response = cached.client.request(method, path, headers={"authorization": "Basic eA=="})
    assert response.status_code == 200
    assert response.text == ("content" if method == "GET" else "")
    assert cached.get(path).text == "content"
    last = cached.origin.requests[-1]
    assert (last.get("if-none-match"), last.get("authorization")) == ('"a"', None)


@pytest.mark.parametrize("fields", [{"Cache-Control": "no-store"}, {"Cache-Control": "private"}, {"Set-Cookie": "a=b"}])
def test_a_whole_answer_that_is_not_stored_ends_what_was(cached: Cached, fields: dict[str, str]) -> None:
    path = cached.answer({"Cache-Control": "max-age=1, stale-if-error=600", "ETag": '"a"'}, "old")
    cached.get(path)
    cached.origin.on(path, Reply(200, fields, "new"))
    cached.at(10)
    assert cached.get(path).text == "new"
    cached.origin.on(path, Reply(503, {}, "down"))
    assert (cached.get(path).status_code, cached.get(path).text) == (503, "down")


def test_a_refresh_that_may_not_be_stored_ends_what_was(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": "max-age=1, stale-while-revalidate=600"}, "old")
    cached.get(path)
    cached.origin.on(path, Reply(200, {"Cache-Control": "no-store"}, "new"))
    cached.at(10)
    assert cached.get(path).text == "old", "while it is refreshed"
    wait_until(lambda: cached.get(path).text == "new", what="the end of the old one")
    assert {cached.get(path).text for _ in range(3)} == {"new"}


def test_a_request_that_forbids_storing_leaves_what_is_stored(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": "max-age=60"}, "old")
    cached.get(path)
    cached.origin.on(path, Reply(200, FRESH, "new"))
    assert cached.get(path, cache_control="no-store, no-cache").text == "new"
    assert cached.get(path).text == "old"


def test_a_condition_that_fails_says_where_the_answer_came_from(cached: Cached) -> None:
    path = cached.answer({**FRESH, "ETag": '"a"', "Content-Type": "text/plain"})
    for status in ("fwd=uri-miss", "hit"):
        failed = cached.get(path, if_match='"b"')
        assert failed.status_code == 412 and failed.content == b""
        assert status in status_of(failed)
        assert failed.headers["etag"] == '"a"' and "via" in failed.headers and "date" in failed.headers
        assert "content-type" not in failed.headers and "cache-control" not in failed.headers
    assert "age" in failed.headers
