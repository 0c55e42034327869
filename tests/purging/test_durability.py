"""Purges outlive the process: ``edgerouter run`` on one disk cache, killed and started again."""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..origins import Origin, Reply, Seen, wait_until
from ..processes import Process

APP = """
from edgerouter import CacheLimits, DiskCache, Edge, Limits

edge = Edge("test", limits=Limits(cache=CacheLimits(memory_bytes=1 << 20)), disk_cache=DiskCache({folder!r}, 16 << 20))
edge.route("/*", to=edge.origin("first", {url!r}))
"""


class Place:
    """An edge that can be killed and started again, and an origin whose answers have numbers."""

    def __init__(self, app: Path, folder: Path) -> None:
        self.app = app
        self.log = folder / "purges.log"
        self.process: Process | None = None

    def start(self) -> None:
        self.process = Process("run", str(self.app), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        found = self.process.wait_for(r"(http://[^ ]+)\n +(http://[^ ]+)  admin")
        self.url, self.admin = found[1], found[2]

    def kill(self) -> None:
        assert self.process
        self.process.end(signal.SIGKILL)

    def get(self, path: str, **headers: str) -> httpx.Response:
        # The port changes with each start, and would be part of the URL.
        return httpx.get(self.url + path, headers={"host": "127.0.0.1", **headers}, timeout=20)

    def stored(self, path: str) -> bool:
        return self.get(path, **{"cache-control": "only-if-cached"}).status_code == 200

    def metric(self, name: str) -> int:
        text = httpx.get(f"{self.admin}/metrics", timeout=20).text
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")))

    def fill(self, *paths: str) -> None:
        for path in paths:
            self.get(path)
        wait_until(lambda: self.metric("edgerouter_disk_waiting_bytes") == 0, 60, "everything is written")

    def purge(self, **what: Any) -> dict[str, Any]:
        answer = httpx.post(f"{self.admin}/v1/purges", json=what, timeout=20)
        assert answer.is_success, answer.text
        purge: dict[str, Any] = answer.json()
        return purge

    def purges(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{self.admin}/v1/purges", timeout=20).json()["purges"]
        return found

    def completed(self) -> list[dict[str, Any]]:
        wait_until(lambda: all(purge["status"] == "Completed" for purge in self.purges()), 60, "all are completed")
        return self.purges()


@pytest.fixture
def place(origin: Origin, tmp_path: Path) -> Iterator[Place]:
    def answer(seen: Seen) -> Reply:
        fields = {"Cache-Control": "max-age=3600, stale-while-revalidate=3600", "Cache-Tag": f"t{seen.path[1:]}"}
        return Reply(200, fields, f"{seen.path} {origin.count()}")

    origin.default = answer
    app = tmp_path / "app.py"
    app.write_text(APP.format(folder=str(tmp_path / "cache"), url=origin.url))
    place = Place(app, tmp_path / "cache")
    place.start()
    yield place
    assert place.process
    if place.process.process.poll() is None:
        place.kill()


SCOPES: list[dict[str, Any]] = [
    {"urls": ["http://127.0.0.1/a"]},
    {"paths": ["/a*"]},
    {"hosts": ["127.0.0.1"]},
    {"tags": ["ta"]},
    {"everything": True},
]


@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: next(iter(scope)))
def test_what_was_purged_does_not_come_back_after_kill_9(place: Place, scope: dict[str, Any]) -> None:
    alone = next(iter(scope)) not in ("hosts", "everything")
    place.fill("/a", "/b")
    assert place.stored("/a") and place.stored("/b")
    assert place.purge(**scope)["durable"] is True
    place.kill()
    place.start()
    assert not place.stored("/a")
    assert place.stored("/b") is alone, "what it does not name is still there"
    place.fill("/a")
    # Requested after the purge: the next start keeps it.
    place.kill()
    place.start()
    assert place.stored("/a")
    assert [purge["status"] for purge in place.completed()] == ["Completed"]


def test_what_was_purged_softly_is_stale_after_kill_9(place: Place, origin: Origin) -> None:
    place.fill("/a")
    place.purge(paths=["/a"], soft=True)
    place.kill()
    place.start()
    before = origin.count()
    status = place.get("/a").headers["cache-status"]
    lifetime = re.search(r"hit; ttl=(-?\d+)", status)
    assert lifetime is None or int(lifetime[1]) <= 0, status
    wait_until(lambda: origin.count() > before, 60, "the origin is asked")


def test_a_reference_and_the_counts_outlive_the_process(place: Place) -> None:
    place.fill("/a", "/a1", "/b")
    first = place.purge(paths=["/a*"], reference="deploy-1")
    (done,) = place.completed()
    assert done["matched"]["objects"] == 2
    place.kill()
    place.start()
    place.fill("/a")
    again = place.purge(paths=["/a*"], reference="deploy-1")
    assert (again["id"], again["new"]) == (first["id"], False)
    assert place.stored("/a"), "it is not done twice"
    other = httpx.post(f"{place.admin}/v1/purges", json={"paths": ["/b"], "reference": "deploy-1"}, timeout=20)
    assert other.status_code == 409
    (known,) = place.purges()
    assert known == done
    assert place.purge(everything=True)["id"] > first["id"]


def test_a_purge_whose_last_line_was_torn_was_never_there(place: Place) -> None:
    place.fill("/a", "/b")
    place.purge(paths=["/b"])
    place.completed()
    place.kill()
    whole = place.log.read_bytes()
    place.log.write_bytes(whole + whole[: len(whole) // 3])
    place.start()
    assert place.stored("/a") and not place.stored("/b")
    # Records behind the cut are found again.
    place.purge(paths=["/a"])
    place.kill()
    place.start()
    assert not place.stored("/a")


def test_a_damaged_log_purges_everything_that_is_stored(place: Place) -> None:
    place.fill("/a", "/b")
    place.purge(paths=["/c"])
    place.purge(paths=["/b"])
    place.completed()
    place.kill()
    log = bytearray(place.log.read_bytes())
    log[30] ^= 1
    place.log.write_bytes(log)
    for _ in range(2):
        place.start()
        assert place.process
        assert not place.stored("/a") and not place.stored("/b")
        place.kill()
    place.start()
    place.fill("/a")
    place.kill()
    place.start()
    assert place.stored("/a"), "the damage is gone"


def limit(place: Place, most: Callable[[], int]) -> None:
    assert place.process
    pid = place.process.process.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most(), resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]))


def test_a_purge_that_the_disk_does_not_take_is_in_effect_and_says_that_it_is_not_durable(place: Place) -> None:
    place.fill("/a", "/b")
    place.purge(paths=["/c"])
    place.completed()
    limit(place, lambda: place.log.stat().st_size + 10)
    for path in ("/a", "/b"):
        told = place.purge(paths=[path])
        assert told["durable"] is False and "restart" in told["warning"]
        assert not place.stored(path)
    assert place.metric("edgerouter_purges_not_durable") == 2
    assert place.metric("edgerouter_purge_log_errors_total") >= 2
    assert place.process
    place.process.wait_for("purges cannot be written to disk")
    limit(place, lambda: resource.prlimit(0, resource.RLIMIT_FSIZE)[1])
    wait_until(lambda: place.metric("edgerouter_purges_not_durable") == 0, 60, "all are written")
    assert all(purge["durable"] for purge in place.purges())
    assert len([line for line in place.process.lines if "purges cannot be written" in line]) == 1
    place.kill()
    place.start()
    assert not place.stored("/a") and not place.stored("/b")
    assert len(place.completed()) == 3
