"""The ``Edge``: collects typed values, has the core validate them, and serves the result.

A thin façade. It holds no global state and does no I/O until it is compiled or served; the values it collects are
in the rooms beside this one, the decisions in the core.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from edgerouter import error_pages, obtaining, places, plugins
from edgerouter.access_log import AccessLog
from edgerouter.arguments import accepts, helpful
from edgerouter.bindings import Data
from edgerouter.cache import STANDARD, CachePolicy, Duration
from edgerouter.callables import Callables
from edgerouter.contents import Contents
from edgerouter.declarations import Declarations
from edgerouter.encoding import encoded
from edgerouter.error_pages import ErrorPage
from edgerouter.errors import ConfigError, EdgeError
from edgerouter.experiments import Experiment
from edgerouter.geo import Geography
from edgerouter.guarding import AddressPolicy, RateLimit, SecurityHeaders
from edgerouter.images import Images
from edgerouter.latency import Latency
from edgerouter.limits import Limits
from edgerouter.listening import Listener, Tls
from edgerouter.origins import Balance, Group, Origin
from edgerouter.outside import FetchHosts
from edgerouter.plan import Plan
from edgerouter.plugins import Plugin
from edgerouter.prefetch import Predict
from edgerouter.purging import Purging
from edgerouter.route_options import RouteOptions, fields_of
from edgerouter.routes import ForwardPolicy, Preflight, Redirect, Respond, Rewrite, Route
from edgerouter.settings import Settings
from edgerouter.storage import DiskCache, Sizes
from edgerouter.tracing import Tracing

if TYPE_CHECKING:
    from edgerouter import _core
    from edgerouter.server import Server

__all__ = ["Edge"]


class Edge(Callables, Contents, Data, Geography, Latency, Purging):
    """A site's whole policy: origins, routes, hooks and functions.

    ``name``  1 to 64 letters, digits, ``-`` or ``_``; also the distribution id
    ``limits``  bounds on sizes, times and counts
    ``disk_cache``  where responses outlive a restart; ``None``: they are kept in memory only
    ``trusted_proxies``  networks whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed
    ``trusted_proxy_fields``  fields with which these proxies say who a client is (``CF-Connecting-IP``,
        ``CloudFront-Viewer-*``, …), which are removed otherwise (``docs/request-fields.md``)
    ``hosts``  hosts that the edge serves, such as ``["www.example.com", "*.example.com"]``; others get 421
    ``addresses``  clients that the edge serves; others get 403
    ``security``  fields that restrict browsers, for all routes without ``security`` of their own
    ``rate_limit``  one or several bounds on the requests in a time of all routes together, before those of a route
    ``via``  the pseudonym in ``Via`` and ``Cache-Status``
    ``access_log``  what lines of the access log show of a request
    ``fetch``  hosts that are no origins and that ``ctx.fetch`` may fetch from; ``None``: none
    ``tracing``  traces of requests, and where they are sent; ``None``: no request is traced
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
        hosts: Collection[str] = (),
        addresses: AddressPolicy | Mapping[str, Any] | None = None,
        security: SecurityHeaders | Mapping[str, Any] | None = None,
        rate_limit: RateLimit | Collection[RateLimit | Mapping[str, Any]] = (),
        via: str = "edgerouter",
        access_log: AccessLog | None = None,
        tracing: Tracing | None = None,
        fetch: FetchHosts | Mapping[str, Any] | None = None,
    ) -> None:
        try:
            head = Plan(
                version=1,
                name=name,
                limits=Limits() if limits is None else limits,
                disk_cache=disk_cache,
                trusted_proxies=trusted_proxies,
                trusted_proxy_fields=trusted_proxy_fields,
                hosts=hosts,
                addresses=addresses,
                security=security,
                rate_limits=(rate_limit,) if isinstance(rate_limit, RateLimit) else rate_limit,
                via=via,
                access_log=access_log,
                tracing=tracing,
                fetch=fetch,
            )
        except ConfigError as error:
            # By the names that the arguments have here.
            named = ((it, it.path.replace("Plan.", "Edge.", 1)) for it in error.problems)
            raise ConfigError(
                it._replace(path=path.replace("rate_limits", "rate_limit")) for it, path in named
            ) from None
        self._declared = Declarations(head)
        for field in self._declared.head:
            self._declared.places.note(field)
        #: The server that serves this edge now.
        self.server: Server | None = None
        #: Called after the last call of this version.
        self.release: Callable[[], None] | None = None
        #: Values that handlers and functions share: connections, caches, models.
        self.state = SimpleNamespace()

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

    @property
    def listeners(self) -> tuple[str, ...]:
        """The addresses of ``listen``, and of a plan file."""
        declared = self._declared.data().get("listeners", ())
        return tuple(str(it.get("address", "")) for it in declared if isinstance(it, Mapping))

    # -- listeners -------------------------------------------------------------------------------------------------

    @helpful
    def listen(
        self,
        address: str,
        *,
        tls: Tls | Collection[Tls] = (),
        http: Collection[str] | None = None,
        proxy_protocol: Collection[str] = (),
    ) -> Listener:
        """Declares an address for clients, with TLS or in plain text.

        ``address``  ``IP:PORT``, ``[IPv6]:PORT`` or ``:PORT``; ``[::]`` serves IPv4, too; port 0 takes a free one. Or a
            unix socket, ``unix:/run/edge.sock``
        ``tls``  a TLS policy, or several, which the names of their certificates select; the first is for clients that
            name no host of any
        ``http``  the protocols that are offered, by preference: ``"h2"`` and ``"http/1.1"`` where nothing is said of a
            listener with TLS, otherwise ``"http/1.1"``
        ``proxy_protocol``  networks of proxies that begin each connection with a header of the PROXY protocol
        """
        listener = Listener(address, tls=tls, http=http, proxy_protocol=proxy_protocol)
        policies = tuple(self._declared.with_named_callables(policy) for policy in listener.tls)  # type: ignore[union-attr]
        listener = msgspec.structs.replace(listener, tls=policies)
        self._declared.note("listeners")
        self._declared.listeners.append(listener)
        return listener

    # -- origins ---------------------------------------------------------------------------------------------------

    @accepts(Origin)
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
        balance: Balance = "order",
        by: str | None = None,
        weights: Mapping[str, int] = {},
    ) -> Group:
        """Declares origins that stand in for one another, in order of preference or sharing requests; see ``Group``."""
        group = Group(name, members, failover_on, deadline, balance, by, weights)
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
        methods: Collection[str] | None = None,
        index: str | None = None,
        fallback: str | None = None,
        strip_prefix: str | None = None,
        add_prefix: str | None = None,
        rewrite: Rewrite | Mapping[str, Any] | tuple[str, str] | None = None,
        forward: ForwardPolicy | Mapping[str, Any] | None = None,
        cache: CachePolicy = STANDARD,
        preflight: Preflight = "token",
        experiment: Experiment | Collection[Experiment] = (),
        errors: Mapping[int, str | ErrorPage | Mapping[str, Any]] | None = None,
        compress: bool | None = None,
        images: Images | Mapping[str, Any] | None = None,
        predict: Predict | None = None,
        **options: Unpack[RouteOptions],
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
        ``addresses``  clients that the route serves, by address or network; others get 403
        ``cors``  pages of other origins that may use it; the edge answers preflights itself, before any token
        ``rate_limit``  one or several bounds on requests in a time; past them 429
        ``signed``  URLs that only a signature opens, in the query or in cookies
        ``basic``  users with passwords; not together with ``auth``
        ``security``  fields that restrict browsers: HSTS, Content-Security-Policy and others
        ``experiment``  one or several experiments
        ``errors``  pages for error statuses: a path, whose own route answers (``{404: "/404.html"}``), or what the edge
            holds itself (``{502: ErrorPage(file="errors/502.html"), 504: ErrorPage(body="Back soon.")}``)
        ``compress``  sends responses in Brotli, Zstandard or gzip to clients that accept it, if their type shrinks;
            ``None``: as the cache policy says (``cache.OPTIMIZED`` does);
            refused where responses depend on a token, and behind a password or a signature
        ``images``  scales and codes images: ``Images(widths=[320, 640], formats="auto")``
        ``predict``  fetches the pages that visitors will most likely request next
        """
        # Only the arguments that differ from their default: a large site has ten thousands of routes.
        given = fields_of(options, experiment)
        if to is not None:
            given["to"] = self._declared.known(to) if isinstance(to, (Origin, Group)) else to
        if redirect is not None:
            given["redirect"] = {"location": redirect} if isinstance(redirect, str) else redirect
        if respond is not None:
            given["respond"] = {"body": respond} if isinstance(respond, str) else respond
        if isinstance(rewrite, tuple) and len(rewrite) == 2:
            rewrite = {"pattern": rewrite[0], "to": rewrite[1]}
        if cache is not STANDARD:
            given["cache"] = cache
        if preflight != "token":
            given["preflight"] = preflight
        if errors is not None and errors != {}:
            given["errors"] = error_pages.located(errors, places.folder_of_caller())
        if compress is not None:
            given["compress"] = compress
        plain = {
            "methods": methods,
            "index": index,
            "fallback": fallback,
            "strip_prefix": strip_prefix,
            "add_prefix": add_prefix,
            "rewrite": rewrite,
            "forward": forward,
            "images": images,
            "predict": predict,
        }
        given |= {name: value for name, value in plain.items() if value is not None}
        return self._declared.add_route(partial(Route, pattern, **given))

    def use(self, plugin: Plugin | str, settings: Mapping[str, object] | None = None) -> Plugin:
        """Adds a plugin, given as a value or by the name of an installed one with its settings."""
        if isinstance(plugin, str):
            plugin = plugins.load(plugin, {} if settings is None else settings)
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
        return cls._of(Declarations.from_dict(data))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Edge:
        """An edge from a plan file, TOML or JSON. Its relative secret files are relative to its directory."""
        return cls._of(Declarations.from_file(Path(path)))

    @classmethod
    def _of(cls, declared: Declarations) -> Edge:
        edge = cls.__new__(cls)
        Edge.__init__(edge, "plan")
        edge._declared = declared
        return edge

    @staticmethod
    def schema() -> dict[str, Any]:
        """The JSON Schema of the plan's data."""
        from edgerouter import schema

        return schema.document()

    def certificate_callables(self) -> dict[str, Callable[..., object]]:
        """The callables for certificates, by the names that the plan has for them."""
        return dict(self._declared.certificate_callables)

    def encode(self) -> bytes:
        """The plan as one message, with its secrets read now. Keep it out of logs."""
        if self._declared.waiting:
            raise ConfigError(self._declared.waiting.values())
        data = self.to_dict()
        if data.get("listeners") and (found := obtaining.problems(data, self._declared.certificate_callables)):
            raise ConfigError(found)
        return encoded(data)

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

    @accepts(Settings)
    def serve(self, settings: Settings) -> None:
        """Serves until SIGTERM or SIGINT (in the main thread), or until another thread calls ``stop``.

        Prints where it serves. The arguments are the fields of ``Settings``. Refused while ``edgerouter`` loads the
        file that calls it.
        """
        from edgerouter import serving

        serving.refuse_while_loading("serve")
        serving.serve(self, settings, say=serving.to_stdout)

    @accepts(Settings)
    def start(self, settings: Settings) -> Server:
        """Serves in the background; the ``Server`` stops it. Returns when connections are accepted.

        The arguments are the fields of ``Settings``.
        """
        from edgerouter import serving
        from edgerouter.server import Server

        serving.refuse_while_loading("start")
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
        declared = self._declared
        declared.head.update(sizes.over({**declared.base, **declared.head}))
        return self

    def without_listeners(self) -> Edge:
        """Removes the listeners, for a service on others; gives this edge."""
        declared = self._declared
        declared.listeners.clear()
        declared.base.pop("listeners", None)
        declared.certificate_callables.clear()
        return self

    def count(self, field: str) -> int:
        """The number of values in a list of the plan."""
        return self._declared.count(field)

    def pages(self) -> set[Path]:
        """The files of error pages; a change of one needs a reload, as they are read when the edge is compiled."""
        return self._declared.pages()

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
