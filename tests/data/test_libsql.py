"""Databases on libSQL servers, by a server that follows the specification of their protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgerouter import AsyncContext, BindingError, ConfigError, Context, DataLimits, Edge, Request
from edgerouter.functions import Database
from edgerouter.migrations import Migrations

from ..certificates import Authority
from ..metrics import metric
from ..origins import wait_until
from .conftest import Asking, broken_rules, refusal_at_the_start, refused
from .libsql import LibSqlServer

TABLE = "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT UNIQUE NOT NULL, age INT CHECK (age > 0)); "
POSTS = "CREATE TABLE posts (id INT, user INT REFERENCES users(id)); -- done; no more;"
TOKEN = "eyJhbGciOi.hunter2"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LibSqlServer]:
    server = LibSqlServer(tmp_path / "served.db", TOKEN)
    yield server
    server.close()
    assert server.problems == []


@pytest.fixture
def database(asking: Asking, server: LibSqlServer) -> Asking:
    asking.database(server.url, auth_token=TOKEN)
    assert asking.plain(lambda request, ctx: ctx.env.DB.exec(TABLE + POSTS).count) == 2
    return asking


def test_statements_have_the_shape_of_every_engine(database: Asking, server: LibSqlServer) -> None:
    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        made = db.prepare("INSERT INTO users (email) VALUES (?)").bind("ann").run()
        more = db.prepare("INSERT INTO users (email, age) VALUES (?2, ?1), ('c', 3) RETURNING id").bind(7, "bob").all()
        users = db.prepare("SELECT id, email, age FROM users ORDER BY id")
        gone = db.prepare("DELETE FROM users WHERE id > ?").bind(2).run()
        batch = db.batch([users, db.prepare("UPDATE users SET age = 1"), db.prepare("SELECT count(*) FROM users")])
        return [
            [made.success, made.results, made.meta["last_row_id"], made.meta["changes"], made.meta["changed_db"]],
            [more.results, users.raw(column_names=True), users.first(), users.first("email")],
            [gone.meta["changes"], gone.meta["last_row_id"], users.all().meta["changes"]],
            [[it.results for it in batch], [it.meta["changes"] for it in batch]],
            [db.prepare("SELECT 1 WHERE 0").first(), db.engine, users.all().meta["duration"] > 0],
        ]

    ann, bob = {"id": 1, "email": "ann", "age": None}, {"id": 2, "email": "bob", "age": 7}
    assert database.plain(question) == [
        [True, [], 1, 1, True],
        [[{"id": 2}, {"id": 3}], [["id", "email", "age"], [1, "ann", 1], [2, "bob", 1]], ann | {"age": 1}, "ann"],
        [1, 0, 0],
        [[[ann, bob], [], [{"count(*)": 2}]], [0, 2, 0]],
        [None, "sqlite", True],
    ]
    # Each call is one request over a connection that is kept.
    assert server.connections <= 2 and set(server.paths) == {"/v3/pipeline"}


def test_values_come_back_as_they_were_bound(database: Asking) -> None:
    values = [
        None,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        0.30000000000000004,
        5e-324,
        1.7976931348623157e308,
        "",
        "ü\n\"'?",
        "x" * 100_000,
        b"",
        b"\0\xff" * 3,
        True,
    ]

    def question(request: Request, ctx: Context) -> Any:
        select = ctx.env.DB.prepare("SELECT " + ", ".join(["?"] * len(values))).bind(*values)
        return repr(select.raw()[0])

    assert database.plain(question) == repr([*values[:-1], 1])


def test_a_batch_takes_effect_as_a_whole_or_not_at_all(database: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        insert = db.prepare("INSERT INTO users (email) VALUES (?)")
        batch = refused(lambda: db.batch([insert.bind("a"), insert.bind("b"), insert.bind("a")]))
        script = refused(lambda: db.exec("INSERT INTO users (email) VALUES ('c'); INSERT INTO nowhere VALUES (1)"))
        commit = refused(lambda: db.exec("INSERT INTO users (email) VALUES ('c'); COMMIT"))
        return [batch, script, commit, db.batch([]), db.prepare("SELECT count(*) FROM users").raw()]

    batch, script, commit, empty, rows = database.plain(question)
    assert batch == (
        "BindingError: DB: statement 3 of the batch, which changed nothing: SQLite error: UNIQUE constraint failed: "
        "users.email"
    )
    assert "no such table: nowhere" in script
    assert commit.startswith("BindingError: DB: a transaction cannot be begun or ended by a statement")
    assert (empty, rows) == ([], [[0]])


def test_broken_rules_and_refused_statements(database: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        found = broken_rules(
            db,
            "INSERT INTO users (email) VALUES ('a'), ('a')",
            "INSERT INTO users (id, email) VALUES (1, 'b'), (1, 'c')",
            "INSERT INTO posts VALUES (1, 99)",
            "INSERT INTO users (email) VALUES (NULL)",
            "INSERT INTO users (email, age) VALUES ('a', -1)",
            "SELECT nothing",
        )
        one = [refused(lambda sql=sql: db.prepare(sql).all()) for sql in ("SELECT 1; SELECT 2", "ATTACH 'a' AS b", "")]  # type: ignore[misc]
        nan = refused(lambda: db.prepare("SELECT ?").bind(float("nan")).all())
        return [found, one, nan, refused(lambda: db.prepare("SELECT ?").all()).split(":")[0]]

    found, one, nan, unbound = database.plain(question)
    assert found == ["unique", "unique", "foreign-key", "not-null", "check", None]
    assert "prepare takes one statement" in one[0] and "cannot be attached" in one[1] and "sql: is empty" in one[2]
    assert nan.startswith("ValueError: DB: bind: value 1 is NaN") and unbound == "BindingError"


def test_an_async_function_awaits_many_at_once_over_few_connections(database: Asking, server: LibSqlServer) -> None:
    async def question(request: Request, ctx: AsyncContext) -> Any:
        insert = ctx.env.DB.prepare("INSERT INTO users (email) VALUES (?)")
        await asyncio.gather(*(insert.bind(f"{at}").run() for at in range(20)))
        return await ctx.env.DB.prepare("SELECT count(*) AS n FROM users").first("n")

    assert database.awaited(question) == 20
    # The looks at the binding have theirs from the same pool.
    assert server.connections <= DataLimits().connections


def test_migrations_run_as_on_sqlite(server: LibSqlServer, tmp_path: Path) -> None:
    edge = Edge("shop")
    edge.database("DB", server.url, auth_token=TOKEN)
    folder = tmp_path / "migrations"
    folder.mkdir()
    trigger = (
        "CREATE TRIGGER t AFTER INSERT ON users BEGIN SELECT CASE WHEN 1 THEN 2 END; UPDATE users SET age = 1; END;"
    )
    (folder / "0001_users.sql").write_text(TABLE + trigger)
    (folder / "0002_broken.sql").write_text("CREATE TABLE other (a INT); SELECT broken")
    with edge.bindings() as env:
        with pytest.raises((BindingError, ConfigError), match="broken"):
            list(Migrations(env.DB, folder).migrate())
        env.DB.exec("INSERT INTO users (email) VALUES ('a')")
        assert env.DB.prepare("SELECT age FROM users").first("age") == 1
        assert [it.applied_at is not None for it in Migrations(env.DB, folder).status()] == [True, False]
        assert "no such table" in refused(lambda: env.DB.prepare("SELECT * FROM other").all())


@pytest.mark.parametrize("fault", ["chunked", "closes", "until the end"])
def test_a_response_may_end_in_every_way_of_http(database: Asking, server: LibSqlServer, fault: str) -> None:
    server.fault = fault
    for _ in range(3):
        assert database.plain(lambda request, ctx: ctx.env.DB.prepare("SELECT 'ü' AS u").first("u")) == "ü"


def test_a_server_with_version_2_only_is_used_as_well(asking: Asking, server: LibSqlServer) -> None:
    server.versions = ["v2"]
    asking.database(server.url, auth_token=TOKEN)
    for _ in range(2):
        assert asking.plain(lambda request, ctx: ctx.env.DB.prepare("SELECT 1 AS one").first("one")) == 1
    assert server.paths[-1] == "/v2/pipeline" and server.paths.count("/v3/pipeline") <= 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("broken", "cannot be reached: the libSQL server: answers with status 500: the disk is full"),
        ("redirect", "cannot be reached: the libSQL server: answers with status 307"),
        ("no json", "cannot be reached: the libSQL server: sent a response that is none of its protocol"),
        ("no http", "cannot be reached: the libSQL server: sent no response of HTTP/1.1"),
        ("hangs up", "cannot be reached: the libSQL server: ended the connection"),
        ("huge", "the result has more than 2065536 bytes of JSON, twice limits.data.result_bytes"),
        ("silent", "no answer within 1 s (limits.data.timeout)"),
    ],
)
def test_a_server_that_fails_is_an_error_of_the_call(
    asking: Asking, server: LibSqlServer, fault: str, message: str
) -> None:
    running = asking.database(
        server.url, auth_token=TOKEN, limits=DataLimits(timeout=1, result_bytes=1_000_000, connections=1)
    )

    def question(request: Request, ctx: Context) -> Any:
        try:
            ctx.env.DB.prepare("SELECT 1").all()
        except BindingError as error:
            return [str(error), error.in_doubt]
        return None

    # The look at the binding at the start, which has the only connection, is over then.
    assert asking.plain(question) is None
    server.fault = fault
    text, in_doubt = asking.plain(question)
    assert message in text and in_doubt == (fault != "huge") and TOKEN not in text
    if fault != "huge":
        assert metric(running, "edgerouter_binding_up", '{binding="DB",kind="database"}') == 0
    server.fault = ""
    server.go_on.set()
    assert asking.plain(question) is None


def test_a_server_that_fails_every_other_call_is_not_reached_again_with_each_in_the_log(
    asking: Asking, server: LibSqlServer, standard_error: Callable[[], str]
) -> None:
    asking.database(server.url, auth_token=TOKEN, limits=DataLimits(connections=1))

    def in_turn(request: Request, ctx: Context) -> Any:
        failed = 0
        for turn in range(40):
            server.fault = "hangs up" if turn % 2 else ""
            failed += "BindingError" in refused(lambda: ctx.env.DB.prepare("SELECT 1").all())
        return failed

    assert asking.plain(in_turn) == 20
    server.fault = ""

    def is_well() -> bool:
        assert asking.plain(lambda request, ctx: ctx.env.DB.prepare("SELECT 1 AS one").first("one")) == 1
        return "a binding can be reached again" in standard_error()

    wait_until(is_well, what="the end of the outage in the log")
    text = standard_error()
    # In the second of a test before, its line is among the repeated ones.
    assert "a binding cannot be reached; calls of it fail" in text
    # One, or more where the machine was at a stand for a second between two calls.
    assert text.count("a binding can be reached again") < 5, text


def test_rows_are_bounded(asking: Asking, server: LibSqlServer) -> None:
    asking.database(server.url, auth_token=TOKEN, limits=DataLimits(result_bytes=100_000))
    sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2500) SELECT i, i AS j FROM n"
    text = asking.plain(lambda request, ctx: refused(lambda: ctx.env.DB.prepare(sql).all()))
    assert "the result has more than 100000 bytes (limits.data.result_bytes)" in text


@pytest.mark.parametrize("token", [None, "wrong", "Bearer"])
def test_a_wrong_token_fails_calls_and_is_not_shown(asking: Asking, server: LibSqlServer, token: str | None) -> None:
    asking.database(server.url, auth_token=token)
    text = asking.plain(lambda request, ctx: refused(lambda: ctx.env.DB.prepare("SELECT 1").all()))
    assert text == "BindingError: DB: cannot be reached: the libSQL server: answers with status 401: Unauthorized"


def test_the_certificate_of_the_server_must_be_for_its_host(asking: Asking, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for name, message in (("127.0.0.1", "nothing was raised"), ("other.example.com", "BindingError: DB: cannot be")):
        issued = authority.issue(name)
        server = LibSqlServer(tmp_path / "served.db", certificate=(issued.chain, issued.key))
        try:
            asking.database(f"{server.url}?sslrootcert={authority.file}")
            text = asking.plain(lambda request, ctx: refused(lambda: ctx.env.DB.prepare("SELECT 1").all()))
            assert text.startswith(message)
        finally:
            server.close()


@pytest.mark.parametrize(
    ("url", "options", "field", "message"),
    [
        ("libsql:hunter2", {}, "url", "must be libsql://HOST"),
        ("libsql://hunter2/path", {}, "url", "must be libsql://HOST"),
        ("libsql://h?authToken=hunter2", {}, "url", "has a token in it"),
        ("libsql://hunter2@h", {}, "url", "has a token in it"),
        ("libsql://h?tls=0", {}, "url", "has a parameter that is not known"),
        ("libsql://h", {"replicas": ["libsql://i"]}, "replicas[0]", "is a replica of a libSQL database"),
        ("libsql://h", {"auth_token": "hunter2\r\nX: y"}, "auth_token", "must be visible characters"),
        ("sqlite:app.db", {"auth_token": "hunter2"}, "auth_token", "has no effect here"),
    ],
)
def test_an_address_that_cannot_work_is_refused_at_the_start(
    url: str, options: dict[str, Any], field: str, message: str
) -> None:
    text = refusal_at_the_start(url, options)
    assert f"bindings[0].{field}" in text and message in text and "hunter2" not in text


@pytest.mark.parametrize("kind", ["kv", "documents"])
def test_only_databases_are_kept_there(kind: str) -> None:
    edge = Edge("shop")
    getattr(edge, kind)("DATA", "libsql://h")
    with pytest.raises(ConfigError, match=r"bindings\[0\]\.url: .*must be"):
        edge.compile()
