"""Sources of ``Response.events``: one task takes all of their steps, as it does for other iterators."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator

import httpx
import pytest

from edgerouter import AsyncContext, Edge, Request, Response
from edgerouter.testing import running

from ..origins import wait_until
from .applications import client_of

SEEN = contextvars.ContextVar("seen", default="nothing")


async def limited() -> AsyncIterator[str]:
    try:
        async with asyncio.timeout(0.01):
            yield "begun"
            await asyncio.Event().wait()
    except TimeoutError:
        yield "over"


async def remembers() -> AsyncIterator[str]:
    task = asyncio.current_task()
    SEEN.set("the first step")
    yield "one"
    yield f"{SEEN.get()} {asyncio.current_task() is task}"


async def raises() -> AsyncIterator[str]:
    yield "one"
    raise SystemExit(3)


@pytest.mark.parametrize("heartbeat", [0, 15])
@pytest.mark.parametrize(
    ("source", "want"),
    [(limited, ["begun", "over"]), (remembers, ["one", "the first step True"])],
    ids=["a-time-limit-around-steps", "the-context-of-steps"],
)
def test_a_source_of_events_keeps_its_task_from_step_to_step(source: object, want: list[str], heartbeat: int) -> None:
    edge = Edge("test")

    @edge.function("/events")
    async def events(request: Request, ctx: AsyncContext) -> Response:
        return Response.events(source(), heartbeat=heartbeat)  # type: ignore[operator]  # one of the two

    with running(edge) as served, client_of(served) as client:
        assert client.get("/events").text == "".join(f"data: {line}\n\n" for line in want)


def test_a_source_ends_in_its_own_task_when_the_client_leaves_or_it_raises() -> None:
    edge = Edge("test")
    ends: list[tuple[str, bool]] = []

    @edge.function("/{kind}")
    async def events(request: Request, ctx: AsyncContext, kind: str) -> Response:
        async def source() -> AsyncIterator[str]:
            task = asyncio.current_task()
            try:
                while True:
                    yield "x" * 65_536
                    if kind == "waits":
                        await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ends.append((kind, asyncio.current_task() is task))

        return Response.events(raises() if kind == "raises" else source())

    with running(edge) as served, client_of(served) as client:
        for kind in ("waits", "goes-on"):
            with client.stream("GET", f"/{kind}") as found:
                assert next(found.iter_bytes()).startswith(b"data: xx")
            wait_until(lambda kind=kind: (kind, True) in ends)  # type: ignore[misc]
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/raises")
        assert len(ends) == 2
