"""Litestream beside a SQLite binding: what a writer that was killed had written comes back from the replica."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

from ..origins import wait_until
from ..tools import tool

WRITER = """
from edgerouter import Edge

edge = Edge("shop")
edge.database("DB", "sqlite:app.db")
with edge.bindings() as env:
    env.DB.exec("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
    insert = env.DB.prepare("INSERT INTO notes (text) VALUES (?) RETURNING id")
    while True:
        print(insert.bind("x" * 1000).first("id"), flush=True)
"""


def restored(litestream: str, source: str, target: Path) -> int:
    """The rows of a copy that was made of the replica; -1 where there is none yet."""
    target.unlink(missing_ok=True)
    ended = subprocess.run([litestream, "restore", "-o", str(target), source], capture_output=True, text=True)
    if ended.returncode != 0:
        return -1
    with sqlite3.connect(target) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not copy.execute("SELECT 1 FROM sqlite_schema WHERE name = 'notes'").fetchone():
            return -1
        rows: int = copy.execute("SELECT count(*) FROM notes").fetchone()[0]
        return rows


def test_rows_of_a_writer_that_was_killed_come_back_from_the_replica(tmp_path: Path) -> None:
    litestream, source = tool("litestream"), f"file://{tmp_path}/replica"
    writer = subprocess.Popen([sys.executable, "-c", WRITER], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    try:
        assert writer.stdout.readline() == "1\n"
        with (tmp_path / "log").open("wb") as log:
            replicating = subprocess.Popen(
                [litestream, "replicate", str(tmp_path / "app.db"), source], stdout=log, stderr=log
            )
        try:
            wait_until(lambda: restored(litestream, source, tmp_path / "first.db") > 0, what="the first copy")
            acknowledged = [int(line) for line, _ in zip(writer.stdout, range(300), strict=False)]
            writer.kill()
            writer.wait(10)
            acknowledged += [int(line) for line in writer.stdout]
            copy = tmp_path / "copy.db"
            wait_until(lambda: restored(litestream, source, copy) >= acknowledged[-1], what="all rows to come back")
        finally:
            replicating.terminate()
            replicating.wait(10)
    finally:
        writer.kill()
        writer.wait(10)
    assert acknowledged[-1] > 300
