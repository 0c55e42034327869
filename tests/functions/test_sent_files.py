"""Files that mounted applications have sent (``http.response.pathsend`` of ASGI), in both kinds of processes."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from edgerouter import ConfigError, Edge
from edgerouter.testing import Running

from ..http2.clients import http2
from ..origins import wait_until
from ..raw import connect, read_all

PATIENCE = 20
MODULE = """
import os
from edgerouter import Edge
from edgerouter.testing import validated
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route

FOLDER = os.path.dirname(os.path.abspath(__file__))
edge = Edge("files")
edge.listen("127.0.0.1:0", http=("h2",))


def file(request):
    return FileResponse(FOLDER + "/" + request.path_params["name"], headers={"x-pid": str(os.getpid())})


app = validated(Starlette(routes=[Route("/file/{name}", file)]))
edge.mount("/here", app, sends_files=True)
edge.mount("/there", app, sends_files=True, isolation="process")


async def raw(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    assert "http.response.pathsend" in scope["extensions"]
    name, _, length = scope["query_string"].decode().partition("=")
    fields = [(b"content-length", length.encode())] if length else []
    await send({"type": "http.response.start", "status": 200, "headers": iter(fields)})
    if scope["path"].endswith("/after"):
        await send({"type": "http.response.body", "body": b"before ", "more_body": True})
    await send({"type": "http.response.pathsend", "path": FOLDER + "/" + name})
    if scope["path"].endswith("/again"):
        await send({"type": "http.response.body", "body": b"more"})


edge.mount("/raw", raw, sends_files=True)
edge.mount("/rawthere", raw, sends_files=True, isolation="process")
edge.mount("/plain", app, isolation="process")


async def unasked(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.pathsend", "path": FOLDER + "/small"})


edge.mount("/unasked", unasked)
"""
LARGE = bytes(range(256)) * (3 << 12) + b"end"
BOTH = pytest.mark.parametrize("place", ["raw", "rawthere"])


@pytest.fixture(scope="module", autouse=True)
def files(folder: Path) -> None:
    """The files that are sent."""
    (folder / "large").write_bytes(LARGE)
    (folder / "small").write_bytes(b"small")
    (folder / "empty").write_bytes(b"")
    (folder / "below").mkdir()
    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize("place", ["here", "there"])
def test_an_application_has_a_file_sent(served: Running, client: httpx.Client, place: str) -> None:
    for name, content in (("large", LARGE), ("small", b"small"), ("empty", b"")):
        got = client.get(f"/{place}/file/{name}")
        assert (got.status_code, got.content) == (200, content), name
        assert got.headers["content-length"] == str(len(content))
        assert (got.headers["x-pid"] == str(os.getpid())) == (place == "here")
        asked = client.head(f"/{place}/file/{name}")
        assert (asked.status_code, asked.content) == (200, b"")
        assert asked.headers["content-length"] == str(len(content)), name
    part = client.get(f"/{place}/file/large", headers={"range": "bytes=256-260"})
    assert (part.status_code, part.content) == (206, bytes(range(5)))
    plain = client.get("/plain/file/large")
    assert (plain.content, plain.headers["content-length"]) == (LARGE, str(len(LARGE)))
    with http2(served.server.urls[-1], None) as other:
        other.until_settled()
        assert bytes(other.get(f"/{place}/file/large").body) == LARGE


@BOTH
def test_a_file_that_cannot_be_sent_is_a_failure_before_the_response(client: httpx.Client, place: str) -> None:
    for name in ("missing", "below", "pipe", "small=4", "small=6", "large=1", "sm%00all"):
        assert client.get(f"/{place}?{name}").status_code == 502, name
    assert client.get(f"/{place}?small=5").text == "small"


def test_no_file_is_sent_for_an_application_that_was_not_offered_it(client: httpx.Client) -> None:
    assert client.get("/unasked").status_code == 502


def test_a_wsgi_application_has_no_files_sent() -> None:
    def wsgi(environ: object, start_response: object) -> list[bytes]:
        return []

    with pytest.raises(ConfigError, match="sends_files=True is for ASGI"):
        Edge("test").mount("/", wsgi, sends_files=True)


@BOTH
def test_a_file_is_the_rest_of_a_content_and_its_end(client: httpx.Client, place: str) -> None:
    assert client.get(f"/{place}/after?small").text == "before small"
    assert client.get(f"/{place}/after?small=12").text == "before small"
    assert client.get(f"/{place}/again?small").text == "small"


@BOTH
def test_a_file_that_becomes_shorter_breaks_the_content_off(served: Running, folder: Path, place: str) -> None:
    shrinks = folder / "shrinks"
    with shrinks.open("wb") as file:
        file.truncate(1 << 30)
    with connect(served.url, PATIENCE) as raw:
        raw.sendall(f"GET /{place}?shrinks HTTP/1.1\r\nHost: edge\r\n\r\n".encode())
        assert raw.recv(12) == b"HTTP/1.1 200"
        os.truncate(shrinks, 1 << 20)
        assert not read_all(raw).endswith(b"\r\n0\r\n\r\n")


@BOTH
def test_a_client_that_leaves_ends_the_file(served: Running, folder: Path, place: str) -> None:
    with (folder / "endless").open("wb") as file:
        file.truncate(1 << 40)
    with connect(served.url, PATIENCE) as raw:
        raw.sendall(f"GET /{place}?endless HTTP/1.1\r\nHost: edge\r\n\r\n".encode())
        assert raw.recv(12) == b"HTTP/1.1 200"
        assert is_open(folder / "endless")
    wait_until(lambda: not is_open(folder / "endless"), PATIENCE, "the end of the file")


def is_open(path: Path) -> bool:
    """True if this process or a child has a descriptor of the file."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if os.getpid() not in (int(process.name), parent):
                continue
            links = list((process / "fd").iterdir())
        except OSError:
            continue
        for link in links:
            try:
                if link.readlink() == path:
                    return True
            except OSError:
                continue
    return False
