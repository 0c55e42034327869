"""Purges against fetches under way: nothing older than an acknowledgement is served after it."""

from __future__ import annotations

import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ..origins import Origin, Reply, Seen
from ..responses import is_hit
from .conftest import Shop


class Gate:
    """An origin's answer that waits: the first request until the gate opens, the others not."""

    def __init__(self, origin: Origin, headers: dict[str, str]) -> None:
        self.origin, self.headers = origin, headers
        self.open = threading.Event()
        self.numbers = itertools.count(1)

    def head_first(self, seen: Seen, connection: socket.socket) -> None:
        """The head at once, the body when the gate opens."""
        number = next(self.numbers)
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        connection.sendall(f"HTTP/1.1 200 OK\r\n{fields}Content-Length: 5\r\nConnection: close\r\n\r\n".encode())
        if number == 1:
            assert self.open.wait(60)
        connection.sendall(f"{number:5}".encode())

    def body_first(self, seen: Seen) -> Reply:
        number = next(self.numbers)
        if number == 1:
            assert self.open.wait(60)
        return Reply(200, self.headers, f"{number:5}")


@pytest.mark.parametrize("what", [{"paths": ["/x"]}, {"paths": ["/*"]}, {"tags": ["t"]}, {"hosts": ["shop.example"]}])
@pytest.mark.parametrize("when", ["before the head", "in the body"])
@pytest.mark.parametrize("soft", [False, True])
def test_a_fetch_from_before_a_purge_serves_nobody_who_comes_after(
    shop: Shop, what: dict[str, Any], when: str, soft: bool
) -> None:
    gate = Gate(shop.origin, {"Cache-Control": "max-age=600", "Cache-Tag": "t"})
    shop.origin.default = gate.body_first if when == "before the head" else gate.head_first
    with ThreadPoolExecutor(2) as pool:
        early = pool.submit(shop.get, "/x")
        shop.origin.wait_for(1, "/x")
        shop.purge(soft=soft, **what)
        late = pool.submit(httpx.get, f"{shop.served.url}/x", headers={"host": "shop.example"})
        shop.origin.wait_for(2, "/x")
        assert late.result(60).text.strip() == "2"
        gate.open.set()
        assert early.result(60).text.strip() == "1"
    after = shop.get("/x").text.strip()
    assert after != "1"


def test_under_load_no_response_is_older_than_the_acknowledgement(shop: Shop) -> None:
    version = 0
    stop = threading.Event()

    def answer(seen: Seen) -> Reply:
        return Reply(200, {"Cache-Control": "max-age=600", "Cache-Tag": "all"}, str(version))

    shop.origin.default = answer
    paths = [f"/p{n}" for n in range(20)]
    floor = 0
    wrong: list[tuple[str, int, int]] = []

    def read(worker: int) -> int:
        count = 0
        with httpx.Client(base_url=shop.served.url, headers={"host": "shop.example"}) as client:
            while not stop.is_set():
                path = paths[(count * 7 + worker) % len(paths)]
                least = floor
                got = int(client.get(path).text)
                if got < least:
                    wrong.append((path, got, least))
                count += 1
        return count

    orders: list[dict[str, Any]] = [
        {"everything": True},
        {"tags": ["all"]},
        {"hosts": ["shop.example"]},
        {"paths": ["/p*"]},
        {"paths": paths},
    ]
    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, worker) for worker in range(4)]
        for round_ in range(60):
            version += 1
            shop.purge(**orders[round_ % len(orders)])
            floor = version
            for path in paths[:3]:
                assert int(shop.get(path).text) >= floor
        stop.set()
        assert sum(reader.result(60) for reader in readers) > 100
    assert wrong == []
    assert all(is_hit(shop.get(path)) or is_hit(shop.get(path)) for path in paths)
