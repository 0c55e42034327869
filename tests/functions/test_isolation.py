"""Functions in worker processes: what goes wrong in one ends in the promised error and costs other calls nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from edgerouter import ConfigError, Edge, EdgeError, Isolation, Response
from edgerouter.application import FileApplication
from edgerouter.functions import processes
from edgerouter.functions.worker_process import Worker
from edgerouter.testing import Running, running

from ..metrics import metric
from ..origins import wait_until
from .isolated import MODULE

TEXT = "text/plain; charset=utf-8"
MANY = 1 << 20
#: The loop of a worker process does what uv_poll_init of libuv (uvloop) does.
LIBUV = """
import asyncio, os, sys
from edgerouter import Edge, Isolation

edge = Edge("libuv")


class Libuv(asyncio.SelectorEventLoop):
    def add_reader(self, fd, *rest):
        os.set_blocking(fd if isinstance(fd, int) else fd.fileno(), False)
        super().add_reader(fd, *rest)


class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return Libuv()


if getattr(sys.modules["__main__"].__spec__, "name", "") == "edgerouter.functions.process_worker":
    asyncio.set_event_loop_policy(Policy())


@edge.function("/", methods=["GET", "POST"], isolation=Isolation(processes=1))
async def loop(request, ctx):
    size = sum([len(piece) async for piece in request])
    name = type(asyncio.get_running_loop()).__name__
    return f"{name} {size}" if size else name
"""


def pid(client: httpx.Client) -> int:
    return int(client.get("/echo/a").json()["pid"])


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_call_has_its_request_and_runs_in_another_process(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    fields = [(b"x-a", b"1"), (b"x-a", "ä".encode("latin-1")), (b"cookie", b"c=d")]
    with caplog.at_level(logging.INFO):
        seen = client.post("/echo/ada?n=7", headers=fields, content=b"abc").json()
    assert seen.pop("pid") != os.getpid() == int(client.get("/here").text)
    assert seen == {
        "name": "ada",
        "n": 7,
        "method": "POST",
        "url": f"{client.base_url}/echo/ada?n=7".replace("//echo", "/echo"),
        "x": ["1", "ä"],
        "cookies": {"c": "d"},
        "client": "127.0.0.1",
        "body": 3,
        "phase": "function",
        "id": True,
        "left": True,
    }
    assert "seen ada" in caplog.text
    assert client.get("/echo/ada?n=x").status_code == 400
    assert client.get("/variant", headers={"cookie": "ab=b"}).json() == {"variant": "b", "version": "1.1"}


@pytest.mark.parametrize(
    ("kind", "status", "media", "body"),
    [
        ("text", 200, "text/plain; charset=utf-8", b"text"),
        ("bytes", 200, "application/octet-stream", b"bytes"),
        ("data", 200, "application/json", b'{"pid":1,"name":"a"}'),
        ("pair", 201, "application/json", b'{"a":1}'),
        ("response", 203, "text/plain; charset=utf-8", b"made"),
    ],
)
def test_a_function_returns_what_others_return(
    client: httpx.Client, kind: str, status: int, media: str, body: bytes
) -> None:
    response = client.get(f"/kinds/{kind}")
    assert (response.status_code, response.headers["content-type"], response.content) == (status, media, body)
    assert (response.headers.get("x-a") == "b") == (kind == "response")


@pytest.mark.parametrize(("kind", "status"), [("nothing", 204), ("none", 502), ("no-status", 502)])
def test_a_status_may_stand_alone_and_what_is_no_result_is_refused(
    client: httpx.Client, kind: str, status: int
) -> None:
    response = client.get(f"/kinds/{kind}")
    assert (response.status_code, b"error id" in response.content) == (status, status == 502)


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        ("number float true array set enum date request tuple range", 502),
        ("data list dict stream coroutine", 200),
        ("response", 202),
    ],
)
def test_a_result_is_in_a_process_what_it_is_in_the_edge(client: httpx.Client, kinds: str, status: int) -> None:
    for kind in kinds.split():
        here, there = client.get(f"/result/here/{kind}"), client.get(f"/result/there/{kind}")
        assert (here.status_code, there.status_code) == (status, status), kind
        assert status == 502 or here.content == there.content != b"", kind
        assert here.headers.get("content-type") == there.headers.get("content-type"), kind


@pytest.mark.parametrize(
    ("kind", "found"),
    [("none", "NoneType"), ("number", "int"), ("data", "dict"), ("array", b"xy"), ("empty", b"y")],
)
def test_a_piece_is_text_or_bytes_in_a_process_and_in_the_edge(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, kind: str, found: str | bytes
) -> None:
    for place in ("here", "there"):
        caplog.clear()
        response = client.get(f"/pieces/{place}/{kind}")
        if isinstance(found, bytes):
            assert (response.status_code, response.content) == (200, found), place
            continue
        assert response.status_code == 502, place
        wait_until(lambda: f"a piece is str or bytes, not {found}: convert it" in caplog.text, what="the log")


def test_large_contents_go_through_shared_memory(client: httpx.Client) -> None:
    for size in (0, 1, 20_000, 1_000_000):
        content = os.urandom(size)
        response = client.post("/body", content=content)
        assert response.content == content[::-1] and response.headers["content-type"] == "x/y"


@pytest.mark.parametrize(
    ("kind", "content_type"), [("bytes", "application/octet-stream"), ("text", TEXT), ("response", "x/y")]
)
def test_content_of_many_bytes_has_the_type_of_its_kind(client: httpx.Client, kind: str, content_type: str) -> None:
    response = client.get(f"/many/{kind}")
    assert (response.status_code, response.headers["content-type"]) == (200, content_type)
    assert response.content == b"edge" * MANY


def test_a_process_serves_on_an_event_loop_that_makes_its_socket_one_that_does_not_wait(tmp_path: Path) -> None:
    (tmp_path / "libuv.py").write_text(LIBUV)
    with (
        running(FileApplication("libuv.py", folder=tmp_path).load()) as served,
        httpx.Client(base_url=served.url, timeout=20) as client,
    ):
        assert [client.get("/").text for _ in range(3)] == ["Libuv"] * 3
        assert client.post("/", content=b"x" * 3_000_000).text == "Libuv 3000000"


def test_failures_are_those_of_functions(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    aborted = client.get("/aborts", headers={"accept": "application/json"})
    assert (aborted.status_code, aborted.json()["detail"], aborted.headers["x-a"]) == (409, "no such thing", "b")
    assert client.post("/json", content=b"{").status_code == 400
    assert client.post("/json", content=b'{"a": [1]}').json() == [1]
    with caplog.at_level(logging.ERROR):
        failed = client.get("/raises")
    assert failed.status_code == 502 and failed.headers["x-error-id"] in caplog.text
    # The lines of the function itself, as it raised them in its process.
    assert 'raise ValueError("the reason")' in caplog.text and "in inner" in caplog.text
    assert "raised ValueError" in caplog.text


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/exits", 502, "exit code 3"),
        ("/segfaults", 502, "SIGSEGV"),
        ("/leaks", 502, "bytes of memory, more than"),
        ("/starts", 502, "bytes of memory, more than"),
        ("/spins", 504, "processor time is 1 s"),
        ("/hangs", 504, None),
    ],
)
def test_a_process_that_ends_or_must_be_ended_costs_its_own_call(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, path: str, status: int, text: str | None
) -> None:
    before = {pid(client) for _ in range(4)}
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(1) as threads:
        pending = threads.submit(client.get, path)
        count = 0
        while not pending.done():
            assert client.get("/echo/b").status_code == client.get("/here").status_code == 200
            count += 1
        # The function itself would take longer than a client waits.
        failed = pending.result()
    assert failed.status_code == status and count > 0
    wait_until(lambda: text is None or text in caplog.text, what=f"{text} in the log")
    # A call that was ended for its processor time is not said to be past its time.
    assert path != "/spins" or "was interrupted: its time is" not in caplog.text
    # Another takes its place.
    wait_until(lambda: len({pid(client) for _ in range(4)} | before) > len(before))


@pytest.mark.parametrize("status", [99, 70_000])
def test_a_process_that_sends_no_possible_response_is_replaced(client: httpx.Client, status: int) -> None:
    before = client.get("/one").text
    assert client.get(f"/one/lies/{status}").status_code == 502
    after = client.get("/one")
    assert after.status_code == 200 and after.text != before


def test_a_process_that_a_function_forks_answers_no_call_and_ends_with_its_own(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    children = []
    for where in ("returns", "log", "stays"):
        answer = client.get(f"/forks/{where}").text
        assert answer.startswith("parent of ")
        children.append(int(answer.split()[-1]))
        # Answers of children would be those of later calls.
        assert len({client.get("/one").text for _ in range(3)}) == 1
    assert "nothing of a child" not in caplog.text
    assert Path(f"/proc/{children[-1]}").exists()
    assert client.get("/one/exits").status_code == 502
    wait_until(lambda: ended(children[-1]), what="the end of the child")


def test_an_interrupt_in_a_process_costs_its_own_call_only(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    for count in range(1, 3):
        assert client.get("/one/interrupts").status_code == 502
        assert client.get("/one").status_code == 200
        for path in ("/one/interrupts/stream", "/one/interrupts/later"):
            with pytest.raises(httpx.RemoteProtocolError):
                client.get(path)
            assert client.get("/one").status_code == 200
        assert caplog.text.count("raise KeyboardInterrupt") == 3 * count


def test_a_kind_of_bytes_is_an_answer_in_a_process(client: httpx.Client) -> None:
    assert client.get("/one/kind").content == b"of bytes"


def ended(pid: int) -> bool:
    """True if a process is gone, or waits for its parent to take notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_metrics_have_the_processes_and_the_causes_of_their_ends(served: Running, client: httpx.Client) -> None:
    def ends() -> list[float]:
        name = "edgerouter_function_process_ends_total"
        return [metric(served, name, f'{{cause="{cause}"}}') for cause in ("crashed", "time", "cpu")]

    def gauges() -> list[float]:
        names = ("processes", "process_memory_bytes", "processes_busy", "process_calls_waiting")
        return [metric(served, f"edgerouter_function_{name}") for name in names]

    before = ends()
    assert [client.get(path).status_code for path in ("/exits", "/hangs", "/spins")] == [502, 504, 504]
    wait_until(lambda: all(new > old for new, old in zip(ends(), before, strict=True)))
    # Two for most of the functions, and one more.
    wait_until(lambda: gauges()[0] >= 3 and gauges()[1] > 10 << 20)
    wait_until(lambda: gauges()[2:] == [0, 0])


def test_a_process_that_has_grown_is_replaced_after_its_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody looks during the call.
    monkeypatch.setattr(processes, "LOOK", 60.0)
    (tmp_path / "app.py").write_text(MODULE)
    with running(FileApplication("app.py", folder=tmp_path).load()) as served:
        grown = httpx.get(f"{served}/grows", timeout=90)
        assert grown.status_code == 200
        wait_until(lambda: not is_alive(int(grown.text)))


def test_more_processes_serve_more_calls_and_equal_values_share_them(client: httpx.Client) -> None:
    assert len({client.get("/one").text for _ in range(5)}) == 1
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: pid(client), range(60)))
    assert len(set(found)) <= 2


def test_the_cache_is_in_front_of_an_isolated_function(client: httpx.Client) -> None:
    assert [client.get("/cached").text for _ in range(3)] == ["1"] * 3


def test_processes_end_with_the_version_of_their_application(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(MODULE)
    with running(FileApplication("app.py", folder=tmp_path).load()) as served:
        old = int(httpx.get(f"{served}/one").text)
        (tmp_path / "app.py").write_text(MODULE.replace("return str(os.getpid())", "return f'{os.getpid()}0'"))
        served.reload(FileApplication("app.py", folder=tmp_path).load())
        new = int(httpx.get(f"{served}/one").text) // 10
        assert new != old
        wait_until(lambda: not is_alive(old))
        os.kill(new, 9)
        # A call that comes before the end is noticed, or after it: a new process answers.
        wait_until(lambda: httpx.get(f"{served}/one").status_code == 200)
        last = int(httpx.get(f"{served}/one").text) // 10
        assert last != new
    assert not is_alive(last)


def test_a_version_whose_processes_cannot_start_is_refused(tmp_path: Path) -> None:
    text = "import sys\nassert not sys.argv[0].endswith('process_worker.py'), 'not here'\n"
    (tmp_path / "app.py").write_text(text + MODULE)
    with pytest.raises(EdgeError, match="not here"), running(FileApplication("app.py", folder=tmp_path).load()):
        pass


def test_a_program_of_its_own_file_has_isolated_functions(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import os\n"
        "from edgerouter import Edge, Isolation\n"
        "edge = Edge('program')\n"
        "@edge.function('/', isolation=Isolation(processes=1))\n"
        "def pid(request, ctx):\n"
        "    return str(os.getpid())\n"
        "if __name__ == '__main__':\n"
        "    import httpx\n"
        "    from edgerouter.testing import running\n"
        "    with running(edge) as served:\n"
        "        print(httpx.get(served.url).text, os.getpid())\n"
    )
    found = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    pids = found.stdout.split()
    assert len(pids) == 2 == len(set(pids)) and all(map(str.isdigit, pids)), found


class FakeWorker:
    """A process that does nothing."""

    def __init__(self) -> None:
        self.process = SimpleNamespace(poll=lambda: None)
        self.busy = self.spoilt_soon = False

    def kill(self) -> None:
        """It has nothing to end."""


def fake_worker() -> Any:
    return FakeWorker()


def test_a_function_that_ends_its_processes_takes_half_of_them_and_waits_behind_the_others() -> None:
    async def calls() -> None:
        pool = processes.ProcessPool(Isolation(processes=2), [])
        pool.stopped = True  # no process is started in place of one that ended
        bad, good = 0, 1
        for _ in range(2):
            pool.release(fake_worker())
        for _ in range(processes.SPOILS):
            worker = await pool.acquire(bad, False)
            pool.spoilt(bad, worker)
            pool.release(fake_worker())
        held = await pool.acquire(bad, False)
        later = [asyncio.ensure_future(pool.acquire(bad, False)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(one.done() for one in later)
        # The other process is there for the other function.
        other = await pool.acquire(good, False)
        waiting = asyncio.ensure_future(pool.acquire(good, False))
        await asyncio.sleep(0)
        pool.spoilt(bad, held)
        pool.release(fake_worker())
        await waiting
        assert not any(one.done() for one in later)
        pool.release(waiting.result())
        first = await later[0]
        assert not later[1].done()
        # A call that goes well ends it.
        pool.ends.pop(bad)
        pool.release(first)
        second = await later[1]
        third = asyncio.ensure_future(pool.acquire(bad, False))
        pool.release(other)
        await third
        pool.release(second)
        pool.release(third.result())
        assert pool.spoiling == 0 and len(pool.free) == 2

    asyncio.run(calls())


def test_what_cannot_be_isolated_is_refused() -> None:
    edge = Edge("test")

    def inner(request: object, ctx: object) -> Response:
        return Response("a")

    for options, message in (
        ({}, "top level of a module"),
        ({"inline": True}, "inline or serial"),
        ({"isolation": "thread"}, 'must be "process"'),
    ):
        with pytest.raises(ConfigError, match=message):
            edge.function("/a", **{"isolation": "process", **options})(inner)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="processes"):
        Isolation(processes=0)


def test_no_code_of_a_worker_reaches_the_edge() -> None:
    """Messages are msgpack of known types: none makes an object of a class of the sender's choice."""
    from edgerouter.functions import process_messages as messages

    for content in (b"\xc1", b"\x80", json.dumps({"type": "result"}).encode(), b"cos\nsystem\n(S'x'\ntR."):
        with pytest.raises(Exception, match=r"(?i)malformed|invalid|expected|missing|truncated|trailing"):
            messages.decode_to_edge(content)


def test_a_message_that_is_under_way_ends_with_its_process() -> None:
    async def ends() -> list[type[object]]:
        worker = Worker()
        os.kill(worker.process.pid, signal.SIGSTOP)
        messages = [asyncio.ensure_future(worker.send_bytes(bytes(size))) for size in (8 << 20, 1, 1)]
        while worker.sends is None:
            await asyncio.sleep(0)
        # It is sent as a whole even when nobody waits for it any more.
        messages[0].cancel()
        await asyncio.wait(messages[:1])
        assert not worker.sends.done()
        worker.condemn("stopped", "the test")
        worker.kill()
        return [type(end) for end in await asyncio.gather(*messages, return_exceptions=True)]

    found = asyncio.run(asyncio.wait_for(ends(), 60))
    assert found == [asyncio.CancelledError, OSError, OSError]
