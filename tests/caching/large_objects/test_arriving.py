"""Large objects through the socket: read while they arrive, by many, and past the memory."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest

from edgerouter.testing import Running, running

from ...origins import Origin, Seen, wait_until
from .films import FILM, LENGTH, SLICE, Film, Serve, edge_for, part, said


@contextmanager
def dripping(origin: Origin, path: str) -> Iterator[threading.Semaphore]:
    """An origin that sends a slice each time the semaphore is released."""
    drip = threading.Semaphore(0)
    stopped = threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        head = f'HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\nETag: "film-1"\r\nCache-Control: max-age=60\r\n\r\n'
        connection.sendall(head.encode())
        for start in range(0, LENGTH, SLICE):
            drip.acquire()
            if stopped.is_set():
                return
            connection.sendall(FILM[start : start + SLICE])

    origin.on(path, answer)
    try:
        yield drip
    finally:
        stopped.set()
        drip.release(LENGTH)


def test_readers_follow_an_object_that_is_still_arriving(origin: Origin, client: httpx.Client) -> None:
    with dripping(origin, "/film") as drip, client.stream("GET", "/film") as first:
        drip.release()
        chunks = first.iter_raw()
        begun = next(chunks)
        # A second reader and a range join what is coming in; the origin gets one request.
        with client.stream("GET", "/film") as second:
            other = second.iter_raw()
            also = next(other)
            assert len(begun) > 0 and len(also) > 0
            drip.release(LENGTH)
            assert begun + b"".join(chunks) == FILM
            assert also + b"".join(other) == FILM
    assert origin.count("/film") == 1
    assert part(client, "100-199").content == FILM[100:200]
    assert origin.count("/film") == 1


def test_an_origin_that_breaks_off_is_asked_for_the_rest(origin: Origin, film: Film, client: httpx.Client) -> None:
    def breaks(seen: Seen, connection: socket.socket) -> None:
        if seen.get("range") is None:
            head = f'HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\nETag: "film-1"\r\nCache-Control: max-age=60\r\n\r\n'
            connection.sendall(head.encode() + FILM[: 2 * SLICE + 7])
        else:
            origin.send(connection, seen, film(seen))

    origin.on("/film", breaks)
    assert client.get("/film").content == FILM
    assert film.asked == [f"bytes={2 * SLICE}-{LENGTH - 1}"]


def test_an_origin_that_is_gone_breaks_the_body_and_nothing_else(
    origin: Origin, film: Film, client: httpx.Client
) -> None:
    part(client, "0-9")
    origin.kill()
    assert part(client, "10-19").content == FILM[10:20]
    missing = part(client, f"{SLICE}-{SLICE + 9}")
    assert missing.status_code == 502
    assert said(missing) == ["edgerouter", "fwd=partial", "detail=connect"]
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/film")


def test_evicted_slices_are_fetched_again(
    origin: Origin, film: Film, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    # The memory holds about half of the film.
    client = client_for(serve(edge_for(origin, memory=100_000)))
    film.content = random.Random(2).randbytes(48 * SLICE)
    for _ in range(3):
        assert client.get("/film").content == film.content


def test_an_object_larger_than_the_memory_costs_one_fetch(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    client = client_for(serve(edge_for(origin, memory=100_000)))
    for number in range(8):
        film = Film(random.Random(number).randbytes(48 * SLICE))
        origin.on(f"/{number}", film)
        assert client.get(f"/{number}").content == film.content
        assert film.asked == [None]


class InStep:
    """An origin that sends the whole of an object only a little further than its first reader has come."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.moved = threading.Condition()
        self.received = 0
        self.sent = 0
        self.ranges: list[str | None] = []

    def __call__(self, seen: Seen, connection: socket.socket) -> None:
        wanted = seen.get("range")
        self.ranges.append(wanted)
        length = len(self.content)
        fields = b'ETag: "film-1"\r\nCache-Control: max-age=60\r\n'
        if wanted is None:
            head, piece = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % length, self.content
        else:
            first, last = (int(bound) for bound in wanted.removeprefix("bytes=").split("-"))
            piece = self.content[first : last + 1]
            head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n"
            head = head % (first, last, length, len(piece))
        connection.sendall(head + fields + b"\r\n")
        for start in range(0, len(piece), 1000):
            with self.moved:
                if wanted is None:
                    assert self.moved.wait_for(partial(self.is_near, start), 60)
                self.sent += len(piece[start : start + 1000])
            connection.sendall(piece[start : start + 1000])

    def is_near(self, start: int) -> bool:
        return start < self.received + 3 * SLICE

    def read(self, edge: Running, most: int | None = None) -> bytes:
        """Reads the object as the first reader, who stops at ``most`` until ``go_on``."""
        body = b""
        with httpx.stream("GET", f"{edge.url}/film", timeout=30.0) as response:
            for chunk in response.iter_raw():
                body += chunk
                with self.moved:
                    self.received = len(body)
                    self.moved.notify_all()
                    if most is not None:
                        assert self.moved.wait_for(lambda: self.received < most or self.free, 60)
        return body

    free = False

    def go_on(self) -> None:
        with self.moved:
            self.free = True
            self.moved.notify_all()

    def wait_for(self, received: int) -> None:
        with self.moved:
            assert self.moved.wait_for(lambda: self.received >= received, 60)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_arriving_is_not_asked_for_again(origin: Origin, workers: int) -> None:
    length = 400 * SLICE + 77
    content = random.Random(3).randbytes(length)
    film = InStep(content)
    origin.on("/film", film)
    with running(edge_for(origin, memory=16 << 20), workers=workers) as edge:
        bodies: list[bytes] = []
        threads = [threading.Thread(target=lambda: bodies.append(film.read(edge, 3 * length // 14)))]
        threads[0].start()
        for number in range(1, 12):
            film.wait_for(number * length // 14)
            read = threading.Thread(target=lambda: bodies.append(httpx.get(f"{edge.url}/film", timeout=30.0).content))
            threads.append(read)
            read.start()
            if number == 2:
                jump = httpx.get(f"{edge.url}/film", headers={"Range": f"bytes={length - 9}-"})
                assert jump.content == content[-9:]
                film.go_on()
        wait_until(lambda: len(bodies) == len(threads), 60, what="every reader is through")
        assert set(bodies) == {content}
    assert film.ranges == [None, f"bytes={400 * SLICE}-{length - 1}"]
    assert film.sent == length + 77, "each byte once, and the slice that was jumped to"


def test_a_download_does_not_go_through_a_long_stretch_that_is_stored(origin: Origin) -> None:
    length = 400 * SLICE
    content = random.Random(5).randbytes(length)
    film = InStep(content)
    origin.on("/film", film)
    with running(edge_for(origin, memory=16 << 20)) as edge:
        bodies: list[bytes] = []
        first = threading.Thread(target=lambda: bodies.append(film.read(edge, 5 * SLICE)))
        first.start()
        film.wait_for(5 * SLICE)
        jump = httpx.get(f"{edge.url}/film", headers={"Range": f"bytes={100 * SLICE}-{300 * SLICE - 1}"})
        assert jump.content == content[100 * SLICE : 300 * SLICE]
        film.go_on()
        wait_until(lambda: bool(bodies), 60, what="the download is through")
        assert bodies == [content]
    assert f"bytes={300 * SLICE}-{316 * SLICE - 1}" in film.ranges, "the rest is asked for behind it"
    assert film.sent < length + 20 * SLICE


def test_readers_at_many_places_share_what_each_fetches(origin: Origin, film: Film) -> None:
    film.content = random.Random(4).randbytes(200 * SLICE)
    with (
        running(edge_for(origin, memory=16 << 20), workers=2) as edge,
        httpx.Client(base_url=edge.url, timeout=20.0) as client,
    ):
        part(client, "0-9")
        answers: list[tuple[int, bytes]] = []

        def read(first: int) -> None:
            response = httpx.get(f"{edge.url}/film", headers={"Range": f"bytes={first}-"}, timeout=20.0)
            answers.append((first, response.content))

        threads = [threading.Thread(target=read, args=(number * 17 * SLICE + 5,)) for number in range(12)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) == len(threads), 60, what="every reader is through")
        assert all(content == film.content[first:] for first, content in answers)
    slices: list[int] = []
    for asked in film.asked:
        assert asked is not None
        first, last = (int(bound) for bound in asked.removeprefix("bytes=").split("-"))
        slices += range(first // SLICE, last // SLICE + 1)
    assert sorted(slices) == list(range(200)), "each slice was asked for once"


def test_a_visitor_who_leaves_stops_the_fetch(origin: Origin, serve: Serve) -> None:
    sent = 0
    over = threading.Event()

    def endless(seen: Seen, connection: socket.socket) -> None:
        nonlocal sent
        head = 'HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\nETag: "big"\r\nCache-Control: max-age=60\r\n\r\n'
        try:
            connection.sendall(head.encode())
            while True:
                connection.sendall(b"x" * 65536)
                sent += 65536
        except OSError:
            over.set()

    origin.on("/film", endless)
    edge = serve(edge_for(origin))
    with httpx.Client(base_url=edge.url, timeout=10.0) as client, client.stream("GET", "/film") as response:
        next(response.iter_raw())
    assert over.wait(60), "the origin's connection was let go"
    assert sent < 500_000_000


def test_many_readers_of_one_slice_make_one_request(origin: Origin, film: Film, client: httpx.Client) -> None:
    part(client, "0-9")
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(part(client, f"{8 * SLICE}-{8 * SLICE + 9}").content))
        for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) == 50, what="every answer")
    assert set(answers) == {FILM[8 * SLICE : 8 * SLICE + 10]}
    assert film.asked.count(f"bytes={8 * SLICE}-{9 * SLICE - 1}") == 1
