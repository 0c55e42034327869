"""``edgerouter tail``: an access log as it grows, with filters."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.text import Text

from edgerouter.cli import show
from edgerouter.cli.running import refuse, say
from edgerouter.errors import EdgeError
from edgerouter.monitoring.lines import Chosen, LogLine, read

__all__ = ["tail"]

#: Bytes at the end of a file in which the last lines are sought, and bytes of a line.
MOST_BEHIND = 4 << 20
MOST_LINE = 64 << 10
PAUSE = 0.2
COLOURS = {"2": "green", "3": "cyan", "4": "yellow", "5": "red"}


class TailError(EdgeError):
    """A log cannot be read."""


def tail(
    log: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="An access log, JSON or combined; - is standard input.", show_default=False
        ),
    ],
    route: Annotated[list[str] | None, typer.Option(metavar="LABEL", help="Only this route; may be repeated.")] = None,
    host: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Only this host, with *; may be repeated.")
    ] = None,
    status: Annotated[
        list[str] | None, typer.Option(metavar="STATUS", help="Only this status, 404, or class, 5xx; may be repeated.")
    ] = None,
    cache: Annotated[
        list[str] | None, typer.Option(metavar="OUTCOME", help="Only this outcome, such as miss; may be repeated.")
    ] = None,
    reason: Annotated[
        list[str] | None, typer.Option(metavar="REASON", help="Only this reason, such as no-store; may be repeated.")
    ] = None,
    slow: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Only responses that took as long.", show_default=False)
    ] = 0.0,
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=10_000, help="Begin with the last N lines.")] = 10,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for further lines.")] = True,
    raw: Annotated[bool, typer.Option("--raw", help="Print the lines as they are in the log.")] = False,
) -> None:
    """Print requests from an access log as they are answered, and only those that you choose.

    A log that is rotated is followed under its name. Ctrl-C ends it.
    """
    for given in status or ():
        if not Chosen.is_status(given):
            raise typer.BadParameter(f"{given!r} is neither a status such as 404 nor a class such as 5xx")
    chosen = Chosen(route or (), host or (), status or (), cache or (), reason or (), slow)
    try:
        if log == "-":
            found = _chosen(_whole(sys.stdin.buffer), chosen)
            for line, entry in found if follow else deque(found, maxlen=last):
                _print(line, entry, raw=raw)
            return
        _follow(Path(log), chosen, last=last, follow=follow, raw=raw)
    except EdgeError as error:
        refuse(error)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _follow(file: Path, chosen: Chosen, *, last: int, follow: bool, raw: bool) -> None:
    with _Followed(file) as log:
        for line, entry in deque(_chosen(log.behind(), chosen), maxlen=last):
            _print(line, entry, raw=raw)
        while follow:
            for line, entry in _chosen(log.further(), chosen):
                _print(line, entry, raw=raw)
            time.sleep(PAUSE)


def _chosen(lines: Iterator[str], chosen: Chosen) -> Iterator[tuple[str, LogLine]]:
    for line in lines:
        entry = read(line)
        if entry is not None and chosen.has(entry):
            yield line, entry


def _whole(stream: BinaryIO) -> Iterator[str]:
    """Lines of a stream. One that is longer than any of a log is left out."""
    while line := stream.readline(MOST_LINE):
        if line.endswith(b"\n") or len(line) < MOST_LINE:
            yield line.decode("utf-8", "replace").rstrip("\r\n")
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(MOST_LINE)


class _Followed:
    """A log by its name: read to its end, and then what is added; from the beginning if it was replaced or cut."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._opened = self._open()
        self._partial = b""

    def __enter__(self) -> _Followed:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _open(self) -> BinaryIO:
        try:
            return self._file.open("rb")
        except OSError as error:
            raise TailError(f"{self._file}: {error.strerror or error}; give the file of --access-log") from None

    def behind(self) -> Iterator[str]:
        """The lines at the end of the file, as it is now."""
        size = os.fstat(self._opened.fileno()).st_size
        if size > MOST_BEHIND:
            self._opened.seek(size - MOST_BEHIND)
            self._opened.readline(MOST_BEHIND)
        yield from self._lines()

    def further(self) -> Iterator[str]:
        """The lines that were added since."""
        yield from self._lines()
        try:
            there = self._file.stat()
        except OSError:
            # It was moved, and the edge has not opened it again yet.
            return
        opened = os.fstat(self._opened.fileno())
        if (there.st_dev, there.st_ino) != (opened.st_dev, opened.st_ino):
            yield from self._lines()
            self._opened.close()
            self._opened, self._partial = self._open(), b""
            yield from self._lines()
        elif opened.st_size < self._opened.tell():
            self._opened.seek(0)
            self._partial = b""
            yield from self._lines()

    def _lines(self) -> Iterator[str]:
        """Whole lines; the beginning of one is kept until its end was written."""
        while piece := self._opened.read(MOST_LINE):
            *whole, rest = (self._partial + piece).split(b"\n")
            self._partial = rest[-MOST_LINE:]
            for line in whole:
                yield line.decode("utf-8", "replace").rstrip("\r")


def _print(line: str, entry: LogLine, *, raw: bool) -> None:
    if raw:
        say(_printable(line))
        return
    text = Text()
    text.append(f"{entry.time} ")
    text.append(str(entry.status), style=COLOURS.get(str(entry.status)[0], ""))
    because = f" ({entry.reason})" if entry.reason else ""
    text.append(f" {entry.cache or '-'}{because} {entry.method} {entry.host}{entry.url}")
    text.append(f" {_span(entry.seconds)} {entry.bytes} B {entry.route or '-'} {entry.client}")
    text.plain = _printable(text.plain)
    show.console().print(text, soft_wrap=True)


def _printable(text: str) -> str:
    """Without characters that a terminal would obey: the edge escapes them, and other programs may not."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _span(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1_000:.1f} ms"
