"""Directives of an nginx configuration, read by crossplane, each with its place and marked when it is used.

Included files are read only below the folder of the first one: a configuration of anybody must not read others.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from edgerouter.importing.documents import DEEPEST, LARGEST, MissingPackageError
from edgerouter.importing.report import Report, SourceError

__all__ = ["Directive", "parse", "seconds", "size"]

_MOST_FILES = 100
_MOST_DIRECTIVES = 50_000


class Directive:
    """One directive.

    ``block``  the directives inside, ``None`` if it has no braces
    ``path``  of the directives around it, as in ``server www.example.com / location /api/``
    """

    __slots__ = ("args", "block", "line", "name", "path", "report", "used")

    def __init__(
        self, name: str, args: list[str], block: list[Directive] | None, path: str, line: int | None, report: Report
    ) -> None:
        self.name = name
        self.args = args
        self.block = block
        self.path = path
        self.line = line
        self.report = report
        self.used = False

    def all(self, *names: str) -> list[Directive]:
        """The directives inside with one of these names, which count as used."""
        found = [inner for inner in self.block or () if inner.name in names]
        for inner in found:
            inner.used = True
        return found

    def one(self, name: str) -> Directive | None:
        """The last directive inside with this name, as nginx takes it for most."""
        found = self.all(name)
        return found[-1] if found else None

    def value(self, name: str) -> str | None:
        """The first argument of a directive inside."""
        found = self.one(name)
        return found.args[0] if found is not None and found.args else None

    def ignore(self, *names: str) -> None:
        """Marks directives inside, and all in them, as used."""
        for inner in self.all(*names):
            inner.take()

    def take(self) -> None:
        """Marks this directive, and all in it, as used."""
        self.used = True
        for inner in self.block or ():
            inner.take()

    @property
    def text(self) -> str:
        """The arguments as one text."""
        return " ".join(self.args)

    def left_out(self, message: str, *, secret: bool = False) -> None:
        """Notes that this directive has no counterpart."""
        self.take()
        self.report.note("left-out", self.path, message, value=None if secret else self.text or None, line=self.line)

    def choice(self, message: str) -> None:
        """Notes a choice."""
        self.report.note("choice", self.path, message, value=self.text or None, line=self.line)

    def unread(self) -> Iterator[Directive]:
        """The directives that no reader has used, the outermost of each."""
        for inner in self.block or ():
            if inner.used:
                yield from inner.unread()
            else:
                yield inner


def parse(path: Path, text: str, report: Report) -> Directive:
    """The directives of a file, as the block of one around them."""
    folder = path.resolve().parent
    files = [0]
    root = Directive("main", [], _read(path, text, report, folder, "", files), "", None, report)
    count = sum(1 for _ in _walk(root))
    if count > _MOST_DIRECTIVES:
        raise SourceError(f"has more than {_MOST_DIRECTIVES} directives")
    return root


def _walk(directive: Directive) -> Iterator[Directive]:
    waiting = [directive]
    while waiting:
        found = waiting.pop()
        yield found
        waiting.extend(found.block or ())


def _read(path: Path, text: str, report: Report, folder: Path, outer: str, files: list[int]) -> list[Directive]:
    try:
        import crossplane
    except ImportError:
        raise MissingPackageError("crossplane", "nginx configurations") from None
    files[0] += 1
    if files[0] > _MOST_FILES:
        raise SourceError(f"includes more than {_MOST_FILES} files")
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        depth += line.count("{") - line.count("}")
        if depth > DEEPEST:
            raise SourceError(f"line {number}: is nested more than {DEEPEST} deep")
    try:
        payload = crossplane.parse(str(path), single=True, check_ctx=False, check_args=False)
    except RecursionError:
        raise SourceError("is nested too deep") from None
    except Exception as error:  # noqa: BLE001 - the parser of a package, on a file of anybody
        raise SourceError(f"is no nginx configuration: {type(error).__name__}") from None
    for problem in payload.get("errors", ()):
        where = f"line {problem['line']}: " if problem.get("line") else ""
        reason = re.sub(r" in \S+:\d+$", "", str(problem.get("error", "")))
        # The parser has no words for a text that ends within a directive.
        reason = reason or "a directive has no end: ; or a block"
        raise SourceError(f"{where}is no nginx configuration: {reason}")
    parsed = payload["config"][0]["parsed"] if payload.get("config") else []
    return _made(parsed, report, folder, outer, files)


def _made(
    parsed: list[dict[str, object]], report: Report, folder: Path, outer: str, files: list[int]
) -> list[Directive]:
    found: list[Directive] = []
    for entry in parsed:
        name, given, line = str(entry["directive"]), entry.get("args"), entry.get("line")
        args = [str(item) for item in given] if isinstance(given, list) else []
        number = line if isinstance(line, int) else None
        block = entry.get("block")
        label = name
        if isinstance(block, list) and name not in ("http", "events"):
            label = " ".join((name, *args))
        if name == "server" and isinstance(block, list):
            label = f"server {_server_name(block)}".rstrip()
        elif name == "server" and args:
            label = f"server {args[0]}"
        path = f"{outer} / {label}" if outer else label
        if name == "include" and args:
            found += _included(Directive(name, args, None, path, number, report), folder, outer, files)
            continue
        inner = None
        if isinstance(block, list):
            inner = _made(block, report, folder, "" if name == "http" else path, files)
        found.append(Directive(name, args, inner, path, number, report))
    return found


def _server_name(block: list[dict[str, object]]) -> str:
    for entry in block:
        args = entry.get("args")
        if entry.get("directive") == "server_name" and isinstance(args, list) and args:
            return str(args[0])
    return ""


def _included(include: Directive, folder: Path, outer: str, files: list[int]) -> list[Directive]:
    include.used = True
    name = include.args[0]
    # Types of files and parameters of other protocols are nginx's own.
    if Path(name).name in (
        "mime.types",
        "fastcgi_params",
        "fastcgi.conf",
        "uwsgi_params",
        "scgi_params",
        "proxy_params",
    ):
        return []
    pattern = name if name.startswith("/") else str(folder / name)
    found: list[Directive] = []
    places = sorted(glob.glob(pattern)) if len(pattern) < 1024 else []  # noqa: PTH207 - it may be absolute
    if not places:
        include.left_out("the file is not here; import a configuration as one file, or in its folder")
    for place in places[:_MOST_FILES]:
        file = Path(place).resolve()
        if not file.is_relative_to(folder) or not file.is_file() or file.stat().st_size > LARGEST:
            include.left_out("is outside of the folder of the configuration, or no file of a usual size")
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError):
            include.left_out("cannot be read")
            continue
        found += _read(file, text, include.report, folder, outer, files)
    return found


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "M": 2_592_000, "y": 31_536_000}


def seconds(text: str) -> int | None:
    """A time of nginx, such as ``1d 12h`` or ``30s``, in whole seconds."""
    parts = re.findall(r"(\d{1,9})(ms|[smhdwMy]?)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        return None
    total = sum(0 if unit == "ms" else int(number) * _UNITS[unit] for number, unit in parts)
    return min(total, 2**31) or (1 if any(unit == "ms" and int(number) for number, unit in parts) else 0)


def size(text: str) -> int | None:
    """A size of nginx, such as ``10m``, in bytes."""
    found = re.fullmatch(r"(\d{1,9})([kKmMgG]?)", text)
    return int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[found[2].lower()] if found else None
