"""Answers of queued calls reach their requests, however many end in one turn and whatever else happens to them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from edgerouter import Abort, AsyncContext, Context, Edge, FunctionLimits, Limits, Request, Response
from edgerouter.testing import Running, running

from ..origins import wait_until
from ..raw import connect, read_all

Serve = Callable[[Edge], Running]
PATIENCE = 60.0


def answering(edge: Edge) -> None:
    """A function of each kind, which answers with its name and the number of the call."""

    @edge.function("/plain/{number}")
    def plain(request: Request, ctx: Context) -> str:
        return f"plain {request.params['number']}"

    @edge.function("/serial/{number}", serial=True)
    def serial(request: Request, ctx: Context) -> str:
        return f"serial {request.params['number']}"

    @edge.function("/quick/{number}")
    async def quick(request: Request, ctx: AsyncContext) -> str:
        return f"quick {request.params['number']}"

    @edge.function("/turns/{number}")
    async def turns(request: Request, ctx: AsyncContext) -> str:
        number = int(request.params["number"])
        for _ in range(number % 4):
            await asyncio.sleep(0)
        await asyncio.sleep(number % 3 / 1000)
        return f"turns {number}"


KINDS = ("plain", "serial", "quick", "turns")


def pipeline(edge: Running, kinds: list[str], numbers: range) -> list[str]:
    """Requests one after the other on one connection, each as soon as the one before is answered."""
    with httpx.Client(base_url=edge.url, timeout=PATIENCE) as client:
        return [client.get(f"/{kinds[number % len(kinds)]}/{number}").text for number in numbers]


def give_up(edge: Running, kind: str, numbers: range) -> None:
    """Sends requests and closes their connections without reading an answer."""
    for number in numbers:
        with connect(edge.url, PATIENCE) as gone:
            gone.sendall(f"GET /{kind}/{number} HTTP/1.1\r\nHost: edge\r\n\r\n".encode())


@pytest.mark.parametrize("workers", [1, 2])
def test_each_of_many_calls_gets_its_own_answer_while_others_are_given_up(workers: int) -> None:
    edge = Edge("test")
    answering(edge)
    with running(edge, workers=workers) as served, ThreadPoolExecutor(16) as pool:
        kinds = [list(KINDS[at:] + KINDS[:at]) for at in range(len(KINDS))]
        reading = [pool.submit(pipeline, served, kinds[at % 4], range(at * 60, at * 60 + 60)) for at in range(12)]
        leaving = [pool.submit(give_up, served, kind, range(60)) for kind in KINDS]
        for gone in leaving:
            gone.result()
        for at, future in enumerate(reading):
            wanted = [f"{kinds[at % 4][number % 4]} {number}" for number in range(at * 60, at * 60 + 60)]
            assert future.result() == wanted


def test_calls_that_end_in_one_turn_are_all_answered(serve: Serve) -> None:
    edge = Edge("test")
    together = 40
    event: list[asyncio.Event] = []
    waiting = 0

    @edge.function("/{number}")
    async def meet(request: Request, ctx: AsyncContext) -> str:
        nonlocal waiting
        if not event:
            event.append(asyncio.Event())
        waiting += 1
        if waiting == together:
            event[0].set()
        await event[0].wait()
        return request.params["number"]

    served = serve(edge)
    with ThreadPoolExecutor(together) as pool:
        answers = list(pool.map(lambda at: httpx.get(f"{served.url}/{at}", timeout=PATIENCE).text, range(together)))
    assert answers == [str(at) for at in range(together)]


@pytest.mark.parametrize("awaits", [True, False])
def test_an_answer_does_not_wait_for_a_call_that_was_quick_before(serve: Serve, awaits: bool) -> None:
    """Answers may wait for quick calls that follow; the worker looks for them itself when one is not."""
    release, blocks, stuck = threading.Event(), threading.Event(), threading.Event()
    edge = Edge("test", limits=Limits(functions=FunctionLimits(threads=1)))

    def work(request: Request) -> str:
        if request.path == "/block" and blocks.is_set():
            stuck.set()
            assert release.wait(PATIENCE)
        return request.path

    async def awaited(request: Request, ctx: AsyncContext) -> str:
        return work(request)

    def plain(request: Request, ctx: Context) -> str:
        return work(request)

    if awaits:
        edge.function("/{name}")(awaited)
    else:
        edge.function("/{name}")(plain)

    served = serve(edge)
    with httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        for _ in range(5):
            assert client.get("/block").text == "/block"
    blocks.set()
    with ThreadPoolExecutor(1) as pool, connect(served.url, PATIENCE) as first:
        # The call before it in the queue is answered although the thread is in the next one until the test has read it.
        first.sendall(b"GET /answer HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
        blocked = pool.submit(httpx.get, f"{served.url}/block", timeout=PATIENCE)
        try:
            assert read_all(first).endswith(b"/answer")
            assert stuck.wait(PATIENCE)
            assert not blocked.done()
        finally:
            release.set()
        assert blocked.result().text == "/block"


def test_the_response_comes_before_background_work_that_blocks_the_loop(serve: Serve) -> None:
    release = threading.Event()
    edge = Edge("test")

    async def work() -> None:
        assert release.wait(PATIENCE)

    @edge.function("/quick")
    async def quick(request: Request, ctx: AsyncContext) -> str:
        return "quick"

    @edge.function("/later")
    async def later(request: Request, ctx: AsyncContext) -> str:
        assert ctx.wait_until(work())
        return "at once"

    served = serve(edge)
    try:
        assert httpx.get(f"{served.url}/later", timeout=PATIENCE).text == "at once"
    finally:
        release.set()
    assert httpx.get(f"{served.url}/quick", timeout=PATIENCE).text == "quick"


def test_calls_under_way_are_answered_while_their_worker_drains() -> None:
    edge = Edge("test")
    begun, release = threading.Semaphore(0), threading.Event()
    clients = 8

    @edge.function("/{number}")
    async def function(request: Request, ctx: AsyncContext) -> str:
        begun.release()
        while not release.is_set():
            await asyncio.sleep(0.001)
        return f"answer {request.params['number']}"

    with running(edge, workers=2, drain=PATIENCE) as served, ThreadPoolExecutor(clients + 1) as pool:
        url = served.url
        calls = [pool.submit(httpx.get, f"{url}/{at}", timeout=PATIENCE) for at in range(clients)]
        for _ in range(clients):
            assert begun.acquire(timeout=PATIENCE)
        stopped = pool.submit(served.server.stop)
        wait_until(lambda: not accepts(url))
        release.set()
        assert [call.result().text for call in calls] == [f"answer {at}" for at in range(clients)]
        stopped.result()


def accepts(url: str) -> bool:
    try:
        connect(url, PATIENCE).close()
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize("awaits", [True, False])
def test_a_call_ends_in_its_own_time_beside_one_that_has_more(serve: Serve, awaits: bool) -> None:
    release, begun = threading.Event(), threading.Semaphore(0)
    edge = Edge("test")

    async def awaited(request: Request, ctx: AsyncContext) -> str:
        begun.release()
        while not release.is_set():
            await asyncio.sleep(0.001)
        return "released"

    def plain(request: Request, ctx: Context) -> str:
        begun.release()
        release.wait(PATIENCE)
        return "released"

    for path, timeout in (("/long", PATIENCE), ("/short", 0.1)):
        if awaits:
            edge.function(path, timeout=timeout)(awaited)
        else:
            edge.function(path, timeout=timeout)(plain)
    served = serve(edge)
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(httpx.get, f"{served.url}/long", timeout=PATIENCE)
        try:
            assert begun.acquire(timeout=PATIENCE)
            for _ in range(3):
                assert httpx.get(f"{served.url}/short", timeout=PATIENCE).status_code == 504
            assert not long.done()
        finally:
            release.set()
        assert long.result().text == "released"


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("/é x", "/%C3%A9%20x"),
        ("/日?q=日#日", "/%E6%97%A5?q=%E6%97%A5#%E6%97%A5"),
        ("/%C3%A9?a=1&b=%20+[]!$'()*,;:@~", "/%C3%A9?a=1&b=%20+[]!$'()*,;:@~"),
        ("/\\evil.example", "/%5Cevil.example"),
        ('/<"{|}^`>', "/%3C%22%7B%7C%7D%5E%60%3E"),
    ],
)
def test_a_redirect_is_a_url_whatever_characters_it_is_given(url: str, location: str) -> None:
    assert Response.redirect(url).headers["location"] == location


def test_a_redirect_has_no_line_ends() -> None:
    with pytest.raises(ValueError, match="may not hold line ends"):
        Response.redirect("/a\r\nx: y")


def set_all(headers: Any) -> None:
    fields = Response("a").headers
    for name, value in headers.items():
        fields[name] = value


def add_all(headers: Any) -> None:
    fields = Response("a").headers
    for name, value in headers.items():
        fields.add(name, value)


@pytest.mark.parametrize(
    "take",
    [
        lambda headers: Request("https://a.example/", headers=headers),
        lambda headers: Request(Request("https://a.example/"), headers=headers),
        lambda headers: Response("a", headers=headers),
        lambda headers: Response.json({}, headers=headers),
        lambda headers: Abort(404, headers=headers),
        lambda headers: Response("a").headers.update(headers),
        set_all,
        add_all,
    ],
    ids=["request", "of a request", "response", "json", "abort", "update", "set", "add"],
)
@pytest.mark.parametrize(
    ("headers", "error", "message"),
    [
        ({"x-a": 1}, TypeError, r"headers: the value of x-a must be a str, not int: write str\(value\)"),
        ({"x-a": True}, TypeError, r"headers: the value of x-a must be a str, not bool: write str\(value\)"),
        ({"x-a": b"1"}, TypeError, r'the value of x-a must be a str, not bytes: write value.decode\("latin-1"\)'),
        ({"x-a": None}, TypeError, r"the value of x-a must be a str, not NoneType: leave the field out"),
        ({"x-a": ["1"]}, TypeError, r"the value of x-a must be a str, not list: give pairs"),
        ({1: "a"}, TypeError, r"headers: a name must be a str, not int: write str\(name\)"),
        ({"x a": "1"}, ValueError, r'headers: "x a" is no field name: .* without spaces'),
        ({"x-a": "secret\r\n"}, ValueError, r"headers: the value of x-a may not hold line ends.*quote$"),
        ({"x-a": "€"}, ValueError, r"headers: the value of x-a may not hold .* beyond Latin-1"),
    ],
    ids=["number", "truth", "bytes", "nothing", "list", "name", "space", "line end", "character"],
)
def test_a_field_that_no_message_can_have_is_refused_by_its_name_wherever_it_is_given(
    take: Callable[[Any], object], headers: dict[Any, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        take(headers)
    # It may be a credential.
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_response_of_a_status_without_content_has_none(status: int) -> None:
    makes: list[Callable[[], Response]] = [
        lambda: Response("a", status),
        lambda: Response(iter(["a"]), status),
        lambda: Response.json({}, status),
        lambda: Response.text("a", status),
        lambda: Response.html("a", status),
    ]
    for make in makes:
        with pytest.raises(ValueError, match=rf"a {status} has no body.*Response\(None, {status}\)"):
            make()
    assert Response(None, status).status == Response("", status).status == status


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (({"a": 1}, 204), "a 204 with content"),
        ((Response("a"), 205), "a 205 with content"),
        (("a", 999), "no pair of a value and a status from 200 to 599"),
        (("a", 201, {}), "no pair of a value and a status from 200 to 599"),
    ],
)
def test_a_pair_whose_status_does_not_fit_is_named(result: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    edge = Edge("test")

    @edge.function("/")
    def function(request: Request, ctx: Context) -> Any:
        return result

    with running(edge) as served:
        assert httpx.get(served.url, timeout=PATIENCE).status_code == 502
    assert reason in caplog.text
