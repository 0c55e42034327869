"""Migrations by the command: files in order, each whole or not at all, and none changed after it was applied."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ..origins import wait_until
from ..processes import command

APP = """
from edgerouter import Edge

edge = Edge("shop")
edge.database("DB", "sqlite:{file}")
"""


class Project:
    """An application with a database, and its migrations."""

    def __init__(self, folder: Path) -> None:
        self.app, self.database = folder / "app.py", folder / "shop.db"
        self.app.write_text(APP.format(file=self.database))
        self.folder = folder / "migrations" / "DB"
        self.folder.mkdir(parents=True)

    def write(self, name: str, sql: str) -> None:
        (self.folder / name).write_text(sql)

    def db(self, verb: str, *arguments: str) -> tuple[int, str]:
        ended = command("db", verb, str(self.app), *arguments)
        return ended.returncode, (ended.stdout + ended.stderr).strip()

    def tables(self) -> set[str]:
        with sqlite3.connect(self.database) as database:
            names = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            return {name for (name,) in names} - {"edgerouter_migrations", "sqlite_sequence"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write(
        "0001_users.sql", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);\nCREATE INDEX n ON users (name);"
    )
    made.write("0001_users.down.sql", "DROP TABLE users;")
    made.write("0002_posts.sql", "CREATE TABLE posts (id INTEGER PRIMARY KEY);")
    return made


def test_files_are_applied_once_and_in_order_shown_and_undone(project: Project) -> None:
    assert project.db("status") == (1, "0001_users  pending\n0002_posts  pending")
    assert project.db("migrate") == (0, "applied 0001_users\napplied 0002_posts")
    assert project.tables() == {"users", "posts"}
    assert project.db("migrate") == (0, f"DB has every migration of {project.folder}")
    code, text = project.db("status", "--json")
    states = json.loads(text)["migrations"]
    assert (code, [(it["number"], it["name"]) for it in states]) == (0, [(1, "users"), (2, "posts")])
    assert all(it["applied_at"].endswith("+00:00") for it in states)
    code, text = project.db("rollback")
    assert code == 1 and text.endswith(
        "0002_posts.down.sql: is not there, so nothing can undo this migration; write it"
    )
    project.write("0002_posts.down.sql", "DROP TABLE posts;")
    assert project.db("rollback") == (0, "undid 0002_posts")
    assert project.db("rollback", "--json") == (0, '{"binding": "DB", "undone": "0001_users"}')
    assert project.db("rollback") == (0, "DB has no migration to undo")
    assert project.tables() == set()
    assert project.db("migrate", "--json") == (0, '{"binding": "DB", "applied": ["0001_users", "0002_posts"]}')


def test_a_file_that_fails_changes_nothing_and_the_ones_before_it_stay(project: Project) -> None:
    project.write("0002_posts.sql", "CREATE TABLE posts (id INTEGER PRIMARY KEY);\nINSERT INTO nowhere VALUES (1);")
    code, text = project.db("migrate")
    assert code == 1 and "no such table: nowhere" in text
    assert project.tables() == {"users"}
    assert project.db("status")[1].splitlines()[1] == "0002_posts  pending"


def test_a_migration_that_is_killed_half_way_leaves_the_old_schema(project: Project) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000000000) SELECT max(i) FROM n;"
    project.write("0002_posts.sql", f"CREATE TABLE posts (id INTEGER PRIMARY KEY);\n{endless}")
    process = subprocess.Popen([sys.executable, "-m", "edgerouter", "db", "migrate", str(project.app)])

    def in_the_middle() -> bool:
        assert process.poll() is None
        with sqlite3.connect(project.database, timeout=0) as database:
            try:
                database.execute("BEGIN IMMEDIATE").connection.rollback()
            except sqlite3.OperationalError as error:
                return "locked" in str(error) and project.tables() == {"users"}
        return False

    wait_until(in_the_middle)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert project.tables() == {"users"}
    project.write("0002_posts.sql", "CREATE TABLE posts (id INTEGER PRIMARY KEY);")
    assert project.db("migrate") == (0, "applied 0002_posts")


def test_a_history_that_was_changed_is_refused_with_each_file(project: Project) -> None:
    project.write("0003_more.sql", "CREATE TABLE more (id INTEGER);")
    assert project.db("migrate")[0] == 0
    project.write("0001_users.sql", "CREATE TABLE users (id INTEGER);")
    (project.folder / "0003_more.sql").unlink()
    code, text = project.db("migrate")
    assert code == 1
    assert "0001_users.sql: was changed after it was applied; restore it, and make the change in a new file" in text
    assert "0003_more.sql: was applied and is not there; restore it" in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("users.sql", "must be named like 0001_users.sql or 0001_users.down.sql"),
        ("0001_other.sql", "has the number of another file; give it the next one"),
        ("0009_gone.down.sql", "undoes a file that is not there"),
    ],
)
def test_a_file_that_is_no_migration_is_refused(project: Project, name: str, message: str) -> None:
    project.write(name, "SELECT 1;")
    code, text = project.db("migrate")
    assert code == 1 and message in text


def test_a_new_file_has_the_next_number(project: Project) -> None:
    code, text = project.db("new", "Add posts' titles")
    assert (code, Path(text).name) == (0, "0003_add_posts_titles.sql")
    assert Path(text).read_text() == "-- add posts titles\n"
    assert project.db("new", "!!!")[0] == 1


def test_the_database_must_be_one_of_the_application(project: Project) -> None:
    code, text = project.db("status", "--binding", "OTHER")
    assert code == 1 and "OTHER: is no database of" in text and "there are DB" in text
    project.app.write_text(project.app.read_text() + f'edge.database("LOG", "sqlite:{project.database}")\n')
    code, text = project.db("status")
    assert code == 1 and "--binding: say which one: DB, LOG" in text
    assert project.db("status", "--binding", "DB")[0] == 1
