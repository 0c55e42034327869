"""The life of the process: start, bad starts, reload, drain, the admin listener, streams."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import Edge, Health, cache
from edgerouter.errors import ConfigError, EdgeError
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen, until_steady, wait_until
from ..processes import Process, free_port, reachable
from ..raw import connect, read_all, responses
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


def test_a_busy_port_says_so_in_one_line(origin: Origin, tmp_path: Path, run: Callable[..., Process]) -> None:
    app = tmp_path / "app.py"
    write_app(app, origin.url, 1)
    process = run("run", str(app), "--listen", f"127.0.0.1:{origin.port}", "--admin", "127.0.0.1:0")
    assert process.process.wait(60) != 0
    process.reader.join(60)
    (line,) = [line for line in process.lines if line.strip()]
    assert f"127.0.0.1:{origin.port} is already in use" in line and "--listen" in line
    process = run("run", str(app), "--listen", "127.0.0.1:0", "--admin", f"127.0.0.1:{origin.port}")
    assert process.process.wait(60) != 0
    process.reader.join(60)
    (line,) = [line for line in process.lines if line.strip()]
    assert f"127.0.0.1:{origin.port} is already in use" in line and "--admin" in line


def test_an_unreadable_key_file_and_a_missing_secret_say_so(tmp_path: Path, run: Callable[..., Process]) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "from edgerouter import Edge, Jwt, env, secret_file\n"
        "edge = Edge('test')\no = edge.origin('o', 'http://127.0.0.1:1')\n"
        "edge.route('/a/*', to=o, auth=Jwt.hs256(env('NO_SUCH_SECRET')))\n"
        f"edge.route('/b/*', to=o, auth=Jwt.pem(secret_file('{tmp_path}/none.pem'), algorithm='RS256'))\n"
    )
    process = run("check", str(app))
    assert process.process.wait(60) == 1
    process.reader.join(60)
    assert "NO_SUCH_SECRET" in process.output and "none.pem" in process.output
    assert "Traceback" not in process.output


TEN = {
    "version": 1,
    "name": "test",
    "origins": [{"name": "o", "url": "ftp://x"}, {"name": "o", "url": "http://a"}],
    "groups": [{"name": "g", "members": ["o", "missing"]}],
    "routes": [
        {"pattern": "no-slash", "to": "o"},
        {"pattern": "/a", "to": "nowhere"},
        {"pattern": "/b", "to": "o", "cache": {"ttl": -5}},
        {"pattern": "/c", "to": "o", "viewer": "http-only"},
        {"pattern": "/d", "to": "o", "experiments": [{"name": "e", "cookie": "c d", "variants": [["a", 0]]}]},
        {"pattern": "/e", "to": "o", "redirect": {"location": "/x"}},
        {"pattern": "/f", "to": "o", "hue": "red"},
        {"pattern": "/g", "to": "o", "cache": {"min_ttl": 9, "max_ttl": 3}},
    ],
}


def test_ten_mistakes_get_ten_messages(tmp_path: Path, run: Callable[..., Process]) -> None:
    plan = tmp_path / "site.json"
    plan.write_text(json.dumps(TEN))
    process = run("check", str(plan))
    assert process.process.wait(60) == 1
    process.reader.join(60)
    for expected in (
        r"origins\[0\]\.url: .*ftp",
        r"origins\[1\]\.name",
        r"groups\[0\]\.members\[1\]",
        r"routes\[0\]\.pattern",
        r"routes\[1\]\.to: .*nowhere",
        r"routes\[2\]\.cache\.ttl: -5: must be ≥ 0",
        r"routes\[3\]\.viewer",
        r"routes\[4\]\.experiments\[0\]\.cookie",
        r"routes\[5\]",
        r"routes\[6\]\.hue",
        r"routes\[7\]\.cache",
    ):
        assert re.search(expected, process.output), (expected, process.output)


TEN_IN_PYTHON = """from __future__ import annotations

from edgerouter import CachePolicy, Edge, Experiment, Jwt, env, secret_file

edge = Edge("test")
site = edge.origin("site", "http://127.0.0.1:9000")
spare = edge.origin("spare", "http://127.0.0.1:9001", connect_timeout=-1)
edge.group("all", ["site", "spare"])
edge.route("no-slash", to=site)
edge.route("/b", to="stie")
edge.route("/c", to=site, cache=CachePolicy(ttl=-5))
edge.route("/d", to=site, viewer="http-only")
edge.route("/e", to=site, auth=Jwt.hs256(env("NO_SUCH_SECRET")))
edge.route("/f", to=site, auth=Jwt.pem(secret_file("none.pem"), "RS256"))
edge.route("/g/{a}{b}", to=site)
edge.route("/h", to=spare)
edge.route("/i/{n}", redirect="/{m}")
edge.route("/j", to=site, experiment=Experiment("e", cookie="c d", variants={"a": 1}))
edge.route("/l", to=site, hue="red")


@edge.function("k")
def function(request, ctx):
    return "never"
"""


def test_ten_mistakes_of_a_python_file_get_ten_messages_with_their_lines(
    tmp_path: Path, run: Callable[..., Process]
) -> None:
    app = tmp_path / "app.py"
    app.write_text(TEN_IN_PYTHON)
    for command in (["check"], ["run", "--listen", "127.0.0.1:0"]):
        process = run(command[0], str(app), *command[1:])
        assert process.process.wait(60) == 1
        process.reader.join(60)
        messages = [line for line in process.lines if line.startswith("error: ")]
        for line, expected in (
            (7, r"Origin\.connect_timeout: -1: must be > 0 seconds"),
            (9, r'routes\[0\]\.pattern: "no-slash": must be'),
            (10, r'routes\[1\]\.to: "stie": .*did you mean site'),
            (11, r"CachePolicy\.ttl: -5: must be ≥ 0 seconds"),
            (12, r'routes\[3\]\.viewer: "http-only": must be one of'),
            (13, r"routes\[4\]\.auth\.keys\.secret: .*NO_SUCH_SECRET"),
            (14, r"routes\[5\]\.auth\.keys\.pem: .*none\.pem"),
            (15, r"routes\[6\]\.pattern: .*two parameters touch"),
            (17, r"routes\[8\]\.redirect\.location: .*m"),
            (18, r'Experiment\.cookie: "c d": must be'),
            (19, r"Edge\.route\.hue: .*no such argument; there are pattern"),
            (22, r'routes\[11\]\.pattern: "k": must be'),
        ):
            found = [message for message in messages if re.search(rf"app\.py:{line}: {expected}", message)]
            assert len(found) == 1, (expected, process.output)
        assert len(messages) == 12, process.output
        assert "Traceback" not in process.output


def test_a_name_that_is_missing_for_another_reason_is_no_mistake_of_the_plan(
    tmp_path: Path, run: Callable[..., Process]
) -> None:
    app = tmp_path / "app.py"
    app.write_text("from edgerouter import Edge\nedge = Edge('test')\nedge.route('/*', to=nowhere)\n")
    process = run("check", str(app))
    assert process.process.wait(60) == 1
    process.reader.join(60)
    assert re.search(r"app\.py:3: NameError: name 'nowhere' is not defined", process.output)


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
    assert edge.stop(drain=1e300)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


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


def test_server_sent_events_flow_without_waiting_for_the_end(origin: Origin, site: Site) -> None:
    step = threading.Semaphore(0)

    def events() -> Iterator[bytes]:
        for number in range(3):
            yield f"data: {number}\n\n".encode()
            step.acquire(timeout=60)

    origin.on(
        "/events",
        lambda seen: Reply(200, {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}, chunks=events()),
    )
    client = site()
    with client.stream("GET", "/events") as response:
        received = []
        for line in response.iter_lines():
            if line:
                received.append(line)
                step.release()
    assert received == ["data: 0", "data: 1", "data: 2"]


def test_an_upgrade_becomes_a_tunnel(origin: Origin, site: Site) -> None:
    def websocket(seen: Seen, sock: socket.socket) -> None:
        assert seen.get("upgrade") == "websocket" and (seen.get("connection") or "").lower() == "upgrade"
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello ")
        while data := sock.recv(100):
            sock.sendall(data.upper())

    origin.on("/ws", websocket)
    client = site()
    with connect(str(client.base_url)) as sock:
        sock.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        received = b""
        while b"hello " not in received:
            received += sock.recv(1000)
        assert received.startswith(b"HTTP/1.1 101")
        sock.sendall(b"\x00binary\r\n\r\nGET / nonsense")
        echoed = b""
        while len(echoed) < 25:
            echoed += sock.recv(100)
        assert echoed == b"\x00BINARY\r\n\r\nGET / NONSENSE"


def test_large_bodies_stream_both_ways(origin: Origin, site: Site) -> None:
    blob = os.urandom(1 << 20) * 24
    origin.on("/big", lambda seen: Reply(200, {}, seen.body))
    client = site(cache=cache.DISABLED)
    response = client.post("/big", content=blob, timeout=60)
    assert response.content == blob

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(blob), 1 << 16):
            yield blob[start : start + (1 << 16)]

    assert client.post("/big", content=pieces(), timeout=60).content == blob


def test_neither_side_sends_more_than_the_other_takes(origin: Origin, serve: Serve) -> None:
    """Back-pressure: what nobody reads stays where it is, apart from what the sockets hold."""
    most = 32 << 20
    sent = [0]

    def pieces() -> Iterator[bytes]:
        for _ in range(2 * most >> 16):
            sent[0] += 1 << 16
            yield bytes(1 << 16)

    def unread(seen: Seen) -> Reply:
        return Reply(200, {"Cache-Control": "no-store"}, chunks=pieces())

    origin.on("/down", unread)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        edge = Edge("test")
        edge.route("/down", to=edge.origin("first", origin.url))
        edge.route("/up", to=edge.origin("deaf", f"http://127.0.0.1:{deaf.getsockname()[1]}"), cache=cache.DISABLED)
        running = serve(edge)
        with connect(running.url) as down, connect(running.url) as up:
            down.sendall(b"GET /down HTTP/1.1\r\nHost: a\r\n\r\n")
            up.sendall(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (2 * most))
            up.settimeout(1)
            assert sent_before_it_blocks(up, most) < most
            wait_until(lambda: sent[0] > 0, 60, "the origin's first bytes")
            assert until_steady(lambda: sent[0], what="the origin's bytes") < most


def sent_before_it_blocks(sock: socket.socket, most: int) -> int:
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < most:
            sent += sock.send(bytes(1 << 16))
    return sent


def test_a_slow_head_gets_408(origin: Origin, serve: Serve) -> None:
    from edgerouter import HttpLimits, Limits

    edge = Edge("test", limits=Limits(http=HttpLimits(head_timeout=0.5)))
    edge.route("/*", to=edge.origin("first", origin.url))
    running = serve(edge)
    with connect(running.url, 15) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert [answer.status for answer in responses(read_all(sock))] == [408]


def test_expect_continue_is_answered(origin: Origin, site: Site) -> None:
    origin.default = lambda seen: Reply(200, {}, seen.body)
    client = site(cache=cache.DISABLED)
    with connect(str(client.base_url)) as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
        )
        first = sock.recv(1000)
        assert first.startswith(b"HTTP/1.1 100"), first
        sock.sendall(b"body")
        rest = first.split(b"\r\n\r\n", 1)[1] + read_all(sock)
        assert responses(rest)[0].body == b"body"


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
