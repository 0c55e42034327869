"""Databases on PostgreSQL and MariaDB servers: the calls of every engine, its own values, and its failures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import AsyncContext, BindingError, ConfigError, Context, DataLimits, Edge, Request
from edgerouter.application import FileApplication
from edgerouter.functions import Database
from edgerouter.migrations import Migrations

from ..certificates import Authority
from ..metrics import metric
from ..origins import wait_until
from .conftest import Asking, broken_rules, refused
from .servers import DatabaseServer, MariaServer, PostgresServer

EXAMPLES = Path(__file__).parents[2] / "examples"
USERS = {
    "PostgresServer": "CREATE TABLE users (id INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email TEXT UNIQUE "
    "NOT NULL, name TEXT, age INT CHECK (age > 0)); "
    "CREATE TABLE posts (id INT PRIMARY KEY, user_id INT REFERENCES users(id))",
    "MariaServer": "CREATE TABLE users (id INT AUTO_INCREMENT PRIMARY KEY, email VARCHAR(99) UNIQUE NOT NULL, "
    "name TEXT, age INT CHECK (age > 0)); CREATE TABLE posts (id INT PRIMARY KEY, user_id INT REFERENCES users(id))",
}


@pytest.fixture
def database(asking: Asking, database_server: DatabaseServer) -> Asking:
    """A function with a database that has users and posts, on each product."""
    asking.database(database_server.empty())

    def prepare(request: Request, ctx: Context) -> Any:
        return [ctx.env.DB.exec(sql).count for sql in USERS[type(database_server).__name__].split("; ")]

    assert asking.plain(prepare) == [1, 1]
    return asking


def test_statements_give_rows_and_facts_as_d1_does(database: Asking, database_server: DatabaseServer) -> None:
    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        insert = db.prepare("INSERT INTO users (email, name) VALUES (?, ?)")
        made = [insert.bind(f"{name}@example.com", name).run() for name in ("ann", "bob")]
        users = db.prepare("SELECT id, email, name FROM users ORDER BY id")
        found = users.all()
        one = db.prepare("SELECT name, id FROM users WHERE id = ?1 OR id = ?1").bind(2)
        updated = db.prepare("UPDATE users SET name = 'x'").run()
        again = db.prepare("UPDATE users SET name = 'x'").run()
        deleted = db.prepare("DELETE FROM users WHERE id = ? RETURNING id").bind(1).all()
        return [
            [(it.success, it.results, it.meta["changes"], it.meta["changed_db"]) for it in made],
            [it.meta["last_row_id"] for it in made],
            found.results,
            (found.meta["rows_read"], found.meta["changes"], found.meta["duration"] > 0),
            users.raw(column_names=True),
            one.first(),
            one.first("id"),
            refused(lambda: one.first("age")),
            db.prepare("SELECT id FROM users WHERE id > 99").first(),
            (updated.meta["rows_written"], updated.meta["last_row_id"], again.meta["changes"]),
            (deleted.results, deleted.meta["changes"]),
            db.engine,
        ]

    rows = [{"id": 1, "email": "ann@example.com", "name": "ann"}, {"id": 2, "email": "bob@example.com", "name": "bob"}]
    is_postgres = isinstance(database_server, PostgresServer)
    assert database.plain(question) == [
        [[True, [], 1, True], [True, [], 1, True]],
        [0, 0] if is_postgres else [1, 2],
        rows,
        [2, 0, True],
        [["id", "email", "name"], [2, "bob@example.com", "x"]],
        {"name": "x", "id": 2},
        2,
        "KeyError: 'age: the result has no such column; it has name, id'",
        None,
        [2, 0, 2],
        [[{"id": 1}], 1],
        "postgresql" if is_postgres else "mysql",
    ]


def test_an_async_function_awaits_many_at_once_over_few_connections(database: Asking) -> None:
    async def question(request: Request, ctx: AsyncContext) -> Any:
        db = ctx.env.DB
        insert = db.prepare("INSERT INTO users (email) VALUES (?)")
        await asyncio.gather(*(insert.bind(f"{at}").run() for at in range(50)))
        count = db.prepare("SELECT count(*) AS n FROM users")
        results = await db.batch([insert.bind("x"), count, insert.bind("y"), count])
        script = await db.exec("DELETE FROM users; SELECT ';'; -- no third;")
        return [[it.results for it in results], (await count.all()).results, await count.first("n"), script.count]

    assert database.awaited(question) == [[[], [{"n": 51}], [], [{"n": 52}]], [{"n": 0}], 0, 2]


def test_a_batch_and_a_script_take_effect_as_a_whole_or_not_at_all(database: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        insert = db.prepare("INSERT INTO users (email) VALUES (?)")
        batch = refused(lambda: db.batch([insert.bind("a"), insert.bind("b"), insert.bind("a")]))
        script = refused(lambda: db.exec("INSERT INTO users (email) VALUES ('c'); INSERT INTO nowhere VALUES (1)"))
        rollback = refused(lambda: db.exec("INSERT INTO users (email) VALUES ('c'); COMMIT; SELECT * FROM nowhere"))
        return [batch, script, rollback, db.prepare("SELECT count(*) FROM users").raw()]

    batch, script, rollback, rows = database.plain(question)
    assert batch.startswith("BindingError: DB: statement 3 of the batch, which changed nothing: ")
    assert "nowhere" in script
    assert rollback.startswith("BindingError: DB: a transaction cannot be begun or ended by a statement")
    assert rows == [[0]]


def test_a_broken_rule_of_the_schema_has_the_same_name_on_each_engine(database: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        return broken_rules(
            ctx.env.DB,
            "INSERT INTO users (email) VALUES ('a'), ('a')",
            "INSERT INTO posts VALUES (1, 99)",
            "INSERT INTO users (email) VALUES (NULL)",
            "INSERT INTO users (email, age) VALUES ('a', -1)",
            "SELECT nothing",
        )

    assert database.plain(question) == ["unique", "foreign-key", "not-null", "check", None]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "ValueError: DB: sql: is empty"),
        ("SELECT 1\0", "ValueError: DB: sql: has a zero character"),
        ("/* */ commit", "BindingError: DB: a transaction cannot be begun or ended by a statement"),
        ("SET a = 1", "BindingError: DB: SET would hold for one of several connections only"),
        ("SELECT 1; SELECT 2", "BindingError: DB: prepare takes one statement, and this has several"),
        ("SELECT ?", "ValueError: DB: bind: the statement has 1 parameters, and 0 values were bound"),
        ("SELEC 1", "BindingError: DB: "),
    ],
)
def test_a_statement_that_cannot_run_is_refused(database: Asking, sql: str, message: str) -> None:
    text = database.plain(lambda request, ctx: refused(lambda: ctx.env.DB.prepare(sql).all()))
    assert text.startswith(message)


def test_values_of_postgresql_come_back_in_types_of_python(asking: Asking, postgres: PostgresServer) -> None:
    asking.database(postgres.empty())

    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        db.exec("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN posint AS int CHECK (value > 0)")
        db.exec(
            "CREATE TABLE v (a int, b bigint, c float8, d text, e bytea, f bool, g numeric, h timestamptz, i date, "
            "j uuid, k jsonb, l mood, m posint, n real, o timestamp, p time, q inet, r smallint)"
        )
        values = (
            *(None, -(2**63), 1.5, "grüß ? 'dich'", b"\0\xff", True, "12.50", "2026-11-27 17:00:00.5+01"),
            *("2026-11-27", "6f2b7a3e-5f0c-4bfa-9f0d-0d6a6f0f3b11", '{"a": [1]}', "ok", 7, 3.14),
            *("0044-03-15 01:02:03 BC", "23:59:59.25", "10.0.0.0/8", -7),
        )
        insert = db.prepare(f"INSERT INTO v VALUES ({', '.join('?' * len(values))})")
        insert.bind(*values).run()
        found = db.prepare("SELECT * FROM v").raw()[0]
        wrong = db.prepare("SELECT d FROM v WHERE d = ?")
        return [
            found[4] == b"\0\xff",
            found[:4] + found[5:],
            db.prepare("SELECT sum(b) AS s, avg(r) AS a, interval '1 day 2 s' AS i FROM v").first(),
            db.prepare("SELECT k ?? 'a' AS has, k ->> 'a' AS a, $$?$$ AS q FROM v WHERE k ??| ARRAY[?]")
            .bind("a")
            .first(),
            refused(lambda: db.prepare("SELECT ARRAY[1] AS list").all()),
            refused(lambda: wrong.bind(b"x").all()),
            refused(lambda: wrong.bind("a\0b").all()),
            refused(lambda: db.prepare("SELECT a FROM v WHERE e = ?").bind(5).all()),
            refused(lambda: db.prepare("SELECT * FROM v WHERE ? IS NULL").bind(1).all()),
            refused(lambda: db.prepare("SELECT * FROM v WHERE a = ?2").bind(1, 2).all()),
        ]

    assert asking.plain(question) == [
        True,
        [
            *(None, -(2**63), 1.5, "grüß ? 'dich'", True, "12.50", "2026-11-27 16:00:00.5+00:00", "2026-11-27"),
            *("6f2b7a3e-5f0c-4bfa-9f0d-0d6a6f0f3b11", '{"a": [1]}', "ok", 7, 3.14, "0044-03-15 01:02:03 BC"),
            *("23:59:59.25", "10.0.0.0/8", -7),
        ],
        {"s": -(2**63), "a": "-7.0000000000000000", "i": "P1DT2S"},
        {"has": True, "a": "[1]", "q": "?"},
        (
            "BindingError: DB: column list has the type _int4, which has no counterpart; cast it, as in list::text or "
            "to_json(list)"
        ),
        "ValueError: DB: bind: value 1 is bytes, and the parameter has the type text; bind str, or cast it to bytea",
        (
            "ValueError: DB: bind: value 1 has a zero character, which PostgreSQL cannot store in text; bind bytes "
            "for a column of bytea"
        ),
        "ValueError: DB: bind: value 1 is a number, and the parameter has the type bytea; bind bytes",
        "BindingError: DB: could not determine data type of parameter $1; cast it, as in CAST(? AS text)",
        "BindingError: DB: could not determine data type of parameter $1; cast it, as in CAST(? AS text)",
    ]


def test_values_of_mariadb_come_back_in_types_of_python(asking: Asking, mariadb: MariaServer) -> None:
    asking.database(mariadb.empty())

    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        db.exec(
            "CREATE TABLE v (a int, b bigint, c double, d text, e blob, f bool, g decimal(10, 2), h datetime(3), "
            "i date, j bigint unsigned, k json, l enum('sad', 'ok'), m float, n time, o bit(9), p varbinary(9))"
        )
        values = (
            *(
                None,
                -(2**63),
                1.5,
                "grüß\0 ? \\'dich'",
                b"\0\xff",
                True,
                "12.50",
                "2026-11-27 17:00:00.5",
                "2026-11-27",
            ),
            *(str(2**64 - 1), '{"a": [1]}', "ok", 3.14, "-26:00:01", 257, b"\xfe"),
        )
        insert = db.prepare(f"INSERT INTO v VALUES ({', '.join('?' * len(values))})")
        insert.bind(*values).run()
        found = db.prepare("SELECT * FROM v").raw()[0]
        return [
            found[4] == b"\0\xff" and found[-1] == b"\xfe",
            found[:4] + found[5:-1],
            db.prepare("SELECT sum(b) AS s, avg(f) AS a, ':x ?' AS q, \"it's ?\" AS r, `o` AS o FROM v # ?").first(),
            db.prepare("SELECT ?2 AS b, ?1 AS a, ?2 AS c").bind("x", 5).first(),
        ]

    assert asking.plain(question) == [
        True,
        [
            *(None, -(2**63), 1.5, "grüß\0 ? \\'dich'", 1, "12.50", "2026-11-27 17:00:00.5", "2026-11-27"),
            *(str(2**64 - 1), '{"a": [1]}', "ok", 3.14, "-26:00:01", 257),
        ],
        {"s": -(2**63), "a": "1.0000", "q": ":x ?", "r": "it's ?", "o": 257},
        {"b": 5, "a": "x", "c": 5},
    ]


def test_mariadb_refuses_a_batch_that_could_take_effect_by_half(asking: Asking, mariadb: MariaServer) -> None:
    asking.database(mariadb.empty())
    message = (
        "BindingError: DB: CREATE TABLE b changes the schema, which MySQL cannot undo, so 2 statements could take "
        "effect by half; run it alone"
    )

    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        one = db.exec("CREATE TABLE a (x INT)").count
        two = refused(lambda: db.exec("INSERT INTO a VALUES (1); CREATE TABLE b (x INT)"))
        three = refused(lambda: db.batch([db.prepare("CREATE TABLE b (x INT)"), db.prepare("SELECT 1")]))
        return [one, two, three, db.prepare("SELECT count(*) FROM a").raw()]

    assert asking.plain(question) == [1, message, message, [[0]]]


def test_a_statement_that_takes_too_long_or_gives_too_much_is_ended(
    asking: Asking, database_server: DatabaseServer
) -> None:
    limits = DataLimits(timeout=2, result_bytes=65_536, connections=1)
    asking.database(database_server.empty(), limits=limits)
    is_postgres = isinstance(database_server, PostgresServer)
    endless = "SELECT pg_sleep(30)" if is_postgres else "SELECT sleep(30)"
    series = "SELECT * FROM generate_series(1, {}) i" if is_postgres else "SELECT seq AS i FROM seq_1_to_{}"

    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        return [
            refused(lambda: db.prepare(endless).all()),
            refused(lambda: db.prepare(series.format(900_000)).all()),
            len(db.prepare(series.format(900)).raw()),
            db.prepare(series.format(9_000)).first("i"),
        ]

    late = "BindingError: DB: no answer within 2 s (limits.data.timeout); whether it took effect is not known"
    much = "BindingError: DB: the result has more than 65536 bytes (limits.data.result_bytes); read fewer rows with"
    first, second, *rest = asking.plain(question)
    assert (first, second[: len(much)], rest) == (late, much, [900, 1])
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)' AND state = 'active'"
        if is_postgres
        else "SELECT count(*) FROM information_schema.processlist WHERE info = 'SELECT sleep(30)'"
    )
    wait_until(lambda: database_server.sql(running) == "0", what="the server to end the statement")


def test_a_server_that_is_killed_fails_calls_only_and_comes_back(
    asking: Asking, database_server: DatabaseServer
) -> None:
    running = asking.database(database_server.empty(), limits=DataLimits(timeout=2))

    def up() -> float:
        return metric(running, "edgerouter_binding_up", '{binding="DB",kind="database"}')

    def question(request: Request, ctx: Context) -> Any:
        return refused(lambda: ctx.env.DB.prepare("SELECT 1").all())

    assert asking.plain(question) == "nothing was raised"
    database_server.kill()
    try:
        assert asking.plain(question).startswith("BindingError: DB: cannot be reached: the ")
        assert up() == 0
    finally:
        database_server.start()
    wait_until(lambda: asking.plain(question) == "nothing was raised", what="the binding to come back")
    assert up() == 1


def test_connections_are_as_many_as_configured(asking: Asking, postgres: PostgresServer) -> None:
    asking.database(postgres.empty(), limits=DataLimits(connections=3))

    async def question(request: Request, ctx: AsyncContext) -> Any:
        mine = ctx.env.DB.prepare("SELECT pg_backend_pid() AS pid, pg_sleep(0.01)")
        return [await call for call in [mine.first("pid") for _ in range(30)]]

    assert len(set(asking.awaited(question))) == 3


def test_a_call_that_had_no_connection_in_its_time_has_done_nothing(asking: Asking, postgres: PostgresServer) -> None:
    asking.database(postgres.empty(), limits=DataLimits(connections=1, timeout=1))

    async def question(request: Request, ctx: AsyncContext) -> Any:
        calls = [ctx.env.DB.prepare("SELECT pg_sleep(30)").all() for _ in range(3)]
        failed = await asyncio.gather(*calls, return_exceptions=True)
        return sorted([error.in_doubt, str(error)] for error in failed if isinstance(error, BindingError))

    waited = (
        "no connection was free within 1 s (limits.data.timeout), so nothing was done: the server is slow or does not"
    )
    in_doubt, texts = zip(*asking.awaited(question), strict=True)
    # The first has the connection. The second may get it at the end of that time, a moment before its own is over.
    assert in_doubt in {(False, False, True), (False, True, True)}
    had_none = [text for doubt, text in zip(in_doubt, texts, strict=True) if not doubt]
    assert all(waited in text and "limits.data.connections" in text for text in had_none)


def test_a_statement_is_prepared_again_when_the_schema_has_changed(asking: Asking, postgres: PostgresServer) -> None:
    asking.database(postgres.empty(), limits=DataLimits(connections=1))

    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        db.exec("CREATE TABLE t (a INT); INSERT INTO t VALUES (1)")
        every = db.prepare("SELECT * FROM t")
        before = every.all().results
        db.exec("ALTER TABLE t ADD b TEXT DEFAULT 'x'")
        after = every.all().results
        db.exec("ALTER TABLE t ALTER a TYPE TEXT")
        return [before, after, [it.results for it in db.batch([every, every])]]

    last = [{"a": "1", "b": "x"}]
    assert asking.plain(question) == [[{"a": 1}], [{"a": 1, "b": "x"}], [last, last]]


def test_a_server_that_has_become_read_only_is_connected_to_anew(asking: Asking, postgres: PostgresServer) -> None:
    """After a switch of the primary every change failed for as long as the connection lived."""
    asking.database(postgres.empty(), limits=DataLimits(connections=1))

    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        db.exec("CREATE TABLE t (a INT)")
        # As of now each transaction of this connection is one of a standby.
        db.prepare("SELECT set_config('default_transaction_read_only', 'on', false)").first()
        insert = db.prepare("INSERT INTO t VALUES (1)")
        failed = refused(lambda: insert.run())
        return [failed, insert.run().meta["changes"], db.prepare("SELECT a FROM t").first("a")]

    failed, changes, found = asking.plain(question)
    assert "read-only transaction" in failed
    assert (changes, found) == (1, 1)


def test_connections_stay_as_they_were_after_failures(asking: Asking, postgres: PostgresServer) -> None:
    asking.database(postgres.empty(), limits=DataLimits(connections=1))

    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        pid = db.prepare("SELECT pg_backend_pid()")
        first = pid.raw()
        db.exec("CREATE TABLE t (a INT UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        refused(lambda: db.batch([db.prepare("INSERT INTO t VALUES (1)"), db.prepare("SELECT broken")]))
        late = refused(
            lambda: db.batch([db.prepare("INSERT INTO t VALUES (1)"), db.prepare("INSERT INTO t VALUES (1)")])
        )
        db.prepare("INSERT INTO t VALUES (7)").run()
        return [late, db.prepare("SELECT * FROM t").raw(), pid.raw() == first]

    assert asking.plain(question) == [
        'BindingError: DB: duplicate key value violates unique constraint "t_a_key"',
        [[7]],
        True,
    ]


def test_more_statements_than_a_connection_keeps_are_possible(database: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        db: Database = ctx.env.DB
        return sum(db.prepare(f"SELECT {at} AS n").first("n") for at in [*range(200), *range(200)])

    assert database.plain(question) == 2 * sum(range(200))


def test_a_wrong_password_or_database_fails_calls_and_shows_no_secret(
    asking: Asking, database_server: DatabaseServer
) -> None:
    url = database_server.empty()
    password = url.split("@")[0].rsplit(":", 1)[1]
    asking.database(url.replace(password, "hunter2"))
    text = asking.plain(lambda request, ctx: refused(lambda: ctx.env.DB.prepare("SELECT 1").all()))
    assert text.startswith("BindingError: DB: cannot be reached: the ") and "hunter2" not in text


@pytest.mark.parametrize(
    "url",
    ["postgresql:", "mysql://hunter2@host", "postgresql://u:hunter2@h/d?sslmode=prefer", "memory:", "mysql://u@h/"],
)
def test_a_url_that_cannot_be_used_is_refused_at_the_start(url: str) -> None:
    edge = Edge("shop")
    edge.database("DB", url)
    with pytest.raises(ConfigError, match=r"bindings\[0\]\.url") as caught:
        edge.compile()
    assert "hunter2" not in str(caught.value)


def test_a_socket_of_this_machine_needs_no_host(asking: Asking, postgres: PostgresServer) -> None:
    postgres.empty()
    asking.database(f"postgresql://app@:{postgres.port}/postgres?socket={postgres.folder}")
    assert asking.plain(lambda request, ctx: ctx.env.DB.prepare("SELECT 1 AS one").first("one")) == 1


def test_migrations_of_mariadb_take_effect_one_change_a_file(mariadb: MariaServer, tmp_path: Path) -> None:
    edge = Edge("shop")
    edge.database("DB", mariadb.empty())
    folder = tmp_path / "mysql"
    folder.mkdir()
    (folder / "0001_users.sql").write_text("CREATE TABLE users (id INT); -- one")
    (folder / "0001_users.down.sql").write_text("DROP TABLE users")
    (folder / "0002_rows.sql").write_text("INSERT INTO users VALUES (1); INSERT INTO users VALUES (2);")
    (folder / "0003_both.sql").write_text("CREATE TABLE posts (id INT); INSERT INTO posts VALUES (1)")
    with edge.bindings() as env:

        def migrations() -> Migrations:
            return Migrations(env.DB, tmp_path)

        with pytest.raises(
            ConfigError, match=r"0003_both\.sql: has 2 statements, and MySQL cannot undo CREATE TABLE posts"
        ):
            migrations().migrate()
        assert [it.applied_at for it in migrations().status()] == [None, None, None]
        (folder / "0003_both.sql").write_text("CREATE TABLE users (id INT)")
        with pytest.raises(BindingError, match="Table 'users' already exists"):
            migrations().migrate()
        assert [bool(it.applied_at) for it in migrations().status()] == [True, True, False]
        (folder / "0003_both.sql").unlink()
        assert env.DB.prepare("SELECT count(*) FROM users").raw() == [[2]]

        # The change is made, and its record is not.
        (folder / "0003_posts.sql").write_text("CREATE TABLE posts (id INT)")
        refusal = (
            "BEFORE UPDATE ON edgerouter_migrations FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'ended'"
        )
        mariadb.sql(f"USE app; CREATE TRIGGER ended {refusal}")
        with pytest.raises(BindingError, match="ended"):
            migrations().migrate()
        mariadb.sql("USE app; DROP TRIGGER ended")
        assert [it.applied_at for it in migrations().status()][2] == ""
        for blocked in (migrations().migrate, migrations().rollback):
            with pytest.raises(
                ConfigError, match=r"0003_posts\.sql: was interrupted, and whether it took effect is not"
            ):
                blocked()
        assert str(migrations().settle("applied")) == "0003_posts"
        assert (migrations().settle("pending"), migrations().migrate()) == (None, [])
        for name in ("0002_rows", "0003_posts"):
            (folder / f"{name}.down.sql").write_text("DELETE FROM users" if name == "0002_rows" else "DROP TABLE posts")
        assert [str(migrations().rollback()) for _ in range(4)] == ["0003_posts", "0002_rows", "0001_users", "None"]
        assert mariadb.sql("SHOW TABLES IN app") == "edgerouter_migrations"


def test_migrations_of_postgresql_are_whole_or_not_at_all(postgres: PostgresServer, tmp_path: Path) -> None:
    edge = Edge("shop")
    edge.database("DB", postgres.empty())
    (tmp_path / "0001_users.sql").write_text("CREATE TABLE users (id INT); INSERT INTO users VALUES (1);")
    (tmp_path / "0001_users.down.sql").write_text("DROP TABLE users")
    (tmp_path / "0002_posts.sql").write_text("CREATE TABLE posts (id INT); INSERT INTO nowhere VALUES (1)")
    with edge.bindings() as env:
        with pytest.raises(BindingError, match='relation "nowhere" does not exist'):
            Migrations(env.DB, tmp_path).migrate()
        assert [bool(it.applied_at) for it in Migrations(env.DB, tmp_path).status()] == [True, False]
        assert postgres.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'posts'") == "0"
        assert str(Migrations(env.DB, tmp_path).rollback()) == "0001_users"
        assert Migrations(env.DB, tmp_path).rollback() is None


def test_the_users_api_of_the_examples_runs_on_each_server(
    serve: Callable[[Edge], Any], database_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_server.empty())
    app = EXAMPLES / "users" / "app.py"
    edge = FileApplication(str(app)).load()
    with edge.bindings() as env:
        assert Migrations(env.DB, app.parent / "migrations" / "DB").migrate()
    url = serve(edge).url
    user = {"email": "ann@example.com", "name": "Ann"}
    added = [httpx.post(f"{url}/api/users", json=user) for _ in range(2)]
    assert [(it.status_code, it.json()["success"]) for it in added] == [(200, True), (409, False)]
    [found] = httpx.get(f"{url}/api/users").json()
    assert {**found, **user, "id": 1} == found
    with edge.bindings() as env:
        migrations = Migrations(env.DB, app.parent / "migrations" / "DB")
        while migrations.rollback():
            migrations = Migrations(env.DB, app.parent / "migrations" / "DB")


def test_a_reload_reads_the_authorities_of_a_server_again(
    asking: Asking, database_server: DatabaseServer, tmp_path: Path
) -> None:
    file = Authority(tmp_path, "other").file
    url = f"{database_server.empty()}?sslrootcert={file}"
    running = asking.database(url)

    def ask() -> str:
        return str(asking.plain(lambda request, ctx: refused(lambda: ctx.env.DB.prepare("SELECT 1").all())))

    assert "UnknownIssuer" in ask()
    # The authority is another one from now on, as its file says.
    file.write_bytes(database_server.authority.read_bytes())
    running.server.reload(asking.edge(url, kind="database"))
    assert ask() == "nothing was raised"
    # A file that is none is a refused reload, and the old one serves.
    file.write_text(file.read_text()[:200])
    with pytest.raises(ConfigError, match="holds a certificate in PEM that is damaged or cut off; write it anew"):
        running.server.reload(asking.edge(url, kind="database"))
    assert ask() == "nothing was raised"


def test_the_connection_is_encrypted_and_the_server_verified(asking: Asking, database_server: DatabaseServer) -> None:
    url = database_server.empty()
    is_postgres = isinstance(database_server, PostgresServer)
    version = (
        "SELECT version AS v FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        if is_postgres
        else "SELECT variable_value AS v FROM information_schema.session_status WHERE variable_name = 'ssl_version'"
    )
    asking.database(f"{url}?sslrootcert={database_server.authority}")
    assert asking.plain(lambda request, ctx: ctx.env.DB.prepare(version).first("v")) == "TLSv1.3"
    asking.database(f"{url}?sslmode=require")
    text = asking.plain(lambda request, ctx: refused(lambda: ctx.env.DB.prepare("SELECT 1").all()))
    assert text.endswith("UnknownIssuer; name the authority of its certificate by ?sslrootcert=FILE")
