"""The ``Edge``: collects typed values, asks the core to judge them, and serves the result.

A thin façade. It holds no global state and does no I/O until it is compiled or served; the values it collects are
in the rooms beside this one, the decisions in the core.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sized
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import msgspec

from edgerouter import error_pages, plugins, secrets
from edgerouter.access_log import AccessLog
from edgerouter.cache import STANDARD, CachePolicy, Duration
from edgerouter.checks import helpful
from edgerouter.error_pages import ErrorPage
from edgerouter.errors import ConfigError, EdgeError, Problem
from edgerouter.experiments import Experiment
from edgerouter.functions.signatures import FunctionDecorator, RequestHookDecorator, ResponseHookDecorator
from edgerouter.identity import Jwt
from edgerouter.limits import Limits
from edgerouter.origins import Group, Health, Origin
from edgerouter.plan import CallableSpec, Called, Plan
from edgerouter.plugins import Plugin
from edgerouter.prefetch import Predict, Prefetch
from edgerouter.purging import Purging
from edgerouter.routes import (
    UNEDITED,
    ForwardPolicy,
    HeaderPolicy,
    HeaderValues,
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
from edgerouter.secrets import Secret
from edgerouter.service_worker import ServiceWorker
from edgerouter.storage import DiskCache, Sizes

if TYPE_CHECKING:
    from edgerouter import _core
    from edgerouter.serving import Server

__all__ = ["Edge"]

F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE = str(Path(__file__).resolve().parent) + os.sep


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
        self._head: dict[str, Any] = _data(head)
        self._base: dict[str, Any] = {}
        self._origins: dict[str, Origin] = {}
        self._groups: dict[str, Group] = {}
        self._routes: list[Route] = []
        self._hooks: list[Hook] = []
        self._service_workers: list[ServiceWorker] = []
        self._prefetch: list[Prefetch] = []
        self._called: list[Called] = []
        self._callables: list[Callable[..., Any]] = []
        self._server: Server | None = None
        # The user's own lines, by the path of what they declared.
        self._lines: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The edge's name."""
        return str(self._head.get("name", ""))

    def __repr__(self) -> str:
        routes, origins = self._count("routes", self._routes), self._count("origins", self._origins)
        return f"<Edge {self.name!r}: {routes} routes, {origins} origins>"

    # -- origins ---------------------------------------------------------------------------------------------------

    @helpful
    def origin(
        self,
        name: str,
        url: str,
        *,
        host: str = "origin",
        connect_timeout: Duration = 2.0,
        first_byte_timeout: Duration = 30.0,
        expect_timeout: Duration = 1.0,
        between_bytes_timeout: Duration = 30.0,
        total_timeout: Duration | None = None,
        max_connections: int = 256,
        idle_connections: int = 64,
        idle_timeout: Duration = 60.0,
        retries: int = 1,
        headers: Mapping[str, str | Secret | Collection[str | Secret]] | None = None,
        health: Health | None = None,
        tls_server_name: str | None = None,
        tls_ca: Secret | None = None,
        tls_verify: bool = True,
        rewrite_urls: bool = True,
    ) -> Origin:
        """Declares a server that answers for the edge; see ``Origin`` for the fields."""
        origin = Origin(
            name,
            url,
            host=host,
            connect_timeout=connect_timeout,
            first_byte_timeout=first_byte_timeout,
            expect_timeout=expect_timeout,
            between_bytes_timeout=between_bytes_timeout,
            total_timeout=total_timeout,
            max_connections=max_connections,
            idle_connections=idle_connections,
            idle_timeout=idle_timeout,
            retries=retries,
            headers=headers or {},
            health=health,
            tls_server_name=tls_server_name,
            tls_ca=tls_ca,
            tls_verify=tls_verify,
            rewrite_urls=rewrite_urls,
        )
        self._free(name)
        self._note("origins", self._origins)
        self._origins[name] = origin
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
        """Declares origins in order of preference, the next one asked when one fails; see ``Group``."""
        group = Group(name, members, failover_on, deadline)
        self._free(name)
        for member in members:
            self._known(member)
        self._note("groups", self._groups)
        self._groups[name] = group
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
        ``to``, ``redirect``, ``respond``  who answers: an origin or group, a redirect, or fixed words; exactly one
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
        ``predict``  fetch the pages that visitors will most likely ask for next
        """
        return self._add(
            lambda: Route(
                pattern,
                to=self._known(to) if isinstance(to, (Origin, Group)) else to,
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
                errors=error_pages.located(errors or {}, _folder_of_caller()),
                compress=compress,
                predict=predict,
            )
        )

    # -- latency ---------------------------------------------------------------------------------------------------

    @helpful
    def prefetch(
        self,
        urls: Collection[str],
        *,
        every: Duration | None = None,
        on_start: bool = True,
        host: str | None = None,
        scheme: Literal["http", "https"] = "https",
        headers: HeaderValues | None = None,
    ) -> Prefetch:
        """Fetches URLs before anybody asks, through the routes, keys and hooks of a visitor's request.

        ``urls``  paths, or whole URLs as visitors ask for them
        ``every``  seconds between the rounds, a tenth more or less; what is stored and stays fresh until the next
            round is left alone
        ``on_start``  at the start, and after each reload
        ``host``  the host of paths; when ``None``, the one host that the routes name
        ``scheme``  of paths, as the origin is told in ``X-Forwarded-Proto``
        ``headers``  request fields besides ``Accept``, ``Accept-Encoding``, ``User-Agent`` and ``Sec-Purpose``
        """
        listed = Prefetch(urls, every=every, on_start=on_start, host=host, scheme=scheme, headers=headers or {})
        self._note("prefetch", self._prefetch)
        self._prefetch.append(listed)
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
        self._note("service_workers", self._service_workers)
        self._service_workers.append(worker)
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

        _decorates("function", pattern, '@edge.function("/hello/{name}")')

        def register(function: F) -> F:
            _takes(function, "request", "ctx")
            called = _called(function, inline, serial, blocking, timeout, "closed")
            self._add(
                lambda: Route(
                    pattern,
                    function=len(self._called),
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
            self._called.append(called)
            self._callables.append(function)
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
        """Declares a hook: it is asked in ``phase`` for every request that matches ``pattern``.

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

        _decorates("on", phase, '@edge.on("viewer_request", "/*")')

        def register(function: F) -> F:
            _takes(function, "request", *(["response"] if str(phase).endswith("response") else []), "ctx")
            called = _called(function, inline, serial, blocking, timeout, fail)
            self._note("hooks", self._hooks)
            call = len(self._called)
            self._hooks.append(Hook(phase=phase, pattern=pattern, host=host, call=call, varies=varies))
            self._called.append(called)
            self._callables.append(function)
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
        data = {**_plain(self._base), **self._head}
        for field, own in (
            ("origins", self._origins.values()),
            ("groups", self._groups.values()),
            ("callables", self._called),
            ("hooks", self._hooks),
            ("routes", self._routes),
            ("service_workers", self._service_workers),
            ("prefetch", self._prefetch),
        ):
            if own:
                data[field] = [*data.get(field, ()), *(_data(item) for item in own)]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Edge:
        """An edge from a plan's data. It is judged as a whole by ``compile``, which names every mistake in it."""
        if not isinstance(data, Mapping):
            raise ConfigError("a plan must be a table (mapping) at its top")
        for field in ("callables", "hooks"):
            if data.get(field):
                raise ConfigError([Problem(field, None, "functions and hooks need a Python file; remove them here")])
        edge = cls.__new__(cls)
        Edge.__init__(edge, "plan")
        edge._head = {"version": 1}
        edge._base = _plain(data)
        edge._head.update({key: edge._base[key] for key in ("version", "name") if key in edge._base})
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
            raise _at(file, text, error) from None
        edge._lines = _lines_of(file, text)
        secrets.rebase(edge._base, file.resolve().parent)
        error_pages.rebase(edge._base, file.resolve().parent)
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
        return [
            CallableSpec(function, _is_async(function), said.inline, said.serial, _seconds(said.timeout), said.name)
            for said, function in zip(self._called, self._callables, strict=True)
        ]

    def compile(self) -> _core.PlanTable:
        """Judges the whole and gives the compiled table.

        Raises ``ConfigError`` with every problem.
        """
        from edgerouter import _core

        try:
            return _core.compile(self.encode())
        except ConfigError as error:
            raise self._placed(error) from None

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
        """What would be decided about a request, phase by phase, without sending it anywhere.

        With ``response`` (status and headers that an origin might give): what would become of it in the cache.
        """
        from edgerouter import _core

        answer = None if response is None else (response[0], list(response[1]))
        try:
            return _core.explain(self.encode(), method, url, list(headers), client, now, answer)
        except ConfigError as error:
            raise self._placed(error) from None

    # -- service ---------------------------------------------------------------------------------------------------

    def serve(
        self,
        *,
        listen: str | Collection[str] = "127.0.0.1:8080",
        admin: str | None = None,
        admin_token: Secret | str | None = None,
        admin_keys: Mapping[str, Secret | str] | None = None,
        workers: int | None = None,
    ) -> None:
        """Serves until SIGTERM or SIGINT (in the main thread), or until another thread calls ``stop``.

        Prints where it serves. Refused while ``edgerouter`` loads the file that calls it.
        """
        from edgerouter import serving

        _not_while_loading("serve")

        settings = serving.Settings(
            listen=listen, admin=admin, admin_token=admin_token, admin_keys=admin_keys or {}, workers=workers
        )
        serving.serve(self, settings, say=serving.to_stdout)

    def start(
        self,
        *,
        listen: str | Collection[str] = "127.0.0.1:8080",
        admin: str | None = None,
        admin_token: Secret | str | None = None,
        admin_keys: Mapping[str, Secret | str] | None = None,
        workers: int | None = None,
    ) -> Server:
        """Serves in the background; the ``Server`` stops it. Returns when connections are accepted."""
        from edgerouter import serving

        _not_while_loading("start")

        settings = serving.Settings(
            listen=listen, admin=admin, admin_token=admin_token, admin_keys=admin_keys or {}, workers=workers
        )
        return serving.Server.start(self, settings)

    def reload(self) -> int:
        """Compiles what the edge holds now and swaps it in; returns the new version.

        Raises ``ConfigError`` when the plan is refused; the old one keeps serving.
        """
        return self._running().reload(self)

    def stop(self, drain: Duration | None = None) -> bool:
        """Stops serving; requests under way may finish within ``drain`` seconds. ``True`` when all did."""
        return self._running().stop(drain)

    def _order(self, order: str) -> str:
        return self._running()._order(order)

    def _ordered(self, id: str | None = None) -> str:  # noqa: A002
        return self._running()._ordered(id)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _sized(self, sizes: Sizes) -> Edge:
        """This edge, with its store as the command line says."""
        self._head.update(sizes.over(self.to_dict()))
        return self

    def _running(self) -> Server:
        if self._server is None:
            raise EdgeError("the edge is not being served; call serve() or start() first")
        return self._server

    def _add(self, make: Callable[[], Route]) -> Route:
        index = self._count("routes", self._routes)
        try:
            route = make()
        except ConfigError as error:
            raise ConfigError(_within(problem, f"routes[{index}]") for problem in error.problems) from None
        self._note("routes", self._routes)
        self._routes.append(route)
        return route

    def _note(self, field: str, own: Sized) -> None:
        """Remembers the user's line that declares the next value of a kind."""
        frame = _caller()
        self._lines[f"{field}[{self._count(field, own)}]"] = f"{_near(frame.f_code.co_filename)}:{frame.f_lineno}"

    def _placed(self, error: ConfigError) -> ConfigError:
        """The same problems, each with the line of what it is about."""
        return ConfigError(
            problem._replace(place=problem.place or _nearest(self._lines, problem.path)) for problem in error.problems
        )

    def _pages(self) -> set[Path]:
        """The files of error pages."""
        return error_pages.files(self.to_dict())

    def _place(self, path: str) -> str | None:
        """The user's line of what a path of the plan names, where it is known."""
        return _nearest(self._lines, path)

    def _free(self, name: str) -> None:
        if name in self._origins or name in self._groups:
            kind = "origins" if name in self._origins else "groups"
            raise ConfigError([Problem(kind, name, "this name is already taken by another origin or group")])

    def _known(self, target: Origin | Group | str) -> str:
        """The name of a target; a value that was made apart is declared by its first use."""
        if isinstance(target, str):
            return target
        declared: Origin | Group | None = self._origins.get(target.name) or self._groups.get(target.name)
        if declared is None:
            if isinstance(target, Origin):
                self._origins[target.name] = target
            else:
                self._groups[target.name] = target
        elif declared != target:
            raise ConfigError([Problem("to", target.name, "another origin or group of this edge has this name")])
        return target.name

    def _count(self, field: str, own: Sized) -> int:
        """How many of a kind there are, those of a plan file first."""
        base = self._base.get(field)
        return (len(base) if isinstance(base, list) else 0) + len(own)


def _caller() -> FrameType:
    """The user's own frame, out of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame


def _folder_of_caller() -> Path:
    """The folder of the user's file; the current one where there is no file, as at a prompt."""
    file = Path(_caller().f_code.co_filename)
    return file.resolve().parent if file.is_file() else Path.cwd()


def _not_while_loading(method: str) -> None:
    """``edgerouter run`` loads the file again for each reload: what it serves must not depend on that."""
    from edgerouter import serving

    if serving.loading():
        message = (
            "is called while edgerouter loads this file, and edgerouter serves the edge itself; "
            'put the call under if __name__ == "__main__":'
        )
        raise ConfigError([Problem(f"Edge.{method}", None, message)])


def _lines_of(file: Path, text: str) -> dict[str, str]:
    from edgerouter import places

    found = places.of_toml(text) if file.suffix.lower() == ".toml" else places.of_json(text)
    return {path: f"{_near(str(file))}:{line}" for path, line in found.items()}


def _at(file: Path, text: str, error: ConfigError) -> ConfigError:
    lines = _lines_of(file, text)
    return ConfigError(problem._replace(place=_nearest(lines, problem.path)) for problem in error.problems)


def _nearest(lines: Mapping[str, str], path: str) -> str | None:
    """The line of what a path names, or of the nearest thing around it that has one."""
    while path:
        if path in lines:
            return lines[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return None


def _near(file: str) -> str:
    """A file's name as one would type it from here."""
    here = str(Path.cwd()) + os.sep
    return file.removeprefix(here)


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
    """``Route.viewer`` becomes ``routes[2].viewer``; what another value says about itself stays as it is."""
    kind, _, field = problem.path.partition(".")
    return problem._replace(path=f"{prefix}.{field}") if kind == "Route" else problem


def _called(
    function: Callable[..., Any],
    inline: bool,
    serial: bool,
    blocking: bool,
    timeout: Duration | None,
    fail: Literal["open", "closed"],
) -> Called:
    if not callable(function):
        raise ConfigError([Problem("callables", repr(function)[:80], "must be callable")])
    module = getattr(function, "__module__", None) or "?"
    name = f"{module}.{getattr(function, '__qualname__', None) or type(function).__qualname__}"
    _contradicts(function, name, serial=serial, blocking=blocking)
    return Called(name=name, inline=inline, serial=serial, blocking=blocking, timeout=timeout, fail=fail)


def _contradicts(function: Callable[..., Any], name: str, *, serial: bool, blocking: bool) -> None:
    """Refuses what the callable cannot be, whatever was said of it."""
    kinds = (function, type(function).__call__)
    if any(inspect.isgeneratorfunction(kind) or inspect.isasyncgenfunction(kind) for kind in kinds):
        message = "is a generator, and responses are not streamed from functions yet; return the whole body instead"
        raise ConfigError([Problem("callables", name, message)])
    if not _is_async(function):
        return
    for said, keyword in ((blocking, "blocking"), (serial, "serial")):
        if said is True:
            message = (
                f"is async, which {keyword}=True contradicts: it runs on the event loop; remove {keyword}=True, or "
            )
            message += "write a plain def"
            raise ConfigError([Problem("callables", name, message)])


def _decorates(name: str, pattern: object, example: str) -> None:
    """Refuses ``@edge.function`` where ``@edge.function("/path")`` is meant."""
    if callable(pattern):
        what = getattr(pattern, "__qualname__", repr(pattern)[:80])
        raise ConfigError([Problem(f"Edge.{name}", what, f"the decorator needs parentheses: write {example}")])


def _takes(function: Callable[..., Any], *arguments: str) -> None:
    """Refuses what could not be called with these arguments, as far as that can be known."""
    try:
        inspect.signature(function).bind(*arguments)
    except ValueError:
        return
    except TypeError as error:
        if callable(function):
            name = getattr(function, "__qualname__", repr(function)[:80])
            raise ConfigError([Problem("callables", name, f"must take ({', '.join(arguments)}): {error}")]) from None


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _seconds(value: Duration | None) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]  # a timedelta became a number when checked
