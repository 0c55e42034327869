"""Files that a worker keeps open for the requests right after: whatever changes is seen by the next request."""

from __future__ import annotations

import gzip
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from edgerouter import Edge, Limits
from edgerouter.limits import FileLimits
from edgerouter.testing import Running

from ..origins import wait_until
from .conftest import OLD, put

Change = Callable[[Path], None]


def written_in_place(top: Path) -> None:
    put(top / "1" / "sub" / "a.txt", "new", OLD + 1)


def written_with_the_old_time(top: Path) -> None:
    # The time of the inode distinguishes them.
    put(top / "1" / "sub" / "a.txt", "new", OLD)


def replaced(top: Path) -> None:
    put(top / "next", "new", OLD).replace(top / "1" / "sub" / "a.txt")


def folder_replaced(top: Path) -> None:
    put(top / "3" / "a.txt", "new", OLD)
    (top / "1" / "sub").rename(top / "old")
    (top / "3").rename(top / "1" / "sub")


def root_switched(top: Path) -> None:
    (top / "next").symlink_to("2")
    (top / "next").replace(top / "current")


def link_switched(top: Path) -> None:
    (top / "next").symlink_to("../other.txt")
    (top / "next").replace(top / "1" / "sub" / "a.txt")


def removed(top: Path) -> None:
    (top / "1" / "sub" / "a.txt").unlink()


def moved_out_and_linked(top: Path) -> None:
    # The same file, outside the folder now: what was opened beneath it is not what the path leads to beneath it.
    (top / "1" / "sub" / "a.txt").rename(top / "outside.txt")
    (top / "1" / "sub" / "a.txt").symlink_to(top / "outside.txt")


def made_a_pipe(top: Path) -> None:
    removed(top)
    os.mkfifo(top / "1" / "sub" / "a.txt")


def made_a_folder(top: Path) -> None:
    removed(top)
    (top / "1" / "sub" / "a.txt").mkdir()


@pytest.mark.parametrize("length", [3, 40_000], ids=["short", "long"])
@pytest.mark.parametrize(
    ("change", "status"),
    [
        (written_in_place, 200),
        (written_with_the_old_time, 200),
        (replaced, 200),
        (folder_replaced, 200),
        (root_switched, 200),
        (link_switched, 200),
        (removed, 404),
        (moved_out_and_linked, 404),
        (made_a_pipe, 404),
        (made_a_folder, 308),
    ],
)
def test_a_change_is_seen_by_the_next_request(
    tmp_path: Path, serve: Callable[[Edge], Running], change: Change, status: int, length: int
) -> None:
    put(tmp_path / "1" / "sub" / "a.txt", "x" * length)
    put(tmp_path / "1" / "other.txt", "new")
    put(tmp_path / "2" / "sub" / "a.txt", "new")
    (tmp_path / "current").symlink_to("1")
    edge = Edge("test")
    edge.files("/", tmp_path / "current")
    with httpx.Client(base_url=serve(edge).url) as client:
        for _ in range(3):
            assert client.get("/sub/a.txt").text == "x" * length
        change(tmp_path)
        answer = client.get("/sub/a.txt")
        assert answer.status_code == status
        assert (answer.text == "new") == (status == 200)


def figure(running: Running, name: str) -> int:
    (found,) = re.findall(rf"^edgerouter_files_{name} (\d+)$", running.server.metrics(), re.MULTILINE)
    return int(found)


def settle(file: Path) -> None:
    """Waits: a file that was changed a moment ago is read each time, as its next change may have the same time."""
    wait_until(lambda: file.stat().st_ctime + 2.1 < time.time())


@pytest.mark.parametrize(("kept", "most", "length"), [(64, 2, 60_000), (0, 5, 100)])
def test_a_short_file_is_read_once_and_closed_after_a_second(
    tmp_path: Path, serve: Callable[[Edge], Running], kept: int, most: int, length: int
) -> None:
    settle(put(tmp_path / "a.txt", "x" * length))
    edge = Edge("test", limits=Limits(files=FileLimits(kept_files=kept)))
    edge.files("/", tmp_path)
    running = serve(edge)
    with httpx.Client(base_url=running.url) as client:
        for _ in range(5):
            assert client.get("/a.txt").text == "x" * length
    # The first may be a thread's, which keeps nothing.
    reads = figure(running, "read_bytes_total") // length
    assert reads == most or (kept and reads < most)
    wait_until(lambda: figure(running, "open") == 0)


def test_half_of_the_files_that_may_be_open_are_left_for_requests(
    tmp_path: Path, serve: Callable[[Edge], Running]
) -> None:
    for number in range(10):
        put(tmp_path / f"{number}.txt", "x" * 100_000)
    edge = Edge("test", limits=Limits(files=FileLimits(open_files=4)))
    edge.files("/", tmp_path)
    running = serve(edge)
    opened = []
    with httpx.Client(base_url=running.url) as client:
        for number in range(10):
            assert len(client.get(f"/{number}.txt").content) == 100_000
            opened.append(figure(running, "open"))
        # The last one may still be under way, and a busy machine may take the second after which all are closed.
        wait_until(lambda: figure(running, "open") <= 2, what="the end of the last")
        assert 0 < max(opened) <= 3
    assert 'edgerouter_files_failed_total{reason="descriptors"} 0' in running.server.metrics()


def test_a_worker_keeps_the_content_of_as_many_files_as_it_may(
    tmp_path: Path, serve: Callable[[Edge], Running]
) -> None:
    files = [put(tmp_path / f"{number}.txt", f"{number}" * 32_000) for number in range(16, 36)]
    settle(files[-1])
    edge = Edge("test")
    edge.files("/", tmp_path)
    running = serve(edge)
    with httpx.Client(base_url=running.url) as client:

        def read() -> int:
            before = figure(running, "read_bytes_total")
            for file in files:
                assert client.get(f"/{file.name}").text == file.read_text()
            return figure(running, "read_bytes_total") - before

        # 1 MiB is sixteen of these files, and less where a busy machine takes the second for which they are kept.
        assert [read() // 64_000 >= 4 for _ in range(3)] == [True] * 3


def test_a_file_that_never_changes_is_served_without_a_look_until_it_is_opened_anew(
    tmp_path: Path, serve: Callable[[Edge], Running]
) -> None:
    edge = Edge("test")
    edge.files("/", tmp_path, immutable="*.????????.*")
    put(tmp_path / "index.html", "")
    with httpx.Client(base_url=serve(edge).url) as client:

        def outlives_its_file() -> bool:
            file = put(tmp_path / "app.3f2a9c1b.js", "x = 1")
            # The first may be a thread's, which keeps nothing.
            for _ in range(3):
                assert client.get(f"/{file.name}").text == "x = 1"
            file.unlink()
            return client.get(f"/{file.name}").status_code == 200

        # A busy machine may take the second for which the file is kept.
        wait_until(outlives_its_file)
        wait_until(lambda: client.get("/app.3f2a9c1b.js").status_code == 404)


@pytest.mark.parametrize("name", ["app.js", "app.3f2a9c1b.js"])
def test_a_coding_that_is_made_later_is_found(tmp_path: Path, serve: Callable[[Edge], Running], name: str) -> None:
    put(tmp_path / name, "x = 1")
    edge = Edge("test")
    edge.files("/", tmp_path, immutable="*.????????.*")
    with httpx.Client(base_url=serve(edge).url, headers={"accept-encoding": "br, gzip"}) as client:

        def coding() -> str | None:
            found: str | None = client.get(f"/{name}").headers.get("content-encoding")
            return found

        assert [coding() for _ in range(3)] == [None] * 3
        put(tmp_path / f"{name}.gz", gzip.compress(b"x = 1"))
        if name == "app.js":
            assert coding() == "gzip"
        # The edge looks once a second for the codings of a file whose name says that it never changes.
        wait_until(lambda: coding() == "gzip")
        assert client.get(f"/{name}").text == "x = 1"


@pytest.mark.parametrize("target", ["missing", "/etc/hostname", "../outside.gz"])
def test_a_coding_that_is_a_link_out_of_the_folder_is_none(
    tmp_path: Path, serve: Callable[[Edge], Running], target: str
) -> None:
    put(tmp_path / "dist" / "app.js", "x = 1")
    put(tmp_path / "outside.gz", gzip.compress(b"secret"))
    edge = Edge("test")
    edge.files("/", tmp_path / "dist")
    with httpx.Client(base_url=serve(edge).url, headers={"accept-encoding": "gzip"}) as client:
        for _ in range(3):
            assert client.get("/app.js").text == "x = 1"
        (tmp_path / "dist" / "app.js.gz").symlink_to(target)
        for _ in range(3):
            response = client.get("/app.js")
            assert (response.text, "content-encoding" in response.headers) == ("x = 1", False)


def test_the_head_of_a_kept_file_depends_on_the_file_that_was_requested(
    tmp_path: Path, serve: Callable[[Edge], Running]
) -> None:
    put(tmp_path / "app.js", "x = 1")
    put(tmp_path / "app.js.gz", gzip.compress(b"x = 1"))
    edge = Edge("test")
    edge.files("/", tmp_path)
    with httpx.Client(base_url=serve(edge).url, headers={"accept-encoding": "gzip"}) as client:

        def head(path: str) -> list[str | None]:
            fields = client.get(path).headers
            return [fields.get(name) for name in ("content-type", "content-encoding", "vary")]

        for _ in range(3):
            assert head("/app.js") == ["text/javascript; charset=utf-8", "gzip", "accept-encoding"]
            assert head("/app.js.gz") == ["application/gzip", None, None]
