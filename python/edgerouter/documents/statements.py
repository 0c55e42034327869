"""Documents in a SQL database: the statements of each operation, for SQLite and PostgreSQL.

The table is made when a statement finds none.
"""

# ruff: noqa: S608  # a table is named by its binding, whose name is one of Python

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from edgerouter.documents.operations import (
    Collection,
    Document,
    DocumentPage,
    Operation,
    Rows,
    Scalar,
    Step,
    T,
    as_json,
    checked,
    checked_field,
    checked_search,
    checked_version,
    first_version,
)
from edgerouter.errors import BindingError

#: Up to here every whole number is a float, too.
_EXACT = 2**53
#: A zero character in JSON.
_ZERO = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class _Statement(NamedTuple):
    """A statement with its values, and the arguments of the operation that they are, for errors."""

    sql: str
    values: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()

    def begin(self, binding: Any) -> Any:
        return binding.prepare(self.sql).bind(*self.values).all()

    def rows(self, result: Any) -> Rows:
        rows: Rows = result.results
        return rows

    def explained(self, error: ValueError) -> ValueError:
        def named(found: re.Match[str]) -> str:
            at = int(found[1]) - 1
            return f"{self.names[at]}:" if at < len(self.names) else found[0]

        return ValueError(re.sub(r"bind: value (\d+)", named, str(error)))


class _Script(NamedTuple):
    sql: str

    def begin(self, binding: Any) -> Any:
        return binding.exec(self.sql)

    def rows(self, result: Any) -> Rows:
        return []


class Statements(Collection):
    """The statements of each operation, in the dialect of the engine."""

    def __init__(self, name: str, engine: str) -> None:
        super().__init__(name)
        self._is_postgres = engine == "postgresql"
        self._table = f'"documents_{name}"'

    def _schema(self) -> str:
        collation, body = (' COLLATE "C"', "JSONB") if self._is_postgres else ("", "TEXT")
        columns = f"(id TEXT{collation} PRIMARY KEY, version BIGINT NOT NULL, body {body} NOT NULL)"
        made = [f"CREATE TABLE IF NOT EXISTS {self._table} {columns}"]
        if self._is_postgres:
            # One index answers for every field.
            index = f'"documents_{self.name}_body"'
            made.append(f"CREATE INDEX IF NOT EXISTS {index} ON {self._table} USING gin (body jsonb_path_ops)")
        return "; ".join(made)

    def index(self, field: str) -> Operation[None]:
        checked_field(field, "index")
        if not self._is_postgres:
            index = f'"documents_{self.name}_{field}"'
            yield _Statement(f"CREATE INDEX IF NOT EXISTS {index} ON {self._table} (body -> '$.{field}', id)")

    def get(self, key: str) -> Operation[Document | None]:
        select = f"SELECT id, version, body FROM {self._table} WHERE id = ?"
        rows = yield _Statement(select, (checked(key),), ("key",))
        return _document(rows[0]) if rows else None

    def write(self, key: str, body: str, if_absent: bool, if_version: int | None) -> Operation[int | None]:
        if self._is_postgres and _ZERO.search(body):
            raise ValueError("value: has a zero character, which PostgreSQL cannot store in JSON; leave it out")
        if if_version is not None:
            changed = f"UPDATE {self._table} SET version = version + 1, body = ? WHERE id = ? AND version = ?"
            step = _Statement(f"{changed} RETURNING version", (body, key, if_version), ("value", "key", "if_version"))
        else:
            otherwise = (
                "NOTHING" if if_absent else f"UPDATE SET version = {self._table}.version + 1, body = excluded.body"
            )
            insert = f"INSERT INTO {self._table} (id, version, body) VALUES (?, ?, ?) ON CONFLICT (id) DO {otherwise}"
            values = (key, first_version(), body)
            step = _Statement(f"{insert} RETURNING version", values, ("key", "version", "value"))
        rows = yield step
        return rows[0]["version"] if rows else None

    def delete(self, key: str, if_version: int | None) -> Operation[bool]:
        delete, values = f"DELETE FROM {self._table} WHERE id = ?", (checked(key),)
        if checked_version(if_version) is None:
            rows = yield _Statement(f"{delete} RETURNING id", values)
        else:
            rows = yield _Statement(f"{delete} AND version = ? RETURNING id", (*values, if_version))
        return bool(rows)

    def find(self, where: Mapping[str, Scalar], cursor: str | None, limit: int) -> Operation[DocumentPage]:
        after = checked_search(where, cursor, limit)
        conditions, values, names = ["id > ?"], [after], ["cursor"]
        for field, value in where.items():
            if self._is_postgres:
                nested: object = value
                for name in reversed(field.split(".")):
                    nested = {name: nested}
                conditions.append("body @> CAST(? AS jsonb)")
                values.append(as_json(nested, f"find: {field}"))
            else:
                # The text of JSON, by which 1 and true differ; written as the index is.
                forms = [as_json(form, f"find: {field}") for form in _forms(value)]
                conditions.append(f"body -> '$.{field}' IN ({', '.join('?' * len(forms))})")
                values += forms
            names += [f"the value of {field}"] * (len(values) - len(names))
        select = f"SELECT id, version, body FROM {self._table} WHERE {' AND '.join(conditions)}"
        rows = yield _Statement(f"{select} ORDER BY id LIMIT {limit + 1}", tuple(values), tuple(names))
        documents = [_document(row) for row in rows[:limit]]
        return DocumentPage(documents, documents[-1].id if len(rows) > limit else None)

    def guarded(self, operation: Operation[T]) -> Operation[T]:
        """The operation, whose table is made when a statement finds none."""
        try:
            step = next(operation)
            while True:
                try:
                    rows = yield step
                except BindingError as error:
                    if not self._is_missing(error):
                        raise
                    rows = yield from self._made(step)
                except ValueError as error:
                    raise (step.explained(error) if isinstance(step, _Statement) else error) from None
                step = operation.send(rows)
        except StopIteration as ended:
            value: T = ended.value
            return value

    def _made(self, step: Step) -> Operation[Rows]:
        try:
            yield _Script(self._schema())
        except BindingError as made:
            # Another connection makes it at this moment.
            if made.constraint != "unique":
                raise
        return (yield step)

    def _is_missing(self, error: BindingError) -> bool:
        text, table = str(error), self._table.strip('"')
        return table in text and ("no such table" in text or "does not exist" in text)


def _forms(value: Scalar) -> list[Scalar]:
    """The value, and the same number as JSON may have it, too: 5 and 5.0."""
    if isinstance(value, float) and value.is_integer():
        return [value, int(value)]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _EXACT:
        return [value, float(value)]
    return [value]


def _document(row: Mapping[str, Any]) -> Document:
    return Document(row["id"], row["version"], json.loads(row["body"]))
