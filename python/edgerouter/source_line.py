"""The user's own lines in messages and logs: without the texts in them, any of which may be a secret.

A text stays that the message has itself, and one that ``edgerouter check`` prints anyway: the name of an origin, the
pattern of a route. Comments are left out. The file is read by one expression rather than by Python's tokenizer: a line
is shown most often when its file cannot be read as Python.
"""

from __future__ import annotations

import functools
import linecache
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from edgerouter.misspelt import remedy

if TYPE_CHECKING:
    import traceback

__all__ = ["formatted", "of_syntax_error", "shown"]

HIDDEN = "…"

#: Comments and texts. A text that has no end reaches to that of the line, or of the file. In an f-string there may be
#: quotes of the same kind, so the last one of the line ends it.
_TEXT = re.compile(
    r"""
    (?P<comment>\#[^\n]*)
    | (?P<quote>\"{3}|'{3})(?P<long>(?:[^\\"']+|\\.|(?!(?P=quote)).)*)(?:(?P=quote)|\Z)
    | (?:(?<=[fFtT])|(?<=[fFtT][rR]))(?P<mark>["'])(?P<loose>(?:\\\n|[^\n])*(?=(?P=mark))|(?:\\\n|[^\n])*)(?P=mark)?
    | (?P<end>["'])(?P<plain>(?:[^\\\n"']+|\\.|(?!(?P=end))[^\\\n])*)(?P=end)?
    """,
    re.VERBOSE | re.DOTALL,
)
#: Calls whose first argument is a name or a pattern.
_NAMING = re.compile(r"(?:\bEdge|\.(?:origin|group|route|function|mount|kv|database|documents))\(\s*\Z")


#: Lines whose parts are kept: the failures of a busy function have a traceback each.
_KEPT = 1_024


class _Part(NamedTuple):
    """A part of a line: as it is shown, and as it stands there if a message may quote its ``content``."""

    hidden: str
    text: str = ""
    content: str = ""


def shown(file: str, number: int | None, said: str) -> str:
    """Line ``number`` of a file as a message shows it that says ``said``; empty where there is no such line."""
    line = _line(file, number or 0)
    if not line or number is None:
        return ""
    stamp = linecache.cache.get(file, ())[:2]
    parts = _parts(file, number, line, stamp)
    made = "".join(part.text if part.content and _has(said, part.content) else part.hidden for part in parts)
    return " ".join(made.split())


def _has(said: str, content: str) -> bool:
    """True if a message quotes a text, or is that text behind the name of its error."""
    return f'"{content}"' in said or f"'{content}'" in said or said.endswith(f": {content}")


def of_syntax_error(error: SyntaxError | traceback.TracebackException) -> str:
    """The line of a syntax error. A quote may be missing, so all between the first and the last one is hidden."""
    line = _line(error.filename or "", int(error.lineno or 0))
    quotes = [at for at, letter in enumerate(line) if letter in "\"'"]
    if quotes:
        first, last = quotes[0], quotes[-1]
        end = line[last:] if last > first else ""
        line = f"{line[: first + 1]}{HIDDEN}{end.partition('#')[0]}"
    else:
        line = line.partition("#")[0]
    return " ".join(line.split())


def _line(file: str, number: int) -> str:
    linecache.checkcache(file)
    lines = linecache.getlines(file)
    return lines[number - 1] if 0 < number <= len(lines) else ""


@functools.lru_cache(maxsize=_KEPT)
def _parts(file: str, number: int, line: str, stamp: tuple[object, ...]) -> tuple[_Part, ...]:
    """The parts of a line; ``stamp`` tells versions of its file apart."""
    lines = linecache.getlines(file)
    whole, begin = "".join(lines), sum(map(len, lines[: number - 1]))
    end = begin + len(line)
    made, at = [], begin
    for found in _TEXT.finditer(whole):
        if found.start() >= end:
            break
        if found.end() > begin:
            made += [_Part(whole[at : found.start()]), _hidden(found, begin)]
            at = found.end()
    return (*made, _Part(whole[at:end]))


def _hidden(found: re.Match[str], begin: int) -> _Part:
    """The part that stands for a comment or a text."""
    if found["comment"] is not None:
        return _Part("")
    if found.start() < begin:
        return _Part(HIDDEN)
    content = found["plain"] or ""
    is_empty = not (content or found["long"] or found["loose"])
    is_whole = bool(content) and found[0].endswith(found["end"])
    is_named = is_whole and _NAMING.search(found.string, max(found.start() - 40, 0), found.start())
    if is_empty or is_named:
        return _Part(found[0])
    quote = found["quote"] or found["mark"] or found["end"]
    return _Part(f"{quote}{HIDDEN}{quote}", found[0], content)


def formatted(error: BaseException) -> str:
    """The traceback of an error as Python prints it, with its lines as ``shown`` has them."""
    import traceback

    made = traceback.TracebackException.from_exception(error)
    for one in _chained(made, set()):
        said = "".join(one.format_exception_only()).rstrip("\n")
        frames = [
            traceback.FrameSummary(
                frame.filename,
                frame.lineno,
                frame.name,
                lookup_line=False,
                line=shown(frame.filename, frame.lineno, said),
            )
            for frame in one.stack
        ]
        one.stack = traceback.StackSummary.from_list(frames)
        if isinstance(getattr(one, "text", None), str):
            # The line of a ``SyntaxError``.
            one.text = of_syntax_error(one)
            # It would be marked at the place in the whole line.
            one.offset = 0
    text = "".join(made.format())
    hint = remedy(error)
    # Python from 3.12 on proposes names itself; notes stand behind the error.
    if not hint or "Did you mean" in text or getattr(error, "__notes__", None):
        return text
    return f"{text.rstrip()}{hint}\n"


def _chained(made: traceback.TracebackException, seen: set[int]) -> Iterator[traceback.TracebackException]:
    """An error, those that led to it, and those that it groups."""
    if id(made) in seen:
        return
    seen.add(id(made))
    yield made
    for other in (made.__cause__, made.__context__, *(made.exceptions or ())):
        if other is not None:
            yield from _chained(other, seen)
