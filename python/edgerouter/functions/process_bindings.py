"""Data in a worker process: the operations of ``ctx.env``, by the names that they have in the edge's own process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec

from edgerouter.documents import AsyncDocuments, Documents
from edgerouter.errors import BindingError
from edgerouter.functions.process_calls import Line, same

__all__ = ["Env"]

#: Bytes of a piece of a value that is read as a stream.
CHUNK = 64 << 10


class _Entry(NamedTuple):
    # The place that errors name.
    at: str
    value: bytes
    metadata: Any
    version: str
    expires: float | None

    def text(self) -> str:
        return _text(self.at, self.value)

    def json(self) -> Any:
        return _json(self.at, self.value)

    def __repr__(self) -> str:
        return f"<KvEntry {len(self.value)} bytes>"


class _Keys(NamedTuple):
    keys: tuple[str, ...]
    cursor: str | None

    def __repr__(self) -> str:
        return f"<KvKeys {len(self.keys)}>"


class _Chunks:
    """A value in pieces."""

    def __init__(self, value: bytes) -> None:
        self._pieces = [value[at : at + CHUNK] for at in range(0, len(value), CHUNK)]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def _text(at: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BindingError(f'{at}: is no text in UTF-8; read it with type="bytes"') from None


def _json(at: str, value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except ValueError as error:
        raise BindingError(f"{at}: is no JSON: {error}") from None


_READ: dict[str, Callable[[str, bytes], Any]] = {
    "text": _text,
    "json": _json,
    "bytes": lambda at, value: value,
    "stream": lambda at, value: _Chunks(value),
}


class _Kv:
    """A key-value store."""

    def __init__(self, line: Line, name: str) -> None:
        self._line = line
        self.name = name

    def _begin(self, operation: str, *values: Any, convert: Callable[[Any], Any] = same, **options: Any) -> Any:
        if isinstance(options.get("ttl"), timedelta):
            options["ttl"] = options["ttl"].total_seconds()
        return self._line.begin(f"kv.{operation}", convert, binding=self.name, values=values, options=options)

    def get(self, key: str, type: str = "text") -> Any:  # noqa: A002  # as the edge's own has it
        if (read := _READ.get(type)) is None:
            raise ValueError(f'type: {json.dumps(type)}: must be "text", "json", "bytes" or "stream"')
        at = self._at(key)
        return self._begin("get", key, "bytes", convert=lambda value: None if value is None else read(at, value))

    def _at(self, key: str) -> str:
        return f"{self.name}: the value of {json.dumps(key, ensure_ascii=False)}"

    def entry(self, key: str) -> Any:
        at = self._at(key)
        return self._begin("entry", key, convert=lambda entry: None if entry is None else _Entry(at, *entry))

    def put(self, key: str, value: object, **options: Any) -> Any:
        return self._begin("put", key, value, **options)

    def delete(self, key: str) -> Any:
        return self._begin("delete", key)

    def list(self, prefix: str = "", *, cursor: str | None = None, limit: int = 1_000) -> Any:
        return self._begin(
            "list", prefix, convert=lambda page: _Keys(tuple(page[0]), page[1]), cursor=cursor, limit=limit
        )

    def add(self, key: str, by: int = 1, **options: Any) -> Any:
        return self._begin("add", key, by, **options)


class _SqlResult(NamedTuple):
    results: list[dict[str, Any]]
    meta: dict[str, Any]
    success: bool = True


class _SqlScript(NamedTuple):
    # As the class that it stands for names it.
    count: int  # type: ignore[assignment]
    duration: float


def _result(parts: Any) -> _SqlResult:
    return _SqlResult(*parts)


class _Database:
    """A SQL database."""

    def __init__(self, line: Line, name: str, engine: str, session: int | None = None) -> None:
        self._line = line
        self._session = session
        self.name, self.engine = name, engine
        self.bookmark: str | None = None

    def _begin(self, operation: str, convert: Callable[[Any], Any], **arguments: Any) -> Any:
        def took(reply: Any) -> Any:
            self.bookmark, value = reply
            return convert(value)

        return self._line.begin(f"sql.{operation}", took, binding=self.name, session=self._session, **arguments)

    def prepare(self, sql: str) -> _Statement:
        return _Statement(self, sql, ())

    def batch(self, statements: list[_Statement]) -> Any:
        for one in statements:
            if not isinstance(one, _Statement):
                raise TypeError(f"{type(one).__name__!r} object is not an instance of 'Statement'")
        given = [(one._sql, one._values) for one in statements]
        return self._begin(
            "batch", lambda results: [_result(one) for one in results], statements=given, begin=self.bookmark
        )

    def exec(self, sql: str) -> Any:
        return self._begin("exec", lambda script: _SqlScript(*script), sql=sql, begin=self.bookmark)

    def with_session(self, bookmark: str | None = None) -> _Database:
        self._line.sessions += 1
        session = _Database(self._line, self.name, self.engine, self._line.sessions)
        session.bookmark = bookmark
        return session


class _Statement:
    """A statement."""

    def __init__(self, database: _Database, sql: str, values: tuple[Any, ...]) -> None:
        self._database, self._sql, self._values = database, sql, values

    def bind(self, *values: Any) -> _Statement:
        return _Statement(self._database, self._sql, values)

    def _begin(self, operation: str, convert: Callable[[Any], Any] = same, **options: Any) -> Any:
        given = {"sql": self._sql, "values": self._values, "options": options}
        # A session begins with the bookmark that it was given.
        return self._database._begin(operation, convert, begin=self._database.bookmark, **given)

    def all(self) -> Any:
        return self._begin("all", _result)

    def run(self) -> Any:
        return self._begin("run", _result)

    def first(self, column: str | None = None) -> Any:
        return self._begin("first", column=column)

    def raw(self, *, column_names: bool = False) -> Any:
        return self._begin("raw", column_names=column_names)


class _DocumentServer:
    """A Redis server that keeps documents."""

    engine = "redis"

    def __init__(self, line: Line, name: str) -> None:
        self._line = line
        self.name = name

    def run(self, operation: str, script: str, prefix: str, arguments: tuple[str, ...]) -> Any:
        values = (operation, script, prefix, arguments)
        return self._line.begin("documents.run", binding=self.name, values=values)


class Env:
    """Bindings by name."""

    def __init__(self, line: Line, bindings: list[tuple[str, str, str]]) -> None:
        self._line = line
        self._bindings = {name: (kind, engine) for name, kind, engine in bindings}

    def __contains__(self, name: object) -> bool:
        return name in self._bindings

    def __dir__(self) -> list[str]:
        return sorted(self._bindings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or (binding := self._bindings.get(name)) is None:
            known = f"there are {', '.join(sorted(self._bindings))}" if self._bindings else "the edge has none"
            raise AttributeError(
                f'{name}: no binding has this name, and {known}; declare it, as in edge.kv("{name}", "memory:")'
            )
        kind, engine = binding
        if kind == "kv":
            return _Kv(self._line, name)
        database: Any = _Database(self._line, name, engine)
        if engine == "redis":
            database = _DocumentServer(self._line, name)
        if kind == "database":
            return database
        return AsyncDocuments(database) if self._line.awaits else Documents(database)
