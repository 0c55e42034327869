"""A load of requests over TLS by HTTP/1.1 and HTTP/2, on lasting and on fresh connections, which counts for itself."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..http2.clients import Client, head
from .clients import connected, get

NAME = "www.example.com"
KINDS = ("HTTP/1.1 kept", "HTTP/1.1 fresh", "HTTP/2 kept", "HTTP/2 fresh")


@dataclass
class Load:
    """Clients of ``url``. ``served`` counts their responses, by the kind of client; ``failed`` has everything else."""

    url: str
    authorities: Path | str
    served: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def context(self, protocol: str) -> ssl.SSLContext:
        given = str(self.authorities)
        pem = given.startswith("-----BEGIN")
        context = ssl.create_default_context(**{"cadata" if pem else "cafile": given})  # type: ignore[arg-type]
        context.set_alpn_protocols([protocol])
        return context

    def note(self, kind: str, status: int) -> None:
        if status == 200:
            self.served[kind] += 1
        else:
            self.failed.append(f"{kind}: {status}")

    def one(self, kind: str, requests: int | None) -> Callable[[], None]:
        """HTTP/1.1: as many requests on each connection, or all of them on one. Sessions are resumed."""
        context = self.context("http/1.1")

        def client() -> None:
            session = None
            while not self.over.is_set():
                with connected(self.url, context, NAME, session) as sock:
                    sent = 0
                    while not self.over.is_set() and sent != requests:
                        self.note(kind, get(sock, NAME).status)
                        sent += 1
                    session = sock.session

        return client

    def two(self, kind: str, requests: int | None) -> Callable[[], None]:
        """HTTP/2: the same, with eight requests on their way at a time."""
        context = self.context("h2")

        def client() -> None:
            while not self.over.is_set():
                with connected(self.url, context, NAME) as sock:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connection, sent = Client(sock), 0
                    while not self.over.is_set() and sent != requests:
                        streams = [connection.begin(head(host=NAME)) for _ in range(8)]
                        connection.flush()
                        for stream in streams:
                            self.note(kind, connection.response(stream).status)
                            del connection.responses[stream]
                        sent += 1

        return client

    def counts(self) -> dict[str, int]:
        return dict(self.served)

    def all_served_since(self, before: dict[str, int]) -> bool:
        """True when each kind of client has had responses since ``counts`` was called."""
        return set(self.served) == set(KINDS) and all(self.served[kind] > before.get(kind, 0) for kind in KINDS)

    def run(self, kind: str, client: Callable[[], None]) -> None:
        while not self.over.is_set():
            try:
                client()
            except (OSError, AssertionError) as fault:
                self.failed.append(f"{kind}: {fault!r}")


@contextlib.contextmanager
def load(url: str, authorities: Path | str) -> Iterator[Load]:
    """Requests from the start of the block to its end. ``authorities``: a file, or the text of one."""
    clients = Load(url, authorities)
    makers = {"HTTP/1.1": clients.one, "HTTP/2": clients.two}
    threads = []
    for kind in KINDS:
        protocol, _, lasting = kind.partition(" ")
        client = makers[protocol](kind, None if lasting == "kept" else 1)
        threads.append(threading.Thread(target=clients.run, args=(kind, client)))
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.over.set()
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert clients.failed == []
    assert set(clients.served) == set(KINDS)
