"""Key-value stores of each engine, and a function that uses them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import (
    AsyncContext,
    BindingError,
    ConfigError,
    Context,
    DataLimits,
    Edge,
    FunctionLimits,
    Limits,
    Request,
    Response,
)
from edgerouter.functions import Database
from edgerouter.testing import Running

from .servers import DatabaseServer, DynamoServer, MariaServer, PostgresServer, RedisServer, json_module

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def json_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--loadmodule", json_module())
    yield server
    server.kill()


@pytest.fixture(scope="session")
def dynamo() -> Iterator[DynamoServer]:
    server = DynamoServer()
    yield server
    server.kill()


@pytest.fixture
def dynamo_url(dynamo: DynamoServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty table, with credentials for it in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", dynamo.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    return dynamo.url()


@pytest.fixture(params=["memory", "sqlite", "redis", "dynamodb"])
def kv_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of each engine in turn."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        return server.url
    if request.param == "dynamodb":
        table: str = request.getfixturevalue("dynamo_url")
        return table
    return "memory:" if request.param == "memory" else f"sqlite:{tmp_path}/kv.db"


@pytest.fixture(scope="session")
def database_servers() -> Iterator[tuple[Future[PostgresServer], Future[MariaServer]]]:
    """Both products, which start and stop beside each other."""
    with ThreadPoolExecutor(2) as threads:
        servers = threads.submit(PostgresServer), threads.submit(MariaServer)
        yield servers
        for server in servers:
            threads.submit(server.result().remove)


@pytest.fixture(scope="session")
def postgres(database_servers: tuple[Future[PostgresServer], Future[MariaServer]]) -> PostgresServer:
    return database_servers[0].result()


@pytest.fixture(scope="session")
def mariadb(database_servers: tuple[Future[PostgresServer], Future[MariaServer]]) -> MariaServer:
    return database_servers[1].result()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With ``--dist loadgroup`` one process has these servers for all tests."""
    for item in items:
        if {"postgres", "mariadb", "database_server", "replica"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("databases"))


@pytest.fixture(params=["postgres", "mariadb"])
def database_server(request: pytest.FixtureRequest) -> DatabaseServer:
    """A server of each product in turn."""
    server: DatabaseServer = request.getfixturevalue(request.param)
    return server


LOCKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
db.execute("COMMIT")
"""


@contextlib.contextmanager
def locked(file: Path) -> Iterator[Callable[[], object]]:
    """Another process has a file of SQLite for itself, until what is given is called, or the end."""
    command = [sys.executable, "-c", LOCKER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "locked\n"
        try:
            yield other.communicate
        finally:
            other.communicate()


def refused(operation: Callable[[], object]) -> str:
    """The name and text of the exception that an operation raises."""
    try:
        operation()
    except Exception as error:  # noqa: BLE001  # the test compares it
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def refusal_at_the_start(url: str, options: dict[str, Any]) -> str:
    """The error of an edge whose database has these options."""
    edge = Edge("shop")
    edge.database("DB", url, **options)
    with pytest.raises(ConfigError) as caught:
        edge.compile()
    return str(caught.value)


def broken_rules(db: Database, *statements: str) -> list[str | None]:
    """The kind of the constraint that each statement breaks; ``None``: its mistake is another."""
    found: list[str | None] = []
    for sql in statements:
        with pytest.raises(BindingError) as caught:
            db.prepare(sql).run()
        found.append(caught.value.constraint)
    return found


class Asking:
    """``asking(question)`` calls ``question(request, ctx)`` in a function of an edge and gives its answer as JSON."""

    def __init__(self, serve: Serve, client_for: ClientFor) -> None:
        self.serve, self.client_for = serve, client_for
        self.questions: list[Callable[[Any, Any], Any]] = []

    def edge(self, url: str, *, limits: DataLimits | None = None, kind: str = "kv", **options: Any) -> Edge:
        # A busy machine takes its time for all that a question does; a store that is frozen has its own.
        edge = Edge("test", limits=Limits(data=limits or DataLimits(), functions=FunctionLimits(timeout=60)))
        if kind == "kv":
            edge.kv("KV", url, **options)
        elif kind == "documents":
            edge.documents("CARTS", url)
        else:
            edge.database("DB", url, **options)

        @edge.function("/plain")
        def plain(request: Request, ctx: Context) -> Response:
            return Response.json({"is": self.questions[-1](request, ctx)})

        @edge.function("/async")
        async def awaiting(request: Request, ctx: AsyncContext) -> Response:
            return Response.json({"is": await self.questions[-1](request, ctx)})

        return edge

    def open(self, url: str, **options: Any) -> Running:
        self.running = self.serve(self.edge(url, **options))
        self.client = self.client_for(self.running)
        return self.running

    def database(self, url: str, **options: Any) -> Running:
        return self.open(url, kind="database", **options)

    def plain(self, question: Callable[[Request, Context], Any]) -> Any:
        return self._ask("/plain", question)

    def awaited(self, question: Callable[[Request, AsyncContext], Any]) -> Any:
        return self._ask("/async", question)

    def _ask(self, path: str, question: Callable[[Any, Any], Any]) -> Any:
        self.questions.append(question)
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()["is"]


@pytest.fixture
def asking(serve: Serve, client_for: ClientFor) -> Asking:
    return Asking(serve, client_for)
