"""Requests of functions for whose response nobody waits any more end at once, as those of clients that are gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgerouter import AsyncContext, Edge, FetchHosts, Request, Response, cache
from edgerouter.application import FileApplication
from edgerouter.testing import running

from ..origins import raw_origin, received_until
from .applications import client_of


class Silent:
    """An origin that reads requests, answers none, and knows whose connection was closed."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.left = threading.Semaphore(0)

    def __call__(self, connection: socket.socket) -> None:
        connection.settimeout(60)
        if received_until(connection, lambda received: b"\r\n\r\n" in received) is None:
            return
        self.asked.release()
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""
        self.left.release()


@pytest.fixture
def silent() -> Iterator[tuple[Silent, str]]:
    origin = Silent()
    with raw_origin(origin) as url:
        yield origin, url


@pytest.mark.parametrize("outside", [False, True], ids=["through-the-edge", "outside"])
def test_a_fetch_whose_task_is_cancelled_ends_its_request(silent: tuple[Silent, str], outside: bool) -> None:
    origin, url = silent
    edge = Edge("test", fetch=FetchHosts(hosts=[url], networks=["127.0.0.0/8"]))
    edge.route("/slow", to=edge.origin("o", url), cache=cache.DISABLED)
    held: list[BaseException] = []

    @edge.function("/call")
    async def call(request: Request, ctx: AsyncContext) -> Response:
        fetch = asyncio.create_task(ctx.fetch(f"{url}/slow" if outside else "/slow", timeout=50))
        await asyncio.to_thread(origin.asked.acquire)
        fetch.cancel()
        try:
            await fetch
        except asyncio.CancelledError as error:
            # Its traceback keeps all that the fetch had.
            held.append(error)
        return Response("went on")

    with running(edge) as served, client_of(served) as client:
        assert client.get("/call").text == "went on"
        assert origin.left.acquire(timeout=30), "the request goes on"
    assert held


MODULE = """
import asyncio, os
from edgerouter import Edge, cache

edge = Edge("test")
edge.route("/slow", to=edge.origin("o", {url!r}), cache=cache.DISABLED)


@edge.function("/call", isolation="process", timeout=60)
async def call(request, ctx):
    fetch = asyncio.create_task(ctx.fetch("/slow", timeout=50))
    while not os.path.exists({asked!r}):
        await asyncio.sleep(0.01)
    fetch.cancel()
    await asyncio.wait([fetch])
    while not os.path.exists({left!r}):
        await asyncio.sleep(0.01)
    return str(fetch.cancelled())
"""


def test_a_fetch_that_a_worker_process_cancels_ends_its_request_during_the_call(
    silent: tuple[Silent, str], tmp_path: Path
) -> None:
    origin, url = silent
    asked, left = tmp_path / "asked", tmp_path / "left"
    (tmp_path / "app.py").write_text(MODULE.format(url=url, asked=str(asked), left=str(left)))
    edge = FileApplication("app.py", folder=tmp_path).load()
    with running(edge) as served, client_of(served) as client, ThreadPoolExecutor(1) as threads:
        called = threads.submit(client.get, "/call")
        assert origin.asked.acquire(timeout=30)
        asked.touch()
        assert origin.left.acquire(timeout=30), "the request goes on"
        left.touch()
        assert called.result(30).text == "True"
