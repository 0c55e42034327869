"""Documents: JSON objects by their identifiers, with versions, in a SQLite file or on a PostgreSQL server.

Each operation is written once, as a generator that yields statements and is sent their rows. ``Documents`` waits for
them and ``AsyncDocuments`` awaits them. The table is made when the first operation finds none.
"""

# ruff: noqa: S608  # a table is named by its binding, whose name is one of Python

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from edgerouter.errors import BindingError

if TYPE_CHECKING:
    from edgerouter._core import AsyncDatabase, Database

__all__ = ["AsyncDocuments", "Document", "DocumentPage", "Documents"]

Scalar: TypeAlias = str | int | float | bool | None
T = TypeVar("T")
_Rows: TypeAlias = list[dict[str, Any]]
#: A statement and its values; ``None`` in place of values for a script.
_Step: TypeAlias = tuple[str, tuple[Any, ...] | None]
_Operation: TypeAlias = Generator[_Step, _Rows, T]

_LONGEST_ID = 512
_MOST_LISTED = 1_000
_MOST_FIELDS = 16
#: Attempts of a patch while others change the same document.
_ATTEMPTS = 16
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*){0,7}")


class Document(NamedTuple):
    """A document as it was read.

    ``id``  its key
    ``version``  changes with each change, and never comes back
    ``value``  the object
    """

    id: str
    version: int
    value: dict[str, Any]


class DocumentPage(NamedTuple):
    """A part of the documents that were found.

    ``documents``  in the order of their identifiers
    ``cursor``  leads to the next page; ``None`` at the end
    """

    documents: list[Document]
    cursor: str | None


def merged(target: object, patch: object) -> object:
    """A JSON value with a merge patch applied (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    made = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = merged(made.get(name), value)
    return made


def _encoded(value: object, what: str) -> str:
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a mapping, which is an object of JSON, not {type(value).__name__}")
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _checked(identifier: str) -> str:
    if not isinstance(identifier, str):
        raise TypeError(f"key must be a str, not {type(identifier).__name__}")
    if not 1 <= len(identifier.encode()) <= _LONGEST_ID or "\0" in identifier:
        raise ValueError(f"key must have 1 to {_LONGEST_ID} bytes and no zero character")
    return identifier


def _first_version() -> int:
    """Larger than that of a document with the same identifier that was removed before."""
    return time.time_ns() // 1_000


class _Collection:
    """The statements of each operation, in the dialect of the engine."""

    def __init__(self, name: str, engine: str) -> None:
        self._name = name
        self._is_postgres = engine == "postgresql"
        self.table = f'"documents_{name}"'

    def schema(self) -> str:
        collation, body = (' COLLATE "C"', "JSONB") if self._is_postgres else ("", "TEXT")
        columns = f"(id TEXT{collation} PRIMARY KEY, version BIGINT NOT NULL, body {body} NOT NULL)"
        made = [f"CREATE TABLE IF NOT EXISTS {self.table} {columns}"]
        if self._is_postgres:
            # One index answers for every field.
            index = f'"documents_{self._name}_body"'
            made.append(f"CREATE INDEX IF NOT EXISTS {index} ON {self.table} USING gin (body jsonb_path_ops)")
        return "; ".join(made)

    def index(self, field: str) -> _Operation[None]:
        if not _FIELD.fullmatch(field):
            raise ValueError(f"index: {field!r} is no field such as user, or user.name within an object")
        if not self._is_postgres:
            index = f'"documents_{self._name}_{field}"'
            yield f"CREATE INDEX IF NOT EXISTS {index} ON {self.table} (body -> '$.{field}', id)", ()

    def get(self, identifier: str) -> _Operation[Document | None]:
        rows = yield f"SELECT id, version, body FROM {self.table} WHERE id = ?", (_checked(identifier),)
        return _document(rows[0]) if rows else None

    def put(
        self, identifier: str, value: Mapping[str, Any], if_absent: bool, if_version: int | None
    ) -> _Operation[int | None]:
        if if_absent and if_version is not None:
            raise ValueError("put: give if_absent or if_version, not both")
        body = _encoded(value, "put: value")
        if if_version is not None:
            rows = yield self._update(_checked(identifier), body, if_version)
        else:
            otherwise = (
                "NOTHING" if if_absent else f"UPDATE SET version = {self.table}.version + 1, body = excluded.body"
            )
            insert = f"INSERT INTO {self.table} (id, version, body) VALUES (?, ?, ?) ON CONFLICT (id) DO {otherwise}"
            rows = yield f"{insert} RETURNING version", (_checked(identifier), _first_version(), body)
        return rows[0]["version"] if rows else None

    def _update(self, identifier: str, body: str, version: int) -> _Step:
        update = (
            f"UPDATE {self.table} SET version = version + 1, body = ? WHERE id = ? AND version = ? RETURNING version"
        )
        return update, (body, identifier, version)

    def patch(self, identifier: str, patch: Mapping[str, Any], if_version: int | None) -> _Operation[Document | None]:
        _encoded(patch, "patch")
        for _ in range(_ATTEMPTS):
            found = yield from self.get(identifier)
            if found is None or if_version not in (None, found.version):
                return None
            value: Any = merged(found.value, patch)
            rows = yield self._update(identifier, _encoded(value, "patch"), found.version)
            if rows:
                return Document(identifier, rows[0]["version"], value)
            if if_version is not None:
                return None
        raise BindingError(f"{self._name}: {identifier} was changed by others {_ATTEMPTS} times meanwhile; retry later")

    def delete(self, identifier: str, if_version: int | None) -> _Operation[bool]:
        if if_version is None:
            rows = yield f"DELETE FROM {self.table} WHERE id = ? RETURNING id", (_checked(identifier),)
        else:
            delete = f"DELETE FROM {self.table} WHERE id = ? AND version = ? RETURNING id"
            rows = yield delete, (_checked(identifier), if_version)
        return bool(rows)

    def find(self, where: Mapping[str, Scalar], cursor: str | None, limit: int) -> _Operation[DocumentPage]:
        if not 1 <= limit <= _MOST_LISTED:
            raise ValueError(f"find: limit must be from 1 to {_MOST_LISTED}")
        if len(where) > _MOST_FIELDS:
            raise ValueError(f"find: {len(where)} fields, and {_MOST_FIELDS} are the most")
        conditions, values = ["id > ?"], [cursor or ""]
        for field, value in where.items():
            if not _FIELD.fullmatch(field):
                raise ValueError(f"find: {field!r} is no field such as user, or user.name within an object")
            if not isinstance(value, (str, int, float, bool, type(None))):
                raise TypeError(f"find: the value of {field} must be str, int, float, bool or None")
            if self._is_postgres:
                nested: object = value
                for name in reversed(field.split(".")):
                    nested = {name: nested}
                conditions.append("body @> CAST(? AS jsonb)")
                values.append(json.dumps(nested, ensure_ascii=False, allow_nan=False))
            else:
                # The text of JSON, by which 1 and true differ; written as the index is.
                conditions.append(f"body -> '$.{field}' = ?")
                values.append(json.dumps(value, ensure_ascii=False, allow_nan=False))
        select = f"SELECT id, version, body FROM {self.table} WHERE {' AND '.join(conditions)}"
        rows = yield f"{select} ORDER BY id LIMIT {limit + 1}", tuple(values)
        documents = [_document(row) for row in rows[:limit]]
        return DocumentPage(documents, documents[-1].id if len(rows) > limit else None)

    def with_table(self, operation: _Operation[T]) -> _Operation[T]:
        """The operation, whose table is made when a statement finds none."""
        try:
            step = next(operation)
            while True:
                try:
                    rows = yield step
                except BindingError as error:
                    if not self._is_missing(error):
                        raise
                    try:
                        yield self.schema(), None
                    except BindingError as made:
                        # Another connection makes it at this moment.
                        if made.constraint != "unique":
                            raise
                    rows = yield step
                step = operation.send(rows)
        except StopIteration as ended:
            value: T = ended.value
            return value

    def _is_missing(self, error: BindingError) -> bool:
        text, table = str(error), self.table.strip('"')
        return table in text and ("no such table" in text or "does not exist" in text)


def _document(row: Mapping[str, Any]) -> Document:
    return Document(row["id"], row["version"], json.loads(row["body"]))


class Documents:
    """Documents, for callables that do not await. ``BindingError`` for what the engine refuses."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._collection = _Collection(database.name, database.engine)

    def _rows(self, sql: str, values: tuple[Any, ...] | None) -> _Rows:
        if values is None:
            self._database.exec(sql)
            return []
        return self._database.prepare(sql).bind(*values).all().results

    def _run(self, operation: _Operation[T]) -> T:
        steps = self._collection.with_table(operation)
        try:
            step = next(steps)
            while True:
                try:
                    rows = self._rows(*step)
                except BindingError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(rows)
        except StopIteration as ended:
            value: T = ended.value
            return value

    def get(self, key: str) -> Document | None:
        """The document, or ``None``."""
        return self._run(self._collection.get(key))

    def put(
        self, key: str, value: Mapping[str, Any], *, if_absent: bool = False, if_version: int | None = None
    ) -> int | None:
        """Stores a whole document; its new version.

        ``None``: nothing was changed, as there is one already (``if_absent``) or it has another version
        (``if_version``).
        """
        return self._run(self._collection.put(key, value, if_absent, if_version))

    def patch(self, key: str, patch: Mapping[str, Any], *, if_version: int | None = None) -> Document | None:
        """Applies a merge patch (RFC 7396), in which ``None`` removes a field; the document as it is now.

        ``None``: nothing was changed, as there is no such document, or it has another version.
        """
        return self._run(self._collection.patch(key, patch, if_version))

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Removes a document; true if there was one, of this version if one is given."""
        return self._run(self._collection.delete(key, if_version))

    def find(
        self, where: Mapping[str, Scalar] | None = None, *, cursor: str | None = None, limit: int = 100
    ) -> DocumentPage:
        """The documents whose fields have these values: ``find({"user.name": "ann"})``."""
        return self._run(self._collection.find(where or {}, cursor, limit))

    def index(self, field: str) -> None:
        """Makes ``find`` by a field fast, once for all; on PostgreSQL every field is. It reads all documents."""
        self._run(self._collection.index(field))


class AsyncDocuments:
    """``Documents``, to be awaited."""

    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database
        self._collection = _Collection(database.name, database.engine)

    async def _rows(self, sql: str, values: tuple[Any, ...] | None) -> _Rows:
        if values is None:
            await self._database.exec(sql)
            return []
        return (await self._database.prepare(sql).bind(*values).all()).results

    async def _run(self, operation: _Operation[T]) -> T:
        steps = self._collection.with_table(operation)
        try:
            step = next(steps)
            while True:
                try:
                    rows = await self._rows(*step)
                except BindingError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(rows)
        except StopIteration as ended:
            value: T = ended.value
            return value

    async def get(self, key: str) -> Document | None:
        """As ``Documents.get``."""
        return await self._run(self._collection.get(key))

    async def put(
        self, key: str, value: Mapping[str, Any], *, if_absent: bool = False, if_version: int | None = None
    ) -> int | None:
        """As ``Documents.put``."""
        return await self._run(self._collection.put(key, value, if_absent, if_version))

    async def patch(self, key: str, patch: Mapping[str, Any], *, if_version: int | None = None) -> Document | None:
        """As ``Documents.patch``."""
        return await self._run(self._collection.patch(key, patch, if_version))

    async def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """As ``Documents.delete``."""
        return await self._run(self._collection.delete(key, if_version))

    async def find(
        self, where: Mapping[str, Scalar] | None = None, *, cursor: str | None = None, limit: int = 100
    ) -> DocumentPage:
        """As ``Documents.find``."""
        return await self._run(self._collection.find(where or {}, cursor, limit))

    async def index(self, field: str) -> None:
        """As ``Documents.index``."""
        await self._run(self._collection.index(field))
