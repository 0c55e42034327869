"""The ``Edge``: collects typed values, has the core validate them, and serves the result.

A thin façade. It holds no global state and does no I/O until it is compiled or served; the values it collects are
in the rooms beside this one, the decisions in the core.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

import msgspec

from edgerouter import callables, error_pages, places, plugins, secrets
from edgerouter.access_log import AccessLog
from edgerouter.cache import STANDARD, CachePolicy, Duration
from edgerouter.callables import CallableSpec
from edgerouter.checks import Value, helpful
from edgerouter.declarations import Declarations
from edgerouter.error_pages import ErrorPage
from edgerouter.errors import ConfigError, EdgeError, Problem
from edgerouter.experiments import Experiment
from edgerouter.functions.signatures import FunctionDecorator, RequestHookDecorator, ResponseHookDecorator
from edgerouter.identity import Jwt
from edgerouter.limits import Limits
from edgerouter.origins import Group, Origin
from edgerouter.places import Places
from edgerouter.plan import Plan
from edgerouter.plugins import Plugin
from edgerouter.prefetch import Predict, Prefetch
from edgerouter.purging import Purging
from edgerouter.routes import (
    UNEDITED,
    ForwardPolicy,
    HeaderPolicy,
    Hook,
    Phase,
    Preflight,
    Redirect,
    Respond,
    Rewrite,
    Route,
    ViewerPolicy,
    When,
)
from edgerouter.service_worker import ServiceWorker
from edgerouter.settings import Settings
from edgerouter.storage import DiskCache, Sizes

if TYPE_CHECKING:
    from edgerouter import _core
    from edgerouter.server import Server

__all__ = ["Edge"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V", bound=Value)


def _accepts(make: Callable[P, V]) -> Callable[[Callable[[Edge, V], R]], Callable[Concatenate[Edge, P], R]]:
    """Gives a method the parameters of a value in place of the value, so that these are declared once."""

    def decorate(method: Callable[[Edge, V], R]) -> Callable[Concatenate[Edge, P], R]:
        @functools.wraps(method)
        def accepting(self: Edge, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return method(self, make(*args, **kwargs))

        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        parameters = [first, *inspect.signature(make).parameters.values()]
        accepting.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return accepting

    return decorate


class Edge(Purging):
    """A site's whole policy: origins, routes, hooks and functions.

    ``name``  1 to 64 letters, digits, ``-`` or ``_``; also the distribution id
    ``limits``  bounds on sizes, times and counts
    ``disk_cache``  where responses outlive a restart; ``None``: they are kept in memory only
    ``trusted_proxies``  networks whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed
    ``trusted_proxy_fields``  fields with which these proxies say who a client is (``CF-Connecting-IP``,
        ``CloudFront-Viewer-*``, …), which are removed otherwise (``docs/request-fields.md``)
    ``via``  the pseudonym in ``Via`` and ``Cache-Status``
    ``access_log``  what lines of the access log show of a request
    """

    @helpful
    def __init__(
        self,
        name: str,
        *,
        limits: Limits | None = None,
        disk_cache: DiskCache | None = None,
        trusted_proxies: Collection[str] = (),
        trusted_proxy_fields: Collection[str] = (),
        via: str = "edgerouter",
        access_log: AccessLog | None = None,
    ) -> None:
        head = Plan(
            version=1,
            name=name,
            limits=limits or Limits(),
            disk_cache=disk_cache,
            trusted_proxies=trusted_proxies,
            trusted_proxy_fields=trusted_proxy_fields,
            via=via,
            access_log=access_log,
        )
        self._declared = Declarations(head)
        #: The server that serves this edge now.
        self.server: Server | None = None

    @property
    def name(self) -> str:
        """The edge's name."""
        return str(self._declared.head.get("name", ""))

    def __repr__(self) -> str:
        declared = self._declared
        return f"<Edge {self.name!r}: {declared.count('routes')} routes, {declared.count('origins')} origins>"

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes that were declared, in their order."""
        return tuple(self._declared.routes)

    # -- origins ---------------------------------------------------------------------------------------------------

    @_accepts(Origin)
    def origin(self, origin: Origin) -> Origin:
        """Declares a server that answers for the edge; the arguments are the fields of ``Origin``."""
        self._declared.check_free(origin.name)
        self._declared.note("origins")
        self._declared.origins[origin.name] = origin
        return origin

    @helpful
    def group(
        self,
        name: str,
        members: Collection[Origin | str],
        *,
        failover_on: Collection[int] = (500, 502, 503, 504),
        deadline: Duration | None = None,
    ) -> Group:
        """Declares origins in order of preference: the next one is tried when one fails; see ``Group``."""
        group = Group(name, members, failover_on, deadline)
        self._declared.check_free(name)
        for member in members:
            self._declared.known(member)
        self._declared.note("groups")
        self._declared.groups[name] = group
        return group

    # -- routes ----------------------------------------------------------------------------------------------------

    @helpful
    def route(
        self,
        pattern: str,
        *,
        to: Origin | Group | str | None = None,
        redirect: Redirect | Mapping[str, Any] | str | None = None,
        respond: Respond | Mapping[str, Any] | str | None = None,
        host: str | Collection[str] | None = None,
        methods: Collection[str] | None = None,
        when: When | Collection[When | Mapping[str, Any]] = (),
        priority: int = 0,
        viewer: ViewerPolicy = "allow-all",
        index: str | None = None,
        fallback: str | None = None,
        strip_prefix: str | None = None,
        add_prefix: str | None = None,
        rewrite: Rewrite | Mapping[str, Any] | tuple[str, str] | None = None,
        headers: HeaderPolicy | Mapping[str, Any] | None = None,
        forward: ForwardPolicy | Mapping[str, Any] | None = None,
        cache: CachePolicy = STANDARD,
        auth: Jwt | None = None,
        preflight: Preflight = "token",
        experiment: Experiment | Collection[Experiment] = (),
        errors: Mapping[int, str | ErrorPage | Mapping[str, Any]] | None = None,
        compress: bool = False,
        predict: Predict | None = None,
    ) -> Route:
        """Declares a route. Order of precedence: host-specific, exact, longer literal prefix, fewer wildcards, order.

        ``pattern``  ``/path`` or ``host/path``, with ``*``, ``?`` and ``{name}`` parameters
        ``to``, ``redirect``, ``respond``  the answer: of an origin or group, a redirect, or fixed words; exactly one
        ``host``, ``methods``, ``when``  further conditions; all must hold
        ``priority``  higher first, before every other rule of precedence
        ``viewer``  ``"allow-all"``, ``"https-only"`` or ``"redirect-to-https"``
        ``index``  appended to a path that ends in ``/``
        ``fallback``  for single-page sites: answers a navigation that the origin does not know, with 200
        ``strip_prefix``, ``add_prefix``, ``rewrite``  another path for the origin
        ``headers``  edits of the request to the origin and of the response to the viewer
        ``forward``  which query parameters, headers and cookies go to the origin
        ``cache``  how responses are stored and reused
        ``auth``  the token that a request must bring
        ``preflight``  ``"origin"``: OPTIONS with ``Origin`` and ``Access-Control-Request-Method`` goes to the origin
            without a token, cookies and identity; ``"token"``: it is refused without one
        ``experiment``  one or several experiments
        ``errors``  pages for error statuses: a path, whose own route answers (``{404: "/404.html"}``), or what the edge
            holds itself (``{502: ErrorPage(file="errors/502.html"), 504: ErrorPage(body="Back soon.")}``)
        ``compress``  reserved for compression at the edge
        ``predict``  fetches the pages that visitors will most likely request next
        """
        return self._declared.add_route(
            lambda: Route(
                pattern,
                to=self._declared.known(to) if isinstance(to, (Origin, Group)) else to,
                redirect={"location": redirect} if isinstance(redirect, str) else redirect,
                respond={"body": respond} if isinstance(respond, str) else respond,
                host=host,
                methods=methods,
                when=(when,) if isinstance(when, When) else when,
                priority=priority,
                viewer=viewer,
                index=index,
                fallback=fallback,
                strip_prefix=strip_prefix,
                add_prefix=add_prefix,
                rewrite=dict(zip(("pattern", "to"), rewrite, strict=True))
                if isinstance(rewrite, tuple) and len(rewrite) == 2
                else rewrite,
                headers=headers or UNEDITED,
                forward=forward,
                cache=cache,
                auth=auth,
                preflight=preflight,
                experiments=(experiment,) if isinstance(experiment, Experiment) else experiment,
                errors=error_pages.located(errors or {}, places.folder_of_caller()),
                compress=compress,
                predict=predict,
            )
        )

    # -- latency ---------------------------------------------------------------------------------------------------

    @_accepts(Prefetch)
    def prefetch(self, listed: Prefetch) -> Prefetch:
        """Fetches URLs before a visitor requests them, through the routes, keys and hooks of a visitor's request.

        ``urls``  paths, or whole URLs as visitors request them
        ``every``  seconds between the rounds, a tenth more or less; what is stored and stays fresh until the next
            round is left alone
        ``on_start``  at the start, and after each reload
        ``host``  the host of paths; when ``None``, the one host that the routes name
        ``scheme``  of paths, as sent to the origin in ``X-Forwarded-Proto``
        ``headers``  request fields besides ``Accept``, ``Accept-Encoding``, ``User-Agent`` and ``Sec-Purpose``
        """
        self._declared.note("prefetch")
        self._declared.prefetch.append(listed)
        return listed

    @helpful
    def service_worker(
        self,
        path: str = "/sw.js",
        *,
        precache: Collection[str] = (),
        offline: str | None = None,
        api: Collection[str] = ("/api/*",),
        scope: str = "/",
        host: str | None = None,
        authorized: bool = False,
        entries: int = 100,
    ) -> ServiceWorker:
        """Serves a service worker, made anew with each change of the routes; pages register it by its path.

        ``path``, ``host``  where pages find it; ``None``: on any host
        ``precache``  paths fetched when it is installed, without cookies; they answer without network
        ``offline``  the page for a navigation without network; precached, too
        ``api``  paths (with ``*`` and ``?``) answered from the browser's cache at once and refreshed behind
        ``scope``  the part of the site that it may control
        ``authorized``  requests with ``Authorization`` may be answered from the browser's cache, too
        ``entries``  responses that a browser keeps besides the precached ones
        """
        worker = ServiceWorker(
            path,
            host=host,
            scope=scope,
            precache=precache,
            offline=offline,
            api=api,
            authorized=authorized,
            entries=entries,
        )
        self._declared.note("service_workers")
        self._declared.service_workers.append(worker)
        return worker

    # -- callables -------------------------------------------------------------------------------------------------

    @helpful
    def function(
        self,
        pattern: str,
        *,
        host: str | Collection[str] | None = None,
        methods: Collection[str] | None = None,
        when: When | Collection[When | Mapping[str, Any]] = (),
        priority: int = 0,
        viewer: ViewerPolicy = "allow-all",
        headers: HeaderPolicy | Mapping[str, Any] | None = None,
        auth: Jwt | None = None,
        experiment: Experiment | Collection[Experiment] = (),
        inline: bool = False,
        serial: bool = False,
        blocking: bool = False,
        timeout: Duration | None = None,
    ) -> FunctionDecorator:
        """Declares an edge function: ``function(request, ctx)`` answers the route with a ``Response``.

        A function returns a ``Response``, text, bytes, or a dictionary or list that JSON can hold. An async one gets an
        ``AsyncContext``. A plain
        ``def`` runs on a thread, and may run several times at once; an ``async def`` on the event loop.

        ``host``, ``methods``, ``when``, ``priority``, ``viewer``, ``headers``, ``auth``, ``experiment``  see ``route``
        ``inline``  it promises never to block or wait, and is called on the worker itself
        ``serial``  a plain callable that must not run beside itself or another serial one: all run on one thread
        ``blocking``  does nothing any more, and the log says so
        ``timeout``  seconds it may take; ``limits.functions.timeout`` when ``None``
        """

        callables.check_decorator("function", pattern, '@edge.function("/hello/{name}")')

        def register(function: F) -> F:
            callables.check_arguments(function, "request", "ctx")
            called = callables.declared(function, inline, serial, blocking, timeout)
            self._declared.add_route(
                lambda: Route(
                    pattern,
                    function=len(self._declared.callables),
                    host=host,
                    methods=methods,
                    when=(when,) if isinstance(when, When) else when,
                    priority=priority,
                    viewer=viewer,
                    headers=headers or UNEDITED,
                    auth=auth,
                    experiments=(experiment,) if isinstance(experiment, Experiment) else experiment,
                )
            )
            self._declared.callables.append((called, function))
            return function

        return register

    @overload
    def on(
        self,
        phase: Literal["viewer_request", "origin_request"],
        pattern: str = ...,
        *,
        host: str | None = ...,
        inline: bool = ...,
        serial: bool = ...,
        blocking: bool = ...,
        timeout: Duration | None = ...,
        fail: Literal["open", "closed"] = ...,
        varies: Collection[str] | None = ...,
    ) -> RequestHookDecorator: ...
    @overload
    def on(
        self,
        phase: Literal["origin_response", "viewer_response"],
        pattern: str = ...,
        *,
        host: str | None = ...,
        inline: bool = ...,
        serial: bool = ...,
        blocking: bool = ...,
        timeout: Duration | None = ...,
        fail: Literal["open", "closed"] = ...,
        varies: Collection[str] | None = ...,
    ) -> ResponseHookDecorator: ...
    @overload
    def on(
        self,
        phase: Phase,
        pattern: str = ...,
        *,
        host: str | None = ...,
        inline: bool = ...,
        serial: bool = ...,
        blocking: bool = ...,
        timeout: Duration | None = ...,
        fail: Literal["open", "closed"] = ...,
        varies: Collection[str] | None = ...,
    ) -> Callable[[F], F]: ...
    @helpful
    def on(
        self,
        phase: Phase,
        pattern: str = "/*",
        *,
        host: str | None = None,
        inline: bool = False,
        serial: bool = False,
        blocking: bool = False,
        timeout: Duration | None = None,
        fail: Literal["open", "closed"] = "closed",
        varies: Collection[str] | None = None,
    ) -> RequestHookDecorator | ResponseHookDecorator | Callable[[F], F]:
        """Declares a hook: it is called in ``phase`` for every request that matches ``pattern``.

        ``viewer_request`` and ``origin_request`` hooks take ``(request, ctx)``; ``origin_response`` and
        ``viewer_response`` hooks take ``(request, response, ctx)``. A hook returns nothing to go on, the changed
        request or response, or in the request phases a ``Response`` to answer now. Async hooks get an ``AsyncContext``.

        A stored response is given only to requests that agree in everything that hooks had a part in: the fields that a
        ``viewer_request`` hook sets or removes are part of the key, and a field or cookie that an ``origin_request`` or
        ``origin_response`` hook reads selects, as ``Vary`` would.

        ``host``  the one host on which it runs; ``None``: any
        ``inline``, ``serial``, ``blocking``, ``timeout``  as for ``function``
        ``fail``  ``"closed"``: a hook that fails costs its request a 502 or 504; ``"open"``: go on without it, and
        store nothing of that request
        ``varies``  for the origin phases: the request fields (``"x-country"``) and cookies (``"cookie:variant"``) that
        the hook's effect depends on, in place of what it is seen to read; ``[]``: on nothing of the request
        """

        callables.check_decorator("on", phase, '@edge.on("viewer_request", "/*")')

        def register(function: F) -> F:
            callables.check_arguments(
                function, "request", *(["response"] if str(phase).endswith("response") else []), "ctx"
            )
            called = callables.declared(function, inline, serial, blocking, timeout, fail)
            self._declared.note("hooks")
            call = len(self._declared.callables)
            self._declared.hooks.append(Hook(phase=phase, pattern=pattern, host=host, call=call, varies=varies))
            self._declared.callables.append((called, function))
            return function

        return register

    def use(self, plugin: Plugin | str, settings: Mapping[str, object] | None = None) -> Plugin:
        """Adds a plugin, given as a value or by the name of an installed one with its settings."""
        if isinstance(plugin, str):
            plugin = plugins.load(plugin, settings or {})
        elif not isinstance(plugin, Plugin):
            raise ConfigError("Edge.use: must be given a Plugin such as MyPlugin(), or the name of an installed one")
        elif settings:
            raise ConfigError("Edge.use: settings go with a plugin's name; a Plugin value already has its own")
        plugin.setup(self)
        return plugin

    # -- the plan --------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The plan's data. Secrets by reference stay references; a literal one is in it."""
        return self._declared.data()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Edge:
        """An edge from a plan's data. ``compile`` validates it as a whole, and names every mistake in it."""
        if not isinstance(data, Mapping):
            raise ConfigError("a plan must be a table (mapping) at its top")
        for field in ("callables", "hooks"):
            if data.get(field):
                raise ConfigError([Problem(field, None, "functions and hooks need a Python file; remove them here")])
        edge = cls.__new__(cls)
        Edge.__init__(edge, "plan")
        edge._declared = Declarations(base=data)
        return edge

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Edge:
        """An edge from a plan file, TOML or JSON. Its relative secret files are relative to its directory."""
        import json
        import tomllib

        file = Path(path)
        try:
            text = file.read_bytes().decode()
            data = tomllib.loads(text) if file.suffix.lower() == ".toml" else json.loads(text)
        except OSError as error:
            raise ConfigError([Problem(str(file), None, f"cannot read the plan: {error.strerror or error}")]) from None
        except UnicodeDecodeError:
            raise ConfigError([Problem(str(file), None, "is not UTF-8 text")]) from None
        except ValueError as error:
            kind = "TOML" if file.suffix.lower() == ".toml" else "JSON"
            raise ConfigError([Problem(str(file), None, f"is not valid {kind}: {error}")]) from None
        try:
            edge = cls.from_dict(data)
        except ConfigError as error:
            lines = Places()
            lines.read(file, text)
            raise lines.placed(error) from None
        edge._declared.places.read(file, text)
        secrets.rebase(edge._declared.base, file.resolve().parent)
        error_pages.rebase(edge._declared.base, file.resolve().parent)
        return edge

    @staticmethod
    def schema() -> dict[str, Any]:
        """The JSON Schema of the plan's data."""
        from edgerouter import schema

        return schema.document()

    def encode(self) -> bytes:
        """The plan as one message, with its secrets read now. Keep it out of logs."""
        data = self.to_dict()
        secrets.resolve(data)
        error_pages.resolve(data)
        try:
            return msgspec.json.encode(data)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the plan cannot be written as JSON: {error}") from None

    def callables(self) -> list[CallableSpec]:
        """The functions and hooks, in the plan's order."""
        return self._declared.specs()

    def compile(self) -> _core.PlanTable:
        """Validates the whole and gives the compiled table.

        Raises ``ConfigError`` with every problem.
        """
        from edgerouter import _core

        try:
            return _core.compile(self.encode())
        except ConfigError as error:
            raise self.placed(error) from None

    def explain(
        self,
        method: str,
        url: str,
        headers: Collection[tuple[str, str]] = (),
        *,
        client: str = "127.0.0.1",
        now: int | None = None,
        response: tuple[int, Collection[tuple[str, str]]] | None = None,
    ) -> list[dict[str, Any]]:
        """The decisions about a request, phase by phase, without sending it anywhere.

        With ``response`` (status and headers that an origin might give): whether and how it would be stored.
        """
        from edgerouter import _core

        answer = None if response is None else (response[0], list(response[1]))
        try:
            return _core.explain(self.encode(), method, url, list(headers), client, now, answer)
        except ConfigError as error:
            raise self.placed(error) from None

    # -- service ---------------------------------------------------------------------------------------------------

    @_accepts(Settings)
    def serve(self, settings: Settings) -> None:
        """Serves until SIGTERM or SIGINT (in the main thread), or until another thread calls ``stop``.

        Prints where it serves. The arguments are the fields of ``Settings``. Refused while ``edgerouter`` loads the
        file that calls it.
        """
        from edgerouter import serving

        _not_while_loading("serve")
        serving.serve(self, settings, say=serving.to_stdout)

    @_accepts(Settings)
    def start(self, settings: Settings) -> Server:
        """Serves in the background; the ``Server`` stops it. Returns when connections are accepted.

        The arguments are the fields of ``Settings``.
        """
        from edgerouter.server import Server

        _not_while_loading("start")
        return Server.start(self, settings)

    def reload(self) -> int:
        """Compiles what the edge holds now and swaps it in; returns the new version.

        Raises ``ConfigError`` when the plan is refused; the old one keeps serving.
        """
        return self._running().reload(self)

    def stop(self, drain: Duration | None = None) -> bool:
        """Stops serving; requests under way may finish within ``drain`` seconds. ``True`` when all did."""
        return self._running().stop(drain)

    @property
    def engine(self) -> _core.Engine:
        """The engine that serves this edge."""
        return self._running().engine

    # -- for the rest of the package -------------------------------------------------------------------------------

    def apply_sizes(self, sizes: Sizes) -> Edge:
        """Changes the sizes of the store to those of the command line; gives this edge."""
        self._declared.head.update(sizes.over(self.to_dict()))
        return self

    def place(self, path: str) -> str | None:
        """The user's line of the value at a path of the plan, where it is known."""
        return self._declared.places.nearest(path)

    def placed(self, error: ConfigError) -> ConfigError:
        """The same problems, each with the user's line of the value that it is about."""
        return self._declared.places.placed(error)

    def _running(self) -> Server:
        if self.server is None:
            raise EdgeError("the edge is not being served; call serve() or start() first")
        return self.server


def _not_while_loading(method: str) -> None:
    """``edgerouter run`` loads the file again for each reload: what it serves must not depend on that."""
    from edgerouter import serving

    if serving.loading():
        message = (
            "is called while edgerouter loads this file, and edgerouter serves the edge itself; "
            'put the call under if __name__ == "__main__":'
        )
        raise ConfigError([Problem(f"Edge.{method}", None, message)])
