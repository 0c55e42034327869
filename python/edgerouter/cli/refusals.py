"""Mistakes of a command: one line each, or JSON for programs, and the exit code 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from edgerouter.application import AppError
from edgerouter.cli.running import refuse
from edgerouter.errors import ConfigError, EdgeError, Problem

__all__ = ["refusals"]


@contextmanager
def refusals(*, as_json: bool = False, interrupted: int = 130) -> Iterator[None]:
    """Prints what is wrong and exits with 1, or with ``interrupted`` after Ctrl-C."""
    try:
        yield
    except EdgeError as error:
        if as_json:
            from edgerouter.cli import show

            found = error.problems if isinstance(error, (AppError, ConfigError)) else [Problem("", None, str(error))]
            show.as_json({"problems": [problem._asdict() for problem in found]})
        else:
            refuse(error)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(interrupted) from None
