"""The bounds of purging are the plan's, and an admin listener answers whatever a purge waits for."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import CacheError, CacheLimits, ConfigError, DiskCache, Edge, Limits, PurgeLimits
from edgerouter.testing import Running, running

from ..origins import Origin, Reply, wait_until
from ..responses import is_hit


def edge_for(origin: Origin, folder: Path | None = None, **purges: Any) -> Edge:
    bounds = Limits(cache=CacheLimits(memory_bytes=1 << 20, largest_object_bytes=65_536), purge=PurgeLimits(**purges))
    disk = DiskCache(str(folder), 4 << 20, segment_bytes=65_536) if folder else None
    edge = Edge("shop", limits=bounds, disk_cache=disk)
    edge.route("/*", to=edge.origin("first", origin.url))
    return edge


@pytest.fixture(autouse=True)
def answers(origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, {"Cache-Control": "max-age=600"}, seen.path + "x" * 4_000)


@pytest.fixture
def bounded(origin: Origin) -> Iterator[Running]:
    edge = edge_for(origin, scopes=3, in_progress=4, remembered=2, marks=4, patterns=4)
    with running(edge) as served:
        yield served


def completed(served: Running) -> None:
    wait_until(lambda: all(purge.completed for purge in served.server.purges()), what="all purges")


def test_one_purge_names_no_more_than_the_plan_allows(bounded: Running) -> None:
    many = [f"/{number}" for number in range(4)]
    with pytest.raises(CacheError, match=r"4 things are named and one purge may name 3 \(limits\.purge\.scopes\)"):
        bounded.server.purge(paths=many)
    with pytest.raises(CacheError, match=r"limits\.purge\.scopes"):
        bounded.server.purge(paths=many, dry_run=True)
    refused = httpx.post(f"{bounded.admin_url}/v1/purges", json={"paths": many})
    assert refused.status_code == 400 and "limits.purge.scopes" in refused.json()["error"]["message"]
    bounded.server.purge(paths=many[:3])


def test_only_so_many_completed_purges_are_remembered(bounded: Running) -> None:
    purges = []
    for number in range(4):
        purges.append(bounded.server.purge(paths=[f"/{number}"], reference=str(number)))
        completed(bounded)
    assert [purge.id for purge in bounded.server.purges()] == [purges[3].id, purges[2].id]
    assert bounded.server.find_purge(purges[0].id) is None
    # Its reference is forgotten with it.
    assert bounded.server.purge(paths=["/0"], reference="0").new


@pytest.mark.parametrize("kind", ["urls", "paths", "hosts", "tags"])
def test_more_purges_than_are_kept_do_not_purge_what_was_compared_with_all_of_them(bounded: Running, kind: str) -> None:
    named = {"urls": "https://x.example/{}", "paths": "/x{}/*", "hosts": "h{}.example", "tags": "t{}"}[kind]
    with httpx.Client(base_url=bounded.url) as client:
        client.get("/a")
        assert is_hit(client.get("/a"))
        for number in range(12):
            names = [named.format(number)]
            bounded.server.purge(**{kind: names})  # type: ignore[call-overload]
            completed(bounded)
            assert is_hit(client.get("/a"))


def test_a_reload_changes_the_bounds(bounded: Running, origin: Origin) -> None:
    bounded.reload(edge_for(origin, scopes=2))
    with pytest.raises(CacheError, match="3 things are named and one purge may name 2"):
        bounded.server.purge(paths=["/a", "/b", "/c"])


def test_a_bound_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"PurgeLimits\.marks: 3: must be ≥ 4"):
        PurgeLimits(marks=3)
    with pytest.raises(ConfigError, match=r"PurgeLimits\.log_bytes: 5: must be ≥ 65536"):
        PurgeLimits(log_bytes=5)
    edge = Edge.from_dict({"version": 1, "name": "a", "limits": {"purge": {"remembered": 0}}})
    with pytest.raises(ConfigError, match=r"limits\.purge\.remembered: 0: must be"):
        edge.compile()


@pytest.mark.parametrize("bound", [{"log_bytes": 65_536}, {"patterns": 4}], ids=lambda bound: next(iter(bound)))
def test_past_a_bound_what_is_older_counts_as_purged(origin: Origin, tmp_path: Path, bound: dict[str, int]) -> None:
    """Wrong towards a fetch, never towards an old answer."""
    edge = edge_for(origin, tmp_path / "cache", **bound)
    log = tmp_path / "cache" / "purges.log"
    with running(edge) as served, httpx.Client(base_url=served.url, headers={"Host": "shop.example"}) as client:
        client.get("/a")
        for number in range(60):
            served.server.purge(paths=[f"/x{number}/{'y' * 1_000}*"])
            assert log.stat().st_size <= bound.get("log_bytes", 1 << 20) + 3_000
            completed(served)
        assert is_hit(client.get("/a")), "it was compared with all of them"
    with running(edge) as served, httpx.Client(base_url=served.url, headers={"Host": "shop.example"}) as client:
        assert not is_hit(client.get("/a")), "the purges since it was stored are not all known any more"
        assert is_hit(client.get("/a"))


class Stuck:
    """A file whose reader waits: a pipe stands in its place."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.kept = file.read_bytes()
        file.unlink()
        os.mkfifo(file, 0o600)

    def go_on(self) -> None:
        pipe = os.open(self.file, os.O_WRONLY)
        self.file.unlink()
        self.file.write_bytes(self.kept)
        os.close(pipe)


def alive(served: Running) -> None:
    for path in ("/healthz", "/metrics", "/readyz"):
        assert httpx.get(served.admin_url + path, timeout=20).status_code == 200


class Asked(threading.Thread):
    """A call that is waiting for its answer."""

    def __init__(self, served: Running, **order: Any) -> None:
        super().__init__(daemon=True)
        self.url, self.order = f"{served.admin_url}/v1/purges", order
        self.answer: httpx.Response | None = None
        self.start()

    def run(self) -> None:
        self.answer = httpx.post(self.url, json=self.order, timeout=60)

    def answered(self) -> httpx.Response:
        self.join(60)
        assert self.answer is not None
        return self.answer


def test_health_and_metrics_are_answered_while_dry_runs_walk_the_store(origin: Origin, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with (
        running(edge_for(origin, folder)) as served,
        httpx.Client(base_url=served.url, headers={"Host": "shop.example"}) as client,
    ):
        for number in range(400):
            client.get(f"/{number}")
        wait_until(lambda: bool(list(folder.glob("*.idx"))), what="a full segment")
        stuck = Stuck(min(folder.glob("*.idx")))
        asked = [Asked(served, everything=True, dry_run=True) for _ in range(6)]
        alive(served)
        # A purge does not wait for dry runs either.
        assert httpx.post(f"{served.admin_url}/v1/purges", json={"paths": ["/nothing"]}, timeout=20).status_code == 201
        alive(served)
        assert all(one.answer is None for one in asked)
        stuck.go_on()
        for one in asked:
            assert one.answered().json()["matched"]["objects"] == 400


def test_health_and_metrics_are_answered_while_a_purge_waits_for_the_disk(origin: Origin, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with running(edge_for(origin, folder, log_bytes=65_536)) as served:
        many = [f"/{number}/{'y' * 1_000}" for number in range(15)]
        for _ in range(2):
            served.server.purge(paths=many)
        completed(served)
        # A log that has grown too long is read again, which takes as long as the disk wants.
        stuck = Stuck(folder / "purges.log")
        asked = Asked(served, paths=many)
        alive(served)
        assert asked.answer is None, "it is not acknowledged before it is written"
        stuck.go_on()
        assert asked.answered().status_code == 201
        alive(served)
