"""The report of an import: parts of the source that were left out, and choices that were made.

Every note has a place in the source, so that a reader can compare the two files line by line.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, TypeAlias

from edgerouter.checks import shown

__all__ = ["Kind", "Note", "Report", "SourceError"]

Kind: TypeAlias = Literal["left-out", "choice"]

#: More notes than this are counted only: a hostile file must not fill a terminal.
_MOST = 2_000

#: Words of settings and values that are not shown.
_MAY_BE_SECRET = re.compile(
    r"(?:proxy|grpc)_set_header|_param\b|authorization|bearer|passw|secret|token|credential|(?:api|private|access).?key",
    re.IGNORECASE,
)


class SourceError(Exception):
    """The source cannot be read or understood; the text is one line."""

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        super().__init__(line if len(line) <= 400 else line[:397] + "...")


class Note(NamedTuple):
    """One difference between the source and the program.

    ``kind``  ``left-out``: it has no counterpart in the program; ``choice``: it has one that the source did not fix
    ``line``  of the source, where it is known
    ``path``  in the source, as in ``Resources.Site.Properties.DistributionConfig.PriceClass``
    ``value``  of the source, shortened; ``None`` where there is nothing to show or it may be secret
    ``message``  the reason, and the remedy
    """

    kind: Kind
    line: int | None
    path: str
    value: str | None
    message: str

    def text(self, file: str) -> str:
        """The note as one line."""
        place = f"{file}:{self.line}" if self.line else file
        said = "left out" if self.kind == "left-out" else "choice"
        value = f" {self.value}:" if self.value is not None else ""
        return f"{said}: {place}: {self.path}:{value} {self.message}"


class Report:
    """Collects notes; equal ones count once."""

    def __init__(self) -> None:
        self._notes: dict[Note, None] = {}
        #: Notes beyond the most that are kept.
        self.more = 0

    @property
    def notes(self) -> list[Note]:
        """The notes in the order of the source's lines, those without a line last."""
        return sorted(self._notes, key=lambda note: note.line or 1 << 30)

    @property
    def left_out(self) -> bool:
        """Parts of the source have no counterpart in the program."""
        return self.more > 0 or any(note.kind == "left-out" for note in self._notes)

    def add(self, note: Note) -> None:
        """Adds a note."""
        message = " ".join(note.message.split())
        note = note._replace(message=message, path=_printable(note.path))
        if note in self._notes:
            return
        if len(self._notes) >= _MOST:
            self.more += 1
        else:
            self._notes[note] = None

    def note(self, kind: Kind, path: str, message: str, *, value: object = None, line: int | None = None) -> None:
        """Adds a note made of its parts. Words decide what may be secret: settings without a reader are shown, too."""
        text = None if value is None else _printable(shown(value))
        hidden = text is not None and _MAY_BE_SECRET.search(f"{path} {text}") is not None
        self.add(Note(kind, line, path, None if hidden else text, message))

    def as_data(self) -> list[dict[str, Any]]:
        """The notes for programs."""
        return [note._asdict() for note in self.notes]


def _printable(text: str) -> str:
    """The text without control characters, which could change what a terminal shows."""
    return "".join(sign if sign.isprintable() else "�" for sign in text)
