"""Range requests for large objects cost an origin their ranges, or not much more than a client takes."""

from __future__ import annotations

import random
from collections.abc import Callable

import httpx
import pytest

from edgerouter import CacheLimits, CachePolicy, ConfigError, Edge, Limits, cache
from edgerouter.testing import Running

from ..conftest import Serve
from ..origins import Origin, Reply, Seen
from .conftest import status_of

SLICE = 65_536
FILM = random.Random(2).randbytes(40 * SLICE + 99)


class Film:
    """A large file that answers ranges, and counts what it sends."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.sent = 0

    def __call__(self, seen: Seen) -> Reply:
        wanted = seen.get("range")
        self.asked.append(wanted)
        fields = {"Cache-Control": "max-age=60", "ETag": '"film"'}
        if wanted is None:
            self.sent += len(FILM)
            return Reply(200, fields, FILM)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else len(FILM) - int(last)
        end = min(int(last), len(FILM) - 1) if first and last else len(FILM) - 1
        self.sent += end + 1 - start
        fields["Content-Range"] = f"bytes {start}-{end}/{len(FILM)}"
        return Reply(206, fields, FILM[start : end + 1])


@pytest.fixture
def film(origin: Origin) -> Film:
    film = Film()
    origin.default = film
    return film


Make = Callable[..., tuple[Running, httpx.Client]]


@pytest.fixture
def make(origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]) -> Make:
    def make(policy: CachePolicy, **limits: int) -> tuple[Running, httpx.Client]:
        edge = Edge("test", limits=Limits(cache=CacheLimits(slice_bytes=SLICE, memory_bytes=16 << 20, **limits)))
        edge.route("/*", to=edge.origin("first", origin.url), cache=policy)
        served = serve(edge)
        return served, client_for(served)

    return make


def byte(client: httpx.Client, at: int, path: str = "/film") -> httpx.Response:
    response = client.get(path, headers={"Range": f"bytes={at}-{at}"})
    assert (response.status_code, response.content) == (206, FILM[at : at + 1])
    return response


def test_the_first_range_gets_what_it_asks_for_and_the_second_fills(film: Film, make: Make) -> None:
    _, client = make(CachePolicy())
    first = byte(client, 5)
    assert film.asked == ["bytes=5-5"] and "detail=fill-second" in status_of(first)
    second = byte(client, 5)
    assert film.asked[1:] == [f"bytes=0-{SLICE - 1}"] and "stored" in status_of(second)
    assert "; hit" in status_of(byte(client, 6))
    assert len(film.asked) == 2


@pytest.mark.parametrize("text", ["bytes=5-", "bytes=-7", "bytes=0-1, 9-11"])
def test_whatever_a_first_range_asks_for_is_passed_on_as_it_is(
    film: Film, origin: Origin, make: Make, text: str
) -> None:
    origin.default = lambda seen: film(seen) if "," not in (seen.get("range") or "") else Reply(200, {}, "whole")
    _, client = make(CachePolicy())
    client.get("/film", headers={"Range": text})
    assert origin.requests[0].get("range") == text


def test_a_request_is_remembered_for_ten_minutes(film: Film, make: Make) -> None:
    served, client = make(CachePolicy())
    byte(client, 5)
    served.set_clock(700)
    byte(client, 5)
    assert film.asked == ["bytes=5-5", "bytes=5-5"]
    served.set_clock(1200)
    byte(client, 5)
    assert film.asked[-1] == f"bytes=0-{SLICE - 1}"


def test_other_objects_are_first_for_themselves(film: Film, make: Make) -> None:
    _, client = make(CachePolicy())
    for number in range(50):
        byte(client, 5, f"/film/{number}")
    assert film.sent == 50


def test_first_fills_at_once_and_never_never(film: Film, make: Make) -> None:
    _, client = make(CachePolicy(fill="first"))
    byte(client, 5)
    assert film.asked == [f"bytes=0-{SLICE - 1}"]
    film.asked.clear()
    _, client = make(CachePolicy(fill="never"))
    for _ in range(3):
        assert "detail=fill-never" in status_of(byte(client, 5))
    assert film.asked == ["bytes=5-5"] * 3
    assert client.get("/film").content == FILM
    assert "; hit" in status_of(byte(client, 5)), "a whole download is stored all the same"


def test_an_address_cannot_have_much_more_sent_than_it_takes(film: Film, make: Make) -> None:
    grant = 4 * SLICE
    for policy in (cache.OPTIMIZED, CachePolicy(fill="first")):
        film.sent = 0
        _, client = make(policy, fill_bytes=grant)
        for number in range(100):
            byte(client, 5, f"/film/{number}")
        assert 4 * SLICE <= film.sent <= grant + 100
        assert "detail=fill-bound" in status_of(byte(client, 5, "/film/last"))


def test_the_slices_of_a_known_object_count_too(film: Film, make: Make) -> None:
    _, client = make(CachePolicy(fill="first"), fill_bytes=4 * SLICE)
    for number in range(30):
        byte(client, number * SLICE)
    assert film.sent <= 4 * SLICE + 30


def test_whoever_takes_what_it_asks_for_goes_on(film: Film, make: Make) -> None:
    _, client = make(CachePolicy(fill="first"), fill_bytes=2 * SLICE)
    for number in range(40):
        first, last = number * SLICE, (number + 1) * SLICE - 1
        response = client.get("/film", headers={"Range": f"bytes={first}-{last}"})
        assert response.content == FILM[first : last + 1]
    assert film.sent <= 40 * SLICE
    assert all("fill-bound" not in status_of(byte(client, number * SLICE)) for number in range(40))


def test_a_minute_later_there_is_room_again(film: Film, make: Make) -> None:
    served, client = make(CachePolicy(fill="first"), fill_bytes=SLICE)
    byte(client, 5, "/film/1")
    assert "fill-bound" in status_of(byte(client, 5, "/film/2"))
    served.set_clock(61)
    assert "stored" in status_of(byte(client, 5, "/film/2"))


def test_a_fill_that_is_unknown_or_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"CachePolicy\.fill"):
        CachePolicy(fill="third")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="slices=False"):
        CachePolicy(fill="first", slices=False)
    with pytest.raises(ConfigError, match="fill_bytes"):
        CacheLimits(fill_bytes=-1)
