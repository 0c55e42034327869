"""The limit on open files, and what happens when connections use it up."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from ..metrics import counted
from ..origins import Origin, Reply, Seen, wait_until
from ..processes import Process, free_port, reachable
from ..raw import readable

Limited = Callable[..., Process]


@pytest.fixture
def limited() -> Iterator[Limited]:
    """``limited(soft, hard, …)`` is ``edgerouter run …`` with a limit on its open files."""
    started: list[Process] = []

    def make(soft: int, hard: int, *arguments: str) -> Process:
        script = f'ulimit -S -n {soft} && ulimit -H -n {hard} && exec "$0" "$@"'
        started.append(Process(*arguments, by=("sh", "-c", script)))
        return started[-1]

    yield make
    for process in started:
        process.kill()


def silent(stack: ExitStack, port: int, count: int) -> list[socket.socket]:
    return [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(count)]


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("workers", [1, 3])
def test_silent_connections_beyond_the_limit_shut_nobody_out(
    origin: Origin, tmp_path: Path, limited: Limited, workers: int
) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "x")
    app = tmp_path / "app.py"
    app.write_text(
        f"from edgerouter import Edge\nedge = Edge('test')\nedge.route('/*', to=edge.origin('o', {origin.url!r}))\n"
    )
    port = free_port()
    listen = ("--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0", "--workers", str(workers))
    process = limited(1_024, 1_024, "run", str(app), *listen)
    admin = process.wait_for(r"(http://\S+)  admin")[1]
    wait_until(lambda: reachable(port), 60, "the listener")
    with ExitStack() as stack:
        waiting = silent(stack, port, 1_100)
        for path in ("/hit", "/hit", "/miss"):
            assert httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10).status_code == 200
        assert httpx.get(f"{admin}/readyz", timeout=10).status_code == 200
        # Those that came last are still there: a request on one of them is answered.
        waiting[-1].sendall(b"GET /hit HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        assert waiting[-1].recv(65_536).startswith(b"HTTP/1.1 200")
        # The first ones gave way.
        assert waiting[0].recv(1) == b""
        assert counted(admin, "edgerouter_connections_gave_way_total") > 0
        assert counted(admin, "edgerouter_connections ") <= 1_024
    [line] = [line for line in process.lines if "leaves room for" in line]
    assert " INFO " in line, "nobody chose the bound"
    assert process.end() == 0


@contextmanager
def all_at_once(tmp_path: Path, limited: Limited, workers: int) -> Iterator[tuple[int, list[socket.socket]]]:
    """The port of an edge, and more connections to it than it has descriptors. They begin at once."""
    app = tmp_path / "app.py"
    app.write_text("from edgerouter import Edge\nedge = Edge('test')\nedge.route('/*', respond='here')\n")
    port = free_port()
    process = limited(1_024, 1_024, "run", str(app), "--listen", f"127.0.0.1:{port}", "--workers", str(workers))
    wait_until(lambda: reachable(port), 60, "the listener")
    # The kernel takes all of them before a worker accepts the first.
    process.process.send_signal(signal.SIGSTOP)
    with ExitStack() as stack:
        waiting = silent(stack, port, 1_100)
        process.process.send_signal(signal.SIGCONT)
        yield port, waiting


@pytest.mark.usefixtures("many_descriptors")
def test_of_connections_that_come_all_at_once_the_last_are_kept(tmp_path: Path, limited: Limited) -> None:
    # Several workers accept from queues of their own: the last of one may be older than the first of another.
    with all_at_once(tmp_path, limited, workers=1) as (_, waiting):
        for last in reversed(waiting[-30:]):
            last.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            assert last.recv(65_536).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("many_descriptors")
def test_connections_that_come_all_at_once_to_several_workers_shut_nobody_out(tmp_path: Path, limited: Limited) -> None:
    with all_at_once(tmp_path, limited, workers=3) as (port, waiting):
        for _ in range(30):
            assert httpx.get(f"http://127.0.0.1:{port}/", timeout=30).text == "here"
        ended = [sock for sock in waiting if readable(sock, 0)]
        assert 1_100 - 1_024 < len(ended) < 1_000, "those that there was no room for, and not all"


@pytest.mark.parametrize(("limits", "level"), [("connections=20_000", "WARN"), ("connections=100", None), ("", "INFO")])
def test_a_bound_on_connections_that_somebody_chose_and_cannot_be_held_is_warned_of(
    tmp_path: Path, limited: Limited, limits: str, level: str | None
) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "from edgerouter import Edge, HttpLimits, Limits\n"
        f"edge = Edge('test', limits=Limits(http=HttpLimits({limits})))\n"
        "edge.route('/*', respond='x')\n"
    )
    port = free_port()
    process = limited(1_024, 1_024, "run", str(app), "--listen", f"127.0.0.1:{port}", "--workers", "1")
    wait_until(lambda: reachable(port), 60, "the listener")
    assert process.end() == 0
    said = [line for line in process.lines if "leaves room for" in line]
    assert len(said) == (level is not None), process.output
    assert level is None or f" {level} " in said[0], said
    assert ("limits.http.connections" in process.output) == (level == "WARN")


@pytest.mark.usefixtures("many_descriptors")
def test_a_connection_that_is_being_answered_does_not_give_way(
    origin: Origin, tmp_path: Path, limited: Limited
) -> None:
    released = threading.Event()

    def slow_answer(_: Seen) -> Reply:
        released.wait(60)
        return Reply(200, {}, "slow")

    origin.on("/slow", slow_answer)
    origin.default = Reply(200, {}, "x")
    app = tmp_path / "app.py"
    app.write_text(
        "from edgerouter import Edge, HttpLimits, Limits\n"
        "edge = Edge('test', limits=Limits(http=HttpLimits(connections=16)))\n"
        f"edge.route('/*', to=edge.origin('o', {origin.url!r}))\n"
    )
    port = free_port()
    process = limited(1_024, 1_024, "run", str(app), "--listen", f"127.0.0.1:{port}", "--workers", "1")
    wait_until(lambda: reachable(port), 60, "the listener")
    with ExitStack() as stack:
        (slow,) = silent(stack, port, 1)
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        origin.wait_for(1, "/slow")
        waiting = silent(stack, port, 40)
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 200
        assert waiting[0].recv(1) == b""
        released.set()
        answer = b""
        while more := slow.recv(65_536):
            answer += more
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"slow")
    assert "leaves room" not in process.output


FUNCTION = """
import os, resource, subprocess, sys
from edgerouter import Edge, Response

edge = Edge("test")
SAY = "import resource, sys; sys.stdin.read(); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"


@edge.function("/limits")
def limits(request, ctx):
    child = subprocess.run([sys.executable, "-c", SAY], input="", capture_output=True, text=True, check=True)
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writer, str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    copy = os.read(reader, 100).decode()
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Response.json([own, int(child.stdout), int(copy)])
"""


def test_the_soft_limit_is_raised_and_child_processes_get_it_as_it_was(tmp_path: Path, limited: Limited) -> None:
    app = tmp_path / "app.py"
    app.write_text(FUNCTION)
    port = free_port()
    limited(512, 4_096, "run", str(app), "--listen", f"127.0.0.1:{port}")
    wait_until(lambda: reachable(port), 60, "the listener")
    assert httpx.get(f"http://127.0.0.1:{port}/limits", timeout=20).json() == [4_096, 512, 512]
