"""Large objects through the socket: stored in slices, and filled by ranges."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerouter.testing import Running, running

from ...origins import Origin, Reply, Seen, wait_until
from .films import FILM, LENGTH, SLICE, Film, Serve, edge_for, part, said


def test_a_download_is_stored_in_slices_and_served_from_them(film: Film, client: httpx.Client) -> None:
    first, second = client.get("/film"), client.get("/film")
    assert (first.content, second.content) == (FILM, FILM)
    assert "fwd=uri-miss" in first.headers["cache-status"] and "stored" in first.headers["cache-status"]
    assert second.headers["cache-status"].startswith("edgerouter; hit")
    assert second.headers["content-length"] == str(LENGTH)
    assert film.asked == [None]


def test_a_range_of_an_unknown_object_fetches_its_slice_and_no_more(film: Film, client: httpx.Client) -> None:
    response = part(client, f"{3 * SLICE + 5}-{3 * SLICE + 9}")
    assert (response.status_code, response.content) == (206, FILM[3 * SLICE + 5 : 3 * SLICE + 10])
    assert response.headers["content-range"] == f"bytes {3 * SLICE + 5}-{3 * SLICE + 9}/{LENGTH}"
    assert "stored" in response.headers["cache-status"]
    assert film.asked == [f"bytes={3 * SLICE}-{4 * SLICE - 1}"]
    again = part(client, f"{3 * SLICE}-{4 * SLICE - 1}")
    assert again.content == FILM[3 * SLICE : 4 * SLICE]
    assert again.headers["cache-status"].startswith("edgerouter; hit")
    assert len(film.asked) == 1


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param({"If-None-Match": '"film-1"'}, 304, id="none match"),
        pytest.param({"If-Range": '"film-0"'}, 200, id="if range"),
        pytest.param({}, 416, id="no condition"),
    ],
)
def test_conditions_come_before_a_range_that_an_unknown_object_lacks(
    film: Film, client: httpx.Client, fields: dict[str, str], status: int
) -> None:
    film.content = b"short"
    beyond = f"{2 * SLICE}-{2 * SLICE + 9}"
    response = part(client, beyond, **fields)
    assert (response.status_code, response.content) == (status, b"short" if status == 200 else b"")
    assert film.asked == [f"bytes={2 * SLICE}-{3 * SLICE - 1}"] + [f"bytes={beyond}"] * bool(fields)


def test_the_digest_of_a_slice_is_not_said_of_other_content(film: Film, client: httpx.Client) -> None:
    film.fields |= {"Content-Digest": "sha-256=:slice:", "Content-MD5": "slice", "Repr-Digest": "sha-256=:film:"}
    for response in (part(client, "0-9"), part(client, "20-29"), client.get("/film"), client.head("/film")):
        assert response.headers["repr-digest"] == "sha-256=:film:"
        assert "content-digest" not in response.headers and "content-md5" not in response.headers


def test_ranges_fill_what_is_missing_and_combine_to_the_whole(film: Film, client: httpx.Client) -> None:
    part(client, "0-9")
    part(client, f"{5 * SLICE}-{5 * SLICE + 1}")
    whole = client.get("/film")
    assert (whole.status_code, whole.content) == (200, FILM)
    assert film.asked[:2] == [f"bytes=0-{SLICE - 1}", f"bytes={5 * SLICE}-{6 * SLICE - 1}"]
    assert None not in film.asked, "what was there already is not asked for as a whole"
    count = len(film.asked)
    assert client.get("/film").content == FILM
    assert len(film.asked) == count


@pytest.mark.parametrize(
    ("text", "content"),
    [("-10", FILM[-10:]), (f"{LENGTH - 3}-", FILM[-3:]), (f"0-{LENGTH * 2}", FILM), ("0-0", FILM[:1])],
    ids=["suffix", "open", "beyond", "one byte"],
)
def test_open_and_suffix_ranges_work_on_unknown_objects(
    film: Film, client: httpx.Client, text: str, content: bytes
) -> None:
    response = part(client, text)
    assert (response.status_code, response.content) == (206, content)


def test_several_ranges_come_as_parts(film: Film, client: httpx.Client) -> None:
    response = part(client, f"0-4, {4 * SLICE - 2}-{4 * SLICE + 2}")
    assert response.status_code == 206
    assert response.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert int(response.headers["content-length"]) == len(response.content)
    for expected in (FILM[:5], FILM[4 * SLICE - 2 : 4 * SLICE + 3]):
        assert b"\r\n\r\n" + expected + b"\r\n--" in response.content


def test_a_range_beyond_the_end_is_416_with_the_length(film: Film, client: httpx.Client) -> None:
    for _ in range(2):
        response = part(client, f"{LENGTH}-")
        assert (response.status_code, response.headers["content-range"]) == (416, f"bytes */{LENGTH}")
        client.get("/film")


def test_if_range_with_another_validator_gets_the_whole(film: Film, client: httpx.Client) -> None:
    client.get("/film")
    assert part(client, "0-9", **{"If-Range": '"film-1"'}).content == FILM[:10]
    other = part(client, "0-9", **{"If-Range": '"film-0"'})
    assert (other.status_code, other.content) == (200, FILM)


def test_conditions_are_answered_from_the_head_alone(film: Film, client: httpx.Client) -> None:
    part(client, "0-9")
    assert client.get("/film", headers={"If-None-Match": '"film-1"'}).status_code == 304
    head = client.head("/film")
    assert (head.status_code, head.headers["content-length"]) == (200, str(LENGTH))
    assert len(film.asked) == 1


def test_a_small_object_that_a_range_asks_for_is_stored_whole(film: Film, client: httpx.Client) -> None:
    film.content = b"0123456789"
    assert part(client, "2-4").content == b"234"
    assert client.get("/film").content == b"0123456789"
    assert film.asked == [f"bytes=0-{SLICE - 1}"]


def test_an_origin_without_ranges_fills_the_store_all_the_same(film: Film, client: httpx.Client) -> None:
    film.ranges = False
    response = part(client, f"{2 * SLICE}-{2 * SLICE + 9}")
    assert (response.status_code, response.content) == (206, FILM[2 * SLICE : 2 * SLICE + 10])
    assert client.get("/film").content == FILM


@pytest.mark.parametrize("fields", [{"Cache-Control": "no-store"}, {"Cache-Control": "private, max-age=60"}])
def test_a_part_of_what_may_not_be_stored_is_passed_on(
    film: Film, client: httpx.Client, fields: dict[str, str]
) -> None:
    film.fields = fields
    for _ in range(2):
        response = part(client, "5-9")
        assert (response.status_code, response.content) == (206, FILM[5:10])
        assert "hit" not in response.headers["cache-status"]
        assert response.headers["content-length"] == "5"
    # The slice that came first held the range: nothing is requested twice.
    assert film.asked == [f"bytes=0-{SLICE - 1}", "bytes=5-9"]


def test_more_than_came_of_what_is_not_stored_is_asked_for_by_itself(film: Film, client: httpx.Client) -> None:
    film.fields = {"Cache-Control": "no-store"}
    assert part(client, f"5-{SLICE}").content == FILM[5 : SLICE + 1]
    assert film.asked == [f"bytes=0-{SLICE - 1}", f"bytes=5-{SLICE}"]


def test_the_end_of_an_unknown_object_is_asked_for_as_such(film: Film, client: httpx.Client) -> None:
    response = part(client, "-5")
    assert (response.status_code, response.content) == (206, FILM[-5:])
    assert response.headers["content-range"] == f"bytes {LENGTH - 5}-{LENGTH - 1}/{LENGTH}"
    assert film.asked == [f"bytes=-{SLICE}"]
    # Slices that came whole are stored: the last slice, which has 123 bytes.
    assert part(client, f"{10 * SLICE}-").content == FILM[10 * SLICE :]
    assert len(film.asked) == 1
    assert client.get("/film").content == FILM


def test_the_end_of_a_small_object_brings_all_of_it(film: Film, client: httpx.Client) -> None:
    film.content = b"0123456789"
    assert part(client, "-3").content == b"789"
    assert client.get("/film").content == b"0123456789"
    assert film.asked == [f"bytes=-{SLICE}"]


@pytest.mark.parametrize("framing", ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_part_that_is_shorter_than_it_says_is_not_stored(origin: Origin, client: httpx.Client, framing: str) -> None:
    head = (
        f'HTTP/1.1 206 Part\r\nContent-Range: bytes 0-9/10\r\nETag: "a"\r\nCache-Control: max-age=60\r\n{framing}\r\n'
    )
    body = "01234" if "Length" in framing else "5\r\n01234\r\n0\r\n\r\n"
    origin.on("/odd", Reply(raw=(head + body).encode()))
    with contextlib.suppress(httpx.RemoteProtocolError):
        client.get("/odd", headers={"Range": "bytes=0-3"})
    origin.on("/odd", Reply(200, {"ETag": '"a"', "Cache-Control": "max-age=60"}, "0123456789"))
    assert client.get("/odd").content == b"0123456789"


def test_a_part_from_an_origin_that_denies_having_any_is_not_taken_for_the_whole(
    film: Film, client: httpx.Client
) -> None:
    film.fields = {"Cache-Control": "max-age=60", "Accept-Ranges": "none"}
    assert part(client, f"{SLICE}-{SLICE + 9}").content == FILM[SLICE : SLICE + 10]
    assert client.get("/film").content == FILM


def test_parts_without_a_strong_validator_are_never_combined(film: Film, client: httpx.Client) -> None:
    film.etag = 'W/"film-1"'
    for _ in range(2):
        assert part(client, "5-9").content == FILM[5:10]
    assert "hit" not in part(client, "5-9").headers["cache-status"]
    assert client.get("/film").content == FILM


def test_a_range_that_is_fetched_is_no_hit(film: Film, edge: Running, client: httpx.Client) -> None:
    part(client, "0-9")
    fetched = part(client, f"{5 * SLICE}-{5 * SLICE + 9}")
    assert fetched.content == FILM[5 * SLICE : 5 * SLICE + 10]
    assert said(fetched) == ["edgerouter", "fwd=partial", "fwd-status=206", "stored", "detail=slice-absent"]
    # The first slices are here, and those behind are not.
    partly = part(client, f"5-{2 * SLICE}")
    assert partly.content == FILM[5 : 2 * SLICE + 1]
    assert said(partly) == ["edgerouter", "fwd=partial", "detail=slice-absent"]
    assert said(part(client, f"5-{2 * SLICE}")) == ["edgerouter", "hit"]
    text = httpx.get(f"{edge.admin_url}/metrics").text
    assert 'edgerouter_cache_forwarded_total{reason="slice-absent"} 2' in text
    outcomes = re.findall(r'^edgerouter_requests_total\{.*cache="(\w+)".*\} (\d+)$', text, re.MULTILINE)
    assert sorted(outcomes) == [("hit", "1"), ("miss", "3")]


def test_a_request_for_nothing_but_the_head_is_a_hit_whatever_is_missing(film: Film, client: httpx.Client) -> None:
    part(client, "0-9")
    assert said(client.head("/film")) == ["edgerouter", "hit"]
    assert said(client.get("/film", headers={"If-None-Match": '"film-1"'})) == ["edgerouter", "hit"]
    assert len(film.asked) == 1


def test_only_if_cached_is_not_answered_with_what_is_missing(film: Film, client: httpx.Client) -> None:
    part(client, f"{2 * SLICE}-{2 * SLICE + 9}")
    for text in ("0-9", f"{2 * SLICE}-{3 * SLICE}"):
        assert part(client, text, **{"Cache-Control": "only-if-cached"}).status_code == 504
    assert part(client, f"{2 * SLICE}-{2 * SLICE + 9}", **{"Cache-Control": "only-if-cached"}).status_code == 206
    assert len(film.asked) == 1


def test_an_object_that_has_changed_is_fetched_anew_when_its_first_bytes_are_missing(
    film: Film, client: httpx.Client
) -> None:
    part(client, "0-9")
    film.content, film.etag = FILM[::-1], '"film-2"'
    response = part(client, f"{5 * SLICE}-{5 * SLICE + 9}")
    assert (response.status_code, response.headers["etag"]) == (206, '"film-2"')
    assert response.content == FILM[::-1][5 * SLICE : 5 * SLICE + 10]
    assert "detail=changed" in said(response) and "stored" in said(response)
    whole = client.get("/film")
    assert (whole.content, whole.headers["etag"]) == (FILM[::-1], '"film-2"')


def test_everybody_who_waits_for_a_slice_of_a_changed_object_gets_the_new_one(film: Film, client: httpx.Client) -> None:
    part(client, "0-9")
    film.content, film.etag = FILM[::-1], '"film-2"'
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(part(client, f"{5 * SLICE}-{5 * SLICE + 9}"))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) == 20, what="every answer")
    assert {(r.status_code, r.content) for r in answers} == {(206, FILM[::-1][5 * SLICE : 5 * SLICE + 10])}


def test_what_the_origin_says_instead_of_a_slice_goes_to_the_client(
    origin: Origin, film: Film, client: httpx.Client
) -> None:
    part(client, "0-9")
    origin.on("/film", Reply(403, {}, "no more"))
    response = part(client, f"{5 * SLICE}-{5 * SLICE + 9}")
    assert (response.status_code, response.text) == (403, "no more")
    assert "detail=slice-refused" in said(response)
    assert part(client, "0-9").content == FILM[:10], "what is stored still is"


@pytest.mark.parametrize("forbids", ["private", "no-store"])
def test_a_part_that_may_not_be_stored_ends_the_stored_object(film: Film, client: httpx.Client, forbids: str) -> None:
    part(client, "0-9")
    film.fields["Cache-Control"] = f"{forbids}, max-age=60"
    position = 5 * SLICE
    for _ in range(2):
        response = part(client, f"{position}-{position + 9}")
        assert (response.status_code, response.content) == (206, FILM[position : position + 10])
        assert response.headers["cache-control"] == film.fields["Cache-Control"]
        assert "hit" not in said(response) and "stored" not in said(response)
    count = len(film.asked)
    assert "hit" not in said(part(client, "0-9"))
    assert len(film.asked) == count + 1


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("asked", "control", "detail", "shared"),
    [
        ({"Authorization": "Basic eA=="}, "max-age=60", "authorization", False),
        ({"Authorization": "Basic eA=="}, "public, max-age=60", None, True),
        ({"Cache-Control": "no-store"}, "max-age=60", "request-no-store", False),
    ],
    ids=["credentials", "credentials for a public object", "no-store"],
)
def test_what_a_request_may_not_share_fills_no_slices(
    film: Film, client: httpx.Client, asked: dict[str, str], control: str, detail: str | None, shared: bool, whole: bool
) -> None:
    film.fields["Cache-Control"] = control
    part(client, "0-9")
    position = 5 * SLICE
    text = f"{position}-{position + 9}"
    response = client.get("/film", headers=asked) if whole else part(client, text, **asked)
    assert response.content == (FILM if whole else FILM[position : position + 10])
    assert detail is None or f"detail={detail}" in said(response)
    assert ("hit" in said(part(client, text))) == shared
    assert "hit" in said(part(client, "0-9")), "what is stored stays"


def test_slices_of_two_versions_are_never_mixed(film: Film, client: httpx.Client) -> None:
    part(client, "0-9")
    film.content, film.etag = FILM[::-1], '"film-2"'
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/film")
    response = client.get("/film")
    assert (response.content, response.headers["etag"]) == (FILM[::-1], '"film-2"')


def test_a_validated_object_keeps_its_slices(film: Film, client: httpx.Client) -> None:
    film.fields = {"Cache-Control": "max-age=0"}
    client.get("/film")
    for _ in range(2):
        response = part(client, "7-8")
        assert (response.status_code, response.content) == (206, FILM[7:9])
        assert "fwd-status=304" in response.headers["cache-status"]
    assert film.asked == [None, None, None]


def test_a_validated_object_that_lacks_slices_is_filled_before_its_head(
    origin: Origin, film: Film, client: httpx.Client
) -> None:
    film.fields = {"Cache-Control": "max-age=0"}
    part(client, "0-9")
    filled = part(client, f"{SLICE}-{SLICE + 9}")
    assert filled.content == FILM[SLICE : SLICE + 10]
    assert said(filled) == ["edgerouter", "fwd=partial", "fwd-status=206", "stored", "detail=slice-absent"]

    def unchanged_but_gone(seen: Seen) -> Reply:
        return film(seen) if seen.get("if-none-match") else Reply(raw=b"")

    origin.on("/film", unchanged_but_gone)
    assert part(client, f"{3 * SLICE}-{3 * SLICE + 9}").status_code == 502


def test_an_object_that_lacks_slices_does_not_stand_in_for_its_origin(
    origin: Origin, film: Film, client: httpx.Client
) -> None:
    film.fields = {"Cache-Control": "max-age=0, stale-if-error=1000"}
    part(client, "0-9")
    origin.kill()
    assert part(client, "0-9").content == FILM[:10]
    for text in (f"{SLICE}-{SLICE + 9}", f"5-{SLICE}"):
        assert part(client, text).status_code == 502


def test_slices_off_means_ranges_are_passed_through(
    origin: Origin, film: Film, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    client = client_for(serve(edge_for(origin, slices=False)))
    for _ in range(2):
        assert part(client, "5-9").content == FILM[5:10]
    assert film.asked == ["bytes=5-9", "bytes=5-9"]


@given(st.lists(st.tuples(st.integers(0, LENGTH + 10), st.integers(0, 3 * SLICE)), max_size=12))
@settings(max_examples=25)
def test_any_sequence_of_ranges_gives_the_bytes_of_the_object(ranges: list[tuple[int, int]]) -> None:
    origin = Origin()
    try:
        origin.on("/film", Film())
        with running(edge_for(origin, memory=200_000)) as edge, httpx.Client(base_url=edge.url, timeout=10.0) as client:
            for first, more in ranges:
                response = part(client, f"{first}-{first + more}")
                expected = FILM[first : first + more + 1]
                assert response.status_code == (206 if expected else 416)
                assert not expected or response.content == expected
            assert client.get("/film").content == FILM
    finally:
        origin.kill()
