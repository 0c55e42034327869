"""The program: a site as the text of an ``app.py`` that a person would have written.

``ruff`` formats it where it is installed; the text is already in that form, so the result is the same without.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgerouter.cache import CachePolicy
from edgerouter.checks import listed
from edgerouter.importing.model import Declared, Site, SiteRoute, variable
from edgerouter.importing.printing import Call, Name, Program, comment, rendered
from edgerouter.importing.report import Note
from edgerouter.listening import Listener
from edgerouter.origins import Group, Origin

__all__ = ["program"]

_SECONDS = 20


def program(site: Site, source: str) -> str:
    """The text of the program. ``source``: the name of the file that the site was read from."""
    return formatted(_Writer(site, source).text())


def formatted(text: str) -> str:
    """The text as ``ruff format`` leaves it, or as it is where there is no ruff."""
    beside = Path(sys.executable).with_name("ruff")
    ruff = str(beside) if beside.is_file() else shutil.which("ruff")
    if ruff is None:
        return text
    command = [ruff, "format", "--isolated", "--line-length", "120", "--stdin-filename", "app.py", "-"]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return text
    return done.stdout if done.returncode == 0 and done.stdout else text


class _Writer:
    def __init__(self, site: Site, source: str) -> None:
        self._site = site
        self._source = source
        self._program = Program()
        self._program.imports.add("Edge")
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        self._said: set[Note] = set()

    def text(self) -> str:
        for name in self._site.policies:
            self._taken.add(name)
        sections = [list(section) for section in (self._head(), self._origins(), self._policies(), self._routes())]
        ordered = sorted(self._program.imports, key=lambda name: (not name[0].isupper(), name))
        imports = f"from edgerouter import {', '.join(ordered)}"
        if len(imports) > 120:
            imports = "from edgerouter import (\n" + "".join(f"    {name},\n" for name in ordered) + ")"
        blocks = ["\n".join(section) for section in sections if section]
        return "\n".join([self._docstring(), "", imports, "", "\n\n".join(blocks), ""])

    def _docstring(self) -> str:
        lines = [f"{self._site.name}: made from {self._source} by edgerouter import.", ""]
        lines += [wrapped for line in self._site.about for wrapped in _plain_lines(line)]
        left = dict.fromkeys(_last(note.path) for note in self._site.report.notes if note.kind == "left-out")
        if left:
            shown = ", ".join([*left][:12]) + (f" and {len(left) - 12} more" if len(left) > 12 else "")
            lines += _plain_lines(f"Left out: {shown}. The report of the import has the reasons.")
        while lines and not lines[-1]:
            lines.pop()
        if len(lines) == 1:
            return f'"""{_plain(lines[0])}"""'
        return "\n".join(['"""' + _plain(lines[0]), *(_plain(line) for line in lines[1:]), '"""'])

    # -- sections --------------------------------------------------------------------------------------------------

    def _head(self) -> Iterator[str]:
        for text in self._site.comments:
            yield from comment(text)
        yield self._assigned("edge", self._program.call("Edge", self._site.name, **self._site.settings))
        for declared in self._site.listeners:
            if isinstance(declared.value, Listener):
                yield from self._listener(declared, declared.value)
        if self._site.place_file is not None:
            yield self._statement(self._program.call("edge.geo", [self._site.place_file]))
        for name, kind in self._site.bindings.items():
            yield self._statement(self._program.call(f"edge.{kind}", name, f"sqlite:{name}.db"))

    def _listener(self, declared: Declared, listener: Listener) -> Iterator[str]:
        for text in declared.comments:
            yield from comment(text)
        arguments: dict[str, Any] = {}
        policies = listed(listener.tls) or []
        if policies:
            arguments["tls"] = policies[0] if len(policies) == 1 else policies
        if listener.proxy_protocol:
            arguments["proxy_protocol"] = listener.proxy_protocol
        yield self._statement(self._program.call("edge.listen", listener.address, **arguments))

    def _origins(self) -> Iterator[str]:
        for name, declared in self._site.origins.items():
            if isinstance(declared.value, Origin):
                yield from self._comments(declared)
                yield self._assigned(self._variable(name, "origin"), self._origin(declared.value))
        for name, declared in self._site.groups.items():
            if isinstance(declared.value, Group):
                yield from self._comments(declared)
                yield self._assigned(self._variable(name, "group"), self._group(declared.value))

    def _origin(self, origin: Origin) -> Call:
        made = self._program.expression(origin)
        self._program.imports.discard("Origin")
        assert isinstance(made, Call)
        return Call("edge.origin", made.arguments)

    def _group(self, group: Group) -> Call:
        members = [self._variable(str(member), "origin") for member in group.members]
        named: dict[str, Any] = {}
        if tuple(group.failover_on) != (500, 502, 503, 504):
            named["failover_on"] = set(group.failover_on) or ()
        if group.deadline is not None:
            named["deadline"] = group.deadline
        if group.balance != "order":
            named["balance"] = group.balance
        if group.by is not None:
            named["by"] = group.by
        if group.weights:
            named["weights"] = dict(group.weights)
        return self._program.call("edge.group", group.name, Name(f"[{', '.join(members)}]"), **named)

    def _policies(self) -> Iterator[str]:
        for name, declared in self._site.policies.items():
            if isinstance(declared.value, CachePolicy):
                for text in declared.comments:
                    yield from comment(text)
                yield self._assigned(name, self._program.call_of(declared.value))
                self._program.policies.append((declared.value, name))

    def _routes(self) -> Iterator[str]:
        for at, route in enumerate(self._site.routes):
            comments = list(self._comments(route))
            if at and comments:
                yield ""
            yield from comments
            yield self._statement(self._route(route))

    def _route(self, route: SiteRoute) -> Call:
        arguments: dict[str, Any] = {}
        for name, value in route.arguments.items():
            if name == "to":
                arguments[name] = Name(self._variable(str(value), "origin"))
            elif name in ("when", "rate_limit") and isinstance(value, tuple) and len(value) == 1:
                arguments[name] = value[0]
            else:
                arguments[name] = value
        if route.folder is not None:
            return self._program.call("edge.files", route.pattern, route.folder, **arguments)
        return self._program.call("edge.route", route.pattern, **arguments)

    def _comments(self, declared: Declared | SiteRoute) -> Iterator[str]:
        """The comments of a value, and the choices that were made for it."""
        for text in declared.comments:
            yield from comment(text)
        for note in self._site.report.notes:
            below = note.path[len(declared.path) :] if declared.path and note.path.startswith(declared.path) else "-"
            if note.kind == "choice" and (not below or below[0] in ".[" or below.startswith(" / ")):
                if note in self._said:
                    continue
                self._said.add(note)
                said = _last(note.path).partition("[")[0]
                yield from comment(f"{said}: {note.message}." if said else f"{note.message}.")

    # -- lines -----------------------------------------------------------------------------------------------------

    def _variable(self, name: str, otherwise: str) -> str:
        if name not in self._names:
            base, number = variable(name, otherwise), 2
            made = base
            while made in self._taken:
                made = f"{base}_{number}"
                number += 1
            self._taken.add(made)
            self._names[name] = made
        return self._names[name]

    def _assigned(self, name: str, call: Call) -> str:
        return f"{name} = {rendered(call, taken=len(name) + 3)}"

    def _statement(self, call: Call) -> str:
        return rendered(call)


def _last(path: str) -> str:
    """The name at the end of a place."""
    return path.rpartition(" / ")[2] if " / " in path else path.rpartition(".")[2]


def _plain(text: str) -> str:
    """A line of a docstring: nothing in it ends the docstring or is an escape."""
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return printable.replace("\\", "/").replace('"', "'")


def _plain_lines(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(_plain(text), 120, break_on_hyphens=False) or [""]
