"""Data in functions: the time of a read from a key-value store and of the first look at a client's place.

    python -m benchmarks.data [--rounds 9] [--reads 20000] [--places GeoLite2-City.mmdb]

Each round times all of it in a plain function, in turn: reads from memory, from a SQLite file by the read cache, from
the file itself, and the first attribute of ``request.geo``, for one client and for the first client of each network. A
loop without a read, and a second look, are subtracted. Without a file of places a small one is made, which needs
``mmdb_writer``.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from edgerouter import Context, Edge, Request
from edgerouter.testing import running

from .machine import describe

#: µs that the targets of the design allow.
TARGETS = {"KV get from memory": 5.0, "KV get from SQLite, cached": 25.0, "place of a client": 0.5}


def made_up(folder: Path) -> Path:
    """A file with a city for each of 4,096 networks."""
    writer = importlib.import_module("mmdb_writer").MMDBWriter(4, "Test-City")
    networks = importlib.import_module("netaddr").IPSet
    for at in range(4_096):
        place = {"country": {"iso_code": "DE"}, "city": {"names": {"en": f"City {at}"}}}
        writer.insert_network(networks([f"10.{at // 256}.{at % 256}.0/24"]), place)
    writer.insert_network(networks(["127.0.0.0/8"]), {"country": {"iso_code": "DE"}, "city": {"names": {"en": "Here"}}})
    file = folder / "places.mmdb"
    writer.to_db_file(str(file))
    return file


def timed(reads: int, read: Callable[[], object]) -> float:
    """µs of one read."""
    begun = time.perf_counter_ns()
    for _ in range(reads):
        read()
    return (time.perf_counter_ns() - begun) / reads / 1_000


def site(folder: Path, places: Path, reads: int) -> Edge:
    edge = Edge("data", trusted_proxies=["127.0.0.0/8"])
    edge.geo([str(places)])
    edge.kv("MEMORY", "memory:")
    edge.kv("CACHED", f"sqlite:{folder}/cached.db", staleness=3_600)
    edge.kv("FILE", f"sqlite:{folder}/file.db")

    @edge.function("/kv")
    def kv(request: Request, ctx: Context) -> dict[str, float]:
        env: Any = ctx.env
        for store in (env.MEMORY, env.CACHED, env.FILE):
            store.put("key", "value of a key")
            assert store.get("key") == "value of a key"
        nothing = timed(reads, lambda: None)
        return {
            "KV get from memory": timed(reads, lambda: env.MEMORY.get("key")) - nothing,
            "KV get from SQLite, cached": timed(reads, lambda: env.CACHED.get("key")) - nothing,
            "KV get from SQLite, the file": timed(reads // 20, lambda: env.FILE.get("key")) - nothing,
        }

    @edge.function("/place")
    def place(request: Request, ctx: Context) -> dict[str, float]:
        geo = request.geo
        begun = time.perf_counter_ns()
        first = geo.city
        between = time.perf_counter_ns()
        again = geo.city
        ended = time.perf_counter_ns()
        assert first == again and first is not None
        return {"place": ((between - begun) - (ended - between)) / 1_000}

    return edge


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--reads", type=int, default=20_000)
    options.add_argument(
        "--places", type=Path, help="a file in MaxMind's format that has 127.0.0.1; made up without it"
    )
    given = options.parse_args()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        edge = site(folder, given.places or made_up(folder), given.reads)
        with running(edge) as served, httpx.Client(base_url=served.url, timeout=60) as client:
            for at in range(given.rounds):
                for name, micros in client.get("/kv").raise_for_status().json().items():
                    found.setdefault(name, []).append(micros)
                looks = [client.get("/place").raise_for_status().json()["place"] for _ in range(200)]
                found.setdefault("place of a client", []).append(statistics.median(looks))
                looks = []
                for network in range(200 * at, 200 * (at + 1)):
                    sender = {"x-forwarded-for": f"10.{network // 256 % 16}.{network % 256}.7"}
                    looks.append(client.get("/place", headers=sender).raise_for_status().json()["place"])
                found.setdefault("place of the first of a network", []).append(statistics.median(looks))
    print(", ".join(f"{name}: {value}" for name, value in describe().items()) + "\n")
    print("| µs, median of rounds | | spread | of the target |\n|---|---|---|---|")
    for name, micros in found.items():
        median, target = statistics.median(micros), TARGETS.get(name)
        ratio = "–" if target is None else f"{median / target:.2f} × {target:g}"
        print(f"| {name} | {median:.2f} | {min(micros):.2f} to {max(micros):.2f} | {ratio} |")


if __name__ == "__main__":
    main()
