"""A receiver of traces that reads what comes by the official definitions of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from edgerouter import Context, Edge, Request, Tracing
from edgerouter.testing import running

from ..origins import Origin, Reply, Seen

TAKEN = Reply(200, {"content-type": "application/x-protobuf"}, ExportTraceServiceResponse().SerializeToString())
KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass
class Span:
    """A span, with its attributes as Python has them."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    state: str
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    failed: bool
    nanoseconds: int
    service: dict[str, Any] = field(repr=False)


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


class Collector(Origin):
    """Takes traces; ``answer`` replaces what it says."""

    def __init__(self) -> None:
        super().__init__("collector")
        self.answer: Reply | Callable[[Seen], Reply | None] = TAKEN
        self.default = lambda seen: self.answer if isinstance(self.answer, Reply) else self.answer(seen)

    def sizes(self) -> list[int]:
        """The number of spans of each message."""
        messages = [ExportTraceServiceRequest.FromString(seen.body) for seen in self.requests]
        return [len(message.resource_spans[0].scope_spans[0].spans) for message in messages]

    def spans(self) -> list[Span]:
        found = []
        for seen in self.requests:
            assert (seen.method, seen.target) == ("POST", "/v1/traces")
            assert seen.get("content-type") == "application/x-protobuf"
            message = ExportTraceServiceRequest.FromString(seen.body)
            # Nothing in it is unknown to the official definitions.
            size = message.ByteSize()
            message.DiscardUnknownFields()
            assert message.ByteSize() == size == len(seen.body)
            for resource in message.resource_spans:
                service = _values(resource.resource.attributes)
                for scope in resource.scope_spans:
                    assert scope.scope.name == "edgerouter"
                    for span in scope.spans:
                        assert (len(span.trace_id), len(span.span_id)) == (16, 8)
                        found.append(
                            Span(
                                name=span.name,
                                kind=KINDS[span.kind],
                                trace=span.trace_id.hex(),
                                id=span.span_id.hex(),
                                parent=span.parent_span_id.hex(),
                                state=span.trace_state,
                                attributes=_values(span.attributes),
                                links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                                failed=span.status.code == 2,
                                nanoseconds=span.end_time_unix_nano - span.start_time_unix_nano,
                                service=service,
                            )
                        )
        return found

    def named(self) -> dict[str, Span]:
        return {span.name: span for span in self.spans()}

    def roots(self) -> list[Span]:
        return [span for span in self.spans() if span.kind == "server"]

    def edge(self, **options: Any) -> Edge:
        """An edge that sends its traces here, when it stops at the latest."""
        more = {name: options.pop(name) for name in ("trusted_proxies",) if name in options}
        return Edge("test", tracing=Tracing(**{"endpoint": self.url, "ratio": 1.0, **options}), **more)


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.kill()


@pytest.fixture
def served_plain() -> Iterator[str]:
    edge = Edge("test")

    @edge.function("/made")
    def made(request: Request, ctx: Context) -> list[object]:
        return [request.trace_id, ctx.trace]

    with running(edge) as served:
        yield served.url
