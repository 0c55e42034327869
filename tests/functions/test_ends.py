"""A callable that exits, stops the event loop or never comes back ends neither the calls of others nor a stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from edgerouter import AsyncContext, Edge, Request, Response
from edgerouter.testing import running

from ..origins import wait_until
from ..processes import Process
from ..raw import connect

PATIENCE = 60.0


@pytest.mark.parametrize("end", ["exit", "interrupt", "stop"])
def test_the_event_loop_goes_on_when_a_task_would_end_it(end: str, caplog: pytest.LogCaptureFixture) -> None:
    edge = Edge("test")
    tasks: list[asyncio.Task[None]] = []

    async def ends() -> None:
        if end == "stop":
            asyncio.get_running_loop().stop()
        else:
            raise SystemExit(3) if end == "exit" else KeyboardInterrupt

    @edge.function("/ends")
    async def begins(request: Request, ctx: AsyncContext) -> str:
        tasks.append(asyncio.create_task(ends()))
        return "begun"

    @edge.function("/")
    async def function(request: Request, ctx: AsyncContext) -> str:
        await asyncio.sleep(0)
        return "goes on"

    with running(edge) as served, httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        for _ in range(2):
            assert client.get("/ends").text == "begun"
            assert client.get("/").text == "goes on"
        wait_until(lambda: caplog.text.count("the event loop of functions, which goes on") == 2, what="the log")


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), BaseException("a kind of its own")],
    ids=repr,
)
@pytest.mark.parametrize("awaits", [True, False], ids=["async", "plain"])
def test_an_iterator_that_raises_an_exit_breaks_its_own_content_off(
    error: BaseException, awaits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    edge = Edge("test")

    async def awaited() -> AsyncIterator[str]:
        yield "begun"
        raise error

    def plain() -> Iterator[str]:
        yield "begun"
        raise error

    @edge.function("/stream")
    async def stream(request: Request, ctx: AsyncContext) -> Response:
        return Response(awaited() if awaits else plain())

    @edge.function("/")
    async def function(request: Request, ctx: AsyncContext) -> str:
        return "goes on"

    with running(edge) as served, httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/stream")
        assert client.get("/").text == "goes on"
        wait_until(lambda: "broke its content off" in caplog.text, what="the log")
    assert type(error).__name__ in caplog.text


@contextmanager
def called(folder: Path, source: str) -> Iterator[Process]:
    """A process with one worker that serves this application, with a request on its way to it."""
    application = folder / "app.py"
    application.write_text(source)
    process = Process("run", str(application), "--listen", "127.0.0.1:0", "--workers", "1")
    try:
        url = process.wait_for(r"http://127\.0\.0\.1:\d+").group()
        with connect(url, PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n")
            yield process
    finally:
        process.kill()


HELD = """
import time
from edgerouter import Edge, HttpLimits, Limits

edge = Edge("held", limits=Limits(http=HttpLimits(drain_timeout={drain})))


@edge.function("/", inline=True)
def holds(request, ctx):
    print("held", flush=True)
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
"""


@pytest.mark.parametrize(("drain", "signals", "code"), [(0.1, 1, 0), (600, 2, 1)], ids=["drain", "second signal"])
def test_a_stop_ends_while_an_inline_callable_that_catches_everything_holds_a_worker(
    tmp_path: Path, drain: float, signals: int, code: int
) -> None:
    with called(tmp_path, HELD.format(drain=drain)) as process:
        process.wait_for(r"(?m)^held")
        for _ in range(signals - 1):
            process.process.send_signal(signal.SIGTERM)
            process.wait_for("signal again to end at once")
        assert process.end() == code
    assert "requests were cut off" in process.output


KEEPS = """
import asyncio, ctypes
from pathlib import Path
from edgerouter import Edge, HttpLimits, Limits

edge = Edge("keeps", limits=Limits(http=HttpLimits(drain_timeout=600)))


@edge.function("/")
async def keeps(request, ctx):
    print("begun", flush=True)
    while not Path(__file__).with_name("stopping").exists():
        await asyncio.sleep(0.01)
    print("kept", flush=True)
    ctypes.PyDLL(None).sleep(600)
"""


def test_a_second_signal_ends_the_process_while_a_callable_keeps_the_interpreter(tmp_path: Path) -> None:
    with called(tmp_path, KEEPS) as process:
        process.wait_for(r"(?m)^begun")
        process.process.send_signal(signal.SIGTERM)
        process.wait_for("signal again to end at once")
        (tmp_path / "stopping").touch()
        process.wait_for(r"(?m)^kept")
        assert process.end() == 1
