"""The user's own lines, by the path of the value that they declare: in the Python file, or in a plan file.

They only show where a mistake is: a plan file has been read by then, so nothing here validates it.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import FrameType

from edgerouter.errors import ConfigError

__all__ = ["Places", "current_folder", "file_of_caller", "folder_of_caller"]

_PACKAGE = str(Path(__file__).resolve().parent) + os.sep
_COMMAND = f"{_PACKAGE}cli{os.sep}"

# Only plan files are read by these patterns, so they are compiled at their first use.
_TABLE = r"\s*(\[\[?)\s*([A-Za-z0-9_.\s\"'-]+?)\s*\]\]?\s*(?:#.*)?$"
_KEY = r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
_NAME = r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'"""
#: In JSON: a member's name, another string, or a character that matters to the structure.
_MARK = r'(?P<member>"(?:[^"\\]|\\.)*")(?=\s*:)|"(?:[^"\\]|\\.)*"|[{}\[\],\n]'


class Places:
    """Lines of an edge's declarations, as ``file:line`` by their path in the plan."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[str, int]] = {}

    def note(self, path: str) -> None:
        """Remembers the user's line that declares a value now. An option of the command line has none."""
        frame = _caller()
        if _is_of_command():
            return
        self._lines[path] = (frame.f_code.co_filename, frame.f_lineno)

    @staticmethod
    def here() -> str:
        """The user's line that runs now."""
        frame = _caller()
        return f"{_shown(frame.f_code.co_filename)}:{frame.f_lineno}"

    def read(self, file: Path, text: str) -> None:
        """Remembers the lines of a plan file."""
        found = _of_toml(text) if file.suffix.lower() == ".toml" else _of_json(text)
        self._lines = {path: (str(file), line) for path, line in found.items()}

    def nearest(self, path: str) -> str | None:
        """The line of a value, or of the nearest thing around it that has one."""
        while path:
            if path in self._lines:
                file, line = self._lines[path]
                return f"{_shown(file)}:{line}"
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return None

    def placed(self, error: ConfigError) -> ConfigError:
        """The same problems, each with the line of the value that it is about."""
        return ConfigError(it._replace(place=it.place or self.nearest(it.path)) for it in error.problems)


def _caller() -> FrameType:
    """The user's own frame, outside this package."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame


def _is_of_command() -> bool:
    """True if the command itself declares the value, and no file of the user's is on the way."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        if frame.f_code.co_filename.startswith(_COMMAND):
            return True
        frame = frame.f_back
    return False


def file_of_caller() -> Path | None:
    """The user's file; ``None`` where there is none, as at a prompt."""
    file = Path(_caller().f_code.co_filename)
    return file.resolve() if file.is_file() else None


def current_folder() -> Path:
    """Raises ``ConfigError`` where it has been removed, or is closed to this user."""
    try:
        return Path.cwd()
    except OSError as error:
        message = f"the current folder cannot be found: {error.strerror or error}; change to one that is there"
        raise ConfigError(message) from None


def folder_of_caller() -> Path:
    """The folder of the user's file; the current one where there is no file."""
    file = file_of_caller()
    return file.parent if file else Path.cwd()


def _shown(file: str) -> str:
    """A file's name as one would type it from here."""
    try:
        return file.removeprefix(str(Path.cwd()) + os.sep)
    except OSError:
        # The current folder has been removed, as that of an old release is.
        return file


def _of_toml(text: str) -> dict[str, int]:
    """Tables, entries of arrays of tables, and keys."""
    found: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    # Text between three quotes may look like anything.
    quotes: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        opened = quotes
        for mark in re.findall(r'"""|\'\'\'', line):
            quotes = None if quotes == mark else quotes or mark
        if opened is not None:
            continue
        if (head := re.match(_TABLE, line)) is not None:
            table = _joined(head[2], counts)
            if head[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}[{counts[table]}]"
            found.setdefault(table, number)
        elif (key := re.match(_KEY, line)) is not None:
            path = table
            for name in re.findall(_NAME, key[1]):
                path = f"{path}.{name.strip(_QUOTES)}" if path else name.strip(_QUOTES)
                found.setdefault(path, number)
    return found


_QUOTES = "\"'"


def _joined(dotted: str, counts: dict[str, int]) -> str:
    """A table's name as a path: below an array of tables, its last entry is meant."""
    path = ""
    names = [name.strip(_QUOTES) for name in re.findall(_NAME, dotted)]
    for index, name in enumerate(names):
        path = f"{path}.{name}" if path else name
        if index < len(names) - 1 and path in counts:
            path = f"{path}[{counts[path]}]"
    return path


def _of_json(text: str) -> dict[str, int]:
    """Members and elements."""
    found: dict[str, int] = {}
    #: The path of each container that is open, and the index in it, ``None`` in an object.
    open_: list[tuple[str, int | None]] = []
    import json

    path, line = "", 1
    for mark in re.finditer(_MARK, text):
        kind = text[mark.start()]
        if kind == "\n":
            line += 1
        elif kind == '"':
            if mark["member"] is not None and open_ and open_[-1][1] is None:
                parent = open_[-1][0]
                name = json.loads(mark["member"], strict=False)
                path = f"{parent}.{name}" if parent else str(name)
                found.setdefault(path, line)
        elif kind in "{[":
            if open_ and open_[-1][1] is not None:
                path = f"{open_[-1][0]}[{open_[-1][1]}]"
                found.setdefault(path, line)
            open_.append((path, 0 if kind == "[" else None))
        elif kind in "}]":
            if open_:
                open_.pop()
        elif open_ and (index := open_[-1][1]) is not None:
            open_[-1] = (open_[-1][0], index + 1)
    return found
