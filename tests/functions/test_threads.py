"""Where callables run: plain ones on threads, async ones on the event loop; and what interrupts hit."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import AsyncContext, Context, Edge, FunctionLimits, Limits, Request, Response
from edgerouter.functions import TimeLimit, runtime
from edgerouter.testing import Running

from ..origins import Origin, Reply, wait_until
from ..processes import Process
from ..raw import connect

PATIENCE = 60.0

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]


def at_once(url: str, paths: list[str]) -> list[httpx.Response]:
    """Requests all of them at the same time."""
    with ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(lambda path: httpx.get(url + path, timeout=PATIENCE), paths))


def test_plain_functions_run_beside_one_another(serve: Serve) -> None:
    meeting = threading.Barrier(5, timeout=PATIENCE)
    edge = Edge("test", limits=Limits(functions=FunctionLimits(threads=5)))

    @edge.function("/meet")
    def meet(request: Request, ctx: Context) -> str:
        meeting.wait()
        return "met"

    answers = at_once(serve(edge).url, ["/meet"] * 5)
    assert [answer.text for answer in answers] == ["met"] * 5


def test_a_cached_page_with_a_hook_does_not_wait_for_slow_functions(
    serve: Serve, origin: Origin, client_for: ClientFor
) -> None:
    origin.default = Reply(200, {"Cache-Control": "max-age=60"}, "page")
    release, begun = threading.Event(), threading.Semaphore(0)
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url))

    @edge.function("/slow")
    def slow(request: Request, ctx: Context) -> str:
        begun.release()
        release.wait(PATIENCE)
        return "slow"

    @edge.on("viewer_response", "/page")
    def mark(request: Request, response: Response, ctx: Context) -> None:
        response.headers["x-mark"] = "1"

    served = serve(edge)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(httpx.get, f"{served.url}/slow", timeout=PATIENCE) for _ in range(2)]
        try:
            assert begun.acquire(timeout=PATIENCE) and begun.acquire(timeout=PATIENCE)
            client = client_for(served)
            for _ in range(3):
                assert client.get("/page").headers["x-mark"] == "1"
            assert not any(future.done() for future in waiting)
        finally:
            release.set()
        assert [future.result().text for future in waiting] == ["slow", "slow"]


def test_at_most_function_threads_run_at_a_time(serve: Serve) -> None:
    edge = Edge("test", limits=Limits(functions=FunctionLimits(threads=2)))
    lock = threading.Lock()
    # Two at a time, and never three.
    meeting = threading.Barrier(2, timeout=PATIENCE)
    now = most = 0

    @edge.function("/")
    def function(request: Request, ctx: Context) -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        meeting.wait()
        with lock:
            now -= 1
        return "done"

    answers = at_once(serve(edge).url, ["/"] * 8)
    assert [answer.text for answer in answers] == ["done"] * 8
    assert most == 2


def test_one_thread_takes_the_calls_for_as_long_as_it_keeps_up(serve: Serve, client_for: ClientFor) -> None:
    edge = Edge("test")

    @edge.function("/")
    def function(request: Request, ctx: Context) -> str:
        return threading.current_thread().name

    client = client_for(serve(edge))
    names = Counter(client.get("/").text for _ in range(200))
    (name, times), *_ = names.most_common()
    assert name.startswith("edge-function-")
    # A call that waits longer than a millisecond, on a busy machine, wakes another.
    assert times >= 100, names


def test_the_threads_follow_the_limit_of_a_reloaded_plan(serve: Serve) -> None:
    def edge(threads: int) -> Edge:
        made = Edge("test", limits=Limits(functions=FunctionLimits(threads=threads)))
        meeting = threading.Barrier(threads, timeout=PATIENCE)

        @made.function("/meet")
        def meet(request: Request, ctx: Context) -> str:
            meeting.wait()
            return "met"

        return made

    served = serve(edge(1))
    for threads in (1, 4, 2):
        served.reload(edge(threads))
        answers = at_once(served.url, ["/meet"] * threads)
        assert [answer.text for answer in answers] == ["met"] * threads


@pytest.mark.parametrize("mode", [{}, {"inline": True}, {"serial": True}])
def test_each_call_runs_in_a_context_of_its_own(serve: Serve, client_for: ClientFor, mode: dict[str, Any]) -> None:
    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")
    edge = Edge("test", limits=Limits(functions=FunctionLimits(threads=1)))

    @edge.function("/plain", **mode)
    def plain(request: Request, ctx: Context) -> str:
        before = seen.get()
        seen.set("leaked")
        return before

    @edge.function("/async", inline=mode.get("inline", False))
    async def coroutine(request: Request, ctx: AsyncContext) -> str:
        before = seen.get()
        seen.set("leaked")
        return before

    client = client_for(serve(edge))
    assert [client.get(path).text for path in ["/plain", "/async"] * 3] == ["nothing"] * 6


def test_what_wait_until_goes_on_with_has_the_context_of_its_call(serve: Serve, client_for: ClientFor) -> None:
    whose: contextvars.ContextVar[str] = contextvars.ContextVar("whose", default="nobody's")
    found: list[str] = []
    done = threading.Semaphore(0)
    edge = Edge("test")

    @edge.function("/")
    def function(request: Request, ctx: Context) -> str:
        whose.set("the call's")

        def later() -> None:
            found.append(whose.get())
            done.release()

        async def still_later() -> None:
            later()

        ctx.wait_until(later)
        ctx.wait_until(still_later())
        return "done"

    assert client_for(serve(edge)).get("/").text == "done"
    assert done.acquire(timeout=PATIENCE) and done.acquire(timeout=PATIENCE)
    assert found == ["the call's"] * 2


def test_serial_callables_run_one_at_a_time_on_one_thread(serve: Serve) -> None:
    edge = Edge("test")
    threads: set[int] = set()
    alone = threading.Lock()

    def serially(request: Request, ctx: Context) -> str:
        threads.add(threading.get_ident())
        assert alone.acquire(blocking=False)
        try:
            time.sleep(0.005)
        finally:
            alone.release()
        return "alone"

    edge.function("/a", serial=True)(serially)
    edge.function("/b", serial=True)(serially)
    answers = at_once(serve(edge).url, ["/a", "/b"] * 5)
    assert [answer.text for answer in answers] == ["alone"] * 10
    assert len(threads) == 1


@pytest.mark.parametrize("serial", [False, True])
def test_a_thread_blocked_in_c_gives_its_place_to_another(serve: Serve, client_for: ClientFor, serial: bool) -> None:
    release = threading.Event()
    edge = Edge("test", limits=Limits(functions=FunctionLimits(threads=1)))

    @edge.function("/blocks", timeout=0.2, serial=serial)
    def blocks(request: Request, ctx: Context) -> str:
        release.wait(PATIENCE)
        return "late"

    @edge.function("/quick", serial=serial)
    def quick(request: Request, ctx: Context) -> str:
        return "quick"

    client = client_for(serve(edge))
    try:
        assert client.get("/blocks").status_code == 504
        assert client.get("/quick", timeout=PATIENCE).text == "quick"
    finally:
        release.set()
    assert client.get("/quick").text == "quick"


@pytest.fixture
def quick_watchdog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A watchdog that looks often, so that many interrupts are on their way when their call ends; nothing is logged."""
    monkeypatch.setattr(runtime, "LOOK", 0.0005)
    before = runtime.log.level
    runtime.log.setLevel(logging.CRITICAL)
    yield
    runtime.log.setLevel(before)


def test_an_interrupt_never_hits_the_next_call_of_a_thread(serve: Serve, quick_watchdog: None) -> None:
    """10,000 calls that end at about their limit, each with another one behind it on the same connection."""
    limit, pairs, connections = 0.004, 10_000, 16
    edge = Edge("test", limits=Limits(functions=FunctionLimits(threads=connections)))
    interrupted = Counter[bool]()

    @edge.function("/ends", timeout=limit)
    def ends(request: Request, ctx: Context) -> str:
        chance = random.uniform(-0.002, 0.0015)
        try:
            time.sleep(max(ctx.remaining() + chance, 0))
            interrupted[False] += 1
        except TimeLimit:
            interrupted[True] += 1
            raise
        return "ended"

    @edge.function("/next", timeout=60)
    def following(request: Request, ctx: Context) -> str:
        return str(sum(range(300)))

    url = serve(edge).url
    ask = b"GET /ends HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"

    def answer(stream: Any) -> tuple[int, bytes]:
        status, length = int(stream.readline().split()[1]), 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, stream.read(length)

    def turn(_: int) -> Counter[tuple[int, bytes]]:
        found = Counter[tuple[int, bytes]]()
        with connect(url, PATIENCE) as sock, sock.makefile("rb") as stream:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(pairs // connections):
                sock.sendall(ask)
                assert answer(stream)[0] in (200, 504)
                found[answer(stream)] += 1
        return found

    with ThreadPoolExecutor(connections) as pool:
        found = sum(pool.map(turn, range(connections)), Counter[tuple[int, bytes]]())
    assert found == {(200, b"44850"): pairs}
    assert interrupted[True] > 100 and interrupted[False] > 100, interrupted


def test_one_warning_names_the_callable_that_holds_the_event_loop(
    serve: Serve, client_for: ClientFor, caplog: pytest.LogCaptureFixture
) -> None:
    edge = Edge("test")

    def warnings() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        return [line for line in lines if "held the event loop" in line]

    def named() -> list[str]:
        return [line for line in warnings() if "holds held" in line]

    @edge.function("/holds")
    async def holds(request: Request, ctx: AsyncContext) -> str:
        time.sleep(0.5)
        return "held"

    @edge.function("/awaits")
    async def awaits(request: Request, ctx: AsyncContext) -> str:
        await asyncio.sleep(0.12)
        return "awaited"

    @edge.function("/plain")
    def plain(request: Request, ctx: Context) -> str:
        time.sleep(0.12)
        return "slow"

    client = client_for(serve(edge))
    for path in ["/plain", "/awaits", "/holds", "/holds"]:
        assert client.get(path).status_code == 200
    wait_until(lambda: bool(named()), what="the callable to be named")
    (line,) = named()
    assert "make it a plain def" in line and "asyncio.to_thread" in line
    assert not any("plain held" in line for line in warnings())


def test_a_task_of_the_programs_own_that_holds_the_event_loop_is_named(
    serve: Serve, client_for: ClientFor, caplog: pytest.LogCaptureFixture
) -> None:
    edge = Edge("test")
    tasks: list[asyncio.Task[None]] = []

    async def computes() -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and not named():
            time.sleep(0.01)

    def named() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        return [line for line in lines if "computes" in line and "held the event loop" in line]

    @edge.function("/")
    async def function(request: Request, ctx: AsyncContext) -> str:
        if not tasks:
            tasks.append(asyncio.get_running_loop().create_task(computes()))
        return "begun"

    client = client_for(serve(edge))
    assert client.get("/").text == "begun"
    assert client.get("/", timeout=PATIENCE).text == "begun"
    (line,) = named()
    assert "test_threads.py" in line


def test_an_event_loop_that_waits_holds_nothing(
    serve: Serve, client_for: ClientFor, caplog: pytest.LogCaptureFixture
) -> None:
    edge = Edge("test")
    heard = asyncio.Event()

    @edge.function("/")
    async def function(request: Request, ctx: AsyncContext) -> str:
        selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
        hears, deaf = selector._selector, select.epoll()

        def hear() -> None:
            selector._selector = hears
            deaf.close()
            heard.set()

        # The loop does not wake up, as on a machine that gives its thread no core, for several looks of the watchdog.
        asyncio.get_running_loop().call_later(0.5, hear)
        selector._selector = deaf
        await heard.wait()
        return "heard"

    assert client_for(serve(edge)).get("/").text == "heard"
    assert not any("EpollSelector" in record.getMessage() for record in caplog.records)


POLICY = """
import asyncio

from edgerouter import AsyncContext, Edge, Request


class OwnLoop(asyncio.SelectorEventLoop):
    pass


class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return OwnLoop()


asyncio.set_event_loop_policy(Policy())
edge = Edge("test")


@edge.function("/*")
async def loop(request: Request, ctx: AsyncContext) -> str:
    return type(asyncio.get_running_loop()).__name__
"""


def test_async_functions_run_on_the_loop_of_the_policy_that_the_file_sets(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(POLICY)
    process = Process("run", str(app), "--listen", "127.0.0.1:0", "--workers", "1")
    try:
        url = process.wait_for(r"\n  (http://\S+)")[1]
        assert httpx.get(url, timeout=PATIENCE).text == "OwnLoop"
    finally:
        assert process.end() == 0


ENDLESS = """
import asyncio, threading, time

import httpx

from edgerouter import Edge
from edgerouter.testing import running

edge = Edge("test")
begun = threading.Semaphore(0)


def endless():
    begun.release()
    while True:
        try:
            while True:
                time.sleep(0.001)
        except BaseException:
            pass


@edge.function("/plain", timeout=0.2)
def plain(request, ctx):
    endless()


@edge.function("/after")
def after(request, ctx):
    ctx.wait_until(endless)
    return "after"


@edge.function("/async", timeout=0.2)
async def in_loop(request, ctx):
    endless()


with running(edge) as served:
    print([httpx.get(served + path, timeout=60).status_code for path in ("/plain", "/after", "/async")])
    for _ in range(3):
        begun.acquire()
print("stopped")
"""


def test_a_process_ends_well_while_callables_that_nothing_ends_still_run(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(ENDLESS)
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stdout) == (0, "[504, 200, 504]\nstopped\n"), ended.stderr
