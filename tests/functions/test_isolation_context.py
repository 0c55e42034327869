"""Functions in worker processes use what the edge has: requests, caches, data, streams, work after the response."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest

from edgerouter import ConfigError, Edge, EdgeError, _core
from edgerouter.application import FileApplication
from edgerouter.functions import process_bindings as remote
from edgerouter.functions import process_context as context
from edgerouter.functions import process_messages as messages
from edgerouter.testing import running

from ..origins import Origin, Reply, wait_until

MODULE = r"""
import asyncio, os, time
from edgerouter import Abort, Edge, Isolation, Response

edge = Edge("isolated")
FOLDER = os.path.dirname(os.path.abspath(__file__))
TWO = Isolation(processes=2)
ONE = Isolation(processes=1, cpu_seconds=9)


def at(pattern, isolation=TWO, **options):
    return edge.function(pattern, isolation=isolation, **options)


edge.kv("KV", "memory:")
edge.database("DB", f"sqlite:{FOLDER}/app.db")
edge.documents("DOCS", f"sqlite:{FOLDER}/docs.db")
edge.route("/page", respond="the page")
CLOSED = FOLDER + "/closed"


@at("/streams")
def streams(request, ctx):
    try:
        for number in range(int(request.query.get("n", 3))):
            yield f"{number} ä\n" + "😀" * int(request.query.get("more", 0))
        if "fails" in request.query:
            raise ValueError("half way")
    finally:
        open(CLOSED, "a").write("plain ")


@at("/streams/async")
async def streams_async(request, ctx):
    async def pieces():
        try:
            yield (await ctx.fetch("/page")).body
            while "endless" in request.query:
                yield bytes(65_536)
        finally:
            open(CLOSED, "a").write("async ")

    return Response(pieces(), 201, {"content-type": "text/csv"})


@at("/streams/aborts")
async def streams_aborts(request, ctx):
    raise Abort(404, "none")
    yield b""


@at("/fetches/{kind}")
async def fetches(request, ctx, kind):
    if kind == "many":
        found = await asyncio.gather(*(ctx.fetch("/page") for _ in range(20)))
        return [response.body.decode() for response in found]
    if kind == "host":
        return await ctx.fetch("https://www.example.com/")
    if kind == "origin":
        return await ctx.fetch("/page", origin="nobody")
    if kind == "nested":
        return await ctx.fetch("/one/fetches")
    if kind == "post":
        return await ctx.fetch("/body", method="POST", body=b"abc", headers={"x-a": "b"})
    return await ctx.fetch(f"/{kind}", cache="no-store", timeout=5)


@at("/one/fetches", isolation=ONE)
def one_fetches(request, ctx):
    # Its own pool has no other process.
    found = ctx.fetch("/one")
    return Response(found.body, found.status)


@at("/data")
def data(request, ctx):
    kv, db, docs = ctx.env.KV, ctx.env.DB, ctx.env.DOCS
    kv.put("a", "1", metadata={"m": 1})
    kv.put("b", b"\x00")
    kv.put("c", {"x": [1]})
    db.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, raw BLOB)")
    insert = db.prepare("INSERT OR REPLACE INTO t VALUES (?, ?, ?)")
    db.batch([insert.bind(1, "ä", b"\x01"), insert.bind(2, "b", None)])
    try:
        db.prepare("INSERT INTO t VALUES (9, 'b', NULL)").run()
    except Exception as error:
        refused = [type(error).__name__, error.constraint]
    docs.put("d", {"x": 1})
    missing = "NONE" in ctx.env
    return {
        "kv": [kv.get("a"), kv.get("b", "bytes") == b"\x00", kv.get("c", "json"), kv.get("none"), kv.add("n", 3)],
        "entry": [kv.entry("a").text(), kv.entry("a").metadata],
        "keys": kv.list("", limit=2).keys,
        "rows": db.prepare("SELECT name FROM t ORDER BY id").all().results,
        "first": [db.prepare("SELECT raw FROM t").first("raw") == b"\x01", db.prepare("SELECT 1").raw()],
        "session": db.with_session().prepare("SELECT count(*) FROM t").first("count(*)"),
        "refused": refused, "document": docs.get("d").value, "missing": missing, "engine": db.engine,
    }


@at("/data/async")
async def data_async(request, ctx):
    await asyncio.gather(*(ctx.env.KV.put(f"k{number}", str(number)) for number in range(10)))
    await ctx.env.DOCS.put("e", {"y": 2})
    row = await ctx.env.DB.prepare("SELECT 7 AS n").first()
    return [await ctx.env.KV.get("k9"), (await ctx.env.DOCS.get("e")).value, row]


@at("/cache/{name}")
async def caches(request, ctx, name):
    cache = ctx.cache if name == "default" else await ctx.caches.open(name)
    found = await cache.match(request)
    if found is not None:
        return Response(found.body, headers={"x-found": "1"})
    response = Response("made", headers={"cache-control": "max-age=60"})
    ctx.wait_until(cache.put(request, response.clone()))
    return response


@at("/later")
def later(request, ctx):
    def work():
        ctx.env.KV.put("later", "done")
    return str(ctx.wait_until(work))


@at("/trace")
def trace(request, ctx):
    return {"trace": ctx.trace is not None and len(ctx.trace.trace_id), "region": ctx.region}


@at("/many-asks")
async def many_asks(request, ctx):
    found = await asyncio.gather(*(ctx.env.KV.get("a") for _ in range(500)), return_exceptions=True)
    return sorted({type(one).__name__ for one in found})


@at("/one", isolation=ONE)
def one(request, ctx):
    return str(os.getpid())


@at("/body", isolation=ONE)
def body(request, ctx):
    return [request.method, request.text(), request.headers.get("x-a")]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                open(FOLDER + "/ended", "a").write(f"{os.getpid()} ")
            else:
                scope["state"]["begun"] = os.getpid()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-root", scope["root_path"].encode())]})
    if scope["path"] == "/asgi/stream":
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"piece ", "more_body": True})
    same = scope["state"]["begun"] == os.getpid()
    await send({"type": "http.response.body", "body": b"%s %s %d" % (scope["path"].encode(), body, same)})


def wsgi(environ, start_response):
    start_response("200 OK", [("x-multi", str(environ["wsgi.multiprocess"]))])
    yield environ["SCRIPT_NAME"].encode() + b" "
    yield environ["PATH_INFO"].encode() + environ["wsgi.input"].read()


edge.mount("/asgi", asgi, isolation=ONE)
edge.mount("/wsgi", wsgi, isolation=ONE)


@edge.function("/large")
async def large(request, ctx):
    while not os.path.exists(FOLDER + "/sleeps"):
        await asyncio.sleep(0.01)
    return bytes(1 << 20)


@at("/forgets", ONE)
async def forgets(request, ctx):
    tasks = [asyncio.ensure_future(ctx.fetch(f"/large?{number}")) for number in range(6)]
    await asyncio.sleep(0)
    open(FOLDER + "/sleeps", "w").close()
    # The replies come meanwhile, more than the socket holds.
    time.sleep(0.5)
    return str(os.getpid())


@at("/who", ONE)
async def who(request, ctx):
    return str(os.getpid())


@edge.function("/later/done")
def done(request, ctx):
    return ctx.env.KV.get("later") or ""
"""


def names(thing: object, *without: str) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")} - set(without)


def test_a_process_has_all_that_a_context_has() -> None:
    request: messages.RequestParts = {}  # type: ignore[typeddict-item]
    call = messages.Call(0, "f", request, "1", 1.0, b"")
    made = context.WorkerContext(call, None, True)  # type: ignore[arg-type]
    assert names(_core.AsyncContext, "begin_fetch", "fetch_origin", "nested") <= names(made)
    for own, other in (
        (_core.AsyncKv, remote._Kv(made.line, "a")),
        (_core.AsyncDatabase, remote._Database(made.line, "a", "sqlite")),
        (_core.AsyncStatement, remote._Statement),
        (_core.AsyncDocumentServer, remote._DocumentServer(made.line, "a")),
        (_core.AsyncCache, made.cache),
        (_core.Caches, made.caches),
        (_core.KvEntry, remote._Entry),
        (_core.KvKeys, remote._Keys),
        (_core.SqlResult, remote._SqlResult),
        (_core.SqlScript, remote._SqlScript),
        (_core.TracePlace, context._TracePlace),
    ):
        assert names(own) <= names(other), own


def test_a_process_fetches_through_its_edge(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    assert client.get("/fetches/page").text == "the page"
    assert client.get("/fetches/many").json() == ["the page"] * 20
    assert client.get("/fetches/post").json() == ["POST", "abc", "b"]
    for kind, text in (("host", "is not the host of this request"), ("origin", "is no origin or group")):
        assert client.get(f"/fetches/{kind}").status_code == 502
        wait_until(lambda text=text: "ValueError" in caplog.text and text in caplog.text, what=text)  # type: ignore[misc]
    # A call that waits for its own process is answered at once.
    refused = client.get("/fetches/nested")
    assert (refused.status_code, "busy" in refused.text) == (503, True)
    assert client.get("/one").status_code == 200


FORWARDS = """
from edgerouter import Edge

edge = Edge("forwards")
site = edge.origin("site", URL)


async def itself(request, ctx):
    return await ctx.fetch(request, origin="site")


async def as_json(request, ctx):
    return await ctx.fetch(request, origin="site", method=None, json={"a": 1})


edge.function("/here/itself")(itself)
edge.function("/here/json")(as_json)
edge.function("/there/itself", isolation="process")(itself)
edge.function("/there/json", isolation="process")(as_json)
"""


def test_a_process_sends_the_request_of_a_client_on_as_the_edge_does(tmp_path: Path, origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, {}, f"{seen.method} {seen.get('content-type')} {seen.body.decode()}")
    (tmp_path / "app.py").write_text(FORWARDS.replace("URL", repr(origin.url)))
    with running(FileApplication("app.py", folder=tmp_path).load()) as served:
        for place in ("here", "there"):
            with httpx.Client(base_url=f"{served.url}/{place}", timeout=60) as client:
                text = {"content-type": "text/plain"}
                # Content of a GET has no meaning, and belongs to the client.
                assert client.request("GET", "itself", content="a", headers=text).text == "GET text/plain a", place
                assert client.post("itself", content="a", headers=text).text == "POST text/plain a", place
                assert client.post("json", content="a", headers=text).text == 'POST application/json {"a":1}', place


def test_a_process_streams_and_its_iterators_are_closed(
    client: httpx.Client, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    closed = folder / "closed"
    found = client.get("/streams")
    assert (found.text, found.headers["content-type"]) == ("0 ä\n1 ä\n2 ä\n", "text/plain; charset=utf-8")
    found = client.get("/streams/async")
    assert (found.status_code, found.text, found.headers["content-type"]) == (201, "the page", "text/csv")
    # More than a message has, in characters of four bytes.
    assert len(client.get("/streams?n=1&more=1500000").content) == 6_000_005
    assert client.get("/streams/aborts").status_code == 404
    assert "error id" not in caplog.text
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/streams?fails=1")
    wait_until(lambda: "half way" in caplog.text, what="the log")
    closed.unlink()
    # Clients that leave.
    for path, word in (("/streams?n=10000000", "plain"), ("/streams/async?endless=1", "async")):
        with client.stream("GET", path) as leaving:
            assert next(leaving.iter_raw())
        wait_until(lambda word=word: closed.exists() and word in closed.read_text())  # type: ignore[misc]
    assert [client.get("/streams?n=1").text for _ in range(4)] == ["0 ä\n"] * 4


def test_a_process_has_the_data_of_its_edge(client: httpx.Client) -> None:
    assert client.get("/data").json() == {
        "kv": ["1", True, {"x": [1]}, None, 3],
        "entry": ["1", {"m": 1}],
        "keys": ["a", "b"],
        "rows": [{"name": "ä"}, {"name": "b"}],
        "first": [True, [[1]]],
        "session": 2,
        "refused": ["BindingError", "unique"],
        "document": {"x": 1},
        "missing": False,
        "engine": "sqlite",
    }
    assert client.get("/data/async").json() == ["9", {"y": 2}, {"n": 7}]
    assert client.get("/many-asks").json() == ["str"]


@pytest.mark.parametrize("name", ["default", "mine"])
def test_a_process_has_the_caches_of_functions(client: httpx.Client, name: str) -> None:
    path = f"/cache/{name}"
    assert client.get(path).text == "made"
    wait_until(lambda: client.get(path).headers.get("x-found") == "1")


def test_a_process_goes_on_after_its_response(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    assert client.get("/later").text == "True"
    wait_until(lambda: client.get("/later/done").text == "done")
    assert [client.get("/one").status_code for _ in range(3)] == [200] * 3
    assert client.get("/trace").json() == {"trace": False, "region": None}
    assert not caplog.records


def test_applications_are_mounted_in_processes(client: httpx.Client) -> None:
    found = client.post("/asgi/a", content="abc")
    assert (found.status_code, found.text, found.headers["x-root"]) == (201, "/asgi/a abc 1", "/asgi")
    assert client.get("/asgi/stream").text == "piece piece piece /asgi/stream  1"
    found = client.post("/wsgi/b", content="abc")
    assert (found.text, found.headers["x-multi"]) == ("/wsgi /babc", "True")
    # An interface without WebSockets sees the request that it would be without an upgrade.
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    assert client.get("/wsgi", headers=upgrade).text == client.get("/wsgi").text == "/wsgi "


def test_the_lifespan_of_an_application_ends_with_its_process(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(MODULE)
    with running(FileApplication("app.py", folder=tmp_path).load()) as served:
        assert httpx.get(f"{served}/asgi", timeout=20).status_code == 201
    wait_until((tmp_path / "ended").exists)
    (tmp_path / "app.py").write_text(MODULE.replace('message["type"] + ".complete"', 'message["type"] + ".failed"'))
    with pytest.raises(EdgeError, match="could not start"), running(FileApplication("app.py", folder=tmp_path).load()):
        pass
    mounted = Edge("site")
    with pytest.raises(ConfigError, match="imports it by its name"):
        mounted.mount("/app", lambda environ, start_response: [], isolation="process")


def test_replies_that_a_call_does_not_wait_for_leave_the_process_fit_for_the_next(client: httpx.Client) -> None:
    found = [client.get(path) for path in ("/who", "/forgets", "/who", "/forgets", "/who")]
    assert [response.status_code for response in found] == [200] * 5
    assert len({response.text for response in found}) == 1


MISTAKES = """
from edgerouter import Edge, Response

edge = Edge("mistakes")
edge.kv("KV", "memory:")
edge.database("DB", "sqlite:" + __file__ + ".db")


def raised(make):
    try:
        return repr(make())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def probe(request, ctx):
    kv = ctx.env.KV
    kv.put("raw", b"\\xff\\x00")
    return [
        raised(lambda: kv.get("raw")),
        raised(lambda: kv.get("raw", "json")).partition(":")[0],
        raised(lambda: kv.get("raw", "none")),
        raised(lambda: kv.entry("raw")),
        raised(lambda: kv.entry("raw").text()),
        raised(lambda: kv.entry("raw").json()).partition("JSON")[0],
        raised(lambda: kv.list("raw")),
        raised(lambda: ctx.env.DB.batch(["SELECT 1"])),
        raised(lambda: ctx.cache.match(5)),
        raised(lambda: ctx.cache.put("https://a.example/", 5)),
        raised(lambda: ctx.cache.put("https://a.example/", Response(iter(["a"])))).partition(" streams")[0],
        raised(lambda: ctx.env.NONE),
        raised(lambda: [name for name in dir(ctx.env) if not name.startswith("_")]),
        raised(lambda: ctx.wait_until(5)),
        raised(lambda: ctx.tag(5)).partition(":")[0],
        raised(lambda: ctx.convert("goal", "x")).partition(":")[0],
    ]


edge.function("/here")(probe)
edge.function("/there", isolation="process")(probe)
"""


def test_mistakes_are_the_same_errors_in_a_process_as_in_the_edge(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(MISTAKES)
    with running(FileApplication("app.py", folder=tmp_path).load()) as served:
        here, there = (httpx.get(f"{served.url}/{place}", timeout=60) for place in ("here", "there"))
        assert here.json() == there.json()
