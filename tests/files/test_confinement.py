"""Nothing outside the folder is served, nothing hidden, and nothing that is not a file."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerouter import Edge, HttpLimits, Limits
from edgerouter.limits import FileLimits
from edgerouter.testing import Running, running

from ..raw import exchange, responses
from .conftest import Served, put


def status(url: str, target: str) -> tuple[int, bytes]:
    """The answer to a target exactly as it stands here."""
    data = exchange(url, f"GET {target} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n".encode("latin-1"))
    (answer,) = responses(data)
    return answer.status, data


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/assets/..",
        "/assets/../secret.txt",
        "/assets/%2e%2e/secret.txt",
        "/assets/%2E%2E%2Fsecret.txt",
        "/assets/..%2fsecret.txt",
        "/assets/..%5csecret.txt",
        "/assets/..\\secret.txt",
        "/assets/%252e%252e/secret.txt",
        "/assets/....//secret.txt",
        "/assets/docs/../../secret.txt",
        "/assets//../secret.txt",
        "/assets//etc/passwd",
        "/assets/%2fetc/passwd",
        "/assets/./../secret.txt",
        "/assets/..;/secret.txt",
        "/assets/index.html%00.txt",
        "/assets/index.html%0a",
        "/assets/%c0%ae%c0%ae/secret.txt",
        "/assets/%ff/secret.txt",
        "/assets/out.txt",
        "/assets/absolute.txt",
        "/assets/up/secret.txt",
        "/assets/up/dist/../secret.txt",
        "/assets/.env",
        "/assets/%2eenv",
        "/assets/.git/config",
        "/assets/docs/.htpasswd",
        "/assets/index.html/",
        "/assets/index.html/x",
        "/assets/" + "a" * 300,
        "/assets/" + "a/" * 3_000,
        "/assets/pipe",
        "/assets/socket",
        "/assets/device",
        "/assets/loop",
        "/assets/dangling",
    ],
)
def test_a_path_that_leads_out_or_to_what_is_no_file_is_not_found(served: Served, folder: Path, target: str) -> None:
    put(folder.parent / "secret.txt", "SECRET")
    for hidden in (".env", ".git/config", "docs/.htpasswd"):
        put(folder / hidden, "SECRET")
    for name, to in [
        ("out.txt", "../secret.txt"),
        ("absolute.txt", str(folder.parent / "secret.txt")),
        ("up", ".."),
        ("loop", "loop"),
        ("dangling", "nowhere"),
        ("device", "/dev/zero"),
    ]:
        (folder / name).symlink_to(to)
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        # The path of a socket must be short.
        with contextlib.chdir(folder):
            listener.bind("socket")
        client = served("/assets", listing=True, fallback="index.html")
        code, data = status(str(client.base_url).rstrip("/"), target)
    assert code in (400, 404)
    assert b"SECRET" not in data
    assert b"root:" not in data


def test_links_that_stay_in_the_folder_are_followed(served: Served, folder: Path) -> None:
    (folder / "latest.js").symlink_to("app.3f2a9c1b.js")
    (folder / "manual").symlink_to("docs")
    put(folder / ".release" / "a.txt", "a")
    (folder / "a.txt").symlink_to(".release/a.txt")
    client = served()
    assert client.get("/latest.js").text == "x = 1\n"
    assert client.get("/manual/").text == "<h1>docs</h1>"
    assert client.get("/a.txt").text == "a"
    assert client.get("/.release/a.txt").status_code == 404


def test_well_known_files_are_served(served: Served, folder: Path) -> None:
    put(folder / ".well-known" / "security.txt", "Contact: mailto:a@example.com\n")
    assert served().get("/.well-known/security.txt").text.startswith("Contact")


@given(st.text(alphabet="./%2eEfF\\a\x01?;:*~ü", max_size=40))
def test_no_path_gives_the_secret(confined: str, path: str) -> None:
    target = "/" + "".join(char if " " < char < "\x7f" else f"%{ord(char):02x}" for char in path)
    code, data = status(confined, target)
    assert b"SECRET" not in data
    assert code in (200, 308, 400, 404)


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> object:
    top = tmp_path_factory.mktemp("confined")
    put(top / "secret.txt", "SECRET")
    put(top / "dist" / "a", "a")
    put(top / "dist" / ".a", "SECRET")
    (top / "dist" / "aa").symlink_to("..")
    edge = Edge("test", limits=Limits(http=HttpLimits(head_timeout=30)))
    edge.files("/", top / "dist", listing=True)
    with running(edge) as made:
        yield made.url


def test_a_pipe_without_a_writer_holds_no_thread(served: Served, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    client = served()
    for _ in range(20):
        assert client.get("/pipe").status_code == 404
    assert client.get("/index.html").status_code == 200


@pytest.mark.parametrize("mode", [0o000])
def test_a_file_that_may_not_be_read_is_refused(served: Served, folder: Path, mode: int) -> None:
    file = put(folder / "closed.txt", "x")
    file.chmod(mode)
    readable = os.access(file, os.R_OK)
    assert served().get("/closed.txt").status_code == (200 if readable else 403)


def test_a_folder_that_is_gone_is_unavailable_and_comes_back(tmp_path: Path, serve: Callable[[Edge], Running]) -> None:
    put(tmp_path / "dist" / "a.txt", "a")
    edge = Edge("test")
    edge.files("/", tmp_path / "dist")
    made = serve(edge)
    with httpx.Client(base_url=made.url) as client:
        (tmp_path / "dist").rename(tmp_path / "away")
        gone = client.get("/a.txt")
        assert (gone.status_code, gone.headers["retry-after"]) == (503, "1")
        assert "detail=files-busy" in gone.headers["cache-status"]
        assert 'edgerouter_files_failed_total{reason="unreadable"} 1' in made.server.metrics()
        (tmp_path / "away").rename(tmp_path / "dist")
        assert client.get("/a.txt").text == "a"


def test_as_many_files_are_open_as_the_limit_allows(tmp_path: Path, serve: Callable[[Edge], Running]) -> None:
    put(tmp_path / "dist" / "large.bin", bytes(32 << 20))
    put(tmp_path / "dist" / "small.txt", "small")
    edge = Edge("test", limits=Limits(files=FileLimits(open_files=1)))
    edge.files("/", tmp_path / "dist")
    made = serve(edge)
    with httpx.Client(base_url=made.url) as client:
        with client.stream("GET", "/large.bin") as first:
            assert first.status_code == 200
            refused = client.get("/large.bin")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            # It is read as it is opened, and needs no descriptor.
            assert client.get("/small.txt").text == "small"
            assert sum(len(piece) for piece in first.iter_raw()) == 32 << 20
        assert client.get("/large.bin").status_code == 200
        assert 'edgerouter_files_failed_total{reason="descriptors"} 1' in made.server.metrics()


def test_a_list_has_as_many_names_as_the_limit_allows(tmp_path: Path, serve: Callable[[Edge], Running]) -> None:
    for number in range(20):
        put(tmp_path / "dist" / f"{number}.txt", "")
    edge = Edge("test", limits=Limits(files=FileLimits(listed_names=10)))
    edge.files("/", tmp_path / "dist", listing=True)
    with httpx.Client(base_url=serve(edge).url) as client:
        page = client.get("/").text
    assert page.count("<li>") == 10
    assert "more files" in page


def test_clients_that_stop_reading_hold_no_thread_and_little_memory(
    tmp_path: Path, serve: Callable[[Edge], Running]
) -> None:
    put(tmp_path / "dist" / "large.bin", bytes(32 << 20))
    put(tmp_path / "dist" / "small.txt", "small")
    edge = Edge("test", limits=Limits(files=FileLimits(threads=1)))
    edge.files("/", tmp_path / "dist")
    made = serve(edge)
    clients = [httpx.Client(base_url=made.url) for _ in range(10)]
    streams = [client.stream("GET", "/large.bin") for client in clients]
    try:
        assert all(stream.__enter__().status_code == 200 for stream in streams)
        with httpx.Client(base_url=made.url) as client:
            assert client.get("/small.txt").text == "small"
        metrics = made.server.metrics()
        held = [line for line in metrics.splitlines() if line.startswith("edgerouter_request_memory_bytes{")]
        assert sum(int(line.rsplit(" ", 1)[1]) for line in held) < 16 << 20
    finally:
        for client in clients:
            client.close()
