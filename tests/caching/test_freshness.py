"""How long a stored response may be used (RFC 9111 §4.2)."""

from __future__ import annotations

import time

import httpx
import pytest

from ..origins import Reply
from .conftest import Cached, MakeCached, date, status_of

DAY = 86_400


def test_each_spelling_of_a_lifetime_lasts_as_long_as_it_says(cached: Cached) -> None:
    for value, fresh, stale in (
        ("max-age=60", 50, 61),
        ("MaX-aGe=60", 50, 61),
        ('max-age="60"', 50, 61),
        ("max-age=0060", 50, 61),
        ("foo, max-age=60 , ,bar=1", 50, 61),
        ("s-maxage=60, max-age=1", 50, 61),
        ("max-age=100, s-maxage=60", 50, 61),
        ('ext="max-age=1", max-age=60', 50, 61),
        ("max-age=60, max-age=100", 50, 61),
        ("max-age=2147483648", 30 * 365 * DAY, None),
        ("max-age=99999999999", 30 * 365 * DAY, None),
    ):
        fields = {"Cache-Control": value, "Date": date(time.time())}
        assert cached.reuses(fields, after=fresh), (value, fresh)
        if stale is not None:
            assert not cached.reuses(fields, after=stale), (value, stale)


@pytest.mark.parametrize(
    "value",
    [
        "max-age=0",
        "max-age=-60",
        "max-age=a60",
        "max-age=60a",
        "max-age=60.5",
        "max-age='60'",
        "max-age =60",
        "max-age= 60",
        "max-age=",
        "max-age",
        'ext="max-age=60"',
        "max-age=60, max-age=0",
        "max-age=60, s-maxage=0",
    ],
)
def test_a_lifetime_that_cannot_be_read_is_none(cached: Cached, value: str) -> None:
    assert not cached.reuses({"Cache-Control": value})


def test_directives_on_several_lines_count_together(cached: Cached) -> None:
    lines = [("Cache-Control", "max-age=60"), ("Cache-Control", "no-store")]
    assert not cached.reuses(lines)
    assert cached.reuses([("Cache-Control", "public"), ("Cache-Control", "max-age=60")])


def test_expires_counts_from_the_date_and_only_when_it_is_one(cached: Cached) -> None:
    now = time.time()
    later = time.gmtime(now + 10 * DAY)
    for expires, sent, reused in (
        (date(now + 60), date(now), True),
        (date(now), date(now), False),
        (date(now - 60), date(now), False),
        (date(now + 300), date(now + 400), False),
        (date(now + 60), "yesterday", True),
        ("0", date(now), False),
        ("-1", date(now), False),
        ("tomorrow", date(now), False),
        (time.strftime("%A, %d-%b-%y %H:%M:%S GMT", later), date(now), True),
        (time.strftime("%a %b %e %H:%M:%S %Y", later), date(now), True),
        (time.strftime("%a, %d %b %Y %H:%M:%S GMT", later).upper(), date(now), True),
        (time.strftime("%a, %d %b %Y %H:%M:%S gMt", later), date(now), True),
        ("Sun, 21 Nov 2286 04:46:39 GMT", date(now), True),
        (time.strftime("%a, %d %b %Y %H:%M:%S UTC", later), date(now), False),
        (time.strftime("%a, %d %b %y %H:%M:%S GMT", later), date(now), False),
        (time.strftime("%a %d %b %Y %H:%M:%S GMT", later), date(now), False),
        (time.strftime("%a, %d  %b  %Y %H:%M:%S GMT", later), date(now), False),
        (time.strftime("%a, %d-%b-%Y %H:%M:%S GMT", later), date(now), False),
        (time.strftime("%a, %d %b %Y %H.%M.%S GMT", later), date(now), False),
        (time.strftime("%a, %d %b %Y 2:%M:%S GMT", later), date(now), False),
    ):
        assert cached.reuses({"Expires": expires, "Date": sent}) == reused, (expires, sent)
    two = [("Expires", date(now + 60)), ("Expires", date(now + 90))]
    assert not cached.reuses(two)


def test_max_age_is_preferred_to_expires(cached: Cached) -> None:
    now = time.time()
    assert cached.reuses({"Cache-Control": "max-age=60", "Expires": date(now - 60)})
    assert cached.reuses({"Cache-Control": "max-age=60", "Expires": "0"})
    assert not cached.reuses({"Cache-Control": "max-age=0", "Expires": date(now + 60)})


def test_the_age_that_others_added_counts(cached: Cached) -> None:
    now = time.time()
    for age, sent, reused in (
        ("30", 0, True),
        ("90", 0, False),
        ("99999999999999999999", 0, False),
        ("abc", 0, True),
        ("-90", 0, True),
        ("90, 0", 0, False),
        ("0", 90, False),
        ("0", -90, True),
    ):
        fields = {"Cache-Control": "max-age=60", "Age": age, "Date": date(now - sent)}
        assert cached.reuses(fields) == reused, (age, sent)


def test_age_grows_while_a_response_is_stored_and_its_date_stays(cached: Cached) -> None:
    sent = date(time.time())
    path = cached.answer({"Cache-Control": "max-age=600", "Age": "30", "Date": sent})
    assert int(cached.get(path).headers["age"]) >= 30
    cached.at(100)
    response = cached.get(path)
    assert 130 <= int(response.headers["age"]) <= 160
    assert response.headers["date"] == sent


def test_a_response_without_a_date_gets_the_time_it_came(cached: Cached) -> None:
    for sent in ({}, {"Date": "foo"}):
        path = cached.path()
        cached.origin.on(path, Reply(200, {"Cache-Control": "max-age=600", **sent}, "x", date=False))
        first = cached.get(path)
        assert first.headers["date"].endswith("GMT")
        cached.at(100)
        second = cached.get(path)
        assert second.headers["date"] == first.headers["date"]
        assert int(second.headers["age"]) >= 100
        cached.at(0)


def test_a_tenth_of_the_time_since_the_last_change_is_guessed(cached: Cached) -> None:
    now = time.time()
    fields = {"Last-Modified": date(now - 1000), "Date": date(now)}
    assert cached.reuses(fields, after=85)
    assert not cached.reuses(fields, after=102)
    assert not cached.reuses({"Last-Modified": "soon"})
    assert not cached.reuses({"Last-Modified": date(now + 1000)})


@pytest.mark.parametrize(
    ("statuses", "fields", "reused"),
    [
        ((200, 203, 204, 301, 308, 404, 405, 410, 414, 451, 501), {}, True),
        ((201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 299, 599), {}, False),
        ((201, 302, 403, 503, 599), {"Cache-Control": "public"}, True),
    ],
)
def test_only_some_statuses_are_cached_by_default(
    cached: Cached, statuses: tuple[int, ...], fields: dict[str, str], reused: bool
) -> None:
    modified = {"Last-Modified": date(time.time() - 100 * DAY)}
    for status in statuses:
        assert cached.reuses({**modified, **fields}, status=status) == reused, status


def test_every_final_status_is_cached_when_its_lifetime_is_explicit(cached: Cached) -> None:
    for status in (200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599):
        fields = {"Cache-Control": "max-age=60"}
        assert cached.reuses(fields, status=status), status
        assert not cached.reuses(fields, status=status, after=61), status


@pytest.mark.parametrize("policy", [{}, {"ttl": 60}])
def test_statuses_about_the_client_are_not_stored(make_cached: MakeCached, policy: dict[str, object]) -> None:
    cached = make_cached(**policy)
    for status in (428, 429, 431, 511):
        for fields in ("max-age=60", "public, s-maxage=60", "max-age=60, must-understand"):
            assert not cached.reuses({"Cache-Control": fields}, status=status), (status, fields)


def test_the_policy_may_name_a_status_about_the_client(make_cached: MakeCached) -> None:
    cached = make_cached(negative_ttl={429: 10})
    assert cached.reuses({}, status=429, after=5)
    assert not cached.reuses({}, status=431)


def test_errors_are_kept_for_the_policys_negative_lifetime(make_cached: MakeCached) -> None:
    cached = make_cached(negative_ttl={404: 10, 503: 5})
    assert cached.reuses({}, status=404, after=5)
    assert not cached.reuses({}, status=404, after=11)
    assert cached.reuses({}, status=503, after=1)
    assert not cached.reuses({}, status=500)
    assert not cached.reuses({"Cache-Control": "no-store"}, status=404)


def test_a_forced_lifetime_leaves_failures_to_their_own(make_cached: MakeCached) -> None:
    cached = make_cached(ttl=300, negative_ttl={404: 10, 503: 5})
    assert cached.reuses({"Cache-Control": "max-age=1"}, after=290)
    assert cached.reuses({}, status=404, after=5)
    assert not cached.reuses({}, status=404, after=11)
    assert cached.reuses({"Cache-Control": "max-age=100"}, status=503, after=1)
    assert not cached.reuses({"Cache-Control": "max-age=100"}, status=503, after=6)
    assert not cached.reuses({}, status=500)
    assert cached.reuses({"Cache-Control": "max-age=20"}, status=500, after=12), "what the origin itself says of it"
    assert not cached.reuses({"Cache-Control": "max-age=20"}, status=500, after=21)
    assert cached.reuses({}, status=410, after=290)


def test_the_policys_bounds_hold_what_the_origin_says(make_cached: MakeCached) -> None:
    cached = make_cached(min_ttl=10, max_ttl=100)
    assert cached.reuses({"Cache-Control": "max-age=1"}, after=5)
    assert not cached.reuses({"Cache-Control": "max-age=1"}, after=12)
    assert not cached.reuses({"Cache-Control": "max-age=1000"}, after=102)
    assert not cached.reuses({"Cache-Control": "private, max-age=1000"})
    assert not cached.reuses({"Cache-Control": "no-cache, max-age=1000"})


def test_stale_while_revalidate_ends_with_its_window(cached: Cached) -> None:
    fields = {"Cache-Control": "max-age=10, stale-while-revalidate=30"}
    path = cached.answer(fields)
    cached.get(path)
    cached.at(30)
    stale = cached.get(path)
    assert "hit" in status_of(stale) and "ttl=-" in status_of(stale)
    cached.origin.wait_for(2, path)
    path = cached.answer(fields)
    cached.at(0)
    cached.get(path)
    cached.at(41)
    assert "fwd=stale" in status_of(cached.get(path))


def test_a_clock_that_jumps_back_does_not_make_a_response_immortal(cached: Cached) -> None:
    """A response from a time that is ahead was fresh until that time came: for a day, if the clock was a day ahead."""
    path = cached.path()
    cached.origin.on(path, Reply(200, {"Cache-Control": "max-age=60"}, "x", date=False))
    cached.at(1000)
    cached.get(path)
    cached.at(999)
    assert "hit" in status_of(cached.get(path)), "a correction by a second"
    cached.at(0)
    assert "fwd=stale" in status_of(cached.get(path))
    assert "hit" in status_of(cached.get(path)), "stored anew"
    cached.at(1061)
    cached.get(path)
    assert cached.origin.count(path) == 3


def test_a_response_that_was_purged_softly_stays_stale_when_the_clock_jumps_back(cached: Cached) -> None:
    path = cached.path()
    cached.origin.on(path, Reply(200, {"Cache-Control": "max-age=60", "ETag": '"1"'}, "x", date=False))
    cached.at(1000)
    cached.get(path)
    cached.at(0)
    purged = httpx.post(f"{cached.edge.admin_url}/v1/purges", json={"paths": [path], "soft": True})
    assert purged.status_code == 201
    cached.at(1000)
    assert "fwd=stale" in status_of(cached.get(path))
