"""``edgerouter db``: the schemas of databases that an application is bound to."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edgerouter import migrations
from edgerouter.application import FileApplication
from edgerouter.cli.refusals import refusals
from edgerouter.cli.running import say
from edgerouter.edge import Edge
from edgerouter.errors import ConfigError, Problem

__all__ = ["app"]

app = typer.Typer(help="Change the schemas of databases by numbered SQL files.", no_args_is_help=True)

#: Seconds for one migration.
_LONGEST = 86_400.0

App = Annotated[str, typer.Argument(metavar="APP", help="As for edgerouter run.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Words for the change, such as add_posts.")]
Bound = Annotated[
    str | None,
    typer.Option("--binding", metavar="NAME", help="The database.", show_default="the only one of APP"),
]
Folder = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="The folder of the files.", show_default="migrations/NAME beside APP"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text.")]


class Outcome(StrEnum):
    """The end of a file that was interrupted."""

    APPLIED = "applied"
    PENDING = "pending"


def _found(application: str, binding: str | None, folder: Path | None) -> tuple[Edge, str, Path]:
    """The edge, the name of its database, and the folder of the files."""
    loading = FileApplication(application, serves=False)
    edge = loading.load()
    names = [str(it["name"]) for it in edge.to_dict().get("bindings", ()) if it.get("kind") == "database"]
    if binding is not None and binding not in names:
        known = f"there are {', '.join(names)}" if names else "it has none"
        raise ConfigError([Problem("--binding", binding, f"is no database of {application}: {known}")])
    if binding is None and len(names) != 1:
        none = f'{application} has no database; declare one, as in edge.database("DB", "sqlite:app.db")'
        message = f"say which one: {', '.join(names)}" if names else none
        raise ConfigError([Problem("--binding", None, message)])
    name = binding or names[0]
    with edge.bindings() as env:
        engine = getattr(env, name).engine
    return edge, name, migrations.folder_for(folder or loading.folder / "migrations" / name, engine)


@app.command()
def new(application: App, name: Name, binding: Bound = None, folder: Folder = None) -> None:
    """Make an empty file with the next number, such as 0002_add_posts.sql.

    A file 0002_add_posts.down.sql beside it, if you write one, undoes it.
    """
    with refusals():
        _, _, where = _found(application, binding, folder)
        say(str(migrations.new(where, name)))


@app.command()
def migrate(application: App, binding: Bound = None, folder: Folder = None, as_json: Json = False) -> None:
    """Apply the files that are pending, each in a transaction of its own.

    A file that fails changes nothing and ends the command; those before it stay applied.
    """
    with refusals(as_json=as_json):
        edge, name, where = _found(application, binding, folder)
        with edge.bindings(_LONGEST) as env:
            done = migrations.Migrations(getattr(env, name), where).migrate()
    if as_json:
        say(json.dumps({"binding": name, "applied": [str(it) for it in done]}))
        return
    for it in done:
        say(f"applied {it}")
    if not done:
        say(f"{name} has every migration of {where}")


@app.command()
def status(application: App, binding: Bound = None, folder: Folder = None, as_json: Json = False) -> None:
    """Show which files were applied and which are pending. Exits with 1 if one is pending, or was interrupted."""
    with refusals(as_json=as_json):
        edge, name, where = _found(application, binding, folder)
        with edge.bindings(_LONGEST) as env:
            states = migrations.Migrations(getattr(env, name), where).status()
    if as_json:
        say(json.dumps({"binding": name, "migrations": [it._asdict() for it in states]}))
    else:
        for it in states:
            say(f"{it.number:04}_{it.name}  {'pending' if it.applied_at is None else it.applied_at or 'interrupted'}")
    raise typer.Exit(0 if all(it.applied_at for it in states) else 1)


@app.command()
def rollback(application: App, binding: Bound = None, folder: Folder = None, as_json: Json = False) -> None:
    """Undo the newest migration by its file .down.sql."""
    with refusals(as_json=as_json):
        edge, name, where = _found(application, binding, folder)
        with edge.bindings(_LONGEST) as env:
            undone = migrations.Migrations(getattr(env, name), where).rollback()
    if as_json:
        say(json.dumps({"binding": name, "undone": None if undone is None else str(undone)}))
        return
    say(f"undid {undone}" if undone is not None else f"{name} has no migration to undo")


@app.command()
def settle(
    application: App,
    outcome: Annotated[
        Outcome,
        typer.Argument(help="Whether the database has the change.", metavar="applied|pending", show_default=False),
    ],
    binding: Bound = None,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Record how a file that was interrupted has ended. Look at the database first.

    Only MySQL and MariaDB need it: a change of their schema and its record are no single transaction.
    """
    with refusals(as_json=as_json):
        edge, name, where = _found(application, binding, folder)
        with edge.bindings(_LONGEST) as env:
            settled = migrations.Migrations(getattr(env, name), where).settle(outcome.value)
    if as_json:
        say(json.dumps({"binding": name, "settled": None if settled is None else str(settled)}))
        return
    say(f"{settled} is {outcome.value}" if settled is not None else f"{name} has no interrupted migration")
