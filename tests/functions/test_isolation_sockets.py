"""WebSockets of applications in worker processes: as those in the edge's process, whatever such a process does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection

from edgerouter import Isolation, websocket
from edgerouter.application import FileApplication
from edgerouter.functions import process_sockets, processes
from edgerouter.functions.process_messages import Imported
from edgerouter.testing import Running, running

from ..http2.clients import head, http2
from ..origins import wait_until
from .sockets import PATIENCE, closed, to

MODULE = '''
import asyncio, json, os, sys, time
from edgerouter import Edge, Isolation
from edgerouter.functions import process_messages as messages

edge = Edge("isolated")
edge.listen("127.0.0.1:0", http=("h2",))
ONE = Isolation(processes=1, memory_bytes=160 << 20, cpu_seconds=2)
KEPT = []
COUNTS = {"sent": 0}


async def lifespan(receive, send):
    while True:
        kind = (await receive())["type"]
        if kind == "lifespan.shutdown":
            open(os.path.dirname(os.path.abspath(__file__)) + "/ended", "a").write(f"{os.getpid()} ")
        await send({"type": kind + ".complete"})
        if kind == "lifespan.shutdown":
            return


def deep(content):
    """The same message, with lists in lists in the place of the last byte."""
    content = content[:-1] + b"\\x91" * 100_000 + b"\\xc0"
    return len(content).to_bytes(4, "big") + content


def lies(what):
    """Writes to the descriptor of the edge."""
    mine = COUNTS["number"]
    content = {
        "nothing": b"\\x00\\x00\\x00\\x01\\xc1",
        "too much": b"\\xff\\xff\\xff\\xff",
        "a result": messages.encode(messages.Ready()),
        "a beat": messages.encode(messages.Beat()) * 2,
        "another": messages.encode(messages.Closed(77)),
        "wishes": messages.encode(messages.Wanted(mine)) * 3,
        "no failure": messages.encode(messages.Closed(mine, messages.Failed("a\\0b", "", ""))),
        "no abort": messages.encode(messages.Closed(mine, messages.Failed("Abort", "", "", (70_000, "", None)))),
        "depth": deep(messages.encode(messages.SocketMessage(mine, {"a": None}))[4:]),
    }[what]
    os.write(int(sys.argv[1]), content)


async def said(text, scope, receive, send):
    """Does what a message says; the answer."""
    if text == "pid":
        return str(os.getpid())
    if text == "scope":
        plain = {name: value for name, value in scope.items() if name not in ("headers", "raw_path", "query_string")}
        fields = sorted([name.decode(), value.decode()] for name, value in scope["headers"])
        return json.dumps(plain | {"fields": fields, "query": scope["query_string"].decode()})
    if text == "cancel":
        for _ in range(3):
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            waiting.cancel()
        return "cancelled"
    if text == "exit":
        os._exit(4)
    if text == "compute":
        sum(range(10**12))
    if text == "hold":
        time.sleep(60)
    if text == "grow":
        KEPT.append(b"x" * (170 << 20))
    if text == "fill":
        for at in range(170):
            os.pwrite(int(sys.argv[3]), b"x" * (1 << 20), at << 20)
    if text == "log":
        import logging
        for number in range(2000):
            logging.getLogger("app").info("line %d", number)
    if text == "large":
        try:
            await send({"type": "websocket.send", "bytes": bytes(5 << 20)})
        except ValueError as error:
            return str(error)
    if text == "wrong":
        found = []
        for message in (
            {"type": "none"}, {"type": "websocket.send"}, {"type": "websocket.send", "text": "\\ud800"}, {},
            {"type": "websocket.send", "bytes": 10**12}, {"type": "websocket.close", "code": 70_000},
        ):
            try:
                await send(message)
            except Exception as error:
                found.append(type(error).__name__)
        return " ".join(found)
    if text == "raise":
        raise ValueError("the reason")
    if text == "flood":
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 10_000})
                COUNTS["sent"] += 1
        except OSError as error:
            COUNTS["sent"] = type(error).__name__
            raise
    if text == "count":
        return str(COUNTS["sent"])
    if text.startswith("lie "):
        lies(text.removeprefix("lie "))
    return text


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        return await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
    assert await receive() == {"type": "websocket.connect"}
    path = scope["path"].rpartition("/")[2]
    if path == "refuses":
        return await send({"type": "websocket.close"})
    if path == "denies":
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-a", b"b")]})
        return await send({"type": "websocket.http.response.body", "body": b"not you"})
    if path == "breaks":
        raise ValueError("before the handshake")
    if path == "exits":
        os._exit(5)
    fields = ((name, value) for name, value in [(b"x-a", b"b")])
    subprotocol = (scope["subprotocols"] or [None])[0]
    await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": fields})
    COUNTS["number"] = COUNTS.get("number", 0) + 1
    if path == "returns":
        return
    while (message := await receive())["type"] == "websocket.receive":
        if (text := message.get("text")) == "close":
            return await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        if text is not None:
            await send({"type": "websocket.send", "text": await said(text, scope, receive, send)})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"][::-1]})
    COUNTS["left"] = message["code"]
    while path == "stays":
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass


edge.mount("/here", app, message_bytes=1_000_000, timeout=10)
edge.mount("/there", app, message_bytes=1_000_000, timeout=10, isolation=ONE)
edge.mount("/quick", app, timeout=4, isolation=ONE)
'''


def asked(socket: ClientConnection, text: str) -> str:
    socket.send(text)
    return str(socket.recv(PATIENCE))


@pytest.fixture
def there(served: Running) -> Iterator[ClientConnection]:
    """A connection to the application in its process."""
    with to(served, "/there/a") as socket:
        yield socket


def test_an_application_in_a_process_has_the_scope_that_it_has_in_the_edge(served: Running) -> None:
    scopes: list[dict[str, Any]] = []
    for root in ("/here", "/there"):
        with to(served, f"{root}/ä?q=1", subprotocols=["chat", "b"], additional_headers={"x-b": "c"}) as socket:
            assert (socket.subprotocol, socket.response and socket.response.headers["x-a"]) == ("chat", "b")
            scope = json.loads(asked(socket, "scope"))
            assert (scope.pop("root_path"), scope.pop("path")) == (root, f"{root}/ä")
            scope["fields"] = [field for field in scope["fields"] if field[0] != "sec-websocket-key"]
            assert ["x-b", "c"] in scope["fields"]
            scopes.append(scope)
    assert scopes[0] == scopes[1]
    assert scopes[0]["subprotocols"] == ["chat", "b"] and scopes[0]["extensions"] == {"websocket.http.response": {}}


def test_messages_pass_whole_and_in_order(there: ClientConnection) -> None:
    for text in ("hello", "ä€😀" * 1000, ""):
        assert asked(there, text) == text
    piece = bytes(range(256)) * 3900
    there.send(piece)
    assert there.recv(PATIENCE) == piece[::-1]
    for number in range(500):
        there.send(str(number))
    assert [there.recv(PATIENCE) for _ in range(500)] == [str(number) for number in range(500)]
    there.send(iter(["a", "b", "c"]))
    assert there.recv(PATIENCE) == "abc"
    # Logs go beside them.
    assert asked(there, "log") == "log"


def test_a_receive_that_is_cancelled_loses_no_message(there: ClientConnection) -> None:
    assert asked(there, "cancel") == "cancelled"
    assert [asked(there, text) for text in ("a", "b")] == ["a", "b"]


def test_a_message_that_cannot_be_sent_is_an_error_of_the_application(there: ClientConnection) -> None:
    assert asked(there, "large").endswith("more than 4194304: send it in parts")
    assert asked(there, "wrong") == "RuntimeError RuntimeError UnicodeEncodeError KeyError TypeError OverflowError"


@pytest.mark.parametrize(
    ("text", "close"), [("close", (4001, "enough")), ("raise", (1011, "")), ("returns", (1000, ""))]
)
def test_an_application_in_a_process_closes(
    served: Running, caplog: pytest.LogCaptureFixture, text: str, close: tuple[int, str]
) -> None:
    with to(served, f"/there/{text}") as socket:
        if text != "returns":
            socket.send(text)
        assert closed(socket) == close
    if text == "raise":
        # The traceback is that of the process.
        wait_until(lambda: 'raise ValueError("the reason")' in caplog.text)
    else:
        assert "error id" not in caplog.text


@pytest.mark.parametrize(("path", "status"), [("refuses", 403), ("denies", 401), ("breaks", 502), ("exits", 502)])
def test_a_handshake_that_an_application_in_a_process_refuses_has_a_response(
    served: Running, path: str, status: int
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        to(served, f"/there/{path}")
    response = refused.value.response
    assert response.status_code == status
    if path == "denies":
        assert (response.body, response.headers["x-a"]) == (b"not you", "b")


@pytest.mark.parametrize(
    ("frame", "code"),
    [(Frame(Opcode.TEXT, b"x" * 1_000_001), 1009), (Frame(Opcode.TEXT, b"\xff"), 1007)],
    ids=["too large", "no text"],
)
def test_a_client_that_breaks_the_rules_is_closed(there: ClientConnection, frame: Frame, code: int) -> None:
    with there.protocol_mutex:
        there.socket.sendall(frame.serialize(mask=True))
    assert closed(there)[0] == code


def test_a_process_has_many_connections_and_calls_have_another(served: Running, client: httpx.Client) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(to(served, "/there/a")) for _ in range(20)]
        pids = {asked(socket, "pid") for socket in sockets}
        assert len(pids) == 1
        called = {client.get("/there/a").text for _ in range(3)}
        assert len(called) == 1 and not called & pids


def test_an_application_in_a_process_waits_for_a_client_that_does_not_read(
    served: Running, there: ClientConnection
) -> None:
    with to(served, "/there/a", max_queue=1) as slow:
        slow.send("flood")
        slow.recv(PATIENCE)
        counts = [-1, 0]
        while counts[-1] != counts[-2] or not counts[-1]:
            # Others go on meanwhile.
            assert all(asked(there, text) == text for text in map(str, range(300)))
            counts.append(int(asked(there, "count")))
        # As much as the sockets and the pipe hold.
        assert counts[-1] < 2_000
        slow.socket.close()
        wait_until(lambda: asked(there, "count") == "GoneError")


@pytest.mark.parametrize("text", ["exit", "kill", "compute", "hold", "grow", "fill"])
def test_the_end_of_a_process_closes_its_connections(
    served: Running, client: httpx.Client, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    reason = {
        "exit": "exit code 4",
        "kill": "SIGKILL",
        "compute": "processor time",
        "hold": "was held for",
        "grow": "bytes of memory",
        "fill": "bytes of memory",
    }
    root = "/quick" if text == "hold" else "/there"
    calls = client.get(f"{root}/a").text
    with to(served, f"{root}/a") as socket, to(served, f"{root}/a") as other:
        pid = asked(socket, "pid")
        if text == "kill":
            os.kill(int(pid), signal.SIGKILL)
        else:
            socket.send(text)
        assert [closed(socket)[0], closed(other)[0]] == [1011, 1011]
    wait_until(lambda: reason[text] in caplog.text, what=reason[text])
    # Another takes its place, and calls have seen nothing of it.
    with to(served, f"{root}/a") as next_one:
        assert asked(next_one, "pid") != pid
    assert client.get(f"{root}/a").text == calls


LIES = ("nothing", "too much", "a result", "a beat", "another", "wishes", "depth", "no failure", "no abort")


@pytest.mark.parametrize("lie", LIES)
def test_a_process_that_breaks_the_order_is_ended(served: Running, there: ClientConnection, lie: str) -> None:
    pid = asked(there, "pid")
    there.send(f"lie {lie}")
    assert closed(there)[0] == 1011
    with to(served, "/there/a") as other:
        assert asked(other, "pid") != pid


def test_applications_that_no_cancellation_ends_end_their_process(
    served: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(websocket, "GRACE", 0.05)
    monkeypatch.setattr(process_sockets, "MOST_DROPPED", 2)
    with to(served, "/there/a") as socket:
        pid = asked(socket, "pid")
        for _ in range(3):
            with to(served, "/there/stays") as stays:
                assert asked(stays, "pid") == pid
                stays.socket.close()
        assert closed(socket)[0] == 1011
    wait_until(lambda: "although they were cancelled" in caplog.text)


def test_a_version_in_processes_ends_after_its_last_websocket(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(MODULE)
    application = FileApplication("app.py", folder=tmp_path)
    with running(application.load()) as served:
        with to(served, "/there/a") as socket, to(served, "/there/a") as gone:
            pid = asked(socket, "pid")
            gone.socket.close()
            served.reload(application.load())
            with to(served, "/there/a") as new:
                assert asked(new, "pid") != pid
            assert asked(socket, "pid") == pid
            assert not (tmp_path / "ended").exists()
        wait_until(lambda: (tmp_path / "ended").exists() and f"{pid} " in (tmp_path / "ended").read_text())


def test_a_stream_of_http2_becomes_a_websocket_of_a_process(served: Running, caplog: pytest.LogCaptureFixture) -> None:
    with http2(served.server.urls[-1], None) as client:
        client.until_settled()
        fields = [*head("/there/a", "CONNECT"), (":protocol", "websocket"), ("sec-websocket-version", "13")]
        stream = client.request(fields, end=False)
        client.http.send_data(stream, Frame(Opcode.TEXT, b"hello").serialize(mask=True))
        client.flush()
        received = client.responses[stream]
        said = Frame(Opcode.TEXT, b"hello").serialize(mask=False)
        while len(received.body) < len(said):
            assert client.step()
        assert (received.status, bytes(received.body)) == (200, said)
        close = Frame(Opcode.CLOSE, (4002).to_bytes(2, "big"))
        client.http.send_data(stream, close.serialize(mask=True))
        client.flush()
        assert bytes(client.response(stream).body).endswith(close.serialize(mask=False))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_pool_whose_stop_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    async def stops() -> list[int | None]:
        pool = processes.ProcessPool(Isolation(processes=1), [])
        pool.add(Imported("app", str(tmp_path / "app.py"), "app", "/there", "asgi"))
        await pool.start()
        sockets = pool.sockets[0] = process_sockets.SocketPool(pool, 0)
        await sockets.begin()
        found = [*(worker.process for worker in pool.workers), *(one.worker.process for one in sockets.processes)]
        stopping = asyncio.ensure_future(pool.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait({stopping})
        return [process.poll() for process in found]

    (tmp_path / "app.py").write_text(MODULE)
    ends = asyncio.run(stops())
    assert len(ends) == 2 and None not in ends
