"""Neither of two versions is given what the other has stored, and parts that are equal share their entries."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import httpx
import pytest

from edgerouter import Edge

from ..origins import Origin, Reply, Seen, wait_until
from .conftest import Begin, Deployed, versions

#: A version whose responses are stored in each of the ways that there are.
STORING = """
from edgerouter import CachePolicy, Edge, Response

edge = Edge("site")
origin = edge.origin("site", "{origin}")
long = CachePolicy(default_ttl=3600)


@edge.function("/function", cache=long)
def page(request, ctx):
    return "{name}"


@edge.function("/own")
def own(request, ctx):
    found = ctx.cache.match("http://own/")
    if found is None:
        ctx.cache.put("http://own/", Response("{name}", headers={{"cache-control": "max-age=3600"}}))
        ctx.caches.open("named").put("http://own/", Response("{name}", headers={{"cache-control": "max-age=3600"}}))
        return "{name}"
    assert ctx.caches.open("named").match("http://own/").body == found.body
    return found.body.decode()


@edge.on("origin_response", "/hooked/*")
def hooked(request, response, ctx):
    response.headers["x-version"] = "{name}"


edge.route("/hooked/*", to=origin, cache=long)
edge.route("/same/*", to=origin, cache=long)
edge.route("/other/*", to=origin, cache=CachePolicy(default_ttl={ttl}))
"""


def storing(origin: Origin, name: str, ttl: int = 3600) -> str:
    return STORING.format(origin=origin.url, name=name, ttl=ttl)


def made(text: str) -> Edge:
    space: dict[str, Edge] = {}
    exec(text, space)
    return space["edge"]


@pytest.fixture
def site(begin: Begin, origin: Origin) -> Deployed:
    def count(seen: Seen) -> Reply:
        return Reply(200, {}, f"{len(origin.requests)}")

    origin.default = count
    return begin(made(storing(origin, "old")))


def names(site: Deployed) -> set[str | None]:
    return {
        site.text("/function"),
        site.text("/own"),
        site.client.get("/hooked/a").headers.get("x-version"),
    }


def test_what_python_has_a_part_in_is_stored_for_each_version(site: Deployed, origin: Origin) -> None:
    assert [names(site), names(site)] == [{"old"}, {"old"}]
    site.write(storing(origin, "new"))
    site.deploy()
    assert [names(site), names(site)] == [{"new"}, {"new"}]
    site.change("rollback")
    assert names(site) == {"old"}
    # The same file is another version: what the one before it has stored is out of reach.
    site.write(storing(origin, "newer"))
    site.deploy()
    assert names(site) == {"newer"}
    site.change("promote")
    assert names(site) == {"newer"}
    # Also for plans that follow in this process.
    site.server.reload(made(storing(origin, "newest")))
    assert "old" not in names(site)


def test_routes_that_are_equal_share_and_others_do_not(site: Deployed, origin: Origin) -> None:
    same, other = site.text("/same/a"), site.text("/other/a")
    site.write(storing(origin, "new", ttl=60))
    site.deploy()
    shared = site.text("/same/b")
    assert site.text("/same/a") == same
    assert site.text("/other/a") != other
    assert site.list()[0]["routes_apart"] == 4
    site.change("rollback")
    assert (site.text("/other/a"), site.text("/same/b")) == (other, shared)


def test_a_purge_reaches_the_entries_of_both_versions(site: Deployed, origin: Origin) -> None:
    first = site.text("/other/a")
    site.write(storing(origin, "new", ttl=60))
    site.deploy(percent=50, cookie="sid")
    both = {site.text("/other/a", str(n)) for n in range(64)}
    assert len(both) == 2 and first in both
    site.server.purge([f"{site.server.urls[0]}/other/a"])
    again = {site.text("/other/a", str(n)) for n in range(64)}
    assert len(again) == 2 and not both & again


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_hundred_deploys_leak_nothing_and_mix_no_responses(site: Deployed, origin: Origin) -> None:
    def settled() -> tuple[int, int, int, int]:
        site.wait_for(
            lambda: not versions() and "edge-stop" not in {t.name for t in threading.enumerate()}, "their end"
        )
        gc.collect()
        return threading.active_count(), descriptors(), len(sys.modules), resident()

    assert names(site) == {"old"}
    before = None
    for number in range(100):
        if number == 20:
            before = settled()
        name = f"version-{number}"
        site.write("PAD = bytes(1 << 18)\n", "helper.py")
        site.write("import helper\n" + storing(origin, name))
        site.deploy()
        assert names(site) == {name}
        site.change("rollback")
        assert site.text("/function") == "old"
    assert before is not None
    after = settled()
    # Eighty deploys later: one of each that stays would be eighty of them. A connection to the origin may have come.
    assert all(now - then < 10 for now, then in zip(after[:3], before[:3], strict=True)), (before, after)
    # A version that stays would be 256 KiB each: 20 MiB.
    assert after[3] - before[3] < 10 << 20
    assert len(site.list()) == 32


def test_a_deploy_keeps_the_health_of_the_origins_of_both_versions(
    begin: Begin, origin: Origin, second: Origin
) -> None:
    def version(name: str, to: Origin) -> str:
        return f"""
from edgerouter import Edge, cache

edge = Edge("site")
edge.route("/*", to=edge.origin("{name}", "{to.url}"), cache=cache.DISABLED)
"""

    def is_healthy(name: str) -> bool:
        metrics = httpx.get(f"{deployed.running.admin_url}/metrics").text
        return f'edgerouter_origin_healthy{{origin="{name}"}} 1' in metrics

    origin.default = second.default = Reply(500, {}, "no")
    deployed = begin(made(version("old", origin)))
    assert [deployed.client.get("/").status_code for _ in range(3)] == [500] * 3
    wait_until(lambda: not is_healthy("old"))
    deployed.write(version("new", second))
    deployed.deploy()
    assert not is_healthy("old")
    assert [deployed.client.get("/").status_code for _ in range(3)] == [500] * 3
    deployed.change("promote")
    assert not is_healthy("new")
    # No version had the first origin any more.
    deployed.server.reload(made(version("old", origin)))
    assert is_healthy("old") and second.count("/") == 3
