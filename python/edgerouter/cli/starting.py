"""``edgerouter init``: a project to start from."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from edgerouter.errors import ConfigError, Problem

__all__ = ["write"]

NAMES = ("app.py", "origin.py", "README.md")


def write(folder: Path) -> Iterator[str]:
    """Writes the project and says what to do next; refuses when a file of it is already there."""
    there = [name for name in NAMES if (folder / name).exists()]
    if there:
        message = "already there; nothing was written. Choose an empty directory: edgerouter init DIR"
        raise ConfigError([Problem(str(folder / name), None, message) for name in there])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            text = files("edgerouter.cli").joinpath("starter", name).read_text(encoding="utf-8")
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
            yield f"wrote {folder / name}"
    except OSError as error:
        raise ConfigError([Problem(str(folder), None, f"cannot write here: {error.strerror or error}")]) from None
    yield ""
    yield "next:"
    if folder.resolve() != Path.cwd():
        yield f"  cd {shlex.quote(os.path.normpath(folder))}"
    yield "  python origin.py &"
    yield "  edgerouter run app.py --reload --admin 127.0.0.1:9090"
    yield "then, from another terminal:"
    yield "  curl -i http://127.0.0.1:8080/"
    yield "and in a browser:"
    yield "  http://127.0.0.1:9090/dashboard"
