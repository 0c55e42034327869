"""The site that a reader finds in a source, in values of edgerouter itself, and whether edgerouter accepts it.

Origins, groups and policies are the public values, which check themselves; a route is a pattern with the arguments of
``Edge.route``. ``Site.accepted`` builds the edge from these values, as the written program will, and leaves out and
notes what the core refuses. So a written program always passes ``edgerouter check``.
"""

from __future__ import annotations

import keyword
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from edgerouter.cache import CachePolicy
from edgerouter.edge import Edge
from edgerouter.error_pages import ErrorPage
from edgerouter.errors import ConfigError
from edgerouter.guarding import BasicAuth
from edgerouter.importing.report import Report
from edgerouter.listening import Listener
from edgerouter.origins import Group, Origin
from edgerouter.routes import Redirect, Respond
from edgerouter.secrets import Secret
from edgerouter.testing.places import file_of

__all__ = ["Declared", "Site", "SiteRoute", "label", "redirect_to", "variable"]

_GUARDS = frozenset({"addresses", "auth", "basic", "signed"})

#: Stands for a file with passwords, which need not be here.
_USERS = "name:$2y$05$" + "." * 53

#: More routes than a person would write.
MOST_ROUTES = 10_000


@dataclass
class Declared:
    """An origin, a group, a policy or a listener, with comments for the program and its place in the source."""

    value: Origin | Group | CachePolicy | Listener
    comments: list[str] = field(default_factory=list)
    path: str = ""
    line: int | None = None


Kind: TypeAlias = Literal["route", "files"]


@dataclass
class SiteRoute:
    """A route: the arguments of ``Edge.route`` or ``Edge.files``, comments, and its place in the source.

    ``arguments``  by name; ``to`` is the name of an origin or group, ``cache`` a policy
    ``folder``  of ``Edge.files``
    """

    pattern: str
    arguments: dict[str, Any]
    comments: list[str] = field(default_factory=list)
    path: str = ""
    line: int | None = None
    folder: str | None = None


class Site:
    """Everything that a program declares.

    ``name``  of the edge
    ``about``  lines for the program's docstring
    ``policies``  cache policies by the name of their variable
    ``settings``  arguments of ``Edge``
    ``bindings``  kinds of data by their names for functions
    ``place_file``  the file that says in which country clients are; ``None``: nothing needs one
    """

    def __init__(self, name: str, report: Report) -> None:
        self.name = label(name, dots=False) or "site"
        self.report = report
        self.about: list[str] = []
        self.comments: list[str] = []
        self.settings: dict[str, Any] = {}
        self.listeners: list[Declared] = []
        self.bindings: dict[str, Literal["kv", "database"]] = {}
        self.origins: dict[str, Declared] = {}
        self.groups: dict[str, Declared] = {}
        self.policies: dict[str, Declared] = {}
        self.routes: list[SiteRoute] = []
        self.place_file: str | None = None
        self._folder = ""

    def free_name(self, wanted: str) -> str:
        """A name for an origin or group that no other has."""
        base = label(wanted) or "origin"
        name, number = base, 2
        while name in self.origins or name in self.groups:
            name = f"{base[:58]}-{number}"
            number += 1
        return name

    def policy(self, name: str, policy: CachePolicy, *comments: str, path: str = "", line: int | None = None) -> None:
        """Gives a policy a name in the program."""
        if not any(declared.value == policy for declared in self.policies.values()):
            base, number = variable(name, "policy"), 2
            name = base
            while name in self.policies:
                name = f"{base}_{number}"
                number += 1
            self.policies[name] = Declared(policy, list(comments), path, line)

    # -- acceptance ------------------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Removes and notes what edgerouter refuses: a person can then write it in another way."""
        if len(self.routes) > MOST_ROUTES:
            self.report.note("left-out", "routes", f"has {len(self.routes)} routes; {MOST_ROUTES} are read")
            del self.routes[MOST_ROUTES:]
        with tempfile.TemporaryDirectory() as folder:
            self._folder = folder
            self._accept()

    def _accept(self) -> None:
        for _ in range(6):
            edge, kept = self._built()
            refused: dict[int, str] = {}
            try:
                edge.compile()
            except ConfigError as error:
                for problem in error.problems:
                    found = re.match(r"routes\[(\d+)\]", problem.path)
                    if found is None or int(found[1]) >= len(kept):
                        self._drop_setting(problem.path, problem.message)
                    elif problem.path.endswith("].compress") and kept[int(found[1])].arguments.pop("compress", False):
                        self._refuse_compression(kept[int(found[1])], problem.message)
                    else:
                        refused.setdefault(int(found[1]), problem.message)
            else:
                self.routes = _kept_routes(kept)
                return
            gone = {at for at, message in refused.items() if not self._refuse(kept[at], message)}
            self.routes = _kept_routes(route for at, route in enumerate(kept) if at not in gone)
        self.routes = []

    def _built(self) -> tuple[Edge, list[SiteRoute]]:
        """The edge, and the route of the site for each of its routes."""
        edge = self._head()
        if self.place_file is not None:
            # The file need not be here: any file of places shows whether the rest is accepted.
            file = Path(self._folder) / "places.mmdb"
            file.write_bytes(file_of({"192.0.2.1": {"country": "DE"}}))
            edge.geo([file])
        origins: dict[str, Origin | Group] = {}
        for name, declared in self.origins.items():
            if isinstance(declared.value, Origin):
                origins[name] = edge.origin(**_fields(declared.value) | {"headers": _known(declared.value.headers)})
        for name, declared in self.groups.items():
            if isinstance(declared.value, Group):
                origins[name] = edge.group(**_fields(declared.value))
        kept: list[SiteRoute] = []
        for route in self.routes:
            before = edge.count("routes")
            try:
                self._declare(edge, route)
            except ConfigError as error:
                if not self._refuse(route, error.problems[0].message if error.problems else str(error)):
                    continue
                try:
                    self._declare(edge, route)
                except ConfigError:
                    continue
            kept += [route] * (edge.count("routes") - before)
        return edge, kept

    def _declare(self, edge: Edge, route: SiteRoute) -> None:
        arguments = dict(route.arguments)
        if any(isinstance(page, ErrorPage) for page in arguments.get("errors", {}).values()):
            arguments["errors"] = dict.fromkeys(arguments["errors"], ErrorPage(body="x"))
        if isinstance(arguments.get("basic"), BasicAuth):
            arguments["basic"] = BasicAuth(Secret.literal(_USERS))
        if route.folder is None:
            edge.route(route.pattern, **arguments)
            return
        # The folder of the source's machine need not be here: any folder shows whether the rest is accepted.
        edge.files(route.pattern, self._folder, **arguments)

    def _head(self) -> Edge:
        while True:
            try:
                return Edge(self.name, **self.settings)
            except ConfigError as error:
                name = error.problems[0].path.partition(".")[2].partition("[")[0].partition(".")[0]
                if name not in self.settings:
                    name = next(iter(self.settings), "")
                if not name:
                    raise
                del self.settings[name]
                self.report.note("left-out", f"Edge.{name}", f"edgerouter refuses it: {error.problems[0].message}")

    def _drop_setting(self, path: str, message: str) -> None:
        name = path.partition("[")[0].partition(".")[0]
        self.settings.pop(name, None)
        self.report.note("left-out", f"Edge.{path}", f"edgerouter refuses it: {message}")

    def _refuse_compression(self, route: SiteRoute, message: str) -> None:
        """Notes a route that is served, and not compressed as in the source."""
        path, reason = route.path or f"route {route.pattern}", message.partition(";")[0]
        self.report.note("left-out", path, f"{route.pattern} is not compressed: this {reason}", line=route.line)

    def _refuse(self, route: SiteRoute, message: str) -> bool:
        """Notes a route that edgerouter refuses. One with a guard stays, closed: no wider route may open it."""
        self.report.note(
            "left-out",
            route.path or f"route {route.pattern}",
            f"edgerouter refuses the route {route.pattern}: {message}",
            line=route.line,
        )
        if route.folder is not None or not _GUARDS & set(route.arguments):
            return False
        names = [name for name in ("host", "methods", "priority") if name in route.arguments]
        kept: dict[str, Any] = {name: route.arguments[name] for name in names}
        route.arguments = {"respond": Respond(status=403, body="not served yet\n"), **kept}
        route.comments.append("Closed: its guards could not be written. The report of the import has the reason.")
        return True


def redirect_to(location: str, status: int, *, query: bool = True) -> Redirect:
    """A redirect with the status that a source says; ``ConfigError`` if redirects have no such status."""
    return Redirect(location, status=status, query=query)  # type: ignore[arg-type]  # the value checks it


def _kept_routes(routes: Any) -> list[SiteRoute]:
    """Each route once: ``Edge.files`` declares two."""
    return list({id(route): route for route in routes}.values())


def _known(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an origin, with a text for each secret: its variable need not be set here."""
    return {name: "secret" if isinstance(value, Secret) else value for name, value in headers.items()}


def _fields(value: Origin | Group) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def label(text: str, *, dots: bool = True) -> str:
    """A name of an origin, or of an edge: letters, digits, ``-`` and ``_``, at most 60."""
    allowed = r"[^A-Za-z0-9_.-]+" if dots else r"[^A-Za-z0-9_-]+"
    return re.sub(allowed, "-", text).strip("-.")[:60].strip("-.")


#: Names of ``edgerouter`` that a program may import, besides the keywords of Python.
_RESERVED = frozenset((*keyword.kwlist, *keyword.softkwlist, "all_except", "cache", "edge", "env", "secret_file"))


def variable(text: str, otherwise: str) -> str:
    """A name of Python for a name of the source: ``MyOrigin`` → ``my_origin``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    name = re.sub(r"[^A-Za-z0-9]+", "_", spaced).strip("_").lower()[:40].rstrip("_")
    if not name or not name.isascii() or name[0].isdigit():
        name = f"{otherwise}_{name}".rstrip("_")
    return f"{name}_" if name in _RESERVED else name
