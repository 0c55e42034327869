"""Lines of a plan file, by the path of what stands there.

Only to say where a mistake is: the file has been read by then, so nothing here judges it.
"""

from __future__ import annotations

import json
import re

__all__ = ["of_json", "of_toml"]

_TABLE = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\s\"'-]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_NAME = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def of_toml(text: str) -> dict[str, int]:
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
        if (head := _TABLE.match(line)) is not None:
            table = _joined(head[2], counts)
            if head[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = f"{table}[{counts[table]}]"
            found.setdefault(table, number)
        elif (key := _KEY.match(line)) is not None:
            path = table
            for name in _NAME.findall(key[1]):
                path = f"{path}.{name.strip(_QUOTES)}" if path else name.strip(_QUOTES)
                found.setdefault(path, number)
    return found


_QUOTES = "\"'"


def _joined(dotted: str, counts: dict[str, int]) -> str:
    """A table's name as a path: below an array of tables, its last entry is meant."""
    path = ""
    names = [name.strip(_QUOTES) for name in _NAME.findall(dotted)]
    for index, name in enumerate(names):
        path = f"{path}.{name}" if path else name
        if index < len(names) - 1 and path in counts:
            path = f"{path}[{counts[path]}]"
    return path


def of_json(text: str) -> dict[str, int]:
    """Members and elements."""
    found: dict[str, int] = {}
    #: The path of each container that is open, and the index in it, ``None`` in an object.
    open_: list[tuple[str, int | None]] = []
    path, line, at = "", 1, 0
    while at < len(text):
        character = text[at]
        if character == "\n":
            line += 1
        elif character == '"' and (string := _STRING.match(text, at)) is not None:
            at = string.end()
            after = text[at:].lstrip()
            if open_ and open_[-1][1] is None and after.startswith(":"):
                parent = open_[-1][0]
                name = json.loads(string[0], strict=False)
                path = f"{parent}.{name}" if parent else str(name)
                found.setdefault(path, line)
            continue
        elif character in "{[":
            if open_ and open_[-1][1] is not None:
                path = f"{open_[-1][0]}[{open_[-1][1]}]"
                found.setdefault(path, line)
            open_.append((path, 0 if character == "[" else None))
        elif character in "}]" and open_:
            open_.pop()
        elif character == "," and open_ and (index := open_[-1][1]) is not None:
            open_[-1] = (open_[-1][0], index + 1)
        at += 1
    return found
