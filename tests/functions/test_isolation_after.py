"""Functions in worker processes: work after their response, its failures, and calls of the edge that are cancelled."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from edgerouter.testing import Running

from ..metrics import metric
from ..origins import wait_until

FAILED = '{result="failed"}'
MODULE = r"""
import asyncio, contextvars, os
from edgerouter import Edge, Isolation, Response
from edgerouter.functions import process_messages as messages

edge = Edge("isolated")
FOLDER = os.path.dirname(os.path.abspath(__file__))
ONE = Isolation(processes=1)
edge.kv("KV", "memory:")


def note(text):
    with open(FOLDER + "/notes", "a") as file:
        file.write(text + "\n")


@edge.function("/nested", isolation=ONE)
async def nested(request, ctx):
    async def inner():
        await asyncio.sleep(0)
        note("inner")

    def thread():
        ctx.wait_until(lambda: note("of a thread"))

    async def outer():
        assert ctx.wait_until(inner()) and ctx.wait_until(thread)
        # It has begun although this work is not over.
        while "inner" not in open(FOLDER + "/notes").read():
            await asyncio.sleep(0.01)
        note("outer")

    note("begun")
    ctx.wait_until(outer())
    nested.last = ctx
    return "answered"


@edge.function("/over", isolation=ONE)
async def over(request, ctx):
    return str(nested.last.wait_until(lambda: note("too late")))


@edge.function("/fails/{kind}", isolation=ONE)
async def fails(request, ctx, kind):
    async def first():
        raise ValueError("the first work")

    async def second():
        open_with("a secret")

    ctx.wait_until(first())
    ctx.wait_until(second())
    if kind == "streams":
        async def pieces():
            yield "piece"
            raise KeyError("half way")

        return pieces()
    if kind == "raises":
        raise TypeError("the call itself")
    return "answered"


def open_with(secret):
    raise LookupError("no way")


@edge.function("/logs", isolation=ONE)
def logs(request, ctx):
    try:
        open_with("a secret")
    except LookupError:
        ctx.log.exception("it was \ud800 refused")
    return "logged"


@edge.function("/floods/{kind}", isolation=ONE, timeout=60)
def floods(request, ctx, kind):
    channel = ctx.line.edge_calls.channel
    sent = messages.Cancel(7) if kind == "cancels" else messages.Failed("ValueError", "again", "no trace")

    def flood():
        note(kind)
        while not os.path.exists(FOLDER + "/enough-" + kind):
            for _ in range(1000):
                channel.send(sent)

    if kind == "fails":
        ctx.wait_until(flood)
    else:
        flood()
    return kind


@edge.function("/quick")
async def quick(request, ctx):
    return "quick"


@edge.function("/silent")
async def silent(request, ctx):
    note("silent")
    await asyncio.Event().wait()


@edge.function("/cancels", isolation=ONE)
async def cancels(request, ctx):
    ends, found = set(), set()
    for turn in range(1, 4):
        many = [asyncio.ensure_future(ctx.fetch(f"/silent?{turn}{number}")) for number in range(100)]
        while open(FOLDER + "/notes").read().count("silent") < 64 * turn:
            await asyncio.sleep(0.01)
        for task in many:
            task.cancel()
        ends |= {type(end).__name__ for end in await asyncio.gather(*many, return_exceptions=True)}
        # There is room for others.
        await ctx.env.KV.put("after", "cancelled")
        found |= set(await asyncio.gather(*(ctx.env.KV.get("after") for _ in range(100))))
    return [*ends, *found]


OF_CALL = contextvars.ContextVar("of_call", default="nobody's")


def seen_and_set(request):
    seen = OF_CALL.get()
    OF_CALL.set(request.query["user"])
    return seen


def plain(request, ctx):
    return seen_and_set(request)


async def coroutine(request, ctx):
    return seen_and_set(request)


def awaitable(request, ctx):
    return asyncio.sleep(0, seen_and_set(request))


def generator(request, ctx):
    yield seen_and_set(request)
    yield f" {OF_CALL.get()}"


async def async_generator(request, ctx):
    seen = seen_and_set(request)

    async def pieces():
        yield seen
        yield f" {OF_CALL.get()}"

    return pieces()


async def works(request, ctx):
    seen = seen_and_set(request)

    async def work():
        note("work of " + OF_CALL.get())

    ctx.wait_until(work())
    ctx.wait_until(lambda: note("thread of " + OF_CALL.get()))
    OF_CALL.set("nobody who is known")
    return seen


def wsgi(environ, start_response):
    seen = OF_CALL.get()
    OF_CALL.set(environ["QUERY_STRING"].partition("=")[2])
    start_response("200 OK", [])
    return [seen.encode()]


for kind in (plain, coroutine, awaitable, generator, async_generator, works):
    edge.function(f"/{kind.__name__}/here")(kind)
    edge.function(f"/{kind.__name__}/there", isolation=ONE)(kind)
edge.mount("/wsgi/here", wsgi)
edge.mount("/wsgi/there", wsgi, isolation=ONE)


class Mute(Exception):
    def __str__(self):
        raise ValueError("no text")


@edge.function("/mute", isolation=ONE)
def mute(request, ctx):
    if "fails" in request.query:
        raise Mute
    return str(os.getpid())


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 500})
    if scope["path"].endswith("/stream"):
        await send({"type": "http.response.body", "body": b"piece", "more_body": True})
    await send({"type": "http.response.body", "body": b"failed"})
    if "later" in scope["path"]:
        await asyncio.sleep(0.05)
    raise ValueError("after the end")


edge.mount("/here", asgi)
edge.mount("/there", asgi, isolation=ONE)
"""


def notes(folder: Path) -> list[str]:
    """The lines that functions have written."""
    file = folder / "notes"
    return file.read_text().splitlines() if file.exists() else []


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages. A module that has the name of one that is imported already has a prefix."""
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    return [line.replace("_edgerouter_app.", "app.") for line in said]


def test_work_after_a_response_gives_further_work_in_a_process(client: httpx.Client, folder: Path) -> None:
    assert client.get("/nested").text == "answered"
    wait_until(lambda: {"of a thread", "outer"} <= set(notes(folder)))
    told = notes(folder)
    assert told.index("begun") < told.index("inner") < told.index("outer")
    assert client.get("/over").text == "False"


@pytest.mark.parametrize("kind", ["answers", "streams", "raises"])
def test_failures_of_work_in_a_process_are_logged_and_counted_as_in_the_edge(
    served: Running, client: httpx.Client, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    before = metric(served, "edgerouter_background_tasks_total", FAILED)
    with caplog.at_level(logging.ERROR):
        if kind == "streams":
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("/fails/streams")
        else:
            assert client.get(f"/fails/{kind}").status_code == (502 if kind == "raises" else 200)
        wait_until(lambda: sum("(wait_until)" in line for line in errors(caplog)) == 2)
    failed = sorted(line.partition(": ")[2] for line in errors(caplog) if "(wait_until)" in line)
    assert failed == ["app.fails (wait_until) raised LookupError", "app.fails (wait_until) raised ValueError"]
    assert metric(served, "edgerouter_background_tasks_total", FAILED) == before + 2


def test_a_traceback_of_a_process_has_no_texts_of_its_lines(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert client.get("/logs").text == "logged"
        wait_until(lambda: bool(errors(caplog)))
    assert errors(caplog) == ["it was \\ud800 refused"]
    assert "LookupError: no way" in caplog.text
    assert "open_with(" in caplog.text
    assert "a secret" not in caplog.text


@pytest.mark.parametrize("place", ["here", "there"])
def test_what_a_call_sets_in_its_context_is_seen_by_itself_and_by_no_other(
    client: httpx.Client, folder: Path, place: str
) -> None:
    kinds = ["plain", "coroutine", "awaitable", "generator", "async_generator", "works", "wsgi"]
    for turn, kind in enumerate([*kinds, *reversed(kinds)]):
        user = f"{place}{turn}"
        seen = client.get(f"/{kind}/{place}", params={"user": user}).text
        assert seen == (f"nobody's {user}" if kind in ("generator", "async_generator") else "nobody's")
        if kind == "works":
            for line in (f"work of {user}", f"thread of {user}"):
                wait_until(lambda line=line: line in notes(folder))  # type: ignore[misc]


def test_an_exception_without_a_text_costs_no_process(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    before = client.get("/mute").text
    with caplog.at_level(logging.ERROR):
        assert client.get("/mute?fails").status_code == 502
    assert [line.partition(": ")[2] for line in errors(caplog)] == ["app.mute (GET /mute) raised Mute"]
    assert client.get("/mute").text == before


def test_calls_of_the_edge_that_a_process_cancels_leave_room_for_others(client: httpx.Client, folder: Path) -> None:
    (folder / "notes").touch()
    assert client.get("/cancels").json() == ["CancelledError", "cancelled"]


@pytest.mark.parametrize("kind", ["cancels", "fails"])
def test_a_process_that_sends_messages_without_end_leaves_the_event_loop_to_others(
    served: Running, client: httpx.Client, folder: Path, kind: str
) -> None:
    with ThreadPoolExecutor(1) as threads:
        flooded = threads.submit(client.get, f"/floods/{kind}")
        wait_until(lambda: kind in notes(folder))
        try:
            assert [client.get("/quick").text for _ in range(20)] == ["quick"] * 20
        finally:
            (folder / f"enough-{kind}").touch()
        assert flooded.result(60).text == kind
    # The process is free again, and none of its failures is yet to be logged.
    assert client.get("/mute").status_code == 200
    wait_until(lambda: metric(served, "edgerouter_background_tasks_running") == 0)


@pytest.mark.parametrize("path", ["/whole", "/stream", "/whole-later", "/later/stream"])
@pytest.mark.parametrize("place", ["/here", "/there"])
def test_the_log_says_what_an_application_has_raised_after_its_response(
    served: Running, client: httpx.Client, caplog: pytest.LogCaptureFixture, place: str, path: str
) -> None:
    before = metric(served, "edgerouter_background_tasks_total", FAILED)
    with caplog.at_level(logging.ERROR):
        assert client.get(place + path).text.endswith("failed")
        # The text of a record comes after the record itself, from another thread.
        wait_until(lambda: "ValueError: after the end" in caplog.text)
    (line,) = errors(caplog)
    said = f"edge.mount({place}) (GET {place}{path}, after its response) raised ValueError"
    assert line.partition(": ")[2] == said
    assert metric(served, "edgerouter_background_tasks_total", FAILED) == before + 1
