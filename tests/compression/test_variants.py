"""Coded variants of stored responses: made once, sent to all clients of the coding, gone with their response."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerouter import CacheLimits, CompressionLimits, DiskCache, Edge, Jwt, Limits, cache
from edgerouter.testing import Running, running

from ..codings import decoded
from ..origins import Origin, Reply, Seen, wait_until
from ..purges import completed

Serve = Callable[[Edge], Running]

CODINGS = ("br", "zstd", "gzip")
PAGE = "".join(f"<p>Line {number} of the page.</p>\n" for number in range(400)).encode()
HTML = {"content-type": "text/html", "etag": '"v1"', "cache-control": "max-age=600", "cache-tag": "pages"}
# The port of the edge changes when it starts again, and would be part of the URLs.
HOST = {"host": "site.example"}


class Site:
    """An edge with one route that compresses, and a client whose responses stay in their coding."""

    def __init__(self, served: Running, client: httpx.Client) -> None:
        self.served = served
        self.client = client

    def get(
        self, accepts: str = "gzip", path: str = "/page", method: str = "GET", **headers: str
    ) -> tuple[httpx.Response, bytes]:
        fields = HOST | {"accept-encoding": accepts} | {name.replace("_", "-"): text for name, text in headers.items()}
        with self.client.stream(method, path, headers=fields) as answer:
            return answer, b"".join(answer.iter_raw())

    def count(self, name: str) -> int:
        found = re.findall(rf"^edgerouter_{name}(?:{{[^}}]*}})? (\d+)$", self.served.server.metrics(), re.MULTILINE)
        assert found, name
        return sum(map(int, found))

    @property
    def made(self) -> int:
        return self.count("compressed_variants_total")

    def fill(self, accepts: str = "gzip", path: str = "/page") -> None:
        """Has the variant made by a hit, and waits for it."""
        before = self.made
        self.get(accepts, path)
        self.get(accepts, path)
        wait_until(lambda: self.made == before + 1, what=f"the variant in {accepts}")


@contextmanager
def site(origin: Origin, *, limits: Limits | None = None, disk: Path | None = None, **route: Any) -> Iterator[Site]:
    stored = None if disk is None else DiskCache(str(disk), 64 << 20)
    edge = Edge("test", limits=limits or Limits(), disk_cache=stored)
    edge.route("/*", to=edge.origin("first", origin.url), **({"compress": True} | route))
    with running(edge) as served, httpx.Client(base_url=served.url, timeout=20) as client:
        yield Site(served, client)


@pytest.fixture
def page(origin: Origin) -> Origin:
    # Without a Date its age counts from its arrival, whatever the clock of a test is.
    origin.on("/page", Reply(200, HTML, PAGE, date=False))
    return origin


@pytest.mark.parametrize("coding", CODINGS)
def test_a_stored_response_is_compressed_once_for_all_clients_of_a_coding(page: Origin, coding: str) -> None:
    with site(page) as edge:
        edge.fill(coding)
        streamed = edge.count("compressed_responses_total")
        for _ in range(5):
            answer, content = edge.get(coding)
            assert decoded(coding, content) == PAGE
            said = answer.headers
            assert (said["content-encoding"], said["content-length"]) == (coding, str(len(content)))
            assert (said["etag"], said["vary"]) == ('W/"v1"', "accept-encoding")
            assert said["cache-status"].startswith("edgerouter; hit")
            assert "accept-ranges" not in said
            plain, content = edge.get("identity")
            assert (content, plain.headers["etag"]) == (PAGE, '"v1"')
        assert edge.count("compressed_responses_total") == streamed
        assert (edge.made, page.count()) == (1, 1)
        assert edge.count("compression_variants_under_way") == 0


def test_an_object_that_is_requested_once_has_no_variant(page: Origin) -> None:
    with site(page) as edge:
        answer, content = edge.get("gzip")
        assert (answer.headers["content-encoding"], decoded("gzip", content)) == ("gzip", PAGE)
        edge.get("identity")
        assert (edge.made, edge.count("compression_variants_under_way")) == (0, 0)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_variant_is_smaller_than_a_response_that_is_compressed_for_one_client(origin: Origin, coding: str) -> None:
    text = b"".join(page.read_bytes() for page in sorted((Path(__file__).parents[2] / "docs").glob("*.md")))
    origin.on("/text", Reply(200, HTML, text))
    with site(origin) as edge:
        streamed = edge.get(coding, "/text")[1]
        edge.fill(coding, "/text")
        stored = edge.get(coding, "/text")[1]
        assert decoded(coding, stored) == decoded(coding, streamed) == text
        assert len(stored) < len(streamed)


METHODS = ("GET", "HEAD")
CONDITIONS: tuple[dict[str, str], ...] = (
    {},
    {"if-none-match": '"v1"'},
    {"if-none-match": 'W/"v1"'},
    {"if-none-match": '"v2"'},
    {"if-match": '"v1"'},
    {"if-match": '"v2"'},
)
RANGES: tuple[dict[str, str], ...] = (
    {},
    {"range": "bytes=0-99"},
    {"range": "bytes=5-9,-20"},
    {"range": "bytes=0-99", "if-range": '"v1"'},
    {"range": "bytes=0-99", "if-range": 'W/"v1"'},
    {"range": "bytes=999999-"},
)


COMBINATIONS = tuple(itertools.product(METHODS, CONDITIONS, RANGES))


def judge(
    edge: Site, coding: str, body: bytes, path: str, method: str, condition: dict[str, str], range_: dict[str, str]
) -> None:
    """One combination of method, condition and range, on a response with the tag ``"v1"``."""
    place = (coding, method, condition, range_)
    answer, content = edge.get(coding, path, method, **(condition | range_))
    said, status = answer.headers, answer.status_code
    if condition.get("if-none-match", "").endswith('"v1"'):
        assert (status, said["etag"], content) == (304, 'W/"v1"', b""), place
    elif condition.get("if-match") == '"v2"':
        assert status == 412, place
    elif method == "GET" and "range" in range_ and range_.get("if-range") != 'W/"v1"':
        if range_["range"] == "bytes=999999-":
            assert status == 416, place
        else:
            # Bytes of the response as it is, never of a coding.
            assert (status, said["etag"], said.get("content-encoding")) == (206, '"v1"', None), place
            assert (body[:100] == content) if "," not in range_["range"] else (body[5:10] in content), place
    else:
        assert (status, said["content-encoding"], said["etag"]) == (200, coding, 'W/"v1"'), place
        assert (decoded(coding, content) == body) if method == "GET" else content == b"", place


@pytest.mark.parametrize("coding", CODINGS)
def test_conditions_ranges_and_methods_are_judged_as_without_a_variant(page: Origin, coding: str) -> None:
    with site(page) as edge:
        edge.get("identity")
        for combination in COMBINATIONS:
            judge(edge, coding, PAGE, "/page", *combination)
        wait_until(lambda: edge.made == 1, what="the variant")
        for combination in COMBINATIONS:
            judge(edge, coding, PAGE, "/page", *combination)
        assert (edge.made, page.count()) == (1, 1)


@pytest.fixture(scope="module")
def bodies() -> Iterator[tuple[Origin, Site]]:
    origin = Origin("bodies")
    with site(origin) as edge:
        yield origin, edge
    origin.kill()


NUMBERS = itertools.count()


@settings(max_examples=1_000)
@given(seed=st.binary(min_size=1, max_size=200), length=st.integers(1_000, 5_000))
def test_a_random_body_comes_back_from_each_coding_whatever_is_requested_of_it(
    bodies: tuple[Origin, Site], seed: bytes, length: int
) -> None:
    origin, edge = bodies
    number = next(NUMBERS)
    path, body = f"/{number}", (seed * (length // len(seed) + 1))[:length]
    # In turns, so that a thousand bodies have each combination with each coding several times.
    coding, combination = CODINGS[number % len(CODINGS)], COMBINATIONS[number // len(CODINGS) % len(COMBINATIONS)]
    origin.on(path, Reply(200, HTML, body))
    # The first is compressed on its way from the origin, the second and perhaps the third for one client, the rest come
    # from the variant.
    seen = []
    for _ in range(4):
        answer, content = edge.get(coding, path)
        assert answer.headers["content-encoding"] == coding
        assert decoded(coding, content) == body
        seen.append("content-length" in answer.headers)
    assert not seen[0]
    judge(edge, coding, body, path, *combination)
    origin.answers.pop(path)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"cache-control": "max-age=600, no-transform"}, id="no-transform"),
        pytest.param({"content-encoding": "br"}, id="coded"),
        pytest.param({"content-type": "image/png"}, id="image"),
        pytest.param({"set-cookie": "session=1"}, id="cookie"),
    ],
)
def test_a_response_that_must_not_be_compressed_has_no_variant(origin: Origin, fields: dict[str, str]) -> None:
    origin.on("/page", Reply(200, HTML | fields, PAGE))
    stores = cache.CachePolicy(set_cookie="store")
    with site(origin, cache=stores) as edge:
        for _ in range(4):
            answer, content = edge.get("gzip, br, zstd")
            assert content == PAGE
            assert answer.headers.get("content-encoding") == fields.get("content-encoding")
        assert origin.count() == 1
        assert (edge.made, edge.count("compression_variants_under_way")) == (0, 0)


def test_a_request_with_no_transform_gets_the_stored_page_as_it_is(page: Origin) -> None:
    with site(page) as edge:
        edge.fill()
        answer, content = edge.get("gzip", cache_control="no-transform")
        assert (content, answer.headers.get("content-encoding")) == (PAGE, None)


@pytest.mark.parametrize(
    "purge", [{"urls": ["http://site.example/page"]}, {"tags": ["pages"]}, {"paths": ["/p*"]}, {"everything": True}]
)
def test_a_purge_ends_all_variants_of_a_response(page: Origin, purge: dict[str, Any]) -> None:
    with site(page) as edge:
        for coding in CODINGS:
            edge.fill(coding)
        entries = edge.count("cache_entries")
        page.on("/page", Reply(200, HTML | {"etag": '"v2"'}, PAGE[::-1], date=False))
        asked = edge.served.server.purge(**purge)
        for coding in (*CODINGS, "identity"):
            answer, content = edge.get(coding)
            assert decoded(answer.headers.get("content-encoding"), content) == PAGE[::-1]
        # The response and its three variants are removed, not only out of reach.
        completed(edge.served, asked)
        wait_until(lambda: edge.made == 6 or edge.count("compression_variants_under_way") == 0, what="rest")
        assert edge.count("cache_entries") <= entries + 1
        assert page.count() == 2


def test_a_new_version_from_the_origin_has_variants_of_its_own(page: Origin) -> None:
    with site(page) as edge:
        edge.fill()
        page.on("/page", Reply(200, HTML | {"etag": '"v2"'}, PAGE[::-1], date=False))
        edge.served.set_clock(700)
        for _ in range(3):
            assert decoded("gzip", edge.get("gzip")[1]) == PAGE[::-1]
        wait_until(lambda: edge.made == 2, what="the variant of the new version")
        answer, content = edge.get("gzip")
        assert (answer.headers["etag"], decoded("gzip", content)) == ('W/"v2"', PAGE[::-1])


def test_a_304_from_the_origin_keeps_the_variants_and_renews_their_fields(page: Origin) -> None:
    with site(page) as edge:
        edge.fill()
        streamed = edge.count("compressed_responses_total")
        fields = {"etag": '"v1"', "cache-control": "max-age=600", "x-seen": "again"}
        page.on("/page", Reply(304, fields, date=False))
        edge.served.set_clock(700)
        # The first of them is the one that the origin confirmed.
        for _ in range(3):
            answer, content = edge.get("gzip")
            assert decoded("gzip", content) == PAGE
            assert (answer.headers["content-length"], answer.headers["x-seen"]) == (str(len(content)), "again")
        assert (edge.made, edge.count("compressed_responses_total")) == (1, streamed)
        assert page.count() == 2


def test_a_variant_outlives_a_restart(page: Origin, tmp_path: Path) -> None:
    with site(page, disk=tmp_path / "cache") as edge:
        for coding in CODINGS:
            edge.fill(coding)
        wait_until(lambda: edge.count("disk_waiting_bytes") == 0, what="everything is written")
    with site(page, disk=tmp_path / "cache") as edge:
        for coding in CODINGS:
            answer, content = edge.get(coding)
            assert decoded(coding, content) == PAGE
            assert answer.headers["content-length"] == str(len(content))
        assert (edge.made, edge.count("compressed_responses_total"), page.count()) == (0, 0, 1)


def test_a_variant_that_memory_has_no_room_for_comes_from_disk(page: Origin, tmp_path: Path) -> None:
    small = Limits(cache=CacheLimits(memory_bytes=128 << 10, largest_object_bytes=64 << 10))
    page.default = lambda _: Reply(200, {"cache-control": "max-age=600"}, bytes(20_000))
    with site(page, disk=tmp_path / "cache", limits=small) as edge:
        edge.fill("zstd")
        for number in range(30):
            edge.get("identity", f"/other/{number}")
        wait_until(lambda: edge.count("disk_waiting_bytes") == 0, what="everything is written")
        answer, content = edge.get("zstd")
        assert (decoded("zstd", content), answer.headers["content-length"]) == (PAGE, str(len(content)))
        assert (edge.made, page.count("/page")) == (1, 1)


def test_hooks_are_shown_the_page_and_not_its_coding(page: Origin, serve: Serve) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", page.url), compress=True)
    seen: list[tuple[str | None, str]] = []

    @edge.on("viewer_response", "/*")
    def look(request: Any, response: Any, ctx: Any) -> None:
        seen.append((response.headers.get("content-encoding"), response.headers["content-length"]))

    with httpx.Client(base_url=serve(edge).url) as client:
        for _ in range(4):
            with client.stream("GET", "/page", headers={"accept-encoding": "gzip"}) as answer:
                assert decoded("gzip", b"".join(answer.iter_raw())) == PAGE
    assert seen == [(None, str(len(PAGE)))] * 4


def test_without_variants_each_client_has_its_own_compression(page: Origin) -> None:
    with site(page, limits=Limits(compression=CompressionLimits(variants=0))) as edge:
        for number in range(1, 5):
            answer, content = edge.get("gzip")
            assert (decoded("gzip", content), "content-length" in answer.headers) == (PAGE, False)
            assert edge.count("compressed_responses_total") == number
        assert (edge.made, edge.count("compression_variants_refused_total")) == (0, 0)


def test_a_client_without_the_coding_of_an_origin_gets_the_response_fetched_anew(origin: Origin) -> None:
    def coded(seen: Seen) -> Reply:
        if "gzip" in (seen.get("accept-encoding") or ""):
            return Reply(200, HTML | {"content-encoding": "gzip"}, b"in gzip")
        return Reply(200, HTML, b"as it is")

    origin.on("/page", coded)
    with site(origin, compress=False) as edge:
        # The origin does not say Vary: Accept-Encoding.
        for accepts, want in [("gzip", b"in gzip"), ("gzip", b"in gzip"), ("identity", b"as it is")]:
            assert edge.get(accepts)[1] == want
        for _ in range(2):
            answer, content = edge.get("identity")
            assert (content, answer.headers.get("content-encoding")) == (b"as it is", None)
        assert origin.count() == 2


@pytest.mark.parametrize("accepts", ["gzip", "br, gzip", "zstd;q=0.1, br;q=0"])
def test_optimized_compresses_unless_the_route_says_otherwise(page: Origin, accepts: str) -> None:
    wanted = {"gzip": "gzip", "br, gzip": "br"}.get(accepts, "zstd")
    with site(page, cache=cache.OPTIMIZED, compress=None) as edge:
        edge.fill(accepts)
        answer, content = edge.get(accepts)
        assert answer.headers["content-encoding"] == wanted
        assert decoded(wanted, content) == PAGE
        assert "content-length" in answer.headers
    with site(page, cache=cache.OPTIMIZED, compress=False) as edge:
        answer, content = edge.get(accepts)
        assert (content, answer.headers.get("content-encoding")) == (PAGE, None)


def test_optimized_does_not_compress_what_only_some_clients_may_have(page: Origin) -> None:
    auth = Jwt.hs256("0123456789abcdef0123456789abcdef", optional=True)
    with site(page, cache=cache.OPTIMIZED, compress=None, auth=auth) as edge:
        answer, content = edge.get("gzip")
        assert (content, answer.headers.get("content-encoding")) == (PAGE, None)
