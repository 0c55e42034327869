"""The disk tier through the wheel and the socket: restarts, kills, full disks, damaged files, sizes."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import DiskCache
from edgerouter.errors import ConfigError
from edgerouter.testing import running

from ..origins import Origin, Reply, Seen, wait_until
from ..purges import completed
from .conftest import MIB, ONLY_STORED, Edges, body_of, edge_for, metric, settled


def test_responses_and_their_variants_outlive_a_restart(stored: Origin, serving: Callable[..., Any]) -> None:
    def varied(seen: Seen) -> Reply:
        fields = {"Cache-Control": "max-age=3600", "Vary": "Accept-Language", "ETag": '"v"'}
        return Reply(200, fields, f"in {seen.get('accept-language')}")

    stored.on("/varied", varied)
    with serving() as (client, _):
        first = client.get("/a")
        for language in ("de", "fr"):
            client.get("/varied", headers={"Accept-Language": language})
    count = stored.count()
    with serving() as (client, edge):
        again = client.get("/a")
        assert again.content == first.content
        assert again.headers["cache-status"].startswith("edgerouter; hit; ttl=")
        assert int(again.headers["age"]) >= 0
        for language in ("de", "fr"):
            assert client.get("/varied", headers={"Accept-Language": language}).text == f"in {language}"
        unchanged = client.get("/varied", headers={"Accept-Language": "de", "If-None-Match": '"v"'})
        assert unchanged.status_code == 304
        part = client.get("/a", headers={"Range": "bytes=2-5"})
        assert (part.status_code, part.content) == (206, first.content[2:6])
        assert metric(edge.server.metrics(), "hits_total") == 4
        assert stored.count() == count
        assert client.get("/varied", headers={"Accept-Language": "it"}).text == "in it"


def test_what_an_unsafe_request_invalidated_stays_gone_after_a_restart(serving: Callable[..., Any]) -> None:
    with serving() as (client, _):
        old = client.get("/a").content
        client.post("/a")
    with serving() as (client, _):
        assert client.get("/a", headers=ONLY_STORED).status_code == 504
        assert client.get("/a").content == body_of("/a", 1) != old


def test_what_memory_has_no_room_for_comes_from_disk(stored: Origin, serving: Callable[..., Any]) -> None:
    paths = [f"/{number}" for number in range(300)]
    with serving(memory=128 << 10) as (client, edge):
        for path in paths:
            client.get(path)
        settled(edge.server.metrics)
        count = stored.count()
        for path in paths:
            answer = client.get(path)
            assert answer.content == body_of(path)
            assert answer.headers["cache-status"].startswith("edgerouter; hit")
        assert stored.count() == count == len(paths)
        assert metric(edge.server.metrics(), "hits_total") > 150


@pytest.mark.parametrize("soft", [False, True])
def test_a_purge_reaches_what_only_the_disk_has_and_outlives_a_restart(
    soft: bool, stored: Origin, serving: Callable[..., Any]
) -> None:
    paths = [f"/{area}/{number}" for area in ("a", "b") for number in range(150)]
    with serving(memory=64 << 10) as (client, edge):
        for path in paths:
            client.get(path)
        settled(edge.server.metrics)
        assert edge.server.purge(paths=["/a/*"], dry_run=True).matched.objects == 150
        purge = edge.server.purge(paths=["/a/*"], soft=soft)
        assert completed(edge, purge).matched.objects == 150
        settled(edge.server.metrics)
    count = stored.count()
    with serving(memory=64 << 10) as (client, _):
        for path in paths:
            assert client.get(path).content == body_of(path)
        assert stored.count() - count == 150, "what was purged, and nothing else, was asked for again"


def test_a_soft_purge_makes_stale_what_only_the_disk_has_also_after_a_restart(
    stored: Origin, serving: Callable[..., Any]
) -> None:
    def answer(seen: Seen) -> Reply:
        fields = {"Cache-Control": "max-age=3600, stale-while-revalidate=3600", "ETag": '"v"'}
        if seen.get("if-none-match") == '"v"':
            return Reply(304, fields)
        return Reply(200, fields, body_of(seen.path))

    stored.default = answer
    paths = [f"/{number}" for number in range(120)]

    def is_stale(client: httpx.Client, path: str) -> None:
        count = stored.count()
        answer = client.get(path)
        status = answer.headers["cache-status"]
        assert answer.content == body_of(path)
        assert re.search(r"; hit; ttl=-\d+", status) or "; hit; ttl=0" in status, status
        wait_until(lambda: stored.count() == count + 1, what="it is validated behind")

    with serving(memory=64 << 10) as (client, edge):
        for path in paths:
            client.get(path)
        settled(edge.server.metrics)
        purge = edge.server.purge(paths=["/*"], soft=True)
        completed(edge, purge)
        assert edge.server.find_purge(purge.id).matched.objects == len(paths)
        settled(edge.server.metrics)
        assert metric(edge.server.metrics(), "entries") == len(paths)
        is_stale(client, "/0")
    with serving(memory=64 << 10) as (client, _):
        is_stale(client, "/1")
        wait_until(lambda: "; hit; ttl=3" in client.get("/1").headers["cache-status"], what="it is fresh again")


def test_memory_and_disk_stay_within_their_sizes(stored: Origin, serving: Callable[..., Any], tmp_path: Path) -> None:
    size = 4 * MIB
    stored.on("/big", Reply(200, {"Cache-Control": "max-age=3600"}, "x" * 16_000))

    def taken() -> int:
        return sum(file.stat().st_size for file in (tmp_path / "cache").iterdir())

    with serving(size=size, memory=MIB) as (client, edge):
        for number in range(600):
            client.get(f"/big?{number}")
            if number % 100 == 99:
                settled(edge.server.metrics)
                assert taken() <= size * 1.02
        assert taken() >= size * 0.98
        text = edge.server.metrics()
        assert metric(text, "evicted_total") > 0
        assert metric(text, "bytes") <= size
        memory = re.search(r"^edgerouter_cache_bytes (\d+)$", text, re.MULTILINE)
        assert memory and int(memory[1]) <= MIB


def test_flipped_bits_and_broken_sidecars_are_never_served(
    stored: Origin, serving: Callable[..., Any], tmp_path: Path
) -> None:
    paths = [f"/{number}" for number in range(200)]
    with serving() as (client, _):
        for path in paths:
            client.get(path)
    for number, file in enumerate(sorted((tmp_path / "cache").glob("*.*"))):
        data = bytearray(file.read_bytes())
        for at in range(number + 50, len(data), 20_011):
            data[at] ^= 1 << (at % 8)
        file.write_bytes(data)
    count = stored.count()
    with serving() as (client, edge):
        for path in paths:
            assert client.get(path).content == body_of(path)
        asked = stored.count() - count
        assert 0 < asked < len(paths)
        assert metric(edge.server.metrics(), "damaged_total") + metric(edge.server.metrics(), "entries") > 0


def test_a_damaged_slice_of_an_object_that_has_changed_is_not_missed(
    stored: Origin, serving: Callable[..., Any], tmp_path: Path
) -> None:
    old, new = os.urandom(10 * 4096), os.urandom(10 * 4096)
    content, tag = old, '"old"'

    def film(seen: Seen) -> Reply:
        fields = {"Cache-Control": "max-age=3600", "ETag": tag}
        wanted = seen.get("range")
        if wanted is None or seen.get("if-range") not in (None, tag):
            return Reply(200, fields, content)
        first, last = (int(bound) for bound in wanted.removeprefix("bytes=").split("-"))
        fields["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return Reply(206, fields, content[first : last + 1])

    stored.on("/film", film)
    with serving(slice_bytes=4096) as (client, _):
        assert client.get("/film").content == old
    damaged = 0
    for file in (tmp_path / "cache").iterdir():
        data = bytearray(file.read_bytes())
        at = data.find(old[4 * 4096 : 4 * 4096 + 64])
        if at >= 0:
            data[at] ^= 1
            file.write_bytes(data)
            damaged += 1
    assert damaged == 1
    content, tag = new, '"new"'
    with serving(slice_bytes=4096) as (client, _):
        kept = client.get("/film", headers={"Range": "bytes=0-9"})
        assert (kept.content, kept.headers["etag"]) == (old[:10], '"old"')
        response = client.get("/film", headers={"Range": f"bytes={4 * 4096}-{4 * 4096 + 9}"})
        assert (response.status_code, response.headers["etag"]) == (206, '"new"')
        assert response.content == new[4 * 4096 : 4 * 4096 + 10]
        assert client.get("/film").content == new


def test_two_edges_never_share_a_directory(stored: Origin, serving: Callable[..., Any], tmp_path: Path) -> None:
    with (
        serving() as (client, _),
        pytest.raises(ConfigError, match=r"disk_cache\.path: .*another process uses this directory"),
        running(edge_for(stored, tmp_path / "cache")),
    ):
        pytest.fail("the second edge has started")
    with serving() as (client, _):
        assert client.get("/a").status_code == 200


def test_files_are_for_their_owner_alone(serving: Callable[..., Any], tmp_path: Path) -> None:
    with serving() as (client, edge):
        client.get("/a")
        settled(edge.server.metrics)
        assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
        modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "cache").iterdir()}
        assert set(modes.values()) == {0o600}, modes


def test_a_reload_cannot_give_the_edge_another_disk(
    stored: Origin, serving: Callable[..., Any], tmp_path: Path
) -> None:
    with serving() as (client, edge):
        with pytest.raises(ConfigError, match="disk_cache: cannot change while the edge serves"):
            edge.reload(edge_for(stored, tmp_path / "other"))
        assert not (tmp_path / "other").exists()
        client.get("/a")
        assert edge.reload(edge_for(stored, tmp_path / "cache")) == 2
        assert client.get("/a", headers=ONLY_STORED).status_code == 200


def test_a_path_that_cannot_be_had_is_refused_with_the_remedy(stored: Origin, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(ConfigError, match=r"disk_cache\.path: .*give a directory"),
        running(edge_for(stored, tmp_path / "file" / "cache")),
    ):
        pytest.fail("the edge has started")
    with pytest.raises(ConfigError, match=r"DiskCache\.size: 5: must be ≥ 1048576"):
        DiskCache("/x", 5)


def test_kill_9_at_any_moment_never_corrupts(stored: Origin, edges: Edges) -> None:
    """``EDGEROUTER_KILLS=100`` for the long version."""
    kills = int(os.environ.get("EDGEROUTER_KILLS", "4"))
    written: list[str] = []
    survived = 0
    for round_ in range(kills):
        client, metrics = edges.start()
        with client:
            # Each response that was stored before is the origin's, byte by byte.
            for path in written[-150:]:
                answer = client.get(path, headers=ONLY_STORED)
                assert answer.status_code in (200, 504)
                if answer.status_code == 200:
                    survived += 1
                    assert answer.content == body_of(path), path
                    assert int(answer.headers["content-length"]) == len(answer.content)
            assert metric(metrics(), "damaged_total") == 0, "a kill tears the last record, which the start leaves out"
            for number in range(60 + 17 * round_ % 50):
                path = f"/{round_}/{number}"
                assert client.get(path).content == body_of(path)
                written.append(path)
                if number == 40:
                    settled(metrics)
            edges.kill()
    assert survived > 40 * (kills - 1)


def test_what_was_replaced_or_removed_and_written_does_not_come_back_after_kill_9(edges: Edges) -> None:
    client, metrics = edges.start()
    with client:
        for number in range(40):
            client.get(f"/{number}")
        settled(metrics)
        for number in range(40):
            client.post(f"/{number}")
            if number % 2:
                client.get(f"/{number}")
        settled(metrics)
        edges.kill()
    client, _ = edges.start()
    with client:
        for number in range(40):
            answer = client.get(f"/{number}", headers=ONLY_STORED)
            if number % 2:
                assert answer.content == body_of(f"/{number}", 1)
            else:
                assert answer.status_code == 504


def test_a_full_disk_degrades_to_memory_with_one_line_and_recovers(edges: Edges, tmp_path: Path) -> None:
    client, metrics = edges.start()
    assert edges.process
    pid = edges.process.process.pid
    with client:
        for number in range(50):
            client.get(f"/before/{number}")
        settled(metrics)
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        largest = max(file.stat().st_size for file in (tmp_path / "cache").glob("*.seg"))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, hard))
        for number in range(300):
            path = f"/during/{number}"
            assert client.get(path).content == body_of(path)
        wait_until(lambda: metric(metrics(), "failing") == 1, 60, "the failure is noticed")
        assert metric(metrics(), "errors_total") > 0
        assert metric(metrics(), "dropped_total") > 0
        assert client.get("/during/299", headers=ONLY_STORED).content == body_of("/during/299")
        # Responses on disk are served all the same.
        assert client.get("/before/7", headers=ONLY_STORED).content == body_of("/before/7")
        # A response replaced now must not come back, though it cannot be appended that it was.
        client.post("/before/8")
        client.get("/before/8")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        wait_until(lambda: metric(metrics(), "failing") == 0, 40, "the recovery")
        for number in range(50):
            client.get(f"/after/{number}")
        settled(metrics)
        lines = [line for line in edges.process.lines if "disk cache cannot be written" in line]
        assert len(lines) == 1, lines
        edges.kill()
    client, _ = edges.start()
    with client:
        assert client.get("/after/49", headers=ONLY_STORED).content == body_of("/after/49")
        assert client.get("/before/7", headers=ONLY_STORED).content == body_of("/before/7")
        old = client.get("/before/8", headers=ONLY_STORED)
        assert old.status_code == 504 or old.content == body_of("/before/8", 1)
