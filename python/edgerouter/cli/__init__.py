"""The command ``edgerouter``.

Results go to standard output, errors to standard error; a user's mistake never prints a traceback.
``commands`` is the whole command line; ``everyday`` the part of it that is enough for most calls; ``running`` what
``run`` does; ``show`` prints. A plain ``run`` is understood without importing any of it, because an edge has to start
in a few milliseconds.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable

__all__ = ["main", "prepared"]

#: Nothing can be written: the reader has gone, or the disk of the file is full.
_UNWRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def main() -> None:
    """The command, imports included."""
    prepared()()


def prepared() -> Callable[[], None]:
    """Imports what the command line needs; the function that does its work."""
    from edgerouter.cli import running

    if sys.argv[1:2] == ["run"] and (options := running.plain(sys.argv[2:])) is not None:
        return lambda: sys.exit(running.run(options))
    from edgerouter.cli.everyday import WORDS

    if sys.argv[1:2] == [] or sys.argv[1] not in WORDS:
        # Also for the list of all commands, and for the one that a wrong word probably means.
        from edgerouter.cli import commands  # noqa: F401  # adds its commands to the application
    return _parse


def _parse() -> None:
    """Has typer parse the command line and do its work."""
    from edgerouter.cli import running
    from edgerouter.cli.everyday import app

    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A locale may lack a character of the output; the stream of errors is so from the start.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            app(prog_name="edgerouter")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        # The interpreter would write the rest once more, at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno != errno.EPIPE:
            running.warn(f"error: standard output: {error.strerror}")
        sys.exit(1)
