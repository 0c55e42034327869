"""Plugins: hooks and settings that travel together.

A plugin is a class with any of the four hook methods; ``edge.use(MyPlugin())`` registers the ones it overrides.
A distribution offers its plugin under the entry point group ``edgerouter.plugins``, and ``edge.use("name")`` finds it.
Nothing is loaded before it is used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, get_args

from edgerouter.errors import ConfigError, Problem
from edgerouter.routes import Phase

if TYPE_CHECKING:
    from edgerouter.edge import Edge
    from edgerouter.functions import Context, Request, Response

__all__ = ["ENTRY_POINTS", "Plugin", "available", "load"]

ENTRY_POINTS = "edgerouter.plugins"


class Plugin:
    """Bundles hooks and settings.

    Override any of the four hook methods (sync or async), and ``setup`` for more: further routes, origins, functions.
    Settings are what ``__init__`` of the subclass takes. The class attributes say where and how its hooks run.
    """

    pattern: str = "/*"
    """The paths on which the hooks run."""
    host: str | None = None
    """The host on which the hooks run; ``None``: any."""
    fail: Literal["open", "closed"] = "closed"
    """The fate of a request when a hook of this plugin fails: it fails, or continues without the hook."""
    inline: bool = False
    """The hooks promise never to block or wait and are called on the worker itself."""
    serial: bool = False
    """Plain hooks that must not run beside themselves or another serial callable: all run on one thread."""
    timeout: float | None = None
    """Seconds a hook may take; ``limits.functions.timeout`` when ``None``."""

    phases: ClassVar[tuple[Phase, ...]] = get_args(Phase)
    """The phases in which a method of a plugin is a hook: all."""

    def setup(self, edge: Edge) -> None:
        """Registers the overridden hook methods. Call ``super().setup(edge)`` when you override this."""
        for phase in self.phases:
            if getattr(type(self), phase) is not getattr(Plugin, phase):
                register = edge.on(
                    phase,
                    self.pattern,
                    host=self.host,
                    inline=self.inline,
                    serial=self.serial,
                    timeout=self.timeout,
                    fail=self.fail,
                )
                register(getattr(self, phase))

    def viewer_request(self, request: Request, ctx: Context) -> RequestVerdict:
        """Before the cache is looked up: change the request, or answer."""
        return None

    def origin_request(self, request: Request, ctx: Context) -> RequestVerdict:
        """Before the request to the origin: change the request, or answer."""
        return None

    def origin_response(self, request: Request, response: Response, ctx: Context) -> ResponseVerdict:
        """After the origin answered and before the response is stored."""
        return None

    def viewer_response(self, request: Request, response: Response, ctx: Context) -> ResponseVerdict:
        """Before the response goes to the viewer, stored or not."""
        return None


RequestVerdict: TypeAlias = "Request | Response | Awaitable[Request | Response | None] | None"
"""Nothing: go on; the request: go on with it; a response: answer now."""
ResponseVerdict: TypeAlias = "Response | Awaitable[Response | None] | None"
"""Nothing: go on; a response: this one instead."""


def available() -> list[str]:
    """The names of the installed plugins."""
    # Imported here and below because it costs every start more than all of this package's policy modules.
    from importlib.metadata import entry_points

    return sorted(point.name for point in entry_points(group=ENTRY_POINTS))


def load(name: str, settings: Mapping[str, object]) -> Plugin:
    """The installed plugin of that name, made with these settings."""
    from importlib.metadata import entry_points

    points = list(entry_points(group=ENTRY_POINTS, name=name))
    if not points:
        known = ", ".join(available()) or "none is installed"
        raise ConfigError([Problem("plugins", name, f"no such plugin; known: {known}")])
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        message = "must be a mapping of names to values"
        raise ConfigError([Problem("Edge.use.settings", repr(settings)[:80], message)])
    kind = points[0].load()
    if not (isinstance(kind, type) and issubclass(kind, Plugin)):
        raise ConfigError([Problem("plugins", name, f"{points[0].value} is not a subclass of edgerouter.Plugin")])
    return kind(**settings)
