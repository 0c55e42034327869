"""SQLite files on a bad day: replaced, removed, locked, or no files at all, while a binding uses them."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgerouter import BindingError, DataLimits, Edge, Limits
from edgerouter.functions import Database

from ..origins import wait_until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


def bindings(file: Path) -> AbstractContextManager[Any]:
    edge = Edge("shop", limits=Limits(data=DataLimits(timeout=5, connections=4)))
    edge.database("DB", f"sqlite:{file}")
    return edge.bindings()


@pytest.fixture
def db(file: Path) -> Iterator[Database]:
    with bindings(file) as env:
        db: Database = env.DB
        db.exec("CREATE TABLE t (v TEXT); INSERT INTO t VALUES ('old')")
        assert content(db) == ["old"]
        yield db


def content(db: Database) -> list[Any]:
    return [value for (value,) in db.prepare("SELECT v FROM t ORDER BY rowid").raw()]


def of_another_program(file: Path, *values: str) -> None:
    """Makes a whole file in the way of programs that restore one."""
    made = sqlite3.connect(file)
    made.execute("CREATE TABLE t (v TEXT)")
    made.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
    made.commit()
    made.close()


def failure(operation: Callable[[], object]) -> BindingError:
    with pytest.raises(BindingError) as caught:
        operation()
    return caught.value


def test_a_file_that_is_restored_over_an_open_one_is_used_and_keeps_what_it_holds(
    db: Database, file: Path, tmp_path: Path
) -> None:
    """The log of the file before was written into it: of 5,000 rows two were left."""
    of_another_program(tmp_path / "restored.db", *["new"] * 5_000)
    (tmp_path / "restored.db").rename(file)
    counts = "SELECT count(*), min(v) FROM t"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: db.prepare(counts).raw(), range(64)))
    assert {tuple(row) for rows in found for row in rows} == {(5_000, "new")}
    db.prepare("INSERT INTO t VALUES ('last')").run()
    assert read_by_another_program(file) == ["ok", "5001", "last"]


READER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
for sql in "PRAGMA integrity_check", "SELECT count(*) FROM t", "SELECT v FROM t ORDER BY rowid DESC":
    print(db.execute(sql).fetchone()[0])
"""


def read_by_another_program(file: Path) -> list[str]:
    found = subprocess.run([sys.executable, "-c", READER, str(file)], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


def test_a_removed_file_gets_no_more_writes_and_is_used_when_it_is_back(db: Database, file: Path) -> None:
    file.rename(file.with_name("moved.db"))
    error = failure(lambda: db.prepare("INSERT INTO t VALUES ('lost')").run())
    assert str(error) == (
        f"DB: cannot be reached: {file}: was removed while it was open; put it back, or start the edge again to begin "
        "an empty one"
    )
    assert not error.in_doubt
    assert not file.exists()
    file.with_name("moved.db").rename(file)
    db.prepare("INSERT INTO t VALUES ('kept')").run()
    assert content(db) == ["old", "kept"]


def test_a_removed_log_loses_no_write_that_was_acknowledged(db: Database, file: Path) -> None:
    Path(f"{file}-wal").unlink()
    db.prepare("INSERT INTO t VALUES ('after')").run()
    assert content(db) == ["old", "after"]
    assert read_by_another_program(file) == ["ok", "2", "after"]


def test_a_program_that_has_the_file_before_open_does_not_write_into_the_new_one(
    db: Database, file: Path, tmp_path: Path
) -> None:
    with holder(file) as say:
        of_another_program(tmp_path / "restored.db", "new")
        file.rename(tmp_path / "before.db")
        (tmp_path / "restored.db").rename(file)
        assert content(db) == ["new"]
        assert say("write") == "written"
        db.prepare("INSERT INTO t VALUES ('last')").run()
        assert content(db) == ["new", "last"]
    assert content(db) == ["new", "last"]
    assert read_by_another_program(file) == ["ok", "2", "last"]


def test_a_file_is_not_opened_beside_a_log_that_is_still_read(db: Database, file: Path, tmp_path: Path) -> None:
    with holder(file) as say:
        assert say("read") == "reading"
        db.prepare("INSERT INTO t VALUES ('in the log')").run()
        of_another_program(tmp_path / "restored.db", "new")
        (tmp_path / "restored.db").rename(file)
        error = failure(lambda: content(db))
        assert "the log (-wal) beside it is still that of the one before" in str(error)
        assert "end the programs that have it open, and remove the log" in str(error)
    Path(f"{file}-wal").unlink()
    assert content(db) == ["new"]


HOLDER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("SELECT count(*) FROM t").fetchall()
print("open", flush=True)
for word in sys.stdin:
    if word == "read\\n":
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM t").fetchall()
        print("reading", flush=True)
    elif word == "lock\\n":
        db.execute("BEGIN IMMEDIATE")
        print("locked", flush=True)
    else:
        db.executemany("INSERT INTO t VALUES (?)", [("of the holder",)] * 1000)
        print("written", flush=True)
"""


@contextmanager
def holder(file: Path) -> Iterator[Callable[[str], str]]:
    """Another program that has a file open, and does as each line says."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin and stdout and stdout.readline() == "open\n"

    def say(word: str) -> str:
        stdin.write(f"{word}\n")
        stdin.flush()
        return stdout.readline().strip()

    try:
        yield say
    finally:
        stdin.close()
        process.wait(60)
        stdout.close()


def take_the_place_of(file: Path, restored: Path, kept: bool) -> None:
    """``kept``: the file before stays under another name, and so does the number of its inode."""
    if kept:
        file.rename(file.with_name("before.db"))
    restored.rename(file)


@contextmanager
def two_bindings(file: Path) -> Iterator[Any]:
    edge = Edge("shop", limits=Limits(data=DataLimits(timeout=60, connections=4)))
    edge.database("DB", f"sqlite:{file}")
    edge.kv("KV", f"sqlite:{file}")
    with edge.bindings() as env:
        yield env


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("first", ["KV", "DB"])
def test_two_bindings_of_one_file_both_follow_it_at_once(tmp_path: Path, file: Path, first: str, kept: bool) -> None:
    """The one refused until the other had an operation, and for ever where the new log had the number of the old."""
    with two_bindings(file) as env:
        env.DB.exec("CREATE TABLE t (v TEXT)")
        assert env.KV.put("key", "before") and env.KV.get("not there") is None and content(env.DB) == []
        of_another_program(tmp_path / "restored.db", "new")
        take_the_place_of(file, tmp_path / "restored.db", kept)
        steps: dict[str, Callable[[], object]] = {
            "KV": lambda: (env.KV.get("unread"), env.KV.put("key", "after"), env.KV.get("other")),
            "DB": lambda: (content(env.DB), env.DB.prepare("INSERT INTO t VALUES ('last')").run().meta["changes"]),
        }
        done = {name: steps[name]() for name in sorted(steps, key=lambda name: name != first)}
        assert done == {"KV": (None, True, None), "DB": (["new"], 1)}
        assert env.KV.get("key") == "after" and content(env.DB) == ["new", "last"]
    assert read_by_another_program(file) == ["ok", "2", "last"]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("ends", ["KV", "DB"])
def test_a_file_that_is_restored_just_before_the_end_is_whole_at_the_next_start(
    tmp_path: Path, file: Path, ends: str, kept: bool
) -> None:
    """The edge ended before its next operation, and left its log: instead of 5,000 rows the 50 before were there."""
    with two_bindings(file) as env:
        env.DB.exec("CREATE TABLE t (v TEXT)")
        for number in range(50):
            if ends == "DB":
                env.DB.prepare("INSERT INTO t VALUES (?)").bind(number).run()
            else:
                env.KV.put(str(number), "x" * 4_000)
        of_another_program(tmp_path / "restored.db", *["new"] * 5_000)
        take_the_place_of(file, tmp_path / "restored.db", kept)
    with two_bindings(file) as env:
        assert env.DB.prepare("SELECT count(*), min(v) FROM t").raw() == [[5_000, "new"]]
        assert env.KV.get("1") is None
    assert read_by_another_program(file) == ["ok", "5000", "new"]


def test_an_operation_waits_for_those_under_way_on_the_file_before(tmp_path: Path, file: Path) -> None:
    """It was refused; so were operations that met the look of the edge itself whether the file can be reached."""
    numbers = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT count(*), v FROM n, t"
    )
    with two_bindings(file) as env, ThreadPoolExecutor(2) as pool:
        env.DB.exec("CREATE TABLE t (v TEXT); INSERT INTO t VALUES ('old')")
        assert content(env.DB) == ["old"]
        slow = [pool.submit(env.DB.prepare(numbers).bind(5_000_000).raw) for _ in range(2)]
        wait_until(lambda: is_read(file), 60, "a read of the file")
        of_another_program(tmp_path / "restored.db", "new")
        (tmp_path / "restored.db").rename(file)
        assert content(env.DB) == ["new"]
        assert env.DB.prepare("INSERT INTO t VALUES ('last')").run().meta["changes"] == 1
        # The second one may have begun after the file was there.
        assert {tuple(row) for found in slow for row in found.result(60)} <= {(5_000_000, "old"), (5_000_000, "new")}
    assert read_by_another_program(file) == ["ok", "2", "last"]


def is_read(file: Path) -> bool:
    """True while a transaction of this process reads the file: it locks a byte of the log's index, 123 to 127."""
    index = f":{Path(f'{file}-shm').stat().st_ino}"
    for lock in Path("/proc/locks").read_text().splitlines():
        *_, kind, holder, place, first, last = lock.split()
        is_mark = place.endswith(index) and int(first) <= 127 and last != "EOF" and int(last) >= 123
        if is_mark and kind == "READ" and int(holder) == os.getpid():
            return True
    return False


def test_a_file_behind_a_link_keeps_its_log_when_the_link_leads_elsewhere(
    db: Database, file: Path, tmp_path: Path
) -> None:
    link = tmp_path / "current.db"
    link.symlink_to(file)
    with bindings(link) as env:
        assert content(env.DB) == ["old"]
        with holder(file) as say:
            assert say("write") == "written"
            of_another_program(tmp_path / "other.db", "new")
            (tmp_path / "next").symlink_to(tmp_path / "other.db")
            (tmp_path / "next").rename(link)
            assert content(env.DB) == ["new"]
            assert Path(f"{file}-wal").exists()
            assert say("write") == "written"
        of_another_program(tmp_path / "third.db", "third")
        env.DB.prepare("INSERT INTO t VALUES ('last')").run()
        (tmp_path / "third.db").rename(tmp_path / "other.db")
        assert content(env.DB) == ["third"]
    assert read_by_another_program(tmp_path / "other.db") == ["ok", "1", "third"]
    assert read_by_another_program(file) == ["ok", "2001", "of", "the", "holder"]


def test_a_file_that_is_no_database_may_be_removed_and_is_made_anew(file: Path) -> None:
    file.write_text("no database " * 1_000)
    with bindings(file) as env:
        assert "file is not a database" in str(failure(lambda: content(env.DB)))
        file.unlink()
        env.DB.exec("CREATE TABLE t (v TEXT); INSERT INTO t VALUES ('first')")
        assert content(env.DB) == ["first"]


def test_a_lock_of_another_process_is_named_and_the_write_has_not_taken_effect(db: Database, file: Path) -> None:
    with holder(file) as say:
        assert say("lock") == "locked"
        error = failure(lambda: db.prepare("INSERT INTO t VALUES ('late')").run())
        assert str(error) == f"DB: cannot be reached: {file}: another process keeps it locked"
        assert not error.in_doubt
    assert content(db) == ["old"]


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
def test_a_path_that_is_no_file_is_refused_in_words_and_holds_no_thread(file: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(file))
        listener.close()
    with bindings(file) as env:
        error = failure(lambda: env.DB.prepare("SELECT 1").first())
    assert str(error) == f"DB: cannot be reached: {file}: is no regular file; name another one"
    assert not error.in_doubt


def test_an_error_has_the_words_of_sqlite_and_not_the_statement(db: Database) -> None:
    many = ",".join(["?"] * 40_000)
    error = failure(lambda: db.prepare(f"SELECT coalesce({many})").bind(*range(40_000)).first())
    assert str(error) == "DB: too many SQL variables"
