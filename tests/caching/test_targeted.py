"""Targeted cache control (RFC 9213) and Surrogate-Control."""

from __future__ import annotations

import time

import pytest

from .conftest import Cached, Fields, MakeCached, date

LATER = date(time.time() + 10_000)


@pytest.mark.parametrize(
    ("fields", "reused"),
    [
        ({"CDN-Cache-Control": "max-age=60"}, True),
        ({"CDN-Cache-Control": "max-age=2147483648"}, True),
        ({"CDN-Cache-Control": "max-age=99999999999"}, True),
        ({"CDN-Cache-Control": "foobar, max-age=60"}, True),
        ({"CDN-Cache-Control": "max-age=60", "Expires": "0"}, True),
        ({"CDN-Cache-Control": "max-age=60", "Cache-Control": "max-age=0"}, True),
        ({"CDN-Cache-Control": "max-age=60", "Cache-Control": "no-store"}, True),
        ({"CDN-Cache-Control": "max-age=60", "Cache-Control": "private"}, True),
        ({"CDN-Cache-Control": "max-age=60", "Age": "90"}, False),
        ({"CDN-Cache-Control": "max-age=0"}, False),
        ({"CDN-Cache-Control": "max-age=0", "Expires": LATER}, False),
        ({"CDN-Cache-Control": "max-age=0", "Cache-Control": "max-age=60"}, False),
        ({"CDN-Cache-Control": "private", "Cache-Control": "max-age=60", "Expires": LATER}, False),
        ({"CDN-Cache-Control": "no-cache", "Cache-Control": "max-age=60"}, False),
        ({"CDN-Cache-Control": "no-store", "Cache-Control": "max-age=60"}, False),
        ({"CDN-Cache-Control": "max-age=60, &&&", "Cache-Control": "no-store"}, False),
        ({"CDN-Cache-Control": "max-age =60", "Cache-Control": "max-age=0"}, False),
        ({"CDN-Cache-Control": "max-age= 60", "Cache-Control": "max-age=0"}, False),
        ({"CDN-Cache-Control": 'max-age="60"', "Cache-Control": "no-store"}, False),
        ({"CDN-Cache-Control": "max-age=60, id=:aGk=:", "Cache-Control": "no-store"}, True),
        ({"CDN-Cache-Control": 'max-age=60, at=@1659578233, by=%"f%c3%bcr"', "Cache-Control": "no-store"}, True),
        ({"CDN-Cache-Control": 'max-age=60, tags=("a)" b)', "Cache-Control": "no-store"}, True),
        ({"CDN-Cache-Control": "max-age=60, weight=1.2.3", "Cache-Control": "no-store"}, False),
        ({"CDN-Cache-Control": "max-age=60, weight=1.", "Cache-Control": "no-store"}, False),
        ({"CDN-Cache-Control": r'max-age=60, x="\x"', "Cache-Control": "no-store"}, False),
        ({"CDN-Cache-Control": "max-age=60, tags=(a,b)", "Cache-Control": "no-store"}, False),
        ({"CDN-Cache-Control": "no-store=?0, max-age=60", "Cache-Control": "no-store"}, True),
        ({"CDN-Cache-Control": "Max-Age=0", "Cache-Control": "max-age=60"}, True),
        ({"CDN-Cache-Control": "", "Cache-Control": "max-age=60"}, True),
        ([("CDN-Cache-Control", "public"), ("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store")], True),
        ({"Surrogate-Control": "max-age=60"}, True),
        ({"Surrogate-Control": "MaX-aGe=60"}, True),
        ({"Surrogate-Control": 'content="ESI/1.0", max-age=60'}, True),
        ({"Surrogate-Control": "max-age=60", "Cache-Control": "no-store"}, True),
        ({"Surrogate-Control": "no-store", "Cache-Control": "max-age=60"}, False),
        ({"Surrogate-Control": "max-age=0", "Expires": LATER}, False),
        ({"Surrogate-Control": "max-age= 60", "Cache-Control": "max-age=0"}, False),
        ({"CDN-Cache-Control": "no-store", "Surrogate-Control": "max-age=60"}, False),
    ],
)
def test_the_most_specific_valid_field_speaks_alone(cached: Cached, fields: Fields, reused: bool) -> None:
    assert cached.reuses(fields) == reused


@pytest.mark.parametrize(
    ("directive", "kept"),
    [
        ('private="x-secret"', True),
        ('no-cache="x-secret"', True),
        ('private="X-Other, X-Secret"', True),
        ("private=x-secret", False),
        ('private=("x-secret")', False),
        ('no-store="x-secret"', False),
    ],
)
def test_fields_that_a_targeted_field_names_are_for_the_client_that_brought_them(
    cached: Cached, directive: str, kept: bool
) -> None:
    path = cached.answer({"CDN-Cache-Control": f"max-age=60, {directive}", "X-Secret": "1"})
    assert cached.get(path).headers["x-secret"] == "1"
    later = cached.get(path)
    assert cached.origin.count(path) == (1 if kept else 2)
    assert ("x-secret" in later.headers) == (not kept)


@pytest.mark.parametrize("lifetime", ['max-age="60"', "max-age=0.5", "max-age=x", "s-maxage=60.0"])
def test_a_lifetime_of_another_type_is_none_and_is_not_guessed(cached: Cached, lifetime: str) -> None:
    assert not cached.reuses({"CDN-Cache-Control": lifetime, "Last-Modified": date(time.time() - 1_000_000)})


def test_surrogates_may_serve_stale_for_the_time_after_the_plus(cached: Cached) -> None:
    path = cached.answer({"Surrogate-Control": "max-age=10+30"})
    cached.get(path)
    cached.at(30)
    assert "hit" in cached.get(path).headers["cache-status"]


def test_the_list_of_targets_is_the_policys(make_cached: MakeCached) -> None:
    cached = make_cached(targets=["My-Edge-Control", "CDN-Cache-Control"])
    assert cached.reuses({"My-Edge-Control": "max-age=60", "CDN-Cache-Control": "no-store"})
    assert not cached.reuses({"My-Edge-Control": "no-store", "CDN-Cache-Control": "max-age=60"})
    assert cached.reuses({"CDN-Cache-Control": "max-age=60", "Cache-Control": "no-store"})
    assert not cached.reuses({"Surrogate-Control": "max-age=60"})


def test_targeted_fields_are_passed_on_to_caches_behind(cached: Cached) -> None:
    path = cached.answer({"CDN-Cache-Control": "max-age=60"})
    for _ in range(2):
        assert cached.get(path).headers["cdn-cache-control"] == "max-age=60"
