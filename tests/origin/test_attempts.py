"""The attempts of one request: which are made again, where, for how long, and whose time runs meanwhile."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from edgerouter import Edge, HttpLimits, Limits, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen, raw_origin, received_until
from ..raw import connect, read_all, read_until, readable, responses

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]


class Gate:
    """An answer that does not come until the test lets it."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, seen: Seen) -> Reply | None:
        self.opened.wait(60)
        return None


@pytest.fixture
def frozen() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def lone(origin: Origin, serve: Serve) -> Callable[..., Running]:
    """One origin without a group; settings are the origin's, limits the edge's."""

    def make(limits: Limits | None = None, **settings: Any) -> Running:
        edge = Edge("test", limits=limits) if limits else Edge("test")
        edge.route("/*", to=edge.origin("first", origin.url, **settings), cache=cache.DISABLED)
        return serve(edge)

    return make


def drop(seen: Seen, sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_RDWR)


def test_a_time_out_is_not_repeated_at_the_member_that_was_too_slow(
    origin: Origin, second: Origin, frozen: Gate, serve: Serve, client_for: ClientFor
) -> None:
    edge = Edge("test")
    members = [edge.origin(one.name, one.url, first_byte_timeout=time) for one, time in ((origin, 1.0), (second, 30.0))]
    edge.route("/*", to=edge.group("site", members), cache=cache.DISABLED)
    origin.default = second.default = Reply(200, {}, "here")
    client = client_for(serve(edge))
    assert client.get("/").headers["x-origin"] == "first"  # and the connection is kept
    origin.on("/slow", frozen)
    assert client.get("/slow").headers["x-origin"] == "second"
    assert origin.count("/slow") == 1


def test_a_group_s_deadline_bounds_all_attempts_together(
    origin: Origin, second: Origin, frozen: Gate, serve: Serve, client_for: ClientFor
) -> None:
    edge = Edge("test")
    members = [edge.origin(one.name, one.url) for one in (origin, second)]
    edge.route("/*", to=edge.group("site", members, deadline=0.5), cache=cache.DISABLED)
    origin.default = second.default = frozen
    response = client_for(serve(edge)).get("/")
    assert (response.status_code, "detail=deadline" in response.headers["cache-status"]) == (504, True)


def test_a_passed_over_answer_is_better_than_none(
    origin: Origin, second: Origin, serve: Serve, client_for: ClientFor
) -> None:
    edge = Edge("test")
    members = [edge.origin(one.name, one.url) for one in (origin, second)]
    edge.route("/*", to=edge.group("site", members, failover_on={404}), cache=cache.DISABLED)
    origin.default = Reply(404, {}, "not here")
    second.kill()
    response = client_for(serve(edge)).get("/")
    assert (response.status_code, response.text) == (404, "not here")


@pytest.mark.parametrize(
    ("method", "status", "times"), [("PUT", 200, 2), ("DELETE", 200, 2), ("GET", 200, 2), ("POST", 502, 1)]
)
def test_what_may_be_repeated_is_sent_again_when_a_kept_connection_closes_unanswered(
    origin: Origin, lone: Callable[..., Running], client_for: ClientFor, method: str, status: int, times: int
) -> None:
    """RFC 9110 §9.2.2: the origin may have acted on a POST."""
    client = client_for(lone())
    origin.default = Reply(200, {}, "kept")
    assert client.get("/").status_code == 200
    bodies: list[bytes] = []

    def once(seen: Seen) -> Reply | None:
        bodies.append(seen.body)
        return Reply(200, {}, "done") if len(bodies) > 1 else None

    origin.on("/thing", once)
    content = None if method == "GET" else b"the whole body"
    response = client.request(method, "/thing", content=content)
    assert response.status_code == status
    assert bodies == [content or b""] * times


def test_a_new_connection_that_is_reset_is_not_tried_again(
    origin: Origin, lone: Callable[..., Running], client_for: ClientFor
) -> None:
    origin.default = drop
    assert client_for(lone()).get("/").status_code == 502
    assert len(origin.requests) == 1


def healthy(edge: Running) -> bool:
    return 'edgerouter_origin_healthy{origin="first"} 1' in httpx.get(f"{edge.admin_url}/metrics").text


def test_the_origin_s_time_begins_when_the_request_has_been_sent_whole(
    origin: Origin, lone: Callable[..., Running]
) -> None:
    """RFC 9110 §15.6.5: an upload takes as long as its client takes."""
    origin.default = Reply(200, {}, "stored")
    edge = lone(first_byte_timeout=1)
    for _ in range(3):
        with connect(edge.url) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhello")
            assert not readable(sock, 1.2), "nothing is said while the client is still sending"
            sock.sendall(b"world")
            assert responses(read_all(sock))[0].status == 200
    assert healthy(edge)


def test_an_origin_that_has_the_whole_upload_is_late_like_any_other(
    origin: Origin, lone: Callable[..., Running], frozen: Gate
) -> None:
    origin.default = frozen
    with connect(lone(first_byte_timeout=0.3).url) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhelloworld")
        assert responses(read_all(sock))[0].status == 504
    origin.wait_for(1)


def test_a_client_that_stalls_in_its_upload_is_told_408_and_the_origin_is_not_blamed(
    origin: Origin, lone: Callable[..., Running], client_for: ClientFor
) -> None:
    origin.default = Reply(200, {}, "fine")
    edge = lone(Limits(http=HttpLimits(body_timeout=1.5)), first_byte_timeout=1)
    with ExitStack() as stack:
        stalled = [stack.enter_context(connect(edge.url)) for _ in range(4)]
        for sock in stalled:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        for sock in stalled:
            answer = responses(read_all(sock))[0]
            assert (answer.status, answer.get("connection")) == (408, "close")
    assert healthy(edge)
    assert client_for(edge).get("/").text == "fine"


HALF = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhello"


class Early:
    """An origin that begins its response with the head of a request, and ends it with the end of the upload."""

    def __init__(self) -> None:
        self.over = threading.Semaphore(0)

    def __call__(self, sock: socket.socket) -> None:
        with sock:
            head = received_until(sock, lambda it: b"\r\n\r\n" in it)
            if head is None:
                return
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
            if received_until(sock, lambda rest: (head + rest).endswith(b"world")) is not None:
                sock.sendall(b"5\r\nended\r\n0\r\n\r\n")
        self.over.release()


@pytest.fixture
def early(serve: Serve) -> Iterator[tuple[Early, Running]]:
    answer = Early()
    with raw_origin(answer) as url:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("first", url, between_bytes_timeout=0.5), cache=cache.DISABLED)
        yield answer, serve(edge)


@pytest.mark.parametrize("end", ["reset", "closed", "malformed"])
def test_an_upload_that_breaks_off_after_its_response_has_begun_is_no_fault_of_the_origin(
    early: tuple[Early, Running], end: str
) -> None:
    answer, edge = early
    chunked = HALF.replace(b"Content-Length: 10", b"Transfer-Encoding: chunked").replace(b"hello", b"5\r\nhello\r\n")
    with ExitStack() as stack:
        uploads = [stack.enter_context(connect(edge.url)) for _ in range(30)]
        for sock in uploads:
            sock.sendall(chunked if end == "malformed" else HALF)
            read_until(sock, b"begun\r\n")
        for sock in uploads:
            if end == "malformed":
                sock.sendall(b"no size\r\n")
            elif end == "closed":
                sock.shutdown(socket.SHUT_WR)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
        for _ in uploads:
            assert answer.over.acquire(timeout=30), "the request to the origin ends with its content"
    assert healthy(edge)


def test_an_origin_that_waits_for_the_rest_of_an_upload_is_not_late(early: tuple[Early, Running]) -> None:
    """Its response has begun and goes on when the client does: only the client's own time runs meanwhile."""
    _, edge = early
    with ExitStack() as stack:
        uploads = [stack.enter_context(connect(edge.url)) for _ in range(4)]
        for sock in uploads:
            sock.sendall(HALF)
            read_until(sock, b"begun\r\n")
        assert not readable(uploads[0], 1.2), "nothing ends while the client is still sending"
        for sock in uploads:
            sock.sendall(b"world")
            assert read_all(sock).endswith(b"ended\r\n0\r\n\r\n")
    assert healthy(edge)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun"], ids=["head", "content"])
def test_an_origin_that_does_not_wait_for_a_slow_upload_stays_healthy(serve: Serve, begun: bytes) -> None:
    """Many servers close the connection without a response when a client keeps them waiting."""
    tired = threading.Event()
    here = threading.Semaphore(0)

    def answer(sock: socket.socket) -> None:
        with sock:
            if received_until(sock, lambda it: it.endswith(b"hello")) is None:
                return
            sock.sendall(begun)
            here.release()
            tired.wait(30)

    with raw_origin(answer) as url:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("first", url), cache=cache.DISABLED)
        running = serve(edge)
        with ExitStack() as stack:
            uploads = [stack.enter_context(connect(running.url)) for _ in range(30)]
            for sock in uploads:
                sock.sendall(HALF)
                if begun:
                    read_until(sock, b"begun")
            for _ in uploads:
                assert here.acquire(timeout=30), "the origin has got all that there is"
            tired.set()
            for sock in uploads:
                answered = read_all(sock)
                assert not answered if begun else responses(answered)[0].status == 502
        assert healthy(running)


def test_a_client_that_uses_up_the_whole_time_of_its_request_is_no_fault_of_the_origin(
    origin: Origin, lone: Callable[..., Running]
) -> None:
    over = threading.Event()

    def most(seen: Seen, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 30000001\r\n\r\n" + bytes(30_000_000))
        over.wait(60)

    origin.on("/long", most)
    edge = lone(total_timeout=1)
    with ExitStack() as stack:
        stack.callback(over.set)
        downloads, uploads = ([stack.enter_context(connect(edge.url)) for _ in range(4)] for _ in range(2))
        for sock in downloads:
            sock.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert readable(sock, 30)
        for sock in uploads:
            sock.sendall(HALF)
        for sock in uploads:
            assert responses(read_all(sock))[0].status == 504
        # The time of all is over, and those who take content have not begun to. It breaks off where none is there.
        for sock in downloads:
            assert read_all(sock).startswith(b"HTTP/1.1 200")
    assert healthy(edge)


@pytest.mark.parametrize("reset", [False, True])
def test_an_origin_that_answers_before_it_has_read_an_upload_is_heard_at_once(serve: Serve, reset: bool) -> None:
    """RFC 9112 §9.5. With ``reset`` it closes with bytes unread, so that what is sent next fails."""

    def answer(sock: socket.socket) -> None:
        if received_until(sock, lambda it: b"\r\n\r\n" in it and (not reset or len(it) >= 100_000)) is None:
            return
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        if reset:
            sock.close()
        else:
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
            sock.close()

    with raw_origin(answer) as origin:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("early", origin), cache=cache.DISABLED)
        with connect(serve(edge).url) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\n")
            if reset:
                sock.sendall(bytes(1_000_000))
            # Most of the upload is never sent, so that only an answer ahead of its end is an answer.
            assert read_until(sock, b"big").startswith(b"HTTP/1.1 413 ")
