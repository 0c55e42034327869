"""Receivers of traces that refuse, lie, wait or are gone: requests are answered, and spans are counted."""

from __future__ import annotations

import socket
import threading

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from edgerouter import Edge, Tracing
from edgerouter.testing import running

from ..metrics import metric
from ..origins import Reply, Seen, raw_origin, wait_until
from .conftest import TAKEN, Collector

PARTIAL = ExportTraceServiceResponse()
PARTIAL.partial_success.rejected_spans = 2
LYING = ExportTraceServiceResponse()
LYING.partial_success.rejected_spans = 1 << 40
PARTLY = Reply(200, {}, PARTIAL.SerializeToString())
#: More spans than wake the sender.
MANY = 520


@pytest.mark.parametrize(
    ("reply", "sent", "rejected"),
    [
        (TAKEN, MANY, 0),
        (PARTLY, MANY - 2, 2),
        (Reply(200, {}, LYING.SerializeToString()), 0, MANY),
        (Reply(200, {}, "<html>no protobuf</html>"), MANY, 0),
        (Reply(200, {}, b"\x0a" * 200_000), MANY, 0),
        (Reply(400, {}, "no"), 0, MANY),
        (Reply(302, {"location": "/elsewhere"}, ""), 0, MANY),
    ],
    ids=["taken", "partly", "more-than-there-were", "no-protobuf", "long", "refused", "elsewhere"],
)
def test_the_word_of_a_receiver_is_counted(collector: Collector, reply: Reply, sent: int, rejected: int) -> None:
    collector.answer = reply
    edge = collector.edge()
    edge.route("/*", respond="x")
    with running(edge) as served:
        with httpx.Client() as client:
            for _ in range(MANY):
                assert client.get(served.url).status_code == 200
        collector.wait_for(1)
        results = {"sent": 0.0, "rejected": 0.0}

        def counted() -> bool:
            for one in results:
                results[one] = metric(served, "edgerouter_spans_total", f'{{result="{one}"}}')
            return sum(results.values()) >= MANY

        wait_until(counted, what="the end of all spans")
        assert metric(served, "edgerouter_spans_waiting") == 0
    if reply is PARTLY:
        # The last message may have a single span.
        rejected = sum(min(2, spans) for spans in collector.sizes())
        sent = MANY - rejected
    assert results == {"sent": sent, "rejected": rejected}
    assert {seen.target for seen in collector.requests} == {"/v1/traces"}


def test_a_message_is_sent_again_when_the_receiver_says_so(collector: Collector) -> None:
    def busy_once(_: Seen) -> Reply:
        return Reply(503, {"retry-after": "0"}, "") if collector.count() == 1 else TAKEN

    collector.answer = busy_once
    edge = collector.edge()
    edge.route("/*", respond="x")
    with running(edge) as served:
        assert httpx.get(served.url).status_code == 200
        collector.wait_for(2)
    first, second = collector.requests
    assert first.body == second.body


def test_a_receiver_that_never_answers_costs_a_bounded_queue_and_no_request() -> None:
    frozen = threading.Event()

    def freeze(connection: socket.socket) -> None:
        frozen.wait()
        connection.close()

    with raw_origin(freeze) as url:
        edge = Edge("test", tracing=Tracing(endpoint=url, ratio=1.0, queue_spans=64))
        edge.route("/*", respond="x")
        with running(edge) as served, httpx.Client() as client:
            for _ in range(300):
                assert client.get(served.url).status_code == 200
            waiting = metric(served, "edgerouter_spans_waiting")
            full = metric(served, "edgerouter_spans_total", '{result="queue-full"}')
            assert waiting <= 64
            assert full >= 300 - 2 * 64
        frozen.set()


def test_a_receiver_that_is_gone_costs_no_request_and_no_stop(collector: Collector) -> None:
    edge = collector.edge()
    edge.route("/*", respond="x")
    collector.kill()
    with running(edge) as served:
        assert httpx.get(served.url).status_code == 200
    assert collector.requests == []
