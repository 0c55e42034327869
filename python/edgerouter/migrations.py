"""Migrations: numbered SQL files that bring a database's schema to its present state, each recorded in the database.

``0001_users.sql`` makes a change and ``0001_users.down.sql``, where there is one, undoes it. A file and its record take
effect in one transaction, so one that fails or is killed leaves the schema as it was.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgerouter.errors import ConfigError, Problem

if TYPE_CHECKING:
    from edgerouter._core import Database

__all__ = ["Migration", "Migrations", "State"]

_FILE = re.compile(r"(?P<number>\d{4,9})_(?P<name>[A-Za-z0-9_]{1,64})(?P<down>\.down)?\.sql")
_LARGEST = 1 << 20
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
    """A migration in a database: ``applied_at`` is ``None`` while it is pending."""

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
            if file.stat().st_size > _LARGEST:
                problems.append(Problem(str(file), None, f"is larger than {_LARGEST} bytes; split it"))
                continue
            kind[number] = (name, file.read_bytes().decode())
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


class Migrations:
    """The migrations of a folder and a database."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._files = read(folder)
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

    def status(self) -> list[State]:
        """Every migration, applied or pending."""
        applied = self._applied
        return [State(it.number, it.name, applied.get(it.number, {}).get("applied_at")) for it in self._files]

    def migrate(self) -> list[Migration]:
        """Applies what is pending, one file after another; gives what was applied. Raises ``BindingError``."""
        done = []
        for migration in [it for it in self._files if it.number not in self._applied]:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            record: Sequence[object] = (migration.number, migration.name, migration.checksum, now)
            insert = "INSERT INTO edgerouter_migrations (number, name, checksum, applied_at) VALUES (?, ?, ?, ?)"
            self._database.apply(migration.sql, insert, tuple(record))
            done.append(migration)
        return done

    def rollback(self) -> Migration | None:
        """Undoes the newest migration; ``None`` when there is none. Raises ``ConfigError`` where no file undoes it."""
        applied = [it for it in self._files if it.number in self._applied]
        if not applied:
            return None
        newest = applied[-1]
        if newest.down is None:
            name = self._folder / f"{newest}.down.sql"
            raise ConfigError([Problem(str(name), None, "is not there, so nothing can undo this migration; write it")])
        delete = "DELETE FROM edgerouter_migrations WHERE number = ?"
        self._database.apply(newest.down, delete, (newest.number,))
        return newest
