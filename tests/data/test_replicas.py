"""Replicas of PostgreSQL and MariaDB: reads on the nearest, writes on the primary, sessions that see their writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import AsyncContext, ConfigError, Context, DataLimits, Edge, Request, env
from edgerouter.functions import Database
from edgerouter.testing import Running

from ..metrics import metric
from ..origins import wait_until
from .conftest import Asking, refusal_at_the_start, refused
from .replicas import MariaReplica, PostgresReplica, Replica, Way
from .servers import MariaServer, PostgresServer

TABLE = "CREATE TABLE notes (id INT PRIMARY KEY, text VARCHAR(99)); CREATE SEQUENCE numbers"
INSERT = "INSERT INTO notes VALUES (?, 'x')"
COUNT = "SELECT count(*) AS n FROM notes"
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="session")
def replicas(postgres: PostgresServer, mariadb: MariaServer) -> Iterator[dict[str, Replica]]:
    """A replica of each product; they start and stop beside each other."""
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.submit(PostgresReplica, postgres), threads.submit(MariaReplica, mariadb)
        started: dict[str, Replica] = {"postgres": first.result(), "mariadb": second.result()}
        yield started
        for server in started.values():
            threads.submit(server.remove)


@pytest.fixture
def ways() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["postgres", "mariadb"])
def replica(request: pytest.FixtureRequest, replicas: dict[str, Replica], ways: ExitStack) -> Replica:
    """A replica of each product in turn, with an empty table."""
    found = replicas[request.param]
    url = found.primary.empty()
    for statement in TABLE.split("; "):
        found.primary.sql(statement if request.param == "postgres" else f"USE app; {statement}")
    wait_until(found.has_all, what="the replica to have the table")
    # The primary is far away, so that the replica is nearer on a busy machine as well.
    way = Way(found.primary, 0.1)
    ways.callback(way.close)
    found.primary_url = url.replace(str(found.primary.port), str(way.port))
    return found


def there(db: Database) -> bool:
    """True if a read of the database is of a replica."""
    select = {"postgresql": "SELECT pg_is_in_recovery() AS it", "mysql": "SELECT @@server_id = 2 AS it"}
    return bool(db.prepare(select[db.engine]).first("it"))


class Replicated:
    """An edge whose database has replicas."""

    def __init__(self, asking: Asking, replica: Replica, *urls: str, up: int = 1, **options: Any) -> None:
        self.asking, self.replica = asking, replica
        options = {"bookmark_key": KEY, "replicas": urls or [replica.url], **options}
        primary = options.pop("primary", replica.primary_url)
        self.running: Running = asking.database(primary, **options)
        wait_until(lambda: self.up(up) == 1, what="the replica to be used")

    def up(self, number: int = 1) -> float:
        return metric(self.running, "edgerouter_binding_replica_up", f'{{binding="DB",replica="{number}"}}')

    def reads(self, result: str, number: int = 1) -> float:
        labels = f'{{binding="DB",replica="{number}",result="{result}"}}'
        return metric(self.running, "edgerouter_binding_replica_reads_total", labels)

    def reads_on_replica(self) -> bool:
        found: bool = self.asking.plain(lambda request, ctx: there(ctx.env.DB))
        return found


@pytest.fixture
def replicated(asking: Asking, replica: Replica) -> Replicated:
    found = Replicated(asking, replica)
    wait_until(found.reads_on_replica, what="reads to be of the replica")
    return found


def test_reads_are_of_the_replica_and_writes_of_the_primary(replicated: Replicated) -> None:
    def question(request: Request, ctx: Context) -> Any:
        before = there(ctx.env.DB)
        ctx.env.DB.prepare(INSERT).bind(1).run()
        seen = ctx.env.DB.prepare(COUNT).first("n")
        batch = ctx.env.DB.batch([ctx.env.DB.prepare(COUNT), ctx.env.DB.prepare(INSERT).bind(2)])
        return [before, seen, batch[0].results, there(ctx.env.DB)]

    # A call of a function sees its own writes, also when the replica has none of them.
    replicated.replica.pause()
    try:
        assert replicated.asking.plain(question) == [True, 1, [{"n": 1}], False]
        assert replicated.asking.plain(lambda request, ctx: ctx.env.DB.prepare(COUNT).first("n")) == 0
        both = replicated.asking.plain(
            lambda request, ctx: [it.results for it in ctx.env.DB.batch([ctx.env.DB.prepare(COUNT)] * 2)]
        )
        assert both == [[{"n": 0}], [{"n": 0}]]
    finally:
        replicated.replica.go_on()

    async def awaited(request: Request, ctx: AsyncContext) -> Any:
        db = ctx.env.DB
        await asyncio.gather(*(db.prepare(INSERT).bind(at).run() for at in range(3, 13)))
        return await ctx.env.DB.prepare(COUNT).first("n")

    assert replicated.asking.awaited(awaited) == 12


def test_a_session_sees_what_an_earlier_one_wrote_and_read(replicated: Replicated) -> None:
    asking, tokens = replicated.asking, ["", ""]

    def write(request: Request, ctx: Context) -> Any:
        session = ctx.env.DB.with_session()
        first = [session.bookmark, ctx.env.DB.bookmark]
        session.prepare(INSERT).bind(1).run()
        tokens[0] = session.bookmark or ""
        return [first, session.prepare(COUNT).first("n"), len(tokens[0]) <= 256, tokens[0].isascii()]

    def read(request: Request, ctx: Context) -> Any:
        session = ctx.env.DB.with_session(tokens[0])
        found = [session.prepare(COUNT).first("n"), there(session)]
        tokens[1] = session.bookmark or ""
        return found

    replicated.replica.pause()
    try:
        assert asking.plain(write) == [[None, None], 1, True, True]
        assert asking.plain(read) == [1, False]
        assert replicated.reads("behind") >= 1
        assert asking.plain(lambda request, ctx: ctx.env.DB.with_session().prepare(COUNT).first("n")) == 0
        tokens[0] = tokens[1]
        assert asking.plain(read) == [1, False]
    finally:
        replicated.replica.go_on()
    wait_until(replicated.replica.has_all, what="the replica to catch up")
    wait_until(lambda: asking.plain(read) == [1, True], what="the session to read the replica")

    # A read gives a position as well: what was seen once is seen again.
    def read_first(request: Request, ctx: Context) -> Any:
        session = ctx.env.DB.with_session()
        session.prepare(COUNT).all()
        return [there(session), session.bookmark is not None]

    assert asking.plain(read_first) == [True, True]

    async def awaited(request: Request, ctx: AsyncContext) -> Any:
        session = ctx.env.DB.with_session(tokens[0])
        await session.prepare(INSERT).bind(2).run()
        return [await session.prepare(COUNT).first("n"), session.bookmark != tokens[0]]

    assert asking.awaited(awaited) == [2, True]


@pytest.mark.parametrize("replica", ["postgres"], indirect=True)
def test_texts_that_are_no_bookmarks_read_the_primary(asking: Asking, replica: Replica) -> None:
    replicated = Replicated(asking, replica)

    def bookmark(request: Request, ctx: Context) -> Any:
        session = ctx.env.DB.with_session("first-primary")
        return [there(session), session.bookmark]

    first, own = asking.plain(bookmark)
    assert first is False
    changed = ("B" if own[0] != "B" else "C") + own[1:]
    others = ["x", own[:-1], own + "A", changed, own.upper(), own * 99, "ü", "\0", " ", "first-Primary", own + "="]

    def question(request: Request, ctx: Context) -> Any:
        def place(text: Any) -> Any:
            return there(ctx.env.DB.with_session(text))

        any_replica = [place(text) for text in (None, "", "first-unconstrained")]
        refusals = [refused(lambda text=text: place(text)).split(":")[0] for text in (b"x", 7)]  # type: ignore[misc]
        return [any_replica, [text for text in others if place(text)], refusals]

    assert asking.plain(question) == [[True] * 3, [], ["TypeError"] * 2]
    wait_until(lambda: asking.plain(lambda request, ctx: there(ctx.env.DB.with_session(own))), what="its own bookmark")
    refusals = metric(replicated.running, "edgerouter_binding_bookmarks_refused_total", '{binding="DB"}')
    assert refusals == len(others)

    # Another key, and a random one, make it a foreign text.
    for key in (KEY.upper(), None):
        replicated = Replicated(asking, replica, bookmark_key=key)
        assert not asking.plain(lambda request, ctx: there(ctx.env.DB.with_session(own)))


def test_a_replica_that_dies_costs_no_error_and_comes_back(replicated: Replicated) -> None:
    replicated.replica.kill()
    try:
        assert [replicated.reads_on_replica() for _ in range(5)] == [False] * 5
        assert replicated.up() == 0
    finally:
        replicated.replica.start()
    wait_until(replicated.reads_on_replica, what="the replica to be used again")
    # Connections that are gone are no error either.
    assert [replicated.reads_on_replica() for _ in range(5)] == [True] * 5


def test_the_nearest_replica_answers_and_one_that_freezes_costs_no_error(
    asking: Asking, replicas: dict[str, Replica], ways: ExitStack
) -> None:
    server = replicas["postgres"]
    server.primary_url = server.primary.empty()
    far, near = Way(server, 0.05), Way(server, 0)
    ways.callback(far.close)
    ways.callback(near.close)
    primary = Way(server.primary, 0.1)
    ways.callback(primary.close)
    urls = [server.url.replace(str(server.port), str(way.port)) for way in (far, near)]
    distant = server.primary_url.replace(str(server.primary.port), str(primary.port))
    replicated = Replicated(asking, server, *urls, primary=distant, limits=DataLimits(timeout=2), up=2, staleness=5)
    wait_until(lambda: replicated.up(1) == 1, what="the other replica to be used")
    assert [replicated.reads_on_replica() for _ in range(10)] == [True] * 10
    assert (replicated.reads("ok", 1), replicated.reads("ok", 2)) == (0, 10)
    # The primary answers the read that is under way when it freezes, within its time; those after it go elsewhere.
    near.freeze()
    assert [replicated.reads_on_replica() for _ in range(5)] == [False, True, True, True, True]
    assert replicated.reads("failed", 2) >= 1
    assert replicated.reads("ok", 1) >= 1
    near.thaw()


def test_a_replica_that_is_too_far_behind_is_not_used(asking: Asking, replica: Replica) -> None:
    replicated = Replicated(asking, replica, staleness=1)
    replica.pause()
    try:
        replica.primary.sql(
            "CREATE TABLE later (a INT)" if "postgres" in replica.url else "CREATE TABLE app.later (a INT)"
        )
        name, labels = "edgerouter_binding_replica_delay_seconds", '{binding="DB",replica="1"}'
        wait_until(lambda: metric(replicated.running, name, labels) > 1, what="the replica to be behind")
        assert not replicated.reads_on_replica()
        assert replicated.up() == 1
    finally:
        replica.go_on()
    wait_until(replicated.reads_on_replica, what="the replica to be used again")


def test_reads_go_on_without_the_primary(replicated: Replicated) -> None:
    replicated.replica.primary.kill()
    try:
        assert [replicated.reads_on_replica() for _ in range(5)] == [True] * 5

        def question(request: Request, ctx: Context) -> Any:
            return refused(lambda: ctx.env.DB.prepare(INSERT).bind(1).run())

        assert replicated.asking.plain(question).startswith("BindingError: DB: cannot be reached: the ")
    finally:
        replicated.replica.primary.start()


def test_a_select_that_writes_does_so_on_the_primary_only(replicated: Replicated) -> None:
    writes = replicated.replica.WRITES

    def question(request: Request, ctx: Context) -> Any:
        return [ctx.env.DB.prepare(writes).first("n") for _ in range(3)]

    assert replicated.asking.plain(question) == [1, 2, 3]
    assert replicated.reads("failed") == 3
    assert replicated.reads_on_replica()


def test_a_server_that_is_no_replica_of_the_primary_is_not_used(
    asking: Asking, postgres: PostgresServer, ways: ExitStack, standard_error: Callable[[], str]
) -> None:
    way = Way(postgres)
    ways.callback(way.close)
    url = postgres.empty()
    running = asking.database(url, replicas=[url.replace(str(postgres.port), str(way.port))])
    text = "it is no standby, and accepts writes"
    wait_until(lambda: text in standard_error(), what="the log")
    assert asking.plain(lambda request, ctx: ctx.env.DB.prepare("SELECT 1 AS one").first("one")) == 1
    assert metric(running, "edgerouter_binding_replica_up", '{binding="DB",replica="1"}') == 0


def test_a_database_without_replicas_has_sessions_that_do_nothing(asking: Asking, tmp_path: Path) -> None:
    asking.database(f"sqlite:{tmp_path}/app.db")

    def question(request: Request, ctx: Context) -> Any:
        session = ctx.env.DB.with_session("whatever")
        session.exec("CREATE TABLE t (a INT); INSERT INTO t VALUES (1)")
        return [session.prepare("SELECT a FROM t").raw(), session.bookmark, repr(session)]

    assert asking.plain(question) == [[[1]], None, "<Database DB>"]


POSTGRES = "postgresql://u:hunter2@db.example.com/d"
OTHER = "postgresql://u:hunter2@other.example.com/d"


@pytest.mark.parametrize(
    ("url", "options", "field", "message"),
    [
        ("sqlite:app.db", {"replicas": [OTHER]}, "replicas[0]", "is a replica of a SQLite file, which has none here"),
        (POSTGRES, {"replicas": ["sqlite:b.db"]}, "replicas[0]", "must be a server of the same product"),
        (POSTGRES, {"replicas": ["mysql://u@h/d"]}, "replicas[0]", "must be a server of the same product"),
        (POSTGRES, {"replicas": [POSTGRES]}, "replicas[0]", "is the primary itself"),
        (POSTGRES, {"replicas": [OTHER, OTHER]}, "replicas[1]", "is the server of another replica already"),
        (POSTGRES, {"replicas": ["hunter2"]}, "replicas[0]", "must be memory:, sqlite:FILE, or the URL of a server"),
        (POSTGRES, {"replicas": [env("NOT_SET_ANYWHERE")]}, "replicas[0]", "environment variable NOT_SET_ANYWHERE"),
        (POSTGRES, {"replicas": [OTHER.replace("other", f"o{at}") for at in range(9)]}, "replicas", "8 are the most"),
        (POSTGRES, {"replicas": [OTHER], "staleness": 0.5}, "staleness", "must be ≥ 1 second with replicas"),
        (POSTGRES, {"replicas": [OTHER], "bookmark_key": "hunter2"}, "bookmark_key", "must have 32 bytes or more"),
        (POSTGRES, {"bookmark_key": KEY}, "bookmark_key", "has no effect without replicas"),
        (POSTGRES, {"staleness": 5}, "staleness", "has no effect here"),
    ],
)
def test_replicas_that_cannot_work_are_refused_at_the_start(
    url: str, options: dict[str, Any], field: str, message: str
) -> None:
    text = refusal_at_the_start(url, options)
    assert f"bindings[0].{field}" in text and message in text and "hunter2" not in text


@pytest.mark.parametrize("options", [{"replicas": 7}, {"replicas": [7]}, {"replicas": [""]}, {"bookmark_key": 7}])
def test_a_wrong_type_is_refused_on_its_line(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Edge("shop").database("DB", POSTGRES, **options)
    assert next(iter(options)) in str(caught.value) and "hunter2" not in str(caught.value)


def test_urls_of_replicas_and_the_key_are_not_shown(asking: Asking) -> None:
    running = asking.database(POSTGRES, replicas=[OTHER], bookmark_key=KEY)
    shown = httpx.get(f"{running.admin_url}/v1/plan").text
    assert "bookmark_key" in shown and "hunter2" not in shown and KEY not in shown
    shown = repr(Edge("shop").database("DB", POSTGRES, replicas=[OTHER], bookmark_key=KEY))
    assert "replicas" in shown and "hunter2" not in shown and KEY not in shown
