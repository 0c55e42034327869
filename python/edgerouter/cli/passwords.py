"""``edgerouter password``: a line for the file of ``BasicAuth``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgerouter.cli.running import refuse, say
from edgerouter.errors import ConfigError, EdgeError, Problem

__all__ = ["password"]

#: Bytes of standard input that are read: more than any password has.
_LARGEST = 4_096


def password(
    user: Annotated[str, typer.Argument(metavar="USER", help="The name of the user.", show_default=False)],
) -> None:
    """Print a line USER:HASH for the file of BasicAuth, with an argon2 hash of a password.

    At a terminal the password is typed twice, unseen; otherwise it is the first line of standard input.
    """
    import secrets

    from edgerouter import _core

    try:
        given = _typed() if sys.stdin is not None and sys.stdin.isatty() else _read()
        try:
            line = _core.password_line(user, given, secrets.token_bytes(16))
        except ValueError as error:
            raise ConfigError([Problem("password", None, str(error))]) from None
    except EdgeError as error:
        refuse(error)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    say(line)


def _typed() -> str:
    from getpass import getpass

    try:
        first = getpass("Password: ")
        if getpass("Again: ") != first:
            raise ConfigError([Problem("password", None, "the two were not the same; begin again")])
    except EOFError:
        raise ConfigError([Problem("password", None, "none was given")]) from None
    return first


def _read() -> str:
    line = sys.stdin.buffer.readline(_LARGEST) if sys.stdin is not None else b""
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise ConfigError([Problem("password", None, "standard input must be UTF-8")]) from None
