"""The life of the process: reload, drain, the admin listener, an edge in a program."""

from __future__ import annotations

import itertools
import math
import re
import shutil
import signal
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import Edge, Health
from edgerouter.errors import ConfigError, EdgeError
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen, wait_until
from ..processes import Process, free_port, reachable
from ..raw import connect
from .apps import write_app

Serve = Callable[[Edge], Running]
Site = Callable[..., httpx.Client]


def test_a_client_that_leaves_is_no_end_of_a_process_whose_file_has_reset_sigpipe(
    origin: Origin, tmp_path: Path, run: Callable[..., Process]
) -> None:
    origin.default = Reply(200, {}, bytes(12 << 20))
    app = tmp_path / "app.py"
    write_app(app, origin.url, 1)
    app.write_text("import signal\nsignal.signal(signal.SIGPIPE, signal.SIG_DFL)\n" + app.read_text())
    port = free_port()
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}", "--reload")
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: reachable(port), 60, "the listener")

    def leave() -> None:
        with connect(url) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            # Closed with bytes unread: the edge has a reset, and its next write is one into a broken pipe.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    for _ in range(5):
        leave()
    app.write_text(app.read_text() + "\n")
    process.wait_for("reloaded")
    for _ in range(5):
        leave()
    assert httpx.get(url).content == bytes(12 << 20)
    assert process.end() == 0


def test_reload_by_sighup_and_by_file_and_a_broken_file_is_refused(
    origin: Origin, tmp_path: Path, run: Callable[..., Process]
) -> None:
    origin.default = Reply(200, {}, "x")
    app = tmp_path / "app.py"
    write_app(app, origin.url, 1)
    port = free_port()
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0", "--reload")

    def version() -> str | None:
        found: str | None = httpx.get(f"http://127.0.0.1:{port}/").headers.get("x-version")
        return found

    wait_until(lambda: reachable(port), 60, "the listener")
    assert version() == "1"
    write_app(app, origin.url, 2)
    wait_until(lambda: version() == "2", 60, "reload by file")
    app.write_text("from edgerouter import Edge\nedge = Edge('test')\nedge.route('/*', to='nowhere')\n")
    process.wait_for(r"routes\[0\]\.to.*nowhere")
    assert version() == "2"
    app.write_text("this is (not python")
    process.wait_for("SyntaxError")
    assert version() == "2"
    write_app(app, origin.url, 3)
    process.process.send_signal(signal.SIGHUP)
    wait_until(lambda: version() == "3", 60, "reload by SIGHUP")
    assert process.end() == 0


def _release(folder: Path, version: int) -> Path:
    folder.mkdir()
    (folder / "parts.py").write_text(f"text = 'v{version}'\n")
    (folder / "app.py").write_text(
        "from edgerouter import Edge\nimport parts\nedge = Edge('t')\nedge.route('/*', respond=parts.text)\n"
    )
    (folder / "site.toml").write_text(
        f"version = 1\nname = 't'\n[[routes]]\npattern = '/*'\nrespond = {{ body = 'v{version}' }}\n"
    )
    return folder


def _switch(link: Path, target: str | Path) -> None:
    """The link leads elsewhere in one step, as ``ln -sfn`` and a mounted volume do it."""
    beside = link.with_name("..next")
    beside.symlink_to(target)
    beside.replace(link)


def test_signals_that_end_nothing_are_kept_while_a_process_starts(tmp_path: Path, run: Callable[..., Process]) -> None:
    app, begun, go, port = tmp_path / "app.py", tmp_path / "begun", tmp_path / "go", free_port()
    text = """
import time
from pathlib import Path
from edgerouter import Edge
Path({begun!r}).touch()
while not Path({go!r}).exists():
    time.sleep(0.01)
edge = Edge("test")
edge.route("/*", respond={answer!r})
"""
    app.write_text(text.format(begun=str(begun), go=str(go), answer="first"))
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}")
    wait_until(begun.exists, 60, "the start")
    for number in (signal.SIGUSR1, signal.SIGHUP):
        process.process.send_signal(number)
    # The process has read the first one.
    app.write_text(text.format(begun=str(begun), go=str(go), answer="second"))
    go.touch()
    process.wait_for("reloaded: version 2")
    assert httpx.get(f"http://127.0.0.1:{port}/", timeout=60).text == "second"
    assert process.end() == 0


@pytest.mark.parametrize("reload", [True, False], ids=["by file", "by SIGHUP"])
@pytest.mark.parametrize("name", ["app.py", "site.toml"])
@pytest.mark.parametrize("layout", ["folder", "file", "volume"])
def test_a_link_that_leads_to_another_release_is_followed_by_a_reload(
    tmp_path: Path, run: Callable[..., Process], layout: str, name: str, reload: bool
) -> None:
    first, second = _release(tmp_path / "first", 1), _release(tmp_path / "second", 2)
    if layout == "folder":
        link, app = tmp_path / "current", tmp_path / "current" / name
        targets: list[str | Path] = [first, second, tmp_path / "third"]
    elif layout == "file":
        (tmp_path / "served").mkdir()
        link = app = tmp_path / "served" / name
        targets = [first / name, second / name, tmp_path / "third" / name]
    else:
        # A volume of Kubernetes: each file is a link to one in a folder that is itself a link.
        (tmp_path / "volume").mkdir()
        link, app = tmp_path / "volume" / "..data", tmp_path / "volume" / name
        targets = ["../first", "../second", "../third"]
        app.symlink_to(f"..data/{name}")
    _switch(link, targets[0])
    port = free_port()
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}", *(["--reload"] if reload else []))

    def text() -> str:
        return httpx.get(f"http://127.0.0.1:{port}/").text

    def switch(target: str | Path) -> None:
        _switch(link, target)
        if not reload:
            process.process.send_signal(signal.SIGHUP)

    wait_until(lambda: reachable(port), 60, "the listener")
    assert text() == "v1"
    switch(targets[1])
    wait_until(lambda: text() == "v2", 60, "the second release")
    # The first is removed after that, as a volume does it; the next is broken, and mended where it is.
    shutil.rmtree(first)
    third = _release(tmp_path / "third", 3)
    whole = (third / name).read_text()
    (third / name).write_text("broken (")
    switch(targets[2])
    process.wait_for("reload refused")
    assert text() == "v2"
    (third / name).write_text(whole)
    if not reload:
        process.process.send_signal(signal.SIGHUP)
    wait_until(lambda: text() == "v3", 60, "the third release")
    assert process.end() == 0


def test_a_module_that_was_missing_is_noticed_when_it_appears(tmp_path: Path, run: Callable[..., Process]) -> None:
    app, port = tmp_path / "app.py", free_port()
    app.write_text(
        "from edgerouter import Edge\nfrom parts.texts import text\nedge = Edge('t')\nedge.route('/*', respond=text)\n"
    )
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}", "--reload")
    process.wait_for("nothing is served yet")
    # The watch begins after the message, and the folder appears before it.
    (tmp_path / "parts").mkdir()
    process.wait_for(r"No module named 'parts\.texts'")
    (tmp_path / "parts" / "texts.py").write_text("from parts import more\ntext = more.text\n")
    process.wait_for("cannot import name 'more'")
    (tmp_path / "parts" / "more.py").write_text("text = 'whole'\n")
    wait_until(lambda: reachable(port), 60, "the listener")
    assert httpx.get(f"http://127.0.0.1:{port}/").text == "whole"
    app.touch()
    # The first reload: files that a load has added to those that are watched are no change.
    process.wait_for("reloaded: version 2")
    assert process.end() == 0
    assert process.output.count("reloaded") == 1


def test_sigterm_lets_what_is_being_answered_finish(
    origin: Origin, tmp_path: Path, run: Callable[..., Process]
) -> None:
    go = threading.Event()

    def slow(seen: Seen) -> Reply:
        go.wait(60)
        return Reply(200, {}, "finished")

    origin.default = slow
    app = tmp_path / "app.py"
    write_app(app, origin.url, 1)
    port = free_port()
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0")
    wait_until(lambda: reachable(port), 60, "the listener")
    result: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: result.append(httpx.get(f"http://127.0.0.1:{port}/", timeout=60)))
    thread.start()
    origin.wait_for(1)
    process.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not reachable(port), 60, "the end of accepting")
    go.set()
    thread.join(60)
    assert result[0].text == "finished"
    assert process.process.wait(60) == 0


def test_sigterm_leaves_no_request_unanswered_on_connections_that_are_in_use(
    origin: Origin, tmp_path: Path, run: Callable[..., Process]
) -> None:
    """A client sends one request behind the other, and cannot know of the stop before a response says so."""
    origin.default = Reply(200, {}, "whole")
    app = tmp_path / "app.py"
    write_app(app, origin.url, 1)
    port = free_port()
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0")
    wait_until(lambda: reachable(port), 60, "the listener")
    begun, failures = threading.Barrier(9), []

    def visit() -> None:
        with connect(f"http://127.0.0.1:{port}") as client, client.makefile("rb") as answers:
            for number in itertools.count():
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                if not answers.readline().startswith(b"HTTP/1.1 200"):
                    failures.append(number)
                    return
                head = b"".join(iter(answers.readline, b"\r\n")).lower()
                answers.read(5)
                if b"connection: close" in head:
                    return
                if number == 20:
                    begun.wait(60)

    visitors = [threading.Thread(target=visit) for _ in range(8)]
    for visitor in visitors:
        visitor.start()
    begun.wait(60)
    process.process.send_signal(signal.SIGTERM)
    for visitor in visitors:
        visitor.join(60)
    assert failures == []
    assert process.process.wait(60) == 0


def test_sigterm_lets_a_client_go_on_behind_a_response_that_began_before(
    origin: Origin, tmp_path: Path, run: Callable[..., Process]
) -> None:
    go = threading.Event()

    def streams(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + bytes(35_000))
        go.wait(60)
        connection.sendall(bytes(35_000))

    origin.default = Reply(200, {}, "whole")
    origin.on("/long", streams)
    app = tmp_path / "app.py"
    write_app(app, origin.url, 1)
    port = free_port()
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0")
    wait_until(lambda: reachable(port), 60, "the listener")
    with connect(f"http://127.0.0.1:{port}") as client, client.makefile("rb") as answers:
        client.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        head = b"".join(iter(answers.readline, b"\r\n")).lower()
        assert b"connection: close" not in head
        process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not reachable(port), 60, "the end of accepting")
        go.set()
        assert len(answers.read(70_000)) == 70_000
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        rest = answers.read()
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest.endswith(b"whole")
    assert b"connection: close" in rest.lower()
    assert process.process.wait(60) == 0


def test_a_function_that_outlasts_the_drain_does_not_crash_the_process(
    tmp_path: Path, run: Callable[..., Process]
) -> None:
    (tmp_path / "app.py").write_text(
        """
import sys, time, types
from edgerouter import Edge, HttpLimits, Limits

edge = Edge("test", limits=Limits(http=HttpLimits(drain_timeout=0.1)))

class Lasts:  # The interpreter takes its time to end, and the function wakes up meanwhile.
    sleep = staticmethod(time.sleep)
    def __del__(self):
        self.sleep(1.5)

sys.modules["lasts"] = types.ModuleType("lasts")
sys.modules["lasts"].lasts = Lasts()

@edge.function("/")
def sleeps(request, ctx):
    print("begun", flush=True)
    for _ in range(100):
        time.sleep(0.1)
"""
    )
    port = free_port()
    process = run("run", str(tmp_path / "app.py"), "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0")
    wait_until(lambda: reachable(port), 60, "the listener")
    client = connect(f"http://127.0.0.1:{port}")
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    process.wait_for("begun")
    assert process.end() == 0
    assert "requests were cut off" in process.output
    client.close()


LEFT = """
import asyncio, threading
from edgerouter import Edge

edge = Edge("test")


@edge.function("/thread")
def thread(request, ctx):
    threading.Thread(target=threading.Event().wait, name="left", daemon=False).start()
    return "begun"


@edge.function("/executor")
async def executor(request, ctx):
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    return "begun"


@edge.function("/idle")
async def idle(request, ctx):
    return await asyncio.to_thread(str, "begun")
"""


@pytest.mark.parametrize(("path", "named"), [("/thread", "left"), ("/executor", "asyncio_0"), ("/idle", None)])
def test_a_thread_that_a_function_has_left_at_work_does_not_keep_the_process(
    tmp_path: Path, run: Callable[..., Process], path: str, named: str | None
) -> None:
    (tmp_path / "app.py").write_text(LEFT)
    port = free_port()
    process = run("run", str(tmp_path / "app.py"), "--listen", f"127.0.0.1:{port}")
    wait_until(lambda: reachable(port), 60, "the listener")
    assert httpx.get(f"http://127.0.0.1:{port}{path}").text == "begun"
    assert process.end() == 0
    warned = re.findall(r"threads of callables were still at work: (\w+)", process.output)
    assert warned == ([named] if named else [])


def test_an_edge_in_a_program_starts_reloads_and_stops(origin: Origin) -> None:
    origin.default = Reply(200, {}, "x")
    edge = Edge("test")
    with pytest.raises(EdgeError, match="not being served"):
        edge.reload()
    edge.route("/*", to=edge.origin("first", origin.url))
    server = edge.start(listen="127.0.0.1:0")
    (url,) = server.urls
    assert httpx.get(f"{url}/new").text == "x"
    edge.route("/new", respond="new")
    assert edge.reload() == 2
    assert httpx.get(f"{url}/new").text == "new"
    for drain in (math.nan, "5"):
        with pytest.raises(ValueError, match=r"stop: drain is .* must be seconds or a timedelta"):
            edge.stop(drain=drain)  # type: ignore[arg-type]
    assert httpx.get(f"{url}/new").text == "new"
    assert edge.stop(drain=1e300)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@pytest.mark.parametrize("drain", [0, 1e19, 10**400, math.inf], ids=["none", "1e19", "no float", "infinite"])
def test_a_drain_may_be_as_long_as_it_takes(drain: float) -> None:
    edge = Edge("test")
    edge.route("/", respond="x")
    server = edge.start(listen="127.0.0.1:0")
    assert edge.stop(drain=drain)
    assert server.wait(0)


def test_a_plan_that_is_refused_while_running_names_the_line(origin: Origin, serve: Serve) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url))
    running = serve(edge)
    edge.route("/a", to="nowhere")
    with pytest.raises(ConfigError, match=r"test_life\.py:\d+: routes\[1\]\.to: \"nowhere\""):
        running.reload(edge)
    assert httpx.get(f"{running.url}/").status_code == 404


def test_a_refused_plan_raises_with_its_problems() -> None:
    edge = Edge("test")
    edge.route("/*", to="nowhere")
    with pytest.raises(ConfigError) as refused:
        edge.compile()
    assert [problem.path for problem in refused.value.problems] == ["routes[0].to"]


def test_the_admin_listener_reports_health_and_metrics(origin: Origin, site: Site, serve: Serve) -> None:
    origin.default = Reply(200, {"Cache-Control": "max-age=60"}, "x")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url))
    running = serve(edge)
    for _ in range(3):
        httpx.get(f"{running.url}/page")
    admin = running.admin_url
    assert admin
    assert httpx.get(f"{admin}/healthz").status_code == 200
    assert httpx.get(f"{admin}/readyz").status_code == 200
    metrics = httpx.get(f"{admin}/metrics").text
    hits = re.search(r'edgerouter_requests_total\{[^}]*cache="hit"[^}]*\} (\d+)', metrics)
    assert hits and hits[1] == "2", metrics
    assert "# TYPE edgerouter_request_duration_seconds histogram" in metrics
    assert httpx.get(f"{admin}/metrics", headers={"host": "evil.example"}).status_code in (403, 421)
    assert httpx.get(f"{admin}/metrics", headers={"origin": "http://evil.example"}).status_code == 403
    assert httpx.post(f"{admin}/metrics").status_code == 405
    assert httpx.get(f"{admin}/nothing").status_code == 404


def test_metrics_say_which_origin_is_down_from_the_start(origin: Origin, second: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {}, "x")
    second.kill()
    edge = Edge("test")
    first = edge.origin("first", origin.url, health=Health("/healthz", interval=0.1))
    edge.route("/*", to=edge.group("site", [first, edge.origin("second", second.url)]))
    running = serve(edge)

    def says(line: str) -> bool:
        return line in httpx.get(f"{running.admin_url}/metrics").text.splitlines()

    wait_until(lambda: says('edgerouter_origin_up{origin="second"} 0'), what="the first attempt to reach it")
    wait_until(lambda: says('edgerouter_origin_up{origin="first"} 1'), what="the first probe of the other")
    origin.kill()
    wait_until(lambda: says('edgerouter_origin_healthy{origin="first"} 0'), what="the probes' verdict")
    origin.start()
    wait_until(lambda: says('edgerouter_origin_healthy{origin="first"} 1'), what="its return")
    assert says('edgerouter_origin_up{origin="second"} 0'), "the other one is down all the time"


def test_many_reloads_under_load_lose_nothing(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {"Cache-Control": "max-age=60"}, "x")

    def plan(number: int) -> Edge:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("first", origin.url), headers={"response": {"set": {"X-Version": str(number)}}})
        return edge

    running = serve(plan(0))
    stop = threading.Event()
    failures: list[Any] = []
    counts = [0, 0]

    def load(index: int) -> None:
        with httpx.Client(base_url=running.url) as client:
            while not stop.is_set():
                try:
                    if client.get("/page").status_code != 200:
                        failures.append("status")
                except httpx.HTTPError as error:
                    failures.append(error)
                counts[index] += 1

    threads = [threading.Thread(target=load, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 30):
        running.reload(plan(number))
    wait_until(lambda: min(counts) > 50, 60, "the load")
    stop.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert httpx.get(f"{running.url}/page").headers["x-version"] == "29"
