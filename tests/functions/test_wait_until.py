"""Background work after the response delays nobody, ends within its bounds, and holds up an edge that drains."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from edgerouter import AsyncContext, Context, Edge, FunctionLimits, Limits, Request, Response
from edgerouter.testing import Running, running

from ..origins import wait_until

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]
PATIENCE = 60.0


def counted(edge: Running) -> dict[str, int]:
    metrics = httpx.get(f"{edge.admin_url}/metrics").text
    found = re.findall(r'^edgerouter_background_tasks_total\{result="([\w-]+)"\} (\d+)$', metrics, re.MULTILINE)
    return {result: int(count) for result, count in found}


@pytest.mark.parametrize("mode", [{}, {"inline": True}])
def test_a_coroutine_goes_on_after_the_response_was_sent(
    serve: Serve, client_for: ClientFor, mode: dict[str, Any]
) -> None:
    edge = Edge("test")
    received, done = threading.Event(), threading.Event()

    async def later() -> None:
        while not received.is_set():
            await asyncio.sleep(0.001)
        done.set()

    @edge.function("/", **mode)
    async def function(request: Request, ctx: AsyncContext) -> str:
        assert ctx.wait_until(later()) is True
        return "at once"

    served = serve(edge)
    assert client_for(served).get("/").text == "at once"
    received.set()
    assert done.wait(PATIENCE)
    wait_until(lambda: counted(served)["ok"] == 1)


@pytest.mark.parametrize("mode", [{}, {"inline": True}, {"serial": True}])
def test_a_plain_function_hands_over_a_callable_or_a_coroutine(
    serve: Serve, client_for: ClientFor, mode: dict[str, Any]
) -> None:
    edge = Edge("test")
    received, ended = threading.Event(), threading.Semaphore(0)

    def later() -> None:
        assert received.wait(PATIENCE)
        ended.release()

    async def later_still() -> None:
        await asyncio.sleep(0)
        ended.release()

    @edge.function("/", **mode)
    def function(request: Request, ctx: Context) -> str:
        ctx.wait_until(later)
        ctx.wait_until(later_still())
        ctx.wait_until(later_still)
        return "at once"

    served = serve(edge)
    assert client_for(served).get("/").text == "at once"
    received.set()
    for _ in range(3):
        assert ended.acquire(timeout=PATIENCE)
    wait_until(lambda: counted(served)["ok"] == 3)


def test_a_put_is_given_to_wait_until_as_in_workers(serve: Serve, client_for: ClientFor) -> None:
    edge = Edge("test")

    @edge.function("/")
    async def function(request: Request, ctx: AsyncContext) -> Response:
        found = await ctx.cache.match(request)
        if found is not None:
            return Response("found")
        response = Response("made", headers={"Cache-Control": "max-age=60"})
        ctx.wait_until(ctx.cache.put(request, response))
        return response

    client = client_for(serve(edge))
    assert client.get("/").text == "made"
    wait_until(lambda: client.get("/").text == "found", what="the end of the put")


def test_a_task_is_awaited_and_a_failed_put_is_counted(serve: Serve, client_for: ClientFor) -> None:
    edge = Edge("test")

    @edge.function("/")
    async def function(request: Request, ctx: AsyncContext) -> str:
        ctx.wait_until(asyncio.create_task(asyncio.sleep(0)))
        ctx.wait_until(ctx.cache.put(request, Response("a", status=206)))
        return "fine"

    served = serve(edge)
    assert client_for(served).get("/").text == "fine"
    wait_until(lambda: (counted(served)["ok"], counted(served)["failed"]) == (1, 1))


@pytest.mark.parametrize("plain", [False, True])
def test_a_failure_is_logged_under_an_id_and_costs_the_visitor_nothing(
    serve: Serve, client_for: ClientFor, caplog: pytest.LogCaptureFixture, plain: bool
) -> None:
    edge = Edge("test")

    def fails() -> None:
        raise ValueError("in vain")

    async def fails_later() -> None:
        raise ValueError("in vain")

    @edge.function("/")
    def function(request: Request, ctx: Context) -> str:
        ctx.wait_until(fails if plain else fails_later())
        return "fine"

    served = serve(edge)
    response = client_for(served).get("/")
    assert (response.status_code, response.text) == (200, "fine")
    wait_until(lambda: counted(served)["failed"] == 1 and "in vain" in caplog.text)
    [record] = [record for record in caplog.records if record.name == "edgerouter.functions"]
    assert re.match(r"error id [0-9a-f]{12}: .*function \(wait_until\) raised ValueError", record.getMessage())
    assert record.exc_info is not None and "in vain" in str(record.exc_info[1])


@pytest.mark.parametrize("kind", ["awaits", "loops", "blocks the thread"])
def test_what_takes_too_long_is_ended_and_counted(serve: Serve, client_for: ClientFor, kind: str) -> None:
    edge = Edge("test", limits=Limits(functions=FunctionLimits(background_timeout=0.2)))
    ended = threading.Event()

    async def awaits() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    async def loops() -> None:
        try:
            while True:
                pass
        finally:
            ended.set()

    def blocks() -> None:
        try:
            while True:
                pass
        finally:
            ended.set()

    @edge.function("/")
    def function(request: Request, ctx: Context) -> str:
        ctx.wait_until({"awaits": awaits, "loops": loops}.get(kind, blocks))
        return "fine"

    served = serve(edge)
    client = client_for(served)
    assert client.get("/").text == "fine"
    assert ended.wait(PATIENCE)
    wait_until(lambda: counted(served)["timed-out"] == 1)


def test_more_than_the_limit_at_a_time_are_refused_and_the_response_goes_out(
    serve: Serve, client_for: ClientFor
) -> None:
    edge = Edge("test", limits=Limits(functions=FunctionLimits(background_tasks=2)))
    release = threading.Event()

    async def later() -> None:
        while not release.is_set():
            await asyncio.sleep(0.001)

    @edge.function("/")
    async def function(request: Request, ctx: AsyncContext) -> Response:
        return Response.json([ctx.wait_until(later()) for _ in range(3)])

    served = serve(edge)
    client = client_for(served)
    assert client.get("/").json() == [True, True, False]
    assert counted(served)["refused"] == 1
    release.set()
    wait_until(lambda: counted(served)["ok"] == 2)
    assert client.get("/").json() == [True, True, False]


@pytest.mark.parametrize("plain", [False, True])
def test_the_edge_waits_for_background_work_while_it_drains(plain: bool) -> None:
    edge = Edge("test")
    stopping, done = threading.Event(), threading.Event()

    async def later() -> None:
        while not stopping.is_set():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        done.set()

    def on_a_thread() -> None:
        asyncio.run(later())

    @edge.function("/")
    def function(request: Request, ctx: Context) -> str:
        ctx.wait_until(on_a_thread if plain else later())
        return "fine"

    with running(edge, drain=PATIENCE) as served:
        assert httpx.get(served.url).text == "fine"
        stopping.set()
        assert served.server.stop(PATIENCE) is True
        assert done.is_set()


def test_what_does_not_end_is_cut_off_when_the_time_to_drain_is_over() -> None:
    edge = Edge("test")
    cut = threading.Event()

    async def later() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cut.set()

    @edge.function("/")
    def function(request: Request, ctx: Context) -> str:
        ctx.wait_until(later())
        return "fine"

    with running(edge) as served:
        assert httpx.get(served.url).text == "fine"
        assert served.server.stop(0.1) is False
        assert cut.wait(PATIENCE)
