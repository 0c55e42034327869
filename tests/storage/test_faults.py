"""Faults of a disk cache's directory, and the responses that are served all the same."""

from __future__ import annotations

import itertools
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgerouter.errors import ConfigError
from edgerouter.testing import running

from ..origins import Origin, wait_until
from ..processes import Process
from .conftest import MIB, ONLY_STORED, Edges, body_of, edge_for, metric, settled

SEGMENT = 65_536


def taken(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


@pytest.mark.parametrize("back", [False, True])
def test_a_directory_that_is_removed_while_it_serves_costs_what_was_in_it_and_nothing_more(
    stored: Origin, serving: Callable[..., Any], tmp_path: Path, back: bool
) -> None:
    folder = tmp_path / "cache"
    with serving(memory=64 << 10, segment_bytes=SEGMENT) as (client, edge):
        for number in range(100):
            client.get(f"/{number}")
        settled(edge.server.metrics)
        shutil.rmtree(folder)
        if back:
            # Somebody else's now: nothing is written or removed there.
            folder.mkdir()
            (folder / "00000001.seg").write_text("another edge's")
        for number in range(100, 200):
            assert client.get(f"/{number}").content == body_of(f"/{number}")
        wait_until(lambda: metric(edge.server.metrics(), "failing") == 1, what="it is noticed")
        # Open files are read, new responses are in memory.
        for number in (3, 199):
            assert client.get(f"/{number}", headers=ONLY_STORED).content == body_of(f"/{number}")
        purge = edge.server.purge(paths=["/3"])
        assert client.get("/3", headers=ONLY_STORED).status_code == 504
        wait_until(lambda: edge.server.find_purge(purge.id).completed, what="the purge")
        if back:
            assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("00000001.seg", "another edge's")]
        else:
            assert not folder.exists()
    with serving() as (client, edge):
        assert metric(edge.server.metrics(), "entries") == 0
        assert client.get("/3").content == body_of("/3")


def test_a_directory_that_was_removed_is_not_said_to_work_again(edges: Edges, tmp_path: Path) -> None:
    client, metrics = edges.start()
    assert edges.process
    with client:
        client.get("/before")
        settled(metrics)
        shutil.rmtree(tmp_path / "cache")

        numbers = itertools.count()

        def is_tried_again() -> bool:
            client.get(f"/during/{next(numbers)}")
            return metric(metrics(), "errors_total") >= 3

        wait_until(is_tried_again, 60, "further attempts to write")
        assert metric(metrics(), "failing") == 1
    assert edges.process.output.count("the disk cache cannot be written") == 1
    assert "can be written again" not in edges.process.output


def test_records_that_are_damaged_while_it_serves_are_said_in_the_log(edges: Edges, tmp_path: Path) -> None:
    client, metrics = edges.start()
    assert edges.process
    with client:
        # More than memory holds.
        for number in range(400):
            client.get(f"/{number}")
        settled(metrics)
        for file in (tmp_path / "cache").glob("*.seg"):
            with file.open("r+b") as segment:
                for at in range(200, file.stat().st_size, 500):
                    segment.seek(at)
                    segment.write(b"broken")
        for number in range(400):
            assert client.get(f"/{number}").content == body_of(f"/{number}")
        assert metric(metrics(), "damaged_total") > 0
    cache = re.escape(str(tmp_path / "cache"))
    edges.process.wait_for(rf"a record of the disk cache is damaged.* path={cache}")


def test_a_second_process_on_a_directory_ends_with_one_clear_line(edges: Edges) -> None:
    client, _ = edges.start()
    with client:
        client.get("/a")
        second = Process("run", str(edges.app), "--listen", "127.0.0.1:0")
        assert second.process.wait(60) == 1
        second.reader.join(60)
        told = [line for line in second.lines if line.startswith("error:")]
        assert len(told) == 1 and "another process uses this directory; stop it, or give each edge" in told[0]
        assert client.get("/a", headers=ONLY_STORED).status_code == 200
    edges.kill()
    # A process that was killed holds nothing.
    client, _ = edges.start()
    with client:
        assert client.get("/a").status_code == 200


def test_a_smaller_size_gives_the_oldest_up_at_the_start_and_a_larger_one_nothing(
    stored: Origin, serving: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    with serving(size=8 * MIB, segment_bytes=SEGMENT) as (client, edge):
        for number in range(900):
            client.get(f"/{number}")
        settled(edge.server.metrics)
        assert taken(folder) > MIB
    with serving(size=MIB, memory=64 << 10, segment_bytes=SEGMENT) as (client, edge):
        wait_until(lambda: metric(edge.server.metrics(), "bytes") <= MIB, what="the oldest have left")
        assert taken(folder) - (folder / "purges.log").stat().st_size <= MIB * 1.02
        left = metric(edge.server.metrics(), "entries")
        assert 300 < left < 900
        assert client.get("/899", headers=ONLY_STORED).content == body_of("/899")
        assert client.get("/0", headers=ONLY_STORED).status_code == 504
    with serving(size=64 * MIB, memory=64 << 10) as (client, edge):
        assert metric(edge.server.metrics(), "entries") == left
        assert client.get("/899", headers=ONLY_STORED).content == body_of("/899")
        for number in range(900):
            assert client.get(f"/{number}").content == body_of(f"/{number}")


@pytest.mark.parametrize("files", ["*.seg", "*.idx", "*.*"])
def test_files_of_another_version_are_left_out(
    stored: Origin, serving: Callable[..., Any], tmp_path: Path, files: str
) -> None:
    folder = tmp_path / "cache"
    with serving(segment_bytes=SEGMENT) as (client, _):
        for number in range(100):
            client.get(f"/{number}")
    for file in folder.glob(files):
        data = bytearray(file.read_bytes())
        for at in range(0, len(data) - 8, 8):
            # A record's and a sidecar's beginning; the version comes behind.
            if bytes(data[at : at + 4]) in (b"edR1", b"edX1"):
                data[at + 4] += 1
        file.write_bytes(data)
    count = stored.count()
    with serving() as (client, edge):
        for number in range(100):
            assert client.get(f"/{number}").content == body_of(f"/{number}")
        asked = stored.count() - count
        # Sidecars of another version cost a scan; records of another version are all gone.
        assert asked == (0 if files == "*.idx" else 100)
        settled(edge.server.metrics)
    with serving() as (client, _):
        for number in range(100):
            assert client.get(f"/{number}", headers=ONLY_STORED).content == body_of(f"/{number}")


def test_a_segment_that_cannot_be_read_is_left_out(stored: Origin, serving: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with serving(segment_bytes=SEGMENT) as (client, _):
        for number in range(200):
            client.get(f"/{number}")
    segments = sorted(folder.glob("*.seg"))
    assert len(segments) > 3
    segments[1].unlink()
    segments[1].symlink_to(tmp_path)
    with serving(segment_bytes=SEGMENT) as (client, edge):
        assert metric(edge.server.metrics(), "entries") > 0
        for number in range(200):
            assert client.get(f"/{number}").content == body_of(f"/{number}")


def test_a_directory_that_cannot_be_made_is_refused_with_the_remedy(stored: Origin) -> None:
    with (
        pytest.raises(ConfigError, match=r"disk_cache\.path: .*/proc/edgerouter.*give a directory"),
        running(edge_for(stored, Path("/proc/edgerouter"))),
    ):
        pytest.fail("the edge has started")


def test_a_stop_writes_what_waits(stored: Origin, edges: Edges) -> None:
    client, _ = edges.start()
    with client:
        for number in range(50):
            client.get(f"/{number}")
    assert edges.process
    assert edges.process.end(signal.SIGTERM) == 0
    count = stored.count()
    client, _ = edges.start()
    with client:
        for number in range(50):
            assert client.get(f"/{number}", headers=ONLY_STORED).content == body_of(f"/{number}")
    assert stored.count() == count
