"""WebSockets, streams and connections of HTTP/2 that are open while versions come and go."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..functions.sockets import closed, to
from ..origins import wait_until
from ..processes import Process
from .conftest import Begin, Deployed

#: A version with a WebSocket, a stream that waits for a file, and a page that may fail.
VERSION = """
import asyncio, os
from edgerouter import Edge

edge = Edge("site")
NOTES, GATE = {notes!r}, {gate!r}


def note(word):
    with open(NOTES, "a") as file:
        file.write("{name} " + word + "\\n")


@edge.on("stop")
def stop():
    note("stop")


@edge.function("/")
async def page(request, ctx):
    if {fails}:
        raise ValueError("no")
    return "{name}"


@edge.function("/stream")
async def stream(request, ctx):
    yield "{name} "
    while not os.path.exists(GATE):
        await asyncio.sleep(0.01)
    yield "{name}"


async def socket(scope, receive, send):
    if scope["type"] != "websocket":
        raise RuntimeError("nothing but WebSockets")
    await receive()
    await send({{"type": "websocket.accept"}})
    while (message := await receive())["type"] == "websocket.receive":
        await send({{"type": "websocket.send", "text": "{name} " + message["text"]}})
    note("left")


edge.mount("/socket", socket)
"""


class Versions:
    """Files of versions by their names, and the notes that they make."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.gate = folder / "gate"
        self.notes.touch()

    def text(self, name: str, *, fails: bool = False) -> str:
        return VERSION.format(name=name, fails=fails, notes=str(self.notes), gate=str(self.gate))

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines()


def old_site(begin: Begin, versions: Versions) -> Deployed:
    scope: dict[str, Any] = {}
    exec(versions.text("old"), scope)
    return begin(scope["edge"])


def test_open_connections_stay_on_their_version_while_others_are_rolled_back_and_promoted(
    begin: Begin, tmp_path: Path
) -> None:
    versions = Versions(tmp_path)
    site = old_site(begin, versions)
    site.write(versions.text("bad", fails=True), "bad.py")
    site.write(versions.text("new"), "new.py")
    with ExitStack() as stack:
        begun: dict[str, Iterator[bytes]] = {}

        def opened(name: str) -> Any:
            response = stack.enter_context(
                stack.enter_context(httpx.Client(base_url=site.server.urls[0], timeout=30)).stream("GET", "/stream")
            )
            begun[name] = response.iter_raw()
            assert next(begun[name]) == f"{name} ".encode()
            socket = stack.enter_context(to(site.running, "/socket"))
            socket.send("a")
            assert socket.recv(30) == f"{name} a"
            return socket

        sockets = {"old": opened("old")}
        site.deploy("bad.py", min_responses=4)
        sockets["bad"] = opened("bad")
        # Its errors end it by itself, in the middle of its stream and its WebSocket.
        wait_until(lambda: site.client.get("/").text == "old", what="the roll-back")
        assert site.list()[0]["state"] == "rolled-back"
        site.deploy("new.py")
        site.change("promote")
        sockets["new"] = opened("new")
        for name, socket in sockets.items():
            socket.send("b")
            assert socket.recv(30) == f"{name} b"
        assert versions.noted() == []
        versions.gate.touch()
        assert {name: b"".join(pieces) for name, pieces in begun.items()} == {
            name: name.encode() for name in ("old", "bad", "new")
        }
        for name in ("bad", "old"):
            sockets[name].close()
            assert closed(sockets[name])[0] == 1000
        site.wait_for(lambda: {"bad stop", "old stop"} <= set(versions.noted()), "the stops")
        # A version stops after its last connection has left.
        for name in ("bad", "old"):
            assert versions.noted().index(f"{name} left") < versions.noted().index(f"{name} stop")
        sockets["new"].send("c")
        assert sockets["new"].recv(30) == "new c"


@pytest.fixture
def secure(tmp_path: Path, folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """The URL of an edge with https that takes deploys, the file of its authority, and its admin socket."""
    versions, socket = Versions(tmp_path), tmp_path / "admin.sock"
    for name in ("old", "new"):
        (folder / f"{name}.py").write_text(versions.text(name))
        (folder / f"{name}.py").chmod(0o644)
    options = {"--listen": "127.0.0.1:0", "--admin-socket": str(socket), "--deploy-folder": str(folder)}
    given = [word for option in options.items() for word in option]
    home = {"XDG_DATA_HOME": str(tmp_path / "data")}
    process = Process("run", str(folder / "old.py"), *given, "--tls-self-signed", env=home)
    try:
        url = process.wait_for(r"https://127\.0\.0\.1:\d+")[0]
        yield url, tmp_path / "data/edgerouter/development-ca/ca.pem", socket
    finally:
        process.kill()


def test_a_client_keeps_its_version_by_its_cookie_over_http2_as_over_http1(secure: tuple[str, Path, Path]) -> None:
    url, authority, socket = secure
    trust = ssl.create_default_context(cafile=os.fspath(authority))
    with ExitStack() as stack:
        admin = stack.enter_context(
            httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://localhost", timeout=60)
        )
        clients = [
            stack.enter_context(httpx.Client(base_url=url, verify=trust, http2=http2, timeout=30))
            for http2 in (True, False)
        ]

        def sides() -> list[str]:
            """The version of each visitor, the same by both protocols and in each request."""
            found = []
            for number in range(40):
                answers = [client.get("/", headers={"cookie": f"sid={number}"}) for client in clients * 2]
                assert [it.http_version for it in answers] == ["HTTP/2", "HTTP/1.1"] * 2
                (text,) = {it.text for it in answers}
                found.append(text)
            return found

        assert set(sides()) == {"old"}
        order = {"file": "new.py", "percent": 40, "cookie": "sid"}
        assert admin.post("/v1/deploys", json=order).status_code == 201
        first = sides()
        assert set(first) == {"old", "new"}
        assert admin.post("/v1/deploys/percent", json={"percent": 80}).status_code == 200
        second = sides()
        # A larger share takes more clients, and gives none back.
        assert [new for old, new in zip(first, second, strict=True) if old == "new"] == ["new"] * first.count("new")
        assert second.count("new") > first.count("new")
        assert admin.post("/v1/deploys/promote", json={}).status_code == 200
        assert set(sides()) == {"new"}
