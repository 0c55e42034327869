"""Versions are replaced under calls: each call is answered, by a version that was in service then."""

from __future__ import annotations

import re
import threading

from edgerouter import Edge

from ..origins import wait_until
from ..raw import connect
from .conftest import VERSION, Begin

#: Connections, and calls that each sends at once.
CONNECTIONS, BURST = 4, 25
ROUNDS = 10


def made(name: str) -> Edge:
    space: dict[str, Edge] = {}
    exec(VERSION.format(name=name), space)
    return space["edge"]


class Load:
    """Calls of a function in bursts, on connections that stay open."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.stop = threading.Event()
        self.answers: list[list[bytes]] = [[] for _ in range(CONNECTIONS)]
        self.failures: list[str] = []
        self.threads = [threading.Thread(target=self._run, args=(answers,)) for answers in self.answers]
        for thread in self.threads:
            thread.start()

    def _run(self, answers: list[bytes]) -> None:
        got = b""
        try:
            with connect(self.base_url, 30) as sock:
                while not self.stop.is_set():
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * BURST)
                    got = b""
                    found: list[bytes] = []
                    while len(found) < BURST:
                        piece = sock.recv(65536)
                        assert piece, "the connection was closed"
                        got += piece
                        assert set(re.findall(rb"HTTP/1\.1 (\d{3})", got)) <= {b"200"}
                        found = re.findall(rb"\r\n\r\n(v\d{3})", got)
                    answers += found
        except (AssertionError, OSError) as error:
            self.failures.append(f"{error!r} after {got[-300:]!r}")

    def more(self) -> None:
        """Waits for two bursts of each connection, of which the second began after this call."""
        before = [len(answers) for answers in self.answers]
        wait_until(
            lambda: (
                bool(self.failures)
                or all(len(now) >= then + 2 * BURST for now, then in zip(self.answers, before, strict=True))
            ),
            30,
            "the calls",
        )

    def end(self) -> list[list[bytes]]:
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
        assert self.failures == []
        return self.answers


def test_reloads_and_deploys_under_calls_lose_none(begin: Begin) -> None:
    site = begin(made("v000"))
    load = Load(site.server.urls[0])
    try:
        load.more()
        for number in range(1, ROUNDS + 1):
            site.server.reload(made(f"v{number:03}"))
            load.more()
        for number in range(ROUNDS + 1, 2 * ROUNDS + 1):
            site.write(VERSION.format(name=f"v{number:03}"))
            site.deploy(percent=100)
            load.more()
            site.change("promote" if number % 2 else "rollback")
            load.more()
    finally:
        answers = load.end()
    last = f"v{2 * ROUNDS - 1:03}".encode()
    for seen in answers:
        reloads = [answer for answer in seen if int(answer[1:]) <= ROUNDS]
        assert reloads == sorted(reloads)
        assert {int(answer[1:]) for answer in seen} == set(range(2 * ROUNDS + 1))
        assert seen[-1] == last
    assert sum(map(len, answers)) >= 2_000
