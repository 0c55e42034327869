"""`edgerouter cache` shows what only the disk has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import CacheLimits, DiskCache, Edge, Limits
from edgerouter.testing import Running, running

from ..origins import Origin, Reply, Seen, wait_until
from ..processes import command
from ..purges import completed
from .inspected import asked

PAGES = 200
# The port of the edge changes when it starts again, and would be part of the URLs.
HOST = {"Host": "pages.example"}


@pytest.fixture
def served(origin: Origin, tmp_path: Path) -> Iterator[Running]:
    """An edge whose memory has room for a few of many responses, and none for those of before its restart."""

    def answer(seen: Seen) -> Reply:
        fields = {"Cache-Control": "max-age=600", "Cache-Tag": "pages", "ETag": '"v"'}
        return Reply(200, fields, seen.path + "x" * 1_000)

    origin.default = answer
    origin.on("/vary", Reply(200, {"Cache-Control": "max-age=60", "Vary": "Accept-Language"}, "vary"))
    edge = Edge(
        "test",
        limits=Limits(cache=CacheLimits(memory_bytes=65_536, largest_object_bytes=16_384)),
        disk_cache=DiskCache(str(tmp_path / "cache"), 8 << 20, segment_bytes=65_536),
    )
    edge.route("/*", to=edge.origin("first", origin.url))
    with running(edge) as first, httpx.Client(base_url=first.url, headers=HOST) as client:
        for language in ("de", "fr"):
            client.get("/vary", headers={"Accept-Language": language})
        for number in range(PAGES):
            client.get(f"/{number}")
        wait_until(lambda: "edgerouter_disk_waiting_bytes 0" in first.server.metrics(), what="all are written")
    with running(edge) as second:
        yield second


def urls(entries: list[dict[str, Any]]) -> list[str]:
    return sorted(entry["path"] for entry in entries)


def test_every_response_is_listed_once_in_pages_and_says_where_it_is(served: Running) -> None:
    for path in ("/1", "/2"):
        httpx.get(served.url + path, headers=HOST)
    wait_until(lambda: "edgerouter_disk_waiting_bytes 0" in served.server.metrics(), what="all are written")
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 7}
    while True:
        answer = asked(served, "entries", **query)
        assert len(answer["entries"]) <= 7
        found += answer["entries"]
        if answer["next"] is None:
            break
        query["cursor"] = answer["next"]
    assert urls(found) == sorted([f"/{number}" for number in range(PAGES)] + ["/vary", "/vary"])
    tiers = {entry["path"]: entry["tier"] for entry in found}
    assert (tiers["/1"], tiers["/2"], tiers["/3"]) == ("memory, disk", "memory, disk", "disk")
    one = next(entry for entry in found if entry["path"] == "/33")
    assert (one["length"], one["status"], one["etag"], one["fresh"]) == (1_003, 200, '"v"', True)
    assert one["bytes"] > 1_003 and one["why"].startswith("max-age") and 590 <= one["ttl"] <= 600
    assert sorted(entry["variant"] for entry in found if entry["path"] == "/vary") == [
        ["accept-language: de"],
        ["accept-language: fr"],
    ]


def test_filters_hold_for_what_only_the_disk_has(served: Running) -> None:
    assert urls(asked(served, "entries", prefix="/15")["entries"]) == sorted(["/15", *(f"/15{n}" for n in range(10))])
    assert len(asked(served, "entries", tag="pages", limit=1000)["entries"]) == PAGES
    assert asked(served, "entries", tag="other")["entries"] == []
    assert asked(served, "entries", host="other.example")["entries"] == []


def test_a_request_that_the_disk_would_answer_is_a_hit(served: Running) -> None:
    found = asked(served, "entry", url="http://pages.example/17")
    assert (found["decision"], found["found"]["path"], urls(found["stored"])) == ("hit", "/17", ["/17"])
    varied = asked(served, "entry", url="http://pages.example/vary", header="Accept-Language: fr")
    assert (varied["decision"], varied["found"]["variant"]) == ("hit", ["accept-language: fr"])
    assert urls(varied["stored"]) == ["/vary", "/vary"]


def test_what_was_purged_is_not_listed_and_what_is_stale_says_so(served: Running) -> None:
    for purge in (served.server.purge(paths=["/1*"]), served.server.purge(paths=["/2*"], soft=True)):
        completed(served, purge)
    assert asked(served, "entries", prefix="/1")["entries"] == []
    stale = asked(served, "entries", prefix="/2", limit=1000)["entries"]
    assert len(stale) == 11 and not any(entry["fresh"] for entry in stale)
    assert all(entry["fresh"] for entry in asked(served, "entries", prefix="/3")["entries"])


def test_the_command_shows_the_tier_and_how_full_the_disk_is(served: Running) -> None:
    listed = command("cache", "ls", "--admin", served.admin_url, "--prefix", "/33", COLUMNS="200")
    assert re.search(r"/33 .* disk *$", listed.stdout, re.MULTILINE), listed.stdout
    stats = command("cache", "stats", "--admin", served.admin_url)
    assert re.search(rf"disk +[0-9.]+ KiB of 8\.0 MiB \([0-9.]+ %\), {PAGES + 3} entries", stats.stdout), stats.stdout
    assert asked(served, "stats")["disk"]["entries"] == PAGES + 3
