"""``edgerouter tail``: the requests of a running edge, or an access log as it grows, with filters."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.text import Text

from edgerouter.cli import show
from edgerouter.cli.admin import Admin, Where, Whose
from edgerouter.cli.live_requests import live_requests
from edgerouter.cli.running import refuse
from edgerouter.errors import EdgeError
from edgerouter.monitoring.lines import OUTCOMES, Chosen, LogLine, read

__all__ = ["tail"]

#: Bytes at the end of a file in which the last lines are sought, and bytes of a line.
MOST_BEHIND = 4 << 20
MOST_LINE = 64 << 10
#: Lines before the first request after which a log is none.
MOST_STRANGE = 1_000
PAUSE = 0.2
COLOURS = {"2": "green", "3": "cyan", "4": "yellow", "5": "red"}


class TailError(EdgeError):
    """A log cannot be read."""


def tail(
    log: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="An access log, JSON or combined; - is standard input. Without it: the edge that runs.",
            show_default=False,
        ),
    ] = None,
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
    last: Annotated[
        int | None,
        typer.Option("--last", "-n", min=0, max=10_000, help="Begin with the last N lines of FILE.", show_default="10"),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for further lines.")] = True,
    raw: Annotated[bool, typer.Option("--raw", help="Print the lines as they are in the log.")] = False,
    admin: Where = "127.0.0.1:9090",
    admin_token_env: Whose = None,
) -> None:
    """Print requests as they are answered, and only those that you choose: of a running edge, or of an access log.

    A log that is rotated is followed under its name, and an edge that ends is tried again. Ctrl-C ends it. The exit
    code is 1 if the file is no access log, or no edge answers.
    """
    for given in status or ():
        if not Chosen.is_status(given):
            raise typer.BadParameter(f"{given!r} is neither a status such as 404 nor a class such as 5xx")
    for given in cache or ():
        if given not in OUTCOMES:
            raise typer.BadParameter(f"{given!r} is none of {', '.join(OUTCOMES)}")
    chosen = Chosen(route or (), host or (), status or (), cache or (), reason or (), slow)
    if log is None and (last is not None or not follow):
        raise typer.BadParameter("--last and --no-follow need FILE: an edge keeps no requests that were answered")
    requests, last = _Requests(log or "", chosen), 10 if last is None else last
    try:
        if log is None:
            live_requests(Admin(admin, admin_token_env), chosen, partial(_print, raw=raw))
        elif log == "-":
            _read_stream(sys.stdin.buffer, requests, last=last, follow=follow, raw=raw)
        else:
            _follow(Path(log), requests, last=last, follow=follow, raw=raw)
    except EdgeError as error:
        refuse(error)
        raise typer.Exit(1) from None
    except BrokenPipeError:
        # The reader has seen enough. Nothing else may be written at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _follow(file: Path, requests: _Requests, *, last: int, follow: bool, raw: bool) -> None:
    with _Followed(file) as log:
        if log.stream is not None:
            _read_stream(log.stream, requests, last=last, follow=follow, raw=raw)
            return
        for line, entry in deque(requests.of(log.behind(whole=not follow)), maxlen=last):
            _print(line, entry, raw=raw)
        requests.judge()
        while follow:
            for line, entry in requests.of(log.further()):
                _print(line, entry, raw=raw)
            time.sleep(PAUSE)


def _read_stream(stream: BinaryIO, requests: _Requests, *, last: int, follow: bool, raw: bool) -> None:
    found = requests.of(_whole(stream))
    for line, entry in found if follow else deque(found, maxlen=last):
        _print(line, entry, raw=raw)
    requests.judge()


class _Requests:
    """The chosen requests of a log, and the decision that it is none."""

    def __init__(self, log: str, chosen: Chosen) -> None:
        self._log = log
        self._chosen = chosen
        #: Lines that are none of a log, until there is one.
        self._strange: int | None = 0

    def of(self, lines: Iterator[str]) -> Iterator[tuple[str, LogLine]]:
        for line in lines:
            entry = read(line)
            if entry is None:
                if self._strange is not None and line.strip():
                    self._strange += 1
                    if self._strange >= MOST_STRANGE:
                        self.judge()
                continue
            self._strange = None
            if self._chosen.has(entry):
                yield line, entry

    def judge(self) -> None:
        """Raises ``TailError`` if there were lines, and none of a request."""
        if self._strange:
            name = "standard input" if self._log == "-" else self._log
            rule = "has no line of an access log, in the JSON or the combined form"
            raise TailError(
                f"{name}: {rule}; give the file of --access-log, of another form or compressed it is no log"
            )


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

    @property
    def stream(self) -> BinaryIO | None:
        """The opened file, if it is a pipe or the like, which has no end to begin at."""
        return None if stat.S_ISREG(os.fstat(self._opened.fileno()).st_mode) else self._opened

    def __enter__(self) -> _Followed:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _open(self) -> BinaryIO:
        try:
            return self._file.open("rb")
        except OSError as error:
            raise TailError(f"{self._file}: {error.strerror or error}; give the file of --access-log") from None

    def behind(self, *, whole: bool) -> Iterator[str]:
        """The lines at the end of the file, as it is now; with ``whole`` also one that has no end yet."""
        size = os.fstat(self._opened.fileno()).st_size
        if size > MOST_BEHIND:
            self._opened.seek(size - MOST_BEHIND)
            self._opened.readline(MOST_BEHIND)
        yield from self._lines()
        if whole and self._partial:
            yield self._partial.decode("utf-8", "replace")

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
        print(_printable(line), flush=True)
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
