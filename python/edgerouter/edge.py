"""The ``Edge``: collects typed values, has the core validate them, and serves the result.

A thin façade. It holds no global state and does no I/O until it is compiled or served; the values it collects are
in the rooms beside this one, the decisions in the core.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec

from edgerouter import error_pages, geo, places, plugins, secrets
from edgerouter import files as folders
from edgerouter import images as pictures
from edgerouter import tracing as traces
from edgerouter.access_log import AccessLog
from edgerouter.bindings import Binding, guard_files
from edgerouter.cache import STANDARD, CachePolicy, Duration
from edgerouter.callables import Callables
from edgerouter.checks import accepts, helpful
from edgerouter.declarations import Declarations
from edgerouter.error_pages import ErrorPage
from edgerouter.errors import ConfigError, EdgeError, Problem
from edgerouter.experiments import Experiment
from edgerouter.files import Files
from edgerouter.geo import GeoPolicy
from edgerouter.guarding import AddressPolicy, BasicAuth, Cors, RateLimit, SecurityHeaders, SignedUrls
from edgerouter.identity import Jwt
from edgerouter.images import Images, ImageSources
from edgerouter.limits import Limits
from edgerouter.listening import Listener, Tls
from edgerouter.origins import Group, Origin
from edgerouter.outside import FetchHosts
from edgerouter.plan import Plan
from edgerouter.plugins import Plugin
from edgerouter.prefetch import Predict, Prefetch
from edgerouter.purging import Purging
from edgerouter.routes import (
    UNEDITED,
    ForwardPolicy,
    HeaderPolicy,
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
from edgerouter.settings import Settings
from edgerouter.storage import DiskCache, Sizes
from edgerouter.tracing import Tracing

if TYPE_CHECKING:
    from edgerouter import _core
    from edgerouter.server import Server

__all__ = ["Edge"]


class Edge(Callables, Purging):
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
        head = Plan(
            version=1,
            name=name,
            limits=limits or Limits(),
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
        self._declared = Declarations(head)
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
        addresses: AddressPolicy | Mapping[str, Any] | None = None,
        cors: Cors | Mapping[str, Any] | None = None,
        rate_limit: RateLimit | Collection[RateLimit | Mapping[str, Any]] = (),
        signed: SignedUrls | Mapping[str, Any] | None = None,
        basic: BasicAuth | Mapping[str, Any] | None = None,
        security: SecurityHeaders | Mapping[str, Any] | None = None,
        experiment: Experiment | Collection[Experiment] = (),
        errors: Mapping[int, str | ErrorPage | Mapping[str, Any]] | None = None,
        compress: bool | None = None,
        images: Images | Mapping[str, Any] | None = None,
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
        given: dict[str, Any] = {"priority": priority}
        if to is not None:
            given["to"] = self._declared.known(to) if isinstance(to, (Origin, Group)) else to
        if redirect is not None:
            given["redirect"] = {"location": redirect} if isinstance(redirect, str) else redirect
        if respond is not None:
            given["respond"] = {"body": respond} if isinstance(respond, str) else respond
        if when != ():
            given["when"] = (when,) if isinstance(when, When) else when
        if viewer != "allow-all":
            given["viewer"] = viewer
        if isinstance(rewrite, tuple) and len(rewrite) == 2:
            rewrite = {"pattern": rewrite[0], "to": rewrite[1]}
        if headers:
            given["headers"] = headers
        if cache is not STANDARD:
            given["cache"] = cache
        if preflight != "token":
            given["preflight"] = preflight
        if rate_limit != ():
            given["rate_limits"] = (rate_limit,) if isinstance(rate_limit, RateLimit) else rate_limit
        if experiment != ():
            given["experiments"] = (experiment,) if isinstance(experiment, Experiment) else experiment
        if errors:
            given["errors"] = error_pages.located(errors, places.folder_of_caller())
        if compress is not None:
            given["compress"] = compress
        plain = {
            "host": host,
            "methods": methods,
            "index": index,
            "fallback": fallback,
            "strip_prefix": strip_prefix,
            "add_prefix": add_prefix,
            "rewrite": rewrite,
            "forward": forward,
            "auth": auth,
            "addresses": addresses,
            "cors": cors,
            "signed": signed,
            "basic": basic,
            "security": security,
            "images": images,
            "predict": predict,
        }
        given |= {name: value for name, value in plain.items() if value is not None}
        return self._declared.add_route(partial(Route, pattern, **given))

    @helpful
    def files(
        self,
        prefix: str,
        folder: str | os.PathLike[str],
        *,
        index: str | None = "index.html",
        fallback: str | None = None,
        precompressed: bool = True,
        listing: bool = False,
        immutable: str | None = None,
        host: str | Collection[str] | None = None,
        when: When | Collection[When | Mapping[str, Any]] = (),
        priority: int = 0,
        viewer: ViewerPolicy = "allow-all",
        headers: HeaderPolicy | Mapping[str, Any] | None = None,
        auth: Jwt | None = None,
        addresses: AddressPolicy | Mapping[str, Any] | None = None,
        cors: Cors | Mapping[str, Any] | None = None,
        rate_limit: RateLimit | Collection[RateLimit | Mapping[str, Any]] = (),
        signed: SignedUrls | Mapping[str, Any] | None = None,
        basic: BasicAuth | Mapping[str, Any] | None = None,
        security: SecurityHeaders | Mapping[str, Any] | None = None,
        experiment: Experiment | Collection[Experiment] = (),
        errors: Mapping[int, str | ErrorPage | Mapping[str, Any]] | None = None,
        compress: bool | None = None,
    ) -> Route:
        """Serves the files of a folder below a prefix: ``edge.files("/assets", "dist/")``.

        Declares a route for the paths below the prefix, which is returned, and one for the prefix itself, which
        redirects to the folder. Both answer GET and HEAD, with validators, conditions and ranges.

        ``prefix``  ``/path`` or ``host/path``; ``/`` for the whole site
        ``folder``, ``index``, ``fallback``, ``precompressed``, ``listing``, ``immutable``  see ``Files``
        ``host``, ``when``, ``priority``, ``viewer``, ``auth``, ``experiment``  as in ``Edge.route``
        ``addresses``, ``cors``, ``rate_limit``, ``signed``, ``basic``, ``security``  the same
        ``compress``  sends files that have no ``precompressed`` one beside them in Brotli, Zstandard or gzip; as in
            ``Edge.route``
        ``headers``  edits of the response to the viewer
        ``errors``  pages for error statuses, as in ``Edge.route``: ``{404: "/404.html"}`` is served from the folder
        """
        below, itself = folders.pattern(prefix) if isinstance(prefix, str) else (prefix, None)
        pages = error_pages.located(errors, places.folder_of_caller()) if errors else {}
        declaring, start = places.file_of_caller(), places.folder_of_caller()

        def declare(pattern: str) -> Route:
            served = Files(
                folder,
                index=index,
                fallback=fallback,
                precompressed=precompressed,
                listing=listing,
                immutable=immutable,
            )
            return Route(
                pattern,
                files=folders.located(served, start, declaring),
                host=host,
                when=(when,) if isinstance(when, When) else when,
                priority=priority,
                viewer=viewer,
                headers=headers or UNEDITED,
                auth=auth,
                addresses=addresses,
                cors=cors,
                rate_limits=(rate_limit,) if isinstance(rate_limit, RateLimit) else rate_limit,
                signed=signed,
                basic=basic,
                security=security,
                experiments=(experiment,) if isinstance(experiment, Experiment) else experiment,
                errors=pages,
                compress=compress,
            )

        route = self._declared.add_route(lambda: declare(below))
        if itself is not None:
            self._declared.add_route(lambda: declare(itself))
        return route

    @helpful
    def images(
        self,
        pattern: str,
        *,
        sources: Collection[Origin | Group | str],
        images: Images | Mapping[str, Any] | None = None,
        networks: Collection[str] = (),
        host: str | Collection[str] | None = None,
        when: When | Collection[When | Mapping[str, Any]] = (),
        priority: int = 0,
        viewer: ViewerPolicy = "allow-all",
        headers: HeaderPolicy | Mapping[str, Any] | None = None,
        cache: CachePolicy = STANDARD,
        auth: Jwt | None = None,
        addresses: AddressPolicy | Mapping[str, Any] | None = None,
        cors: Cors | Mapping[str, Any] | None = None,
        rate_limit: RateLimit | Collection[RateLimit | Mapping[str, Any]] = (),
        signed: SignedUrls | Mapping[str, Any] | None = None,
        basic: BasicAuth | Mapping[str, Any] | None = None,
        security: SecurityHeaders | Mapping[str, Any] | None = None,
    ) -> Route:
        """Serves variants of images that the query names: ``/_image?url=/photo.jpg&w=640``.

        ``pattern``  ``/path`` or ``host/path``
        ``sources``  origins and groups of this edge, whose routes everybody may use, and hosts of others as text
        ``images``  the variants, see ``Images``
        ``networks``  private networks in which hosts of others may be
        ``cache``  how variants of images of other hosts are stored; those of this edge are stored as their route says
        ``host``, ``when``, ``priority``, ``viewer``, ``auth``  as in ``Edge.route``
        ``addresses``, ``cors``, ``rate_limit``, ``signed``, ``basic``, ``security``  the same
        ``headers``  edits of the response to the viewer
        """
        own, others = pictures.split(sources)

        def declare() -> Route:
            return Route(
                pattern,
                image_sources=ImageSources(
                    origins=[self._declared.known(source) for source in own],
                    hosts=others,
                    networks=networks,
                ),
                images=images,
                host=host,
                when=(when,) if isinstance(when, When) else when,
                priority=priority,
                viewer=viewer,
                headers=headers or UNEDITED,
                cache=cache,
                auth=auth,
                addresses=addresses,
                cors=cors,
                rate_limits=(rate_limit,) if isinstance(rate_limit, RateLimit) else rate_limit,
                signed=signed,
                basic=basic,
                security=security,
            )

        return self._declared.add_route(declare)

    # -- latency ---------------------------------------------------------------------------------------------------

    @accepts(Prefetch)
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

    # -- places of clients -----------------------------------------------------------------------------------------

    @accepts(GeoPolicy)
    def geo(self, policy: GeoPolicy) -> GeoPolicy:
        """Looks up where clients are: ``edge.geo(["GeoLite2-City.mmdb", "GeoLite2-ASN.mmdb"])``; once for an edge.

        A place is looked up by the first that reads it: a condition ``When(country=…)``, ``AddressPolicy``, a field for
        the origin or the key (``CachePolicy.geo``, ``ForwardPolicy.geo``), ``request.geo`` or ``ctx.region``. The
        arguments are the fields of ``GeoPolicy``.
        """
        if self._declared.geo is not None or "geo" in self._declared.base:
            raise ConfigError([Problem("geo", None, "is declared already: an edge has one, with up to 4 files")])
        self._declared.places.note("geo")
        self._declared.geo = geo.located(policy, places.folder_of_caller())
        return self._declared.geo

    # -- data ------------------------------------------------------------------------------------------------------

    @helpful
    def kv(self, name: str, url: Secret | str = "sqlite:kv.db", *, staleness: Duration = 0) -> Binding:
        """Binds a key-value store to ``ctx.env``: ``edge.kv("CARTS", "redis://cache.internal/0")``.

        ``name``  the attribute of ``ctx.env``
        ``url``  ``memory:`` for this process only; ``sqlite:FILE``, which is made when it is not there (a relative path
            starts at the current directory); a Redis server, ``redis://`` or ``rediss://`` with TLS, with a password:
            ``env("KV_URL")``; or a table of DynamoDB, ``dynamodb://TABLE``
        ``staleness``  seconds for which a read may be answered from this process, where others may have changed the
            entry; changes made through this edge are seen at once. 0: never
        """
        binding = Binding(name, "kv", url, staleness=staleness)
        self._declared.note("bindings")
        self._declared.bindings.append(binding)
        return binding

    @helpful
    def database(
        self,
        name: str,
        url: Secret | str = "sqlite:app.db",
        *,
        replicas: Collection[Secret | str] = (),
        staleness: Duration | None = None,
        bookmark_key: Secret | str | None = None,
        auth_token: Secret | str | None = None,
    ) -> Binding:
        """Binds a SQL database to ``ctx.env``: ``edge.database("DB", "sqlite:app.db")``.

        ``name``  the attribute of ``ctx.env``
        ``url``  ``sqlite:FILE``, which is made when it is not there; a relative path starts at the current directory;
        ``postgresql://USER:PASSWORD@HOST/DATABASE``; ``mysql://USER:PASSWORD@HOST/DATABASE``, also for MariaDB;
        ``libsql://HOST`` of Turso. A URL with a password is best given as ``env("DATABASE_URL")``
        ``replicas``  URLs of up to 8 servers that follow this one, of PostgreSQL or MariaDB: the nearest answers reads
        ``staleness``  seconds by which a replica may be behind and still answer; 10 unless you say otherwise
        ``bookmark_key``  a secret of at least 32 bytes that authenticates the bookmarks of sessions. Give the same to
            all edges of a site; by default each process draws its own
        ``auth_token``  of a libSQL server, as in ``env("TURSO_AUTH_TOKEN")``
        """
        if staleness is None:
            staleness = 10 if replicas else 0
        binding = Binding(
            name,
            "database",
            url,
            staleness=staleness,
            replicas=replicas,
            bookmark_key=bookmark_key,
            auth_token=auth_token,
        )
        self._declared.note("bindings")
        self._declared.bindings.append(binding)
        return binding

    @helpful
    def documents(self, name: str, url: Secret | str = "sqlite:documents.db") -> Binding:
        """Binds a collection of documents to ``ctx.env``: ``edge.documents("CARTS", env("DATABASE_URL"))``.

        ``name``  the attribute of ``ctx.env``, and a part of the name of the table or the keys
        ``url``  ``sqlite:FILE``, which is made when it is not there, ``postgresql://USER:PASSWORD@HOST/DATABASE``, or
            ``redis://HOST:PORT/DATABASE`` for a server that keeps JSON
        """
        binding = Binding(name, "documents", url)
        self._declared.note("bindings")
        self._declared.bindings.append(binding)
        return binding

    @contextmanager
    def bindings(self, timeout: float | None = None) -> Iterator[_core.Env]:
        """The bindings without serving, for programs and tests: ``with edge.bindings() as env: env.DB.exec(...)``.

        ``timeout``  seconds for one operation; ``None``: ``limits.data.timeout``
        """
        from edgerouter import _core

        data = self.to_dict()
        if timeout is not None:
            limits = data.get("limits") or {}
            data["limits"] = {**limits, "data": {**limits.get("data", {}), "timeout": timeout}}
        try:
            opened = _core.Bindings(self._encoded(data))
        except ConfigError as error:
            raise self.placed(error) from None
        guard_files(self._declared.data())
        try:
            yield opened.env
        finally:
            opened.close()

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
        return self._encoded(self.to_dict())

    @staticmethod
    def _encoded(data: dict[str, Any]) -> bytes:
        traces.resolve(data)
        secrets.resolve(data)
        error_pages.resolve(data)
        folders.resolve(data)
        try:
            return msgspec.json.encode(data)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the plan cannot be written as JSON: {error}") from None

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

    def without_effect(self) -> list[str]:
        """The callables with ``blocking=True``, which has no effect any more."""
        return [called.name for called, _ in self._declared.callables if called.blocking]

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
