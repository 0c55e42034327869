"""The life of a connection of HTTP/2: times, and its end by a stop, a reload or its own bounds."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgerouter import AsyncContext, Context, Edge, HttpLimits, Limits, Request, Response, Tls, cache
from edgerouter.server import Server
from edgerouter.settings import Settings

from ..certificates import Authority
from ..origins import Origin, Reply, Seen
from ..tls.clients import address_of, sample, until
from ..tls.conftest import Start
from .clients import head, http2

NO_ERROR = 0


def site(authority: Authority, origin: Origin | None = None, **limits: object) -> Edge:
    edge = Edge("test", limits=Limits(http=HttpLimits(**limits)))  # type: ignore[arg-type]
    edge.listen("127.0.0.1:0", tls=Tls(authority.issue("www.example.com").certificate))
    if origin is not None:
        edge.route("/origin/*", to=edge.origin("site", origin.url), cache=cache.DISABLED)
    edge.route("/*", respond="hello")
    return edge


def test_a_stop_answers_the_requests_that_have_come_in_and_ends_the_connection(
    authority: Authority, origin: Origin
) -> None:
    release = threading.Event()

    def answer(seen: Seen) -> Reply:
        release.wait(60)
        return Reply(body="whole")

    origin.default = answer
    server = Server.start(site(authority, origin), Settings(workers=1))
    stopped: list[bool] = []
    stopper = threading.Thread(target=lambda: stopped.append(server.stop(10.0)))
    try:
        with http2(server.urls[0], authority) as client:
            stream = client.request(head("/origin/a"))
            origin.wait_for(1)
            stopper.start()
            while client.goaway is None:
                assert client.step()
            release.set()
            assert client.response(stream).body == b"whole"
            assert client.until_closed() == NO_ERROR
    finally:
        release.set()
        stopper.join()
    assert stopped == [True]


def timer(edge: int, client: int) -> tuple[int, float]:
    """The timer of the edge's end of a connection, as the kernel counts them, and the seconds until it."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, _, pending, *_ = line.split()
        if [int(end.partition(":")[2], 16) for end in (local, remote)] == [edge, client]:
            kind, _, ticks = pending.partition(":")
            return int(kind, 16), int(ticks, 16) / 100
    raise AssertionError(f"no connection of port {client} to {edge}")


def test_the_kernel_looks_for_a_client_whose_silent_stream_goes_on(start: Start, authority: Authority) -> None:
    """Nothing is sent to it, so nothing else finds that its network is gone."""
    ended = threading.Event()
    edge = site(authority)

    @edge.function("/events")
    async def events(request: Request, ctx: AsyncContext) -> Response:
        async def quiet() -> AsyncIterator[bytes]:
            try:
                yield b"data: 1\n\n"
                await asyncio.Event().wait()
            finally:
                ended.set()

        return Response(quiet(), headers={"content-type": "text/event-stream"})

    server = start(edge)
    with http2(server.urls[0], authority) as client:
        stream = client.request(head("/events"))
        while not client.responses[stream].body:
            assert client.step()
        ports = address_of(server.urls[0])[1], client.sock.getsockname()[1]
        probing = 2
        until(lambda: timer(*ports)[0] == probing)
        assert timer(*ports)[1] <= 60
        assert not ended.is_set()
    assert ended.wait(30), "the client has closed the connection"


def test_a_stop_ends_a_connection_without_requests(authority: Authority) -> None:
    server = Server.start(site(authority), Settings(workers=1))
    with http2(server.urls[0], authority) as client:
        assert client.get().status == 200
        stopper = threading.Thread(target=server.stop, args=(20.0,))
        stopper.start()
        assert client.until_closed() == NO_ERROR
        stopper.join()


def test_a_stop_does_not_wait_for_a_client_that_reads_nothing(authority: Authority) -> None:
    server = Server.start(site(authority), Settings(workers=1))
    with http2(server.urls[0], authority) as client:
        assert client.get().status == 200
        assert server.stop(20.0), "its GOAWAY is not acknowledged"


def test_a_connection_without_requests_ends_however_many_pings_it_sends(start: Start, authority: Authority) -> None:
    server = start(site(authority, idle_timeout=1))
    with http2(server.urls[0], authority) as client:
        assert client.get().status == 200
        client.http.ping(b"12345678")
        client.flush()
        assert client.until_closed() == NO_ERROR


def test_an_upload_that_stalls_gets_a_408_and_the_connection_goes_on(
    start: Start, authority: Authority, origin: Origin
) -> None:
    server = start(site(authority, origin, body_timeout=1))
    with http2(server.urls[0], authority) as client:
        stalled = client.request(head("/origin/a", "POST"), b"some", end=False)
        assert client.response(stalled).status == 408
        assert client.get().body == b"hello"


def test_a_broken_response_resets_its_stream_and_not_the_connection(
    start: Start, authority: Authority, origin: Origin
) -> None:
    origin.default = Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nshort")
    server = start(site(authority, origin))
    with http2(server.urls[0], authority) as client:
        broken = client.response(client.request(head("/origin/a")))
        assert (broken.ended, broken.reset) == (False, 2), "INTERNAL_ERROR"
        assert client.get().body == b"hello"


def test_a_connection_with_many_requests_leaves_others_their_turn() -> None:
    """While the only worker is held, one connection sends many requests, and another one sends one behind them."""
    held, release = threading.Event(), threading.Event()
    served: list[str] = []
    edge = Edge("test")
    edge.listen("127.0.0.1:0", http=("h2",))

    @edge.function("/hold", inline=True)
    def hold(request: Request, ctx: Context) -> str:
        held.set()
        release.wait(60)
        return "held"

    @edge.function("/{who}", inline=True)
    def serve(request: Request, ctx: Context) -> str:
        served.append(request.params["who"])
        return "served"

    server = Server.start(edge, Settings(workers=1))
    try:
        url = server.urls[0]
        with http2(url, None) as holder, http2(url, None) as greedy, http2(url, None) as modest:
            for client in (greedy, modest):
                client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.until_settled()
            holding = holder.request(head("/hold"))
            assert held.wait(60)
            many = [greedy.begin(head("/many")) for _ in range(96)]
            greedy.flush()
            one = modest.request(head("/one"))
            release.set()
            assert holder.response(holding).body == b"held"
            assert modest.response(one).body == b"served"
            assert {greedy.response(stream).body for stream in many} == {b"served"}
    finally:
        server.stop(5.0)
    # It would be the last one otherwise.
    assert served.count("many") == 96 and served.index("one") < 48


def test_a_client_that_disconnects_leaves_nothing_behind(start: Start, authority: Authority, origin: Origin) -> None:
    origin.default = lambda seen: Reply(chunks=iter(lambda: b"x" * 10_000, b""))
    server = start(site(authority, origin))
    for _ in range(3):
        with http2(server.urls[0], authority) as client:
            stream = client.request(head("/origin/endless"))
            while not client.responses[stream].body:
                assert client.step()
    until(lambda: sample(server, "edgerouter_connections") == 0)
    until(lambda: sample(server, 'edgerouter_request_memory_bytes{kind="queues"}') == 0)
    assert sample(server, "edgerouter_http2_connections_total") == 3
    assert sample(server, "edgerouter_http2_requests_total") == 3


@pytest.mark.parametrize("credit", [True, False])
def test_memory_of_responses_on_their_way_is_on_the_account(
    start: Start, authority: Authority, origin: Origin, credit: bool
) -> None:
    """A response that is not taken keeps a bounded number of bytes, and none once it is."""
    origin.default = lambda seen: Reply(body=b"x" * 3_000_000)
    server = start(site(authority, origin))
    queues = 'edgerouter_request_memory_bytes{kind="queues"}'
    with http2(server.urls[0], authority, credit=credit) as client:
        stream = client.request(head("/origin/a"))
        if credit:
            assert len(client.response(stream).body) == 3_000_000
            until(lambda: sample(server, queues) == 0)
        else:
            while len(client.responses[stream].body) < 65_535:
                assert client.step()
            until(lambda: sample(server, queues) > 0)
            assert sample(server, queues) <= 200_000
    until(lambda: sample(server, queues) == 0)
