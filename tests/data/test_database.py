"""Databases that functions are bound to: statements, batches, bounds, and what is safe when the process is killed."""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import AsyncContext, BindingError, Context, DataLimits, Edge, Limits, Request
from edgerouter.application import FileApplication
from edgerouter.functions import Database

from ..metrics import metric
from ..processes import command
from .conftest import Asking, locked, refused

EXAMPLES = Path(__file__).parents[2] / "examples"
SCHEMA = """
CREATE TABLE users (
  id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT UNIQUE NOT NULL, name TEXT,
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE posts (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id), title TEXT NOT NULL);
"""


@pytest.fixture
def database(asking: Asking, tmp_path: Path) -> Asking:
    asking.database(f"sqlite:{tmp_path}/app.db")

    def prepare(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        return db.exec(SCHEMA).count

    assert asking.plain(prepare) == 2
    return asking


def test_statements_give_rows_and_facts_as_d1_does(database: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        insert = db.prepare("INSERT INTO users (email, name) VALUES (?, ?)")
        made = [insert.bind(f"{name}@example.com", name).run() for name in ("ann", "bob")]
        users = db.prepare("SELECT id, email, name FROM users ORDER BY id")
        found = users.all()
        one = db.prepare("SELECT name, id FROM users WHERE id = ?").bind(2)
        updated = db.prepare("UPDATE users SET name = 'x'").run()
        return [
            [
                (it.success, it.results, it.meta["changes"], it.meta["last_row_id"], it.meta["changed_db"])
                for it in made
            ],
            found.results,
            (found.meta["rows_read"], found.meta["changes"], found.meta["duration"] > 0),
            users.raw(),
            users.raw(column_names=True)[0],
            one.first(),
            one.first("id"),
            refused(lambda: one.first("age")),
            db.prepare("SELECT 1 WHERE 0").first(),
            (updated.meta["rows_written"], updated.meta["last_row_id"]),
            db.prepare("INSERT INTO users (email) VALUES ('c') RETURNING id").first("id"),
        ]

    rows = [{"id": 1, "email": "ann@example.com", "name": "ann"}, {"id": 2, "email": "bob@example.com", "name": "bob"}]
    assert database.plain(question) == [
        [[True, [], 1, 1, True], [True, [], 1, 2, True]],
        rows,
        [2, 0, True],
        [[1, "ann@example.com", "x"], [2, "bob@example.com", "x"]],
        ["id", "email", "name"],
        {"name": "x", "id": 2},
        2,
        "KeyError: 'age: the result has no such column; it has name, id'",
        None,
        [2, 0],
        3,
    ]


def test_an_async_function_awaits_what_a_plain_one_calls(database: Asking) -> None:
    async def question(request: Request, ctx: AsyncContext) -> Any:
        db = ctx.env.DB
        insert = db.prepare("INSERT INTO users (email) VALUES (?)")
        await asyncio.gather(*(insert.bind(f"{at}").run() for at in range(50)))
        count = db.prepare("SELECT count(*) AS n FROM users")
        results = await db.batch([insert.bind("x"), count, insert.bind("y"), count])
        script = await db.exec("DELETE FROM users; SELECT 1;")
        return [
            [it.results for it in results],
            (await count.all()).results,
            await count.raw(),
            await count.first("n"),
            script.count,
        ]

    assert database.awaited(question) == [[[], [{"n": 51}], [], [{"n": 52}]], [{"n": 0}], [[0]], 0, 2]


def test_values_come_back_as_they_were_bound(database: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        db.exec("CREATE TABLE v (a, b, c, d, e, f)")
        values = (None, -(2**63), 1.5, "grüß\0dich", b"\0\xff", True)
        db.prepare("INSERT INTO v VALUES (?, ?, ?, ?, ?, ?)").bind(*values).run()
        found = db.prepare("SELECT * FROM v").raw()[0]
        wrong = db.prepare("SELECT ?")
        return [
            found == [*values[:5], 1],
            refused(lambda: wrong.bind(2**64)),
            refused(lambda: wrong.bind(object())),  # type: ignore[arg-type]
            refused(lambda: wrong.all()),
            refused(lambda: wrong.bind(1, 2).all()),
        ]

    assert database.plain(question) == [
        True,
        "OverflowError: bind: value 1 has more than 64 bits; bind it as str",
        (
            "TypeError: bind: value 1 is of type object; bind str, int, float, bytes or None, such as "
            "value.isoformat() of a date"
        ),
        "ValueError: DB: bind: the statement has 1 parameters, and 0 values were bound",
        "ValueError: DB: bind: the statement has 1 parameters, and 2 values were bound",
    ]


def test_a_batch_and_a_script_take_effect_as_a_whole_or_not_at_all(database: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        insert = db.prepare("INSERT INTO users (email) VALUES (?)")
        batch = refused(lambda: db.batch([insert.bind("a"), insert.bind("b"), insert.bind("a")]))
        script = refused(lambda: db.exec("INSERT INTO users (email) VALUES ('c'); INSERT INTO nowhere VALUES (1);"))
        foreign = refused(lambda: db.exec("INSERT INTO posts VALUES (1, 99, 't')"))
        return [batch, script, foreign, db.prepare("SELECT count(*) FROM users").raw()]

    assert database.plain(question) == [
        "BindingError: DB: statement 3 of the batch, which changed nothing: UNIQUE constraint failed: users.email",
        "BindingError: DB: no such table: nowhere",
        "BindingError: DB: FOREIGN KEY constraint failed",
        [[0]],
    ]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "ValueError: DB: sql: is empty"),
        ("SELECT 1\0", "ValueError: DB: sql: has a zero character"),
        ("SELEC 1", 'BindingError: DB: near "SELEC": syntax error'),
        ("BEGIN", "BindingError: DB: a transaction cannot be begun or ended by a statement"),
        ("/* */ commit", "BindingError: DB: a transaction cannot be begun or ended by a statement"),
        ("ATTACH 'other.db' AS o", "BindingError: DB: other files cannot be attached"),
        ("PRAGMA synchronous=OFF", "BindingError: DB: a PRAGMA that sets something"),
        ("PRAGMA main.foreign_keys (0)", "BindingError: DB: a PRAGMA that sets something"),
        ("vacuum", "BindingError: DB: VACUUM is not run by a binding, whose connections it would block; run it with"),
        ("SELECT 1; SELECT 2", "BindingError: DB: Multiple statements provided"),
    ],
)
def test_a_statement_that_cannot_run_is_refused(database: Asking, sql: str, message: str) -> None:
    text = database.plain(lambda request, ctx: refused(lambda: ctx.env.DB.prepare(sql).all()))
    assert text.startswith(message)


def test_a_statement_that_takes_too_long_or_gives_too_much_is_ended(asking: Asking, tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/app.db"
    asking.database(url, limits=DataLimits(timeout=0.3))
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    wide = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n LIMIT 3000"

    late = asking.plain(lambda request, ctx: refused(lambda: ctx.env.DB.prepare(endless).first()))
    assert late == (
        "BindingError: DB: no answer within 0.3 s (limits.data.timeout); whether it took effect is not known"
    )
    asking.database(url, limits=DataLimits(result_bytes=65_536, value_bytes=100))

    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        return [
            refused(lambda: db.prepare(wide).all()),
            refused(lambda: db.prepare("SELECT ?").bind("x" * 101).all()),
            len(db.prepare(wide.replace("3000", "1000")).raw()),
        ]

    assert asking.plain(question) == [
        (
            "BindingError: DB: the result has more than 65536 bytes (limits.data.result_bytes); read fewer rows with "
            "LIMIT, or raise it"
        ),
        "ValueError: DB: bind: value 1 has 101 bytes, and limits.data.value_bytes is 100; raise it, or store less",
        1_000,
    ]


def test_readers_go_on_while_another_process_writes_and_a_writer_waits_in_its_own_time(
    asking: Asking, tmp_path: Path
) -> None:
    running = asking.database(f"sqlite:{tmp_path}/app.db", limits=DataLimits(timeout=2))
    asking.plain(lambda request, ctx: ctx.env.DB.exec("CREATE TABLE t (a)").count)
    with locked(tmp_path / "app.db"):
        assert asking.plain(lambda request, ctx: ctx.env.DB.prepare("SELECT count(*) FROM t").raw()) == [[0]]
        insert = lambda request, ctx: refused(lambda: ctx.env.DB.prepare("INSERT INTO t VALUES (1)").run())  # noqa: E731
        assert asking.plain(insert).startswith("BindingError: DB: ")
        assert (
            metric(
                running,
                "edgerouter_binding_operations_total",
                '{binding="DB",kind="database",operation="query",result="ok"}',
            )
            >= 1
        )
    assert asking.plain(insert) == "nothing was raised"


WRITER = """
import sys
from edgerouter import Edge, Response
edge = Edge("writer")
edge.database("DB", "sqlite:" + sys.argv[1])

@edge.function("/add/{n}")
async def add(request, ctx):
    await ctx.env.DB.prepare("INSERT INTO t (n) VALUES (?)").bind(int(request.params["n"])).run()
    return Response(status=204)

@edge.function("/prepare")
async def prepare(request, ctx):
    await ctx.env.DB.exec("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    return Response(status=204)

edge.serve(listen="127.0.0.1:0")
"""


def test_no_acknowledged_write_of_a_hundred_writers_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout
    urls = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stdout)
    url = next(found[0] for found in urls if found)
    assert httpx.get(f"{url}/prepare").status_code == 204
    acknowledged: list[int] = []

    def write(writer: int) -> None:
        with httpx.Client(base_url=url, timeout=20) as client:
            for at in range(1_000):
                number = writer * 1_000 + at
                try:
                    if client.get(f"/add/{number}").status_code == 204:
                        acknowledged.append(number)
                except httpx.HTTPError:
                    return
                if len(acknowledged) >= 500 and process.poll() is None:
                    process.send_signal(signal.SIGKILL)

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(write, range(100)))
    process.stdout.close()
    assert process.wait(60) == -signal.SIGKILL
    with sqlite3.connect(file) as database:
        stored = {number for (number,) in database.execute("SELECT n FROM t")}
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert len(acknowledged) >= 500
    assert not set(acknowledged) - stored


def test_the_same_file_cannot_be_opened_by_pythons_sqlite_in_this_process(database: Asking, tmp_path: Path) -> None:
    for name in (str(tmp_path / "app.db"), f"file:{tmp_path}/app.db?mode=ro"):
        with pytest.raises(BindingError, match=r"app\.db is open as a binding: use ctx\.env"):
            sqlite3.connect(name, uri=name.startswith("file:"))
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "app.db")
    with pytest.raises(BindingError, match="Two copies of SQLite in one process"):
        sqlite3.connect(link)
    sqlite3.connect(":memory:").close()
    sqlite3.connect(tmp_path / "another.db").close()
    database.running.server.stop(1)
    with sqlite3.connect(tmp_path / "app.db") as opened:
        assert opened.execute("SELECT count(*) FROM users").fetchone() == (0,)


def test_a_program_uses_the_bindings_of_an_edge_without_serving_it(tmp_path: Path) -> None:
    edge = Edge("shop", limits=Limits(data=DataLimits(connections=2)))
    edge.database("DB", f"sqlite:{tmp_path}/app.db")
    edge.kv("KV", f"sqlite:{tmp_path}/app.db")
    with edge.bindings() as env:
        env.DB.exec("CREATE TABLE t (a); INSERT INTO t VALUES (7);")
        env.KV.put("k", "v")
    with edge.bindings() as env:
        assert (env.DB.prepare("SELECT a FROM t").first("a"), env.KV.get("k")) == (7, "v")
    with pytest.raises(BindingError, match="DB: is closed"):
        env.DB.prepare("SELECT 1").first()


def test_two_bindings_begin_one_new_file_at_the_same_time(tmp_path: Path) -> None:
    """One in thirty failed, as SQLite refuses the lock for a write-ahead log at once, whatever the time to wait."""
    for attempt in range(200):
        edge = Edge("shop")
        edge.database("DB", f"sqlite:{tmp_path}/{attempt}.db")
        edge.kv("KV", f"sqlite:{tmp_path}/{attempt}.db")
        with edge.bindings() as env:
            env.DB.exec("CREATE TABLE t (a); INSERT INTO t VALUES (7);")
            assert env.DB.prepare("SELECT a FROM t").first("a") == 7


def test_the_users_api_of_the_examples_answers(
    serve: Callable[[Edge], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = str(EXAMPLES / "users" / "app.py")
    assert command("db", "migrate", app).returncode == 0
    served = serve(FileApplication(app).load())
    user = {"email": "ann@example.com", "name": "Ann"}
    added = [httpx.post(f"{served.url}/api/users", json=user) for _ in range(2)]
    assert [(it.status_code, it.json()["success"]) for it in added] == [(200, True), (409, False)]
    [found] = httpx.get(f"{served.url}/api/users").json()
    assert {**found, **user} == found


def test_the_counters_of_the_examples_count(
    serve: Callable[[Edge], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = serve(FileApplication(str(EXAMPLES / "counters" / "app.py")).load()).url
    stored = [httpx.put(f"{url}/pages/home", json={"title": "Welcome"}).status_code for _ in range(2)]
    assert stored == [201, 409]
    views = [httpx.get(f"{url}/pages/home").json() for _ in range(2)]
    assert views == [{"title": "Welcome", "views": 1}, {"title": "Welcome", "views": 2}]
    assert httpx.get(f"{url}/pages").json() == {"pages": ["home"], "next": None}
    assert httpx.get(f"{url}/pages/other").status_code == 404
