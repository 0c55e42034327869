"""The command ``edgerouter``.

Results go to standard output, errors to standard error; a user's mistake never prints a traceback.
``commands`` is the whole command line; ``running`` what ``run`` does; ``show`` prints. A plain
``run`` is understood without importing the rest, because an edge has to start in a few milliseconds.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point of the command."""
    from edgerouter.cli import running

    if sys.argv[1:2] == ["run"] and (options := running.plain(sys.argv[2:])) is not None:
        sys.exit(running.run(options))
    from edgerouter.cli.commands import app

    app(prog_name="edgerouter")
