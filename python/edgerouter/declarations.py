"""The values that an edge has collected, with the user's line of each, and the plan's data made of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgerouter import error_pages, files, geo, secrets
from edgerouter.bindings import Binding
from edgerouter.callables import CallableSpec, Called, is_async
from edgerouter.checks import shown
from edgerouter.errors import ConfigError, Problem
from edgerouter.geo import GeoPolicy
from edgerouter.isolation import Isolation
from edgerouter.jobs import Handler, Job
from edgerouter.listening import Listener, Tls
from edgerouter.obtaining import named
from edgerouter.origins import Group, Origin
from edgerouter.places import Places
from edgerouter.prefetch import Prefetch
from edgerouter.routes import Hook, Route
from edgerouter.service_worker import ServiceWorker

if TYPE_CHECKING:
    from edgerouter.functions.processes import ProcessPool

__all__ = ["Declarations"]


class Declarations:
    """Everything that an edge declares.

    ``head``  the fields of the plan that are not lists
    ``base``  the data of a plan file, whose lists come before the edge's own
    """

    def __init__(self, head: msgspec.Struct | None = None, base: Mapping[str, Any] | None = None) -> None:
        self.base: dict[str, Any] = _plain(base or {})
        known = {key: self.base[key] for key in ("version", "name") if key in self.base}
        self.head: dict[str, Any] = {"version": 1, **known} if head is None else _data(head)
        self.listeners: list[Listener] = []
        self.certificate_callables: dict[str, Callable[..., object]] = {}
        self.origins: dict[str, Origin] = {}
        self.groups: dict[str, Group] = {}
        self.routes: list[Route] = []
        self.hooks: list[Hook] = []
        self.service_workers: list[ServiceWorker] = []
        self.prefetch: list[Prefetch] = []
        self.bindings: list[Binding] = []
        self.callables: list[tuple[Called, Callable[..., Any]]] = []
        self.starts: list[Handler] = []
        self.stops: list[Handler] = []
        self.jobs: list[Job] = []
        self.geo: GeoPolicy | None = None
        #: The worker processes of functions, by their policy.
        self.processes: dict[Isolation, ProcessPool] = {}
        self.places = Places()
        #: Decorators without a function yet, by their number.
        self.waiting: dict[int, Problem] = {}
        self._decorators = itertools.count()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Declarations:
        """The declarations of a plan's data, which has no callables."""
        if not isinstance(data, Mapping):
            raise ConfigError("a plan must be a table (mapping) at its top")
        for field in ("callables", "hooks"):
            if data.get(field):
                raise ConfigError([Problem(field, None, "functions and hooks need a Python file; remove them here")])
        return cls(base=data)

    @classmethod
    def from_file(cls, file: Path) -> Declarations:
        """The declarations of a plan file, TOML or JSON, with the line of each."""
        import json
        import tomllib

        try:
            text = file.read_bytes().decode("utf-8-sig")
            data = tomllib.loads(text) if file.suffix.lower() == ".toml" else json.loads(text)
        except OSError as error:
            raise ConfigError([Problem(str(file), None, f"cannot read the plan: {error.strerror or error}")]) from None
        except UnicodeDecodeError:
            raise ConfigError([Problem(str(file), None, "is not UTF-8 text")]) from None
        except (ValueError, RecursionError) as error:
            kind = "TOML" if file.suffix.lower() == ".toml" else "JSON"
            raise ConfigError([Problem(str(file), None, f"is not valid {kind}: {error}")]) from None
        places = Places()
        places.read(file, text)
        try:
            if not isinstance(data, Mapping):
                raise ConfigError([Problem(str(file), None, "must be a table (in JSON: an object) at its top")])
            declared = cls.from_dict(data)
        except ConfigError as error:
            raise places.placed(error) from None
        declared.places = places
        for rebase in (secrets.rebase, error_pages.rebase, files.rebase, geo.rebase):
            rebase(declared.base, file.resolve().parent)
        return declared

    def count(self, field: str) -> int:
        """The number of values of a kind, those of a plan file included."""
        base = self.base.get(field)
        return (len(base) if isinstance(base, list) else 0) + len(getattr(self, field))

    def decorator(self, name: str, argument: object) -> int:
        """The number of a decorator, which ``waiting`` holds until it is given its function."""
        message = "decorates nothing: put a def below it, or remove it"
        number = next(self._decorators)
        self.waiting[number] = Problem(f"Edge.{name}", shown(argument), message, self.places.here())
        return number

    def note(self, field: str) -> None:
        """Remembers the user's line that declares the next value of a kind."""
        self.places.note(f"{field}[{self.count(field)}]")

    def check_free(self, name: str) -> None:
        """Refuses a name that an origin or group has already."""
        if name in self.origins or name in self.groups:
            kind = "origins" if name in self.origins else "groups"
            raise ConfigError([Problem(kind, name, "this name is already taken by another origin or group")])

    def known(self, target: Origin | Group | str) -> str:
        """The name of a target; a value that was made apart is declared by its first use."""
        if isinstance(target, str):
            return target
        declared: Origin | Group | None = self.origins.get(target.name) or self.groups.get(target.name)
        if declared is None:
            if isinstance(target, Origin):
                self.origins[target.name] = target
            else:
                self.groups[target.name] = target
        elif declared != target:
            raise ConfigError([Problem("to", target.name, "another origin or group of this edge has this name")])
        return target.name

    def with_named_callables(self, policy: Tls) -> Tls:
        """A TLS policy as a plan has it: its callables are known by names."""
        if policy.acme is None:
            return policy
        return msgspec.structs.replace(policy, acme=named(policy.acme, self.certificate_callables))

    def add_route(self, make: Callable[[], Route]) -> Route:
        """Declares the route that ``make`` gives; its problems get the route's place in the plan."""
        try:
            route = make()
        except ConfigError as error:
            prefix = f"routes[{self.count('routes')}]"
            raise ConfigError(_within(problem, prefix) for problem in error.problems) from None
        self.note("routes")
        self.routes.append(route)
        return route

    def data(self) -> dict[str, Any]:
        """The plan's data."""
        data = {**_plain(self.base), **self.head}
        for field, own in (
            ("listeners", self.listeners),
            ("origins", self.origins.values()),
            ("groups", self.groups.values()),
            ("callables", [called for called, _ in self.callables]),
            ("hooks", self.hooks),
            ("routes", self.routes),
            ("service_workers", self.service_workers),
            ("prefetch", self.prefetch),
            ("bindings", self.bindings),
        ):
            if own:
                data[field] = [*data.get(field, ()), *(_data(item) for item in own)]
        if self.geo is not None:
            data["geo"] = _data(self.geo)
        return data

    def pages(self) -> set[Path]:
        """The files of error pages."""
        routes = self.base.get("routes")
        own = [_data(route) for route in self.routes if route.errors]
        return error_pages.files({"routes": [*(routes if isinstance(routes, list) else ()), *own]})

    def specs(self) -> list[CallableSpec]:
        """The functions and hooks, in the plan's order."""
        return [_spec(called, function) for called, function in self.callables]


def _spec(called: Called, function: Callable[..., Any]) -> CallableSpec:
    from edgerouter.functions.content_use import waits_for_content

    awaited = is_async(function)
    waits = waits_for_content(function, awaited, called.inline)
    return CallableSpec(function, awaited, called.inline, called.serial, called.seconds, called.name, waits)


def _data(value: msgspec.Struct) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(value, str_keys=True)
    return data


def _plain(value: Any) -> Any:
    """A deep copy in lists and dictionaries, so that nothing of the caller's is changed."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _within(problem: Problem, prefix: str) -> Problem:
    """``Route.viewer`` becomes ``routes[2].viewer``; the problems of other values keep their path."""
    kind, _, field = problem.path.partition(".")
    return problem._replace(path=f"{prefix}.{field}") if kind == "Route" else problem
