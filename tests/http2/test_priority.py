"""The order of responses on one connection (RFC 9218)."""

from __future__ import annotations

import pytest

from edgerouter import Edge

from ..tls.conftest import Start
from .clients import head, http2

LARGE = "x" * 3_000_000
WINDOW = (1 << 31) - 1


@pytest.mark.parametrize(
    ("first", "second", "ends_first"),
    [("u=6", "u=1", 1), ("u=1", "u=6", 0), ("u=3, i", "u=3", 1), ("u=3", "u=3", 0), (None, "u=0", 1)],
)
def test_the_more_urgent_of_two_responses_ends_first(
    start: Start, first: str | None, second: str, ends_first: int
) -> None:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", http=("h2",))
    edge.route("/*", respond=LARGE)
    server = start(edge)
    with http2(server.urls[0], None, credit=False, window=WINDOW) as client:
        client.http.increment_flow_control_window(WINDOW - 65_535)
        client.flush()
        client.until_settled()
        streams = []
        for value in (first, second):
            # Both come at once.
            fields = head("/", "GET", "www.example.com", *([("priority", value)] if value else []))
            streams.append(client.begin(fields))
        client.flush()
        ended: list[int] = []
        while len(ended) < 2:
            assert client.step()
            ended += [stream for stream in streams if client.responses[stream].ended and stream not in ended]
        assert ended.index(streams[ends_first]) == 0
        assert {len(client.responses[stream].body) for stream in streams} == {len(LARGE)}


def test_responses_without_a_priority_share_the_connection(start: Start) -> None:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", http=("h2",))
    edge.route("/small", respond="small")
    # Much more than sockets hold: the client reads nothing until it has sent the second request.
    edge.route("/*", respond=LARGE * 4)
    server = start(edge)
    with http2(server.urls[0], None, credit=False, window=WINDOW) as client:
        client.http.increment_flow_control_window(WINDOW - 65_535)
        client.flush()
        client.until_settled()
        large = client.request(head("/large"))
        assert client.get("/small").body == b"small"
        assert not client.responses[large].ended, "the small one does not wait for the large one"
        assert len(client.response(large).body) == 4 * len(LARGE)
