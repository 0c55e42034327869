"""Parts of a stored whole (RFC 9110 §14)."""

from __future__ import annotations

import time

import pytest

from .conftest import Cached, date

WHOLE = "0123456789"


def stored(cached: Cached, **fields: str) -> str:
    path = cached.answer({"Cache-Control": "max-age=60", **fields}, WHOLE)
    cached.get(path)
    return path


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-3", 0, 3),
        ("bytes=0-0", 0, 0),
        ("bytes=7-", 7, 9),
        ("bytes=5-100", 5, 9),
        ("bytes=-1", 9, 9),
        ("bytes=-20", 0, 9),
        ("BYTES=2-3", 2, 3),
        ("bytes=0-99999999999999999999", 0, 9),
        ("bytes=2-3,20-30", 2, 3),
        ("bytes=20-30 , 2-3,", 2, 3),
    ],
)
def test_a_range_is_cut_from_the_stored_response(cached: Cached, asked: str, first: int, last: int) -> None:
    path = stored(cached, ETag='"a"')
    response = cached.get(path, range=asked)
    assert (response.status_code, response.text) == (206, WHOLE[first : last + 1])
    assert response.headers["content-range"] == f"bytes {first}-{last}/10"
    assert response.headers["content-length"] == str(last - first + 1)
    assert response.headers["etag"] == '"a"'
    assert cached.origin.count(path) == 1


@pytest.mark.parametrize("asked", ["bytes=0-4", "bytes=0-1, 4-5"])
def test_a_part_keeps_the_digest_of_the_representation_and_loses_that_of_the_content(
    cached: Cached, asked: str
) -> None:
    digests = {"Content-Digest": "sha-256=:x:", "Content-MD5": "x", "Repr-Digest": "sha-256=:x:", "Digest": "md5=x"}
    path = stored(cached, **digests, ETag='"a"')
    for fields, kept in (
        ({}, set(digests)),
        ({"range": asked}, {"Repr-Digest", "Digest"}),
        ({"if-none-match": '"a"'}, {"Repr-Digest", "Digest"}),
    ):
        response = cached.get(path, **fields)
        assert {name for name in digests if name in response.headers} == kept, fields


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=3-1", "bytes=a-b", "bytes=", "items=0-1", "bytes", "bytes=0-,0-,0-"),
        *("bytes=0 -1", "bytes=0- 1", "bytes=- 1", "bytes =0-1"),
    ],
)
def test_a_range_that_is_none_gets_the_whole(cached: Cached, asked: str) -> None:
    path = stored(cached)
    response = cached.get(path, range=asked)
    assert (response.status_code, response.text) == (200, WHOLE)
    assert cached.origin.count(path) == 1


@pytest.mark.parametrize("second", ["bytes=0-1", "bytes=4-5", "4-5"])
def test_two_range_fields_are_none(cached: Cached, second: str) -> None:
    path = stored(cached)
    response = cached.client.get(path, headers=[("range", "bytes=0-1"), ("range", second)])
    assert (response.status_code, response.text) == (200, WHOLE)
    assert cached.origin.count(path) == 1


def test_two_conditions_of_a_range_are_not_met(cached: Cached) -> None:
    path = stored(cached, ETag='"a"')
    for conditions, status in [(['"a"'], 206), (['"a"', '"b"'], 200), (['"a"', '"a"'], 200)]:
        fields = [("range", "bytes=0-1"), *(("if-range", tag) for tag in conditions)]
        assert cached.client.get(path, headers=fields).status_code == status


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=20-30", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_the_length(cached: Cached, asked: str) -> None:
    path = stored(cached)
    response = cached.get(path, range=asked)
    assert (response.status_code, response.headers["content-range"], response.content) == (416, "bytes */10", b"")


def test_the_end_of_nothing_is_all_of_it(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": "max-age=60"}, "")
    cached.get(path)
    for asked, status in (("bytes=-5", 200), ("bytes=0-", 416), ("bytes=-0", 416)):
        assert cached.get(path, range=asked).status_code == status, asked


def test_several_ranges_come_as_parts_in_the_order_asked(cached: Cached) -> None:
    path = stored(cached, **{"Content-Type": "text/plain", "Content-Range": "nonsense"})
    response = cached.get(path, range="bytes=6-7, 0-1,-1")
    assert response.status_code == 206 and "content-range" not in response.headers
    kind, _, boundary = response.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    parts = response.text.split(f"--{boundary}")
    assert parts[-1].strip() == "--"
    assert [part.rpartition("\r\n\r\n")[2].strip() for part in parts[1:-1]] == ["67", "01", "9"]
    assert [line for line in response.text.splitlines() if line.startswith("content-range")] == [
        "content-range: bytes 6-7/10",
        "content-range: bytes 0-1/10",
        "content-range: bytes 9-9/10",
    ]
    assert len(response.content) == int(response.headers["content-length"])


def test_the_boundary_between_parts_cannot_be_known_beforehand(cached: Cached) -> None:
    path = stored(cached)
    kinds = {cached.get(path, range="bytes=0-1,4-5").headers["content-type"] for _ in range(20)}
    boundaries = [kind.partition("; boundary=")[2] for kind in kinds]
    assert len(boundaries) == 20, "each is another"
    numbers = [int(boundary, 16) for boundary in boundaries]
    assert all(len(boundary) == 32 for boundary in boundaries)
    assert len({abs(a - b) >> 64 for a in numbers for b in numbers}) > 100, "and they are spread out"


def test_if_range_takes_the_very_same_representation_only(cached: Cached) -> None:
    now = time.time()
    modified = date(now - 1000)
    for fields, condition, status in (
        ({"ETag": '"a"'}, '"a"', 206),
        ({"ETag": '"a"'}, '"b"', 200),
        ({"ETag": '"a"'}, 'W/"a"', 200),
        ({"ETag": 'W/"a"'}, 'W/"a"', 200),
        ({"Last-Modified": modified}, modified, 206),
        ({"Last-Modified": modified}, date(now - 999), 200),
        ({"Last-Modified": date(now), "Date": date(now)}, date(now), 200),
        ({}, '"a"', 200),
        ({"ETag": '"a"'}, "nonsense", 200),
    ):
        path = stored(cached, **fields)
        response = cached.get(path, range="bytes=0-1", if_range=condition)
        assert response.status_code == status, (fields, condition)


def test_conditions_come_before_ranges(cached: Cached) -> None:
    path = stored(cached, ETag='"a"')
    assert cached.get(path, range="bytes=0-1", if_none_match='"a"').status_code == 304
    assert cached.get(path, range="bytes=0-1", if_none_match='"b"').status_code == 206


def test_head_ignores_ranges(cached: Cached) -> None:
    path = stored(cached)
    response = cached.client.head(path, headers={"range": "bytes=0-1"})
    assert (response.status_code, response.headers["content-length"]) == (200, "10")


def test_a_range_of_an_error_page_is_the_error_page(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": "max-age=60"}, WHOLE, 404)
    cached.get(path)
    assert cached.get(path, range="bytes=0-1").status_code == 404
