"""Migrations: numbered SQL files that bring a database's schema to its present state, each recorded in the database.

``0001_users.sql`` makes a change and ``0001_users.down.sql``, where there is one, undoes it. A file and its record take
effect in one transaction, so one that fails or is killed leaves the schema as it was.

MySQL and MariaDB end the transaction at each statement that changes the schema. There such a statement must be the only
one of its file, and its record is made in two steps: the file was begun, the file was applied.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from edgerouter import regular
from edgerouter.errors import BindingError, ConfigError, Problem

if TYPE_CHECKING:
    from edgerouter._core import Database

__all__ = ["Migration", "Migrations", "State"]

_FILE = re.compile(r"(?P<number>\d{4,9})_(?P<name>[A-Za-z0-9_]{1,64})(?P<down>\.down)?\.sql")
_LARGEST = 1 << 20
#: In place of the time at which a migration was applied: it was begun, or its undoing was.
_BEGUN = ""
_TABLE = """CREATE TABLE IF NOT EXISTS edgerouter_migrations (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at TEXT NOT NULL
)"""


class Migration(NamedTuple):
    """One file, and the file that undoes it."""

    number: int
    name: str
    sql: str
    down: str | None

    @property
    def checksum(self) -> str:
        """Of the SQL; line ends do not count."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"


class State(NamedTuple):
    """A migration in a database: ``applied_at`` is ``None`` while it is pending, and empty if its end is not known."""

    number: int
    name: str
    applied_at: str | None


def read(folder: Path) -> list[Migration]:
    """The migrations of a folder, in the order of their numbers. Raises ``ConfigError`` with every problem."""
    if not folder.is_dir():
        message = "there is no such folder; edgerouter db new makes it with a first migration"
        raise ConfigError([Problem(str(folder), None, message)])
    ups: dict[int, tuple[str, str]] = {}
    downs: dict[int, tuple[str, str]] = {}
    problems = []
    for file in sorted(folder.glob("*.sql")):
        match = _FILE.fullmatch(file.name)
        if match is None:
            problems.append(Problem(str(file), None, "must be named like 0001_users.sql or 0001_users.down.sql"))
            continue
        number, name = int(match["number"]), match["name"]
        kind = downs if match["down"] else ups
        if number in kind:
            problems.append(Problem(str(file), None, "has the number of another file; give it the next one"))
            continue
        try:
            with regular.opened(file) as opened:
                data = opened.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                problems.append(Problem(str(file), None, f"is larger than {_LARGEST} bytes; split it"))
                continue
            kind[number] = (name, data.decode())
        except OSError as error:
            problems.append(Problem(str(file), None, f"cannot be read: {error.strerror or error}"))
        except UnicodeDecodeError:
            problems.append(Problem(str(file), None, "is not UTF-8 text"))
    for number, (name, _) in downs.items():
        if number not in ups or ups[number][0] != name:
            problems.append(Problem(f"{folder}/{number:04}_{name}.down.sql", None, "undoes a file that is not there"))
    if problems:
        raise ConfigError(problems)
    return [Migration(number, *ups[number], downs[number][1] if number in downs else None) for number in sorted(ups)]


def new(folder: Path, name: str) -> Path:
    """An empty migration with the next number."""
    name = re.sub(r"\W+", "_", name.strip().lower(), flags=re.ASCII).strip("_")
    if not 1 <= len(name) <= 64:
        raise ConfigError([Problem("NAME", name, "must have 1 to 64 letters, digits and _, as in create_users")])
    known = read(folder) if folder.is_dir() else []
    file = folder / f"{known[-1].number + 1 if known else 1:04}_{name}.sql"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as made:
            made.write(f"-- {name.replace('_', ' ')}\n")
    except OSError as error:
        raise ConfigError([Problem(str(file), None, f"cannot be written: {error.strerror or error}")]) from None
    return file


def folder_for(folder: Path, engine: str) -> Path:
    """The folder of the files for an engine: ``postgresql``, ``mysql`` or ``sqlite`` in it, or itself for all."""
    own = folder / engine
    return own if own.is_dir() else folder


class Migrations:
    """The migrations of a folder and a database."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder_for(folder, database.engine)
        self._files = read(self._folder)
        database.exec(_TABLE)
        rows = database.prepare(
            "SELECT number, name, checksum, applied_at FROM edgerouter_migrations ORDER BY number"
        ).all()
        self._applied = {row["number"]: row for row in rows.results}
        self._check()

    def _check(self) -> None:
        """The files that were applied must be there as they were, and none may come before them."""
        problems = []
        files = {it.number: it for it in self._files}
        for number, row in self._applied.items():
            name = f"{number:04}_{row['name']}.sql"
            found = files.get(number)
            if found is None or found.name != row["name"]:
                problems.append(Problem(str(self._folder / name), None, "was applied and is not there; restore it"))
            elif found.checksum != row["checksum"]:
                message = "was changed after it was applied; restore it, and make the change in a new file"
                problems.append(Problem(str(self._folder / name), None, message))
        newest = max(self._applied, default=0)
        problems += [
            Problem(str(self._folder / f"{it}.sql"), None, f"comes before {newest:04}, which was applied; renumber it")
            for it in self._files
            if it.number not in self._applied and it.number < newest
        ]
        if problems:
            raise ConfigError(problems)

    def _begun(self) -> Migration | None:
        return next((it for it in self._files if self._applied.get(it.number, {}).get("applied_at") == _BEGUN), None)

    def _check_settled(self) -> None:
        if (begun := self._begun()) is not None:
            message = (
                "was interrupted, and whether it took effect is not known; look at the database, then run "
                "edgerouter db settle with applied or pending"
            )
            raise ConfigError([Problem(str(self._folder / f"{begun}.sql"), None, message)])

    def _is_lone_change(self, file: Path, sql: str) -> bool:
        """True for a file whose only statement changes the schema where that is no part of a transaction.

        Raises ``ConfigError`` for a file that could take effect by half.
        """
        if self._database.engine != "mysql":
            return False
        from edgerouter import _core

        statements = _core.mysql_statements(sql)
        changes = [first_words for first_words, commits in statements if commits]
        if changes and len(statements) > 1:
            message = (
                f"has {len(statements)} statements, and MySQL cannot undo {changes[0]}, so it could take effect by "
                "half; give each statement that changes the schema a file of its own"
            )
            raise ConfigError([Problem(str(file), None, message)])
        return bool(changes)

    def status(self) -> list[State]:
        """Every migration, applied or pending."""
        applied = self._applied
        return [State(it.number, it.name, applied.get(it.number, {}).get("applied_at")) for it in self._files]

    def migrate(self) -> list[Migration]:
        """Applies what is pending, one file after another; gives what was applied. Raises ``BindingError``."""
        self._check_settled()
        pending = [it for it in self._files if it.number not in self._applied]
        alone = {it.number: self._is_lone_change(self._folder / f"{it}.sql", it.sql) for it in pending}
        for migration in pending:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            if alone[migration.number]:
                self._insert(migration, _BEGUN)
                self._run(migration, migration.sql, undone=self._DELETE)
                self._database.prepare(self._UPDATE).bind(now, migration.number).run()
            else:
                record = (migration.number, migration.name, migration.checksum, now)
                self._database.apply(migration.sql, self._INSERT, record)
        return pending

    _INSERT = "INSERT INTO edgerouter_migrations (number, name, checksum, applied_at) VALUES (?, ?, ?, ?)"
    _UPDATE = "UPDATE edgerouter_migrations SET applied_at = ? WHERE number = ?"
    _DELETE = "DELETE FROM edgerouter_migrations WHERE number = ?"

    def _insert(self, migration: Migration, applied_at: str) -> None:
        record = (migration.number, migration.name, migration.checksum, applied_at)
        self._database.prepare(self._INSERT).bind(*record).run()

    def _run(self, migration: Migration, sql: str, *, undone: str, values: tuple[str, ...] = ()) -> None:
        """Runs a file of one statement. If the server refuses it, ``undone`` makes the record as it was."""
        try:
            self._database.exec(sql)
        except BindingError as error:
            if not error.in_doubt:
                self._database.prepare(undone).bind(*values, migration.number).run()
            raise

    def rollback(self) -> Migration | None:
        """Undoes the newest migration; ``None`` when there is none. Raises ``ConfigError`` where no file undoes it."""
        self._check_settled()
        applied = [it for it in self._files if it.number in self._applied]
        if not applied:
            return None
        newest = applied[-1]
        name = self._folder / f"{newest}.down.sql"
        if newest.down is None:
            raise ConfigError([Problem(str(name), None, "is not there, so nothing can undo this migration; write it")])
        if self._is_lone_change(name, newest.down):
            before = str(self._applied[newest.number]["applied_at"])
            self._database.prepare(self._UPDATE).bind(_BEGUN, newest.number).run()
            self._run(newest, newest.down, undone=self._UPDATE, values=(before,))
            self._database.prepare(self._DELETE).bind(newest.number).run()
        else:
            self._database.apply(newest.down, self._DELETE, (newest.number,))
        return newest

    def settle(self, outcome: Literal["applied", "pending"]) -> Migration | None:
        """Records how a migration that was interrupted has ended; ``None`` when none was interrupted."""
        begun = self._begun()
        if begun is None:
            return None
        if outcome == "applied":
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._database.prepare(self._UPDATE).bind(now, begun.number).run()
        else:
            self._database.prepare(self._DELETE).bind(begun.number).run()
        return begun
