"""Attacks on HTTP/2 by name: each ends the connection that makes it, and others are served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from edgerouter import AsyncContext, Edge, Http2Limits, HttpLimits, Limits, Request, Tls, cache
from edgerouter.server import Server

from ..certificates import Authority
from ..origins import Origin, Reply
from ..tls.clients import address_of, sample, until
from ..tls.conftest import Start
from .clients import Client, head, http2

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, CANCEL, ENHANCE_YOUR_CALM = 1, 3, 8, 11
LARGE = b"x" * 300_000


def site(origin: Origin | None = None, http: HttpLimits | None = None, **limits: object) -> Edge:
    bounds = Limits(http=http or HttpLimits(), http2=Http2Limits(**limits))  # type: ignore[arg-type]
    edge = Edge("test", limits=bounds)
    edge.listen("127.0.0.1:0", http=("h2",))
    if origin is not None:
        edge.route("/slow/*", to=edge.origin("slow", origin.url), cache=cache.DISABLED)
    edge.route("/large", respond=LARGE.decode())
    edge.route("/*", respond="hello")
    return edge


def ended(server: Server, client: Client, reason: str) -> tuple[int | None, float, bytes]:
    """The last word to this connection, how often the edge has refused one for this reason, and what others get."""
    code = client.until_closed()
    with http2(server.urls[0], None) as other:
        return code, sample(server, f'edgerouter_refused_total{{reason="{reason}"}}'), other.get().body


ENDED = (ENHANCE_YOUR_CALM, 1, b"hello")


def send(client: Client, frames: Iterator[Frame]) -> None:
    """Sends until the edge takes no more."""
    with contextlib.suppress(OSError):
        for frame in frames:
            client.send(frame)


def opened(client: Client, stream: int, path: str, *, end: bool = True) -> HeadersFrame:
    flags = ["END_HEADERS", *(["END_STREAM"] if end else [])]
    return HeadersFrame(stream, client.section(head(path)), flags=flags)


@pytest.mark.parametrize(
    "reset",
    [
        lambda stream: RstStreamFrame(stream, error_code=CANCEL),
        # A window past its most is an error of the stream, which the edge then resets.
        lambda stream: WindowUpdateFrame(stream, window_increment=(1 << 31) - 1),
    ],
    ids=["by the client", "by the edge"],
)
def test_streams_that_are_begun_and_reset_in_a_row_end_their_connection(
    start: Start, origin: Origin, reset: Callable[[int], Frame]
) -> None:
    origin.default = Reply(body="late")
    server = start(site(origin))
    with http2(server.urls[0], None) as client:

        def frames() -> Iterator[Frame]:
            for at in range(400):
                yield opened(client, 2 * at + 1, f"/slow/{at}")
                yield reset(2 * at + 1)

        send(client, frames())
        assert ended(server, client, "http2-resets") == ENDED


@pytest.mark.parametrize("reset", ["by the client", "by the edge"])
def test_a_stream_that_is_reset_with_its_request_reaches_no_origin(reset: str, start: Start, origin: Origin) -> None:
    origin.default = Reply(body="late")
    server = start(site(origin))
    with http2(server.urls[0], None) as client:
        client.until_settled()
        frames: list[Frame] = []
        for stream in range(1, 101, 2):
            frames.append(opened(client, stream, f"/slow/{stream}"))
            if reset == "by the client":
                frames.append(RstStreamFrame(stream, error_code=CANCEL))
            else:
                frames.append(WindowUpdateFrame(stream, window_increment=(1 << 31) - 1))
        client.send(*frames)
    with http2(server.urls[0], None) as client:
        assert client.get("/slow/last").body == b"late"
    assert [seen.path for seen in origin.requests] == ["/slow/last"]


def test_a_field_section_of_endless_continuations_ends_its_connection(start: Start) -> None:
    server = start(site())
    with http2(server.urls[0], None) as client:

        def frames() -> Iterator[Frame]:
            yield HeadersFrame(1, client.section(head()), flags=["END_STREAM"])
            for _ in range(100_000):
                yield ContinuationFrame(1, b"\0\1x\1y")

        send(client, frames())
        assert client.until_closed() == ENHANCE_YOUR_CALM
    with http2(server.urls[0], None) as other:
        assert other.get().body == b"hello"


def test_a_field_section_that_does_not_end_has_its_time(start: Start) -> None:
    server = start(site(http=HttpLimits(head_timeout=1)))
    with http2(server.urls[0], None) as client:
        client.until_settled()
        client.send(HeadersFrame(1, client.section(head()), flags=["END_STREAM"]))
        assert ended(server, client, "head-too-slow") == ENDED


def test_a_preface_that_does_not_end_has_its_time(start: Start) -> None:
    server = start(site(http=HttpLimits(head_timeout=1)))
    with socket.create_connection(address_of(server.urls[0]), timeout=10) as sock:
        sock.sendall(b"PRI * HTTP/2.0\r\n")
        while sock.recv(65_536):
            pass
    assert sample(server, 'edgerouter_refused_total{reason="head-too-slow"}') == 1


def test_a_field_list_is_bounded_by_its_size_after_decompression(start: Start) -> None:
    """A few bytes stand for a field list of megabytes: its bound is that of the list."""
    server = start(site())
    with http2(server.urls[0], None) as client:
        first = client.section([*head(), ("x-bomb", "b" * 3_900)])
        client.send(HeadersFrame(1, first, flags=["END_HEADERS", "END_STREAM"]))
        # 62: the newest field of the dynamic table (RFC 7541 §2.3.3).
        second = client.section(head()) + b"\xbe" * 1_000
        client.send(HeadersFrame(3, second, flags=["END_HEADERS", "END_STREAM"]))
        client.until_closed()
    with http2(server.urls[0], None) as other:
        assert other.get().body == b"hello"


@pytest.mark.parametrize("secured", [False, True])
def test_a_window_that_stays_shut_ends_its_responses_within_their_time(
    start: Start, authority: Authority, secured: bool
) -> None:
    """Responses that the client leaves no room for end within their time; a good client beside them does not notice."""
    edge = site(http=HttpLimits(body_timeout=3, client_connections=10))
    if secured:
        edge.listen("127.0.0.1:0", tls=Tls(authority.issue("www.example.com").certificate))
    server = start(edge)
    url, trust = server.urls[-1], authority if secured else None
    with http2(url, trust, window=0) as client, http2(url, trust) as good:
        client.until_settled()
        streams = [client.request(head("/large")) for _ in range(50)]
        assert good.get("/large").body == LARGE
        assert {client.response(stream).reset for stream in streams} == {CANCEL}
        assert good.get("/large").body == LARGE
    until(lambda: sample(server, 'edgerouter_refused_total{reason="slow-reader"}') == 50)


def test_a_window_that_is_opened_by_the_byte_ends_its_connection(start: Start) -> None:
    """Room for one byte at a time makes frames that are nearly all head."""
    server = start(site(control_frames=10))
    # With credit there would be room for one more byte each time: content that is taken is given back besides.
    with http2(server.urls[0], None, credit=False, window=0) as client:
        client.until_settled()
        stream = client.request(head("/large"))
        received = client.responses[stream]
        while client.goaway is None and len(received.body) < 5_000:
            taken = len(received.body)
            client.http.increment_flow_control_window(1, stream)
            client.flush()
            while len(received.body) == taken and client.goaway is None:
                assert client.step()
        assert ended(server, client, "http2-small-frames") == ENDED


def ping(client: Client) -> Frame:
    return PingFrame(0, b"12345678")


def settings(client: Client) -> Frame:
    return SettingsFrame(0, {3: 100})


def priority(client: Client) -> Frame:
    return PriorityFrame(1, depends_on=0, stream_weight=1)


def unknown(client: Client) -> Frame:
    frame = PingFrame(0, b"12345678")
    frame.type = 0xBC
    return frame


@pytest.mark.parametrize("frame", [ping, settings, priority, unknown])
def test_a_flood_of_frames_that_carry_nothing_ends_its_connection(
    start: Start, frame: Callable[[Client], Frame]
) -> None:
    server = start(site(control_frames=50))
    with http2(server.urls[0], None) as client:
        client.send(opened(client, 1, "/hook", end=False))
        send(client, (frame(client) for _ in range(200)))
        assert ended(server, client, "http2-control-frames") == ENDED


@pytest.mark.parametrize(
    ("frame", "limits", "reason"),
    [
        (DataFrame(1, b""), {}, "http2-overhead"),
        (DataFrame(1, b"x"), {"control_frames": 10}, "http2-small-frames"),
        (WindowUpdateFrame(0, window_increment=1), {}, "http2-window-updates"),
    ],
    ids=["without content", "of one byte", "of window updates"],
)
def test_a_flood_of_frames_with_little_or_no_content_ends_its_connection(
    start: Start, frame: Frame, limits: dict[str, Any], reason: str
) -> None:
    server = start(site(**limits))
    with http2(server.urls[0], None) as client:
        client.send(opened(client, 1, "/", end=False))
        send(client, (frame for _ in range(1_000)))
        assert ended(server, client, reason) == ENDED


def test_more_streams_than_allowed_are_refused_one_by_one(start: Start, origin: Origin) -> None:
    release = threading.Event()

    def answer(seen: object) -> Reply:
        release.wait(60)
        return Reply(body="late")

    origin.default = answer
    server = start(site(origin, streams=4))
    with http2(server.urls[0], None) as client:
        for at in range(6):
            client.send(opened(client, 2 * at + 1, f"/slow/{at}"))
        origin.wait_for(4)
        while len(client.resets) < 2:
            assert client.step()
        assert client.resets == {9: 7, 11: 7}, "REFUSED_STREAM"
        release.set()
    assert origin.count() == 4


@pytest.mark.parametrize("end", ["gone", "malformed"])
def test_a_connection_that_ends_ends_all_of_its_streams(start: Start, end: str) -> None:
    """They end in several turns of the worker, and each ends its request."""
    edge = site(streams=300)
    held: set[int] = set()
    begun: list[int] = []

    @edge.on("viewer_request", "/held/*")
    async def hold(request: Request, ctx: AsyncContext) -> None:
        number = int(request.path.rpartition("/")[2])
        begun.append(number)
        held.add(number)
        try:
            await asyncio.Event().wait()
        finally:
            held.discard(number)

    server = start(edge)
    with http2(server.urls[0], None) as client:
        client.until_settled()
        for number in range(200):
            client.begin(head(f"/held/{number}"))
        client.flush()
        until(lambda: len(begun) == 200)
        if end == "malformed":
            # DATA belongs to no connection (RFC 9113 §6.1).
            client.send(b"\0\0\1\0\0\0\0\0\0x")
            assert client.until_closed() == PROTOCOL_ERROR
            until(lambda: not held)
    until(lambda: not held)
    with http2(server.urls[0], None) as other:
        assert other.get().body == b"hello"


def test_content_that_nobody_reads_is_within_the_windows_and_the_account(start: Start) -> None:
    edge = site(connection_window_bytes=262_144)
    release: list[asyncio.Event] = []

    @edge.on("viewer_request", "/held")
    async def hold(request: Request, ctx: AsyncContext) -> None:
        release.append(asyncio.Event())
        await release[-1].wait()

    server = start(edge)
    heads = 'edgerouter_request_memory_bytes{kind="heads"}'
    with http2(server.urls[0], None) as client:
        client.until_settled()
        streams = [client.request(head("/held", "POST"), b"x" * 60_000, end=False) for _ in range(4)]
        until(lambda: sample(server, heads) >= 240_000)
        with pytest.raises(Exception, match=r"(?i)flow control|window"):
            client.http.send_data(streams[0], b"x" * 60_000)
        client.send(DataFrame(streams[0], b"x" * 16_000))
        assert client.response(streams[0]).reset == FLOW_CONTROL_ERROR
    until(lambda: sample(server, heads) == 0)


def test_field_sections_of_many_bytes_are_all_read_a_few_in_a_turn(start: Start) -> None:
    server = start(site())
    with http2(server.urls[0], None) as client:
        more = [(f"x-{number}", "~" * 4_000) for number in range(4)]  # no entry of the table has room for two of them
        streams = [client.begin(head("/", "GET", "www.example.com", *more)) for _ in range(40)]
        client.flush()
        assert [client.response(stream).status for stream in streams] == [200] * 40


def test_a_window_that_is_taken_back_ends_its_responses_within_their_time(start: Start) -> None:
    """The client leaves room, and takes it back when the response has been given to the socket."""
    server = start(site(http=HttpLimits(body_timeout=1)))
    with http2(server.urls[0], None, credit=False) as client:
        client.until_settled()
        streams = [client.request(head("/large")) for _ in range(3)]
        client.http.update_settings({4: 0})
        client.flush()
        for stream in streams:
            while client.responses[stream].reset is None and not client.closed:
                client.step()
        until(lambda: sample(server, 'edgerouter_request_memory_bytes{kind="queues"}') == 0)
        slow = [line for line in server.metrics().splitlines() if 'reason="slow-reader"' in line]
        assert slow, "within its time"
    with http2(server.urls[0], None) as other:
        assert other.get("/large").body == LARGE
