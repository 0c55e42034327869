"""``edgerouter cert``: certificates for development, and the state of those that an edge has."""

from __future__ import annotations

import datetime as dt
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgerouter.cli.running import refuse, say
from edgerouter.development import LOCAL_NAMES, Authority, write
from edgerouter.errors import ConfigError, EdgeError, Problem
from edgerouter.regular import opened

if TYPE_CHECKING:
    from edgerouter import _core

__all__ = ["advice", "app", "held"]

#: Bytes of a stored certificate that are read, as many as the edge reads.
_LARGEST = 1 << 20


class _Cert(typer.core.TyperGroup):
    """A group that has the remedy for a name without its option, which would be taken for a command."""

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        if args and args[0] not in self.commands:
            ctx.fail(f"{args[0]!r} is no command; to certify it, give --name {args[0]}")
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=_Cert)


@app.callback(invoke_without_command=True)
def cert(
    context: typer.Context,
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
    if context.invoked_subcommand is not None:
        return
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


def held(plan: Mapping[str, Any]) -> list[dict[str, str | None]]:
    """The certificates of a plan whose secrets were read: given ones, and those that the edge obtains by itself."""
    now = dt.datetime.now(dt.UTC)
    rows: list[dict[str, str | None]] = []
    for policy in _policies(plan):
        for certificate in policy.get("certificates", ()):
            chain = certificate.get("chain", {})
            rows.append(_row(str(chain.get("value", "")), "given", chain.get("file"), None, now))
        acme = policy.get("acme") or {}
        for name in acme.get("names", ()):
            row = _obtained(Path(acme["storage"]), name.lower().removesuffix("."), now)
            if row not in rows:
                rows.append(row)
    return rows


def advice(plan: Mapping[str, Any]) -> Iterator[_core.Lint]:
    """Warnings of ``edgerouter check`` about certificates."""
    for row in held(plan):
        if row["source"] == "given" and row["state"] == "expired":
            yield _warning(f"the certificate for {row['name']} has expired", f"renew {row['file'] or 'it'}")
        if row["source"] == "acme" and row["state"] in ("expired", "unreadable"):
            yield _warning(
                f"the stored certificate for {row['name']} is {row['state']}",
                f"see the log for the reason, and look at {row['file']}",
            )
    for folder in {policy["acme"]["storage"] for policy in _policies(plan) if policy.get("acme")}:
        there = Path(folder)
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield _warning(
                f"no certificate can be stored in {folder}", "make the folder writable for the user of the edge"
            )


def _policies(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for listener in plan.get("listeners", ()):
        yield from listener.get("tls", ())


def _warning(message: str, remedy: str) -> _core.Lint:
    return {
        "path": "listeners",
        "route": "",
        "rule": "certificates",
        "level": "warning",
        "message": message,
        "remedy": remedy,
    }


def _obtained(storage: Path, name: str, now: dt.datetime) -> dict[str, str | None]:
    stem = f"_wildcard.{name[2:]}" if name.startswith("*.") else name
    file = storage / "certificates" / f"{stem}.pem"
    try:
        with opened(file) as stream:
            text = stream.read(_LARGEST).decode()
    except FileNotFoundError:
        return {"name": name, "source": "acme", "state": "absent", "until": None, "file": str(file)}
    except (OSError, ValueError):
        text = ""
    return _row(text, "acme", str(file), name, now)


def _row(text: str, source: str, file: str | None, name: str | None, now: dt.datetime) -> dict[str, str | None]:
    from edgerouter import _core

    start, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    facts = None
    if start in text and end in text:
        block = text[text.index(start) : text.index(end) + len(end)]
        try:
            facts = _core.certificate_facts(ssl.PEM_cert_to_DER_cert(block))
        except ValueError:
            facts = None
    if facts is None:
        return {"name": name, "source": source, "state": "unreadable", "until": None, "file": file}
    names, until = facts
    end_of = dt.datetime.fromtimestamp(min(max(until, 0), 253_402_300_799), dt.UTC)
    state = "valid" if end_of > now else "expired"
    shown = name or (names[0] if names else None)
    return {"name": shown, "source": source, "state": state, "until": end_of.isoformat(), "file": file}
