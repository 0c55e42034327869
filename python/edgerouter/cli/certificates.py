"""``edgerouter cert``: certificates for development."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgerouter.cli.running import refuse, say
from edgerouter.development import LOCAL_NAMES, Authority, write
from edgerouter.errors import ConfigError, EdgeError, Problem

__all__ = ["cert"]


def cert(
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            help="A host name or an address to be certified; may be repeated.  [default: localhost 127.0.0.1 ::1]",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--dir", help="The folder of the two files.", metavar="DIR", show_default="this one")
    ] = Path(),
    days: Annotated[int, typer.Option("--days", help="Days that it is valid for.", min=1, max=825)] = 90,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text.")] = False,
) -> None:
    """Make a certificate for development, by an authority of this user, which is made if there is none.

    Writes NAME.pem and NAME.key. No trust store is changed: clients are given the authority's file.
    """
    names = name or list(LOCAL_NAMES)
    try:
        authority = Authority.of_user()
        chain, key = authority.issue(names, days)
        stem = names[0].removeprefix("*.").replace(":", "_")
        files = folder / f"{stem}.pem", folder / f"{stem}.key"
        try:
            write(files[1], key, private=True)
            write(files[0], chain)
        except OSError as error:
            why = f"{error.strerror or error}; give another folder with --dir"
            raise ConfigError([Problem("cert", str(folder), why)]) from None
    except EdgeError as error:
        refuse(error)
        raise typer.Exit(1) from None
    if as_json:
        given = {"names": names, "chain": str(files[0]), "key": str(files[1]), "authority": str(authority.certificate)}
        say(json.dumps(given))
        return
    say(f"{files[0]} and {files[1]} are for {', '.join(names)}, for {days} days")
    say(f"clients verify them by {authority.certificate}: no trust store was changed")
