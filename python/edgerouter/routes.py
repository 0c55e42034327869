"""Routes: which requests, and what happens to them on their way.

A ``Route`` has the shape of the plan's data, so that what is written in Python, in a plan file and in the engine's
decoder carries the same names. Precedence and matching are the core's (``edgerouter check`` prints the order).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from edgerouter.cache import STANDARD, CachePolicy, GeoFact, Selection, check_facts, check_selection, check_star
from edgerouter.checks import Check, Value, is_country, is_status, is_token, listed
from edgerouter.error_pages import ErrorPage
from edgerouter.experiments import Experiment
from edgerouter.files import Files
from edgerouter.guarding import AddressPolicy, BasicAuth, Cors, RateLimit, SecurityHeaders, SignedUrls
from edgerouter.identity import Jwt
from edgerouter.images import Images, ImageSources
from edgerouter.prefetch import Predict

__all__ = [
    "ForwardPolicy",
    "HeaderEdits",
    "HeaderPolicy",
    "HeaderValues",
    "Hook",
    "Phase",
    "Redirect",
    "Respond",
    "Rewrite",
    "Route",
    "ViewerPolicy",
    "When",
]

Phase: TypeAlias = Literal["viewer_request", "origin_request", "origin_response", "viewer_response"]
"""The phases in which a hook is called; the names are Lambda@Edge's."""

ViewerPolicy: TypeAlias = Literal["allow-all", "https-only", "redirect-to-https"]
"""The requirement on the viewer's connection."""
Preflight: TypeAlias = Literal["token", "origin"]
"""A CORS preflight needs a token like any request, or goes to the origin without identity."""

RedirectStatus: TypeAlias = Literal[301, 302, 303, 307, 308]

# Worked out once: a large site has ten thousands of routes.
_VIEWER = get_args(ViewerPolicy)
_PREFLIGHT = get_args(Preflight)
_REDIRECT_STATUS = get_args(RedirectStatus)


HeaderValues: TypeAlias = Mapping[str, str | Collection[str]]
"""Header names and their values; a list stands for several fields of that name."""


class _Location(Value, frozen=True):
    location: str


class Redirect(_Location, frozen=True, kw_only=True):
    """Answer with a redirect.

    ``status``  301, 302, 303, 307 or 308
    ``location``  a URL or a path; may hold ``{name}`` parameters of the route's pattern
    ``query``  append the request's query
    """

    _example: ClassVar[str] = 'Redirect("/new", status=301)'

    status: RedirectStatus = 302
    query: bool = True

    def _check(self, check: Check) -> None:
        check.text("location")
        check.choice("status", _REDIRECT_STATUS)
        check.flag("query")


class Respond(Value, frozen=True, kw_only=True):
    """Answer with these fixed words.

    ``status``  from 200 to 599
    ``headers``  fields of the response
    ``body``  text, sent as UTF-8
    """

    status: int = 200
    headers: HeaderValues = {}
    body: str = ""

    def _check(self, check: Check) -> None:
        if not is_status(self.status):
            check.fail("status", "must be a status code from 200 to 599")
        check.headers("headers")
        check.text("body", empty=True)


class Rewrite(Value, frozen=True):
    """Another path for the origin: ``Rewrite("/old/{rest:path}", "/new/{rest}")``.

    ``pattern``  the paths that are rewritten; its ``{name}`` parameters may stand in ``to``
    ``to``  the path that the origin gets
    """

    _example: ClassVar[str] = 'Rewrite("/old/{rest:path}", "/new/{rest}")'

    pattern: str
    to: str

    def _check(self, check: Check) -> None:
        check.path("pattern", "to")


class HeaderEdits(Value, frozen=True, kw_only=True):
    """Edits of a header section: ``remove``, then ``set``, then ``add``."""

    set: HeaderValues = {}
    add: HeaderValues = {}
    remove: Collection[str] = ()

    def _check(self, check: Check) -> None:
        check.headers("set")
        check.headers("add")
        check.tokens("remove")


class HeaderPolicy(Value, frozen=True, kw_only=True):
    """Edits of header sections.

    ``request``  of the request that goes to the origin
    ``response``  of the response that goes to the viewer
    """

    _example: ClassVar[str] = 'HeaderPolicy(response=HeaderEdits(set={"x-frame-options": "DENY"}))'

    request: HeaderEdits | Mapping[str, Any] = HeaderEdits()
    response: HeaderEdits | Mapping[str, Any] = HeaderEdits()

    def _check(self, check: Check) -> None:
        check.instance("request", HeaderEdits)
        check.instance("response", HeaderEdits)


UNEDITED = HeaderPolicy()
"""The default of a route."""


class ForwardPolicy(Value, frozen=True, kw_only=True):
    """The parts of the request that go to the origin, apart from those in the cache key.

    ``None`` leaves a part to the default: the query and cookies of the key (all cookies where the cache policy says
    nothing about them), and all headers.

    ``query``, ``headers``, ``cookies``  ``"all"``, ``"none"``, a list of names, or ``all_except(...)``
    ``unkeyed``  what goes to the origin and responses do not depend on, although it is not in the key: a field's name,
        ``"query:NAME"``, ``"cookie:NAME"`` (both may end in ``*``) or ``"claim:NAME"``. Other requests get the response
        that was made with it. A request with a query parameter or cookie that goes upstream and is neither in the key
        nor here passes the cache
    ``geo``  facts about the client's place that the origin gets as fields, such as ``["country", "city"]``; ``None``:
        those of the cache key. On a route that stores responses each is part of the key, unless ``unkeyed`` names its
        field
    """

    query: Selection | None = None
    headers: Selection | None = None
    cookies: Selection | None = None
    unkeyed: Collection[str] = ()
    geo: Collection[GeoFact] | None = None

    def _check(self, check: Check) -> None:
        check_selection(check, "query", "cookies", optional=True)
        check_selection(check, "headers", optional=True, starred=False)
        check.texts("unkeyed")
        check_facts(check, "geo", optional=True)
        for text in listed(self.unkeyed) or ():
            kind, colon, name = text.partition(":") if isinstance(text, str) else ("", "", "")
            if not colon:
                plain = is_token(text) and "*" not in text
                message = None if plain else 'must be the name of a field, "query:NAME", "cookie:NAME" or "claim:NAME"'
            elif kind in ("query", "cookie"):
                message = check_star(name) if name else "needs a name"
            elif kind == "claim":
                message = None if name else "needs a name"
            else:
                message = 'must be the name of a field, "query:NAME", "cookie:NAME" or "claim:NAME"'
            if message:
                check.fail("unkeyed", message, value=text)


class When(Value, frozen=True, kw_only=True):
    """A condition besides host, path and method: on one ``header``, ``cookie``, ``query`` parameter or ``country``.

    One test each: it ``equals`` a text, ``matches`` a pattern with ``*`` and ``?``, or is ``present`` (the default).
    ``country`` needs none: the client is in one of these countries (ISO 3166-1, as in ``["DE", "AT"]``; ``Edge.geo``).
    """

    header: str | None = None
    cookie: str | None = None
    query: str | None = None
    equals: str | None = None
    matches: str | None = None
    present: bool | None = None
    country: Collection[str] | None = None

    def _check(self, check: Check) -> None:
        if sum(subject is not None for subject in (self.header, self.cookie, self.query, self.country)) != 1:
            check.fail_secretly("header", "must be given, or cookie, query or country: exactly one")
        if self.country is not None:
            check.texts("country", test=is_country, must='must be two letters as in "DE" (ISO 3166-1)')
            if not self.country:
                check.fail("country", "must name at least one country")
            if any(test is not None for test in (self.equals, self.matches, self.present)):
                check.fail_secretly("country", "cannot be combined with equals, matches or present")
            return
        tests = sum(test is not None for test in (self.equals, self.matches, self.present))
        if not tests:
            check.keep("present", True)
        elif tests > 1:
            check.fail_secretly("equals", "cannot be combined with matches or present: one test each")
        check.token("header", "cookie", optional=True)
        check.text("query", "matches", optional=True)
        check.text("equals", optional=True, empty=True)
        if self.present is not None:
            check.flag("present")


def _varies(name: str) -> bool:
    return name != "*" and is_token(name.removeprefix("cookie:"))


def check_varies(check: Check) -> None:
    """The field ``varies``: names of request fields and cookies."""
    check.texts("varies", optional=True, test=_varies, must="must be the name of a request field, or cookie:NAME")


class Hook(Value, frozen=True, kw_only=True):
    """A hook of the plan: the callable at index ``call`` is called in ``phase`` where pattern and host match.

    ``transforms``  it transforms the content of responses
    """

    phase: Phase
    pattern: str
    call: int
    host: str | None = None
    varies: Collection[str] | None = None
    transforms: bool = False

    def _check(self, check: Check) -> None:
        check.flag("transforms")
        check.choice("phase", get_args(Phase))
        check.text("pattern")
        check.text("host", optional=True)
        check.whole("call")
        check_varies(check)
        if self.varies is not None and str(self.phase).startswith("viewer_"):
            check.fail("varies", "is for origin_request and origin_response hooks; remove it")


def check_rate_limits(check: Check) -> None:
    """The field ``rate_limits`` of a site or a route: a list of limits with different names."""
    must = 'must be a RateLimit such as RateLimit("api", 100, per=60), or a list of them'
    names = [limit.name for limit in check.instances("rate_limits", RateLimit, must)]
    if len(set(names)) != len(names):
        check.fail("rate_limits", "must differ in name: each request would count twice", value=", ".join(names))


_NO_PRIORITY = 0


class _Pattern(Value, frozen=True):
    pattern: str


class Route(_Pattern, frozen=True, kw_only=True):
    """One line of the route table; see ``Edge.route`` for what each field means.

    ``function``  the place of an edge function among the callables, instead of ``to``, ``redirect`` or ``respond``
    ``files``  the folder of ``Edge.files``, instead of the others
    ``image_sources``  the places of ``Edge.images``, instead of the others
    ``experiments``, ``rate_limits``  as ``experiment`` and ``rate_limit`` of ``Edge.route``
    """

    host: str | Collection[str] | None = None
    methods: Collection[str] | None = None
    when: Collection[When | Mapping[str, Any]] = ()
    priority: int = 0
    to: str | None = None
    function: int | None = None
    redirect: Redirect | Mapping[str, Any] | None = None
    respond: Respond | Mapping[str, Any] | None = None
    files: Files | Mapping[str, Any] | None = None
    image_sources: ImageSources | Mapping[str, Any] | None = None
    viewer: ViewerPolicy = "allow-all"
    index: str | None = None
    fallback: str | None = None
    strip_prefix: str | None = None
    add_prefix: str | None = None
    rewrite: Rewrite | Mapping[str, Any] | None = None
    headers: HeaderPolicy | Mapping[str, Any] = UNEDITED
    forward: ForwardPolicy | Mapping[str, Any] | None = None
    cache: CachePolicy = STANDARD
    auth: Jwt | None = None
    preflight: Preflight = "token"
    addresses: AddressPolicy | Mapping[str, Any] | None = None
    cors: Cors | Mapping[str, Any] | None = None
    rate_limits: Collection[RateLimit | Mapping[str, Any]] = ()
    signed: SignedUrls | Mapping[str, Any] | None = None
    basic: BasicAuth | Mapping[str, Any] | None = None
    security: SecurityHeaders | Mapping[str, Any] | None = None
    experiments: Collection[Experiment] = ()
    errors: Mapping[int, str | ErrorPage | Mapping[str, Any]] = {}
    compress: bool | None = None
    images: Images | Mapping[str, Any] | None = None
    predict: Predict | None = None

    def _check(self, check: Check) -> None:
        check.text("pattern")
        if isinstance(self.pattern, str) and "/" not in self.pattern:
            check.fail("pattern", "must be a path such as /static/* or a host and path such as *.example.com/*")
        # Most fields are left at their default, which is right: a large site has ten thousands of routes.
        if isinstance(self.host, str):
            check.text("host")
        elif self.host is not None:
            check.texts("host")
        if self.methods is not None:
            check.texts("methods", test=is_token, must="must be a method such as GET")
        if self.when != ():
            check.instances("when", When, 'must be conditions such as When(cookie="beta")')
        if self.priority is not _NO_PRIORITY:
            check.whole("priority", least=-(2**31), most=2**31 - 1)
        self._check_target(check)
        if self.viewer != "allow-all":
            check.choice("viewer", _VIEWER)
        self._check_path(check)
        if self.headers is not UNEDITED:
            check.instance("headers", HeaderPolicy)
        if self.forward is not None:
            check.instance("forward", ForwardPolicy, optional=True)
        if self.cache is not STANDARD:
            check.instance("cache", CachePolicy)
        if self.auth is not None:
            check.instance("auth", Jwt, optional=True)
        if self.preflight != "token":
            self._check_preflight(check)
        self._check_guards(check)
        if self.experiments != ():
            self._check_experiments(check)
        if self.errors != {}:
            self._check_errors(check)
        if self.compress is not None:
            check.flag("compress")
        if self.images is not None:
            check.instance("images", Images, optional=True)
        if self.predict is not None:
            check.instance("predict", Predict, optional=True)

    def _check_guards(self, check: Check) -> None:
        if self.addresses is not None:
            check.instance("addresses", AddressPolicy, optional=True)
        if self.cors is not None:
            check.instance("cors", Cors, optional=True)
            if self.preflight == "origin":
                must = "has no effect beside cors, which answers preflights at the edge: leave one out"
                check.fail("preflight", must)
        if self.rate_limits != ():
            check_rate_limits(check)
        if self.signed is not None:
            check.instance("signed", SignedUrls, optional=True)
        if self.basic is not None:
            check.instance("basic", BasicAuth, optional=True)
            if self.auth is not None:
                must = "cannot be combined with auth: both are met by the one Authorization field"
                check.fail_secretly("basic", must)
        if self.security is not None:
            check.instance("security", SecurityHeaders, optional=True)

    def _check_target(self, check: Check) -> None:
        targets = {
            "to": self.to,
            "function": self.function,
            "redirect": self.redirect,
            "respond": self.respond,
            "files": self.files,
            "image_sources": self.image_sources,
        }
        given = [target for target, value in targets.items() if value is not None]
        if not given:
            must = (
                "must be given, or redirect, or respond: a route needs one target; @edge.function declares a function"
            )
            check.fail_secretly("to", must)
        elif len(given) > 1:
            check.fail_secretly(given[1], f"cannot be combined with {given[0]}: a route has one target")
        if self.to is not None and not isinstance(self.to, str):
            check.fail("to", "must be an origin, a group or the name of one; edge.group(NAME, [...]) makes several one")
        elif isinstance(self.to, str) and "://" in self.to:
            check.fail_url("to", 'is a URL; declare its server as an origin: to=edge.origin("site", "http://…")')
        else:
            check.text("to", optional=True)
        if self.redirect is not None:
            check.instance("redirect", Redirect, optional=True)
        if self.respond is not None:
            check.instance("respond", Respond, optional=True)
        if self.files is not None:
            check.instance("files", Files, optional=True)
        if self.image_sources is not None:
            check.instance("image_sources", ImageSources, optional=True)

    def _check_path(self, check: Check) -> None:
        if self.index is not None:
            check.text("index", optional=True)
        if self.fallback is not None or self.strip_prefix is not None or self.add_prefix is not None:
            check.path("fallback", "strip_prefix", "add_prefix", optional=True)
        if self.rewrite is not None:
            check.instance("rewrite", Rewrite, optional=True)

    def _check_preflight(self, check: Check) -> None:
        check.choice("preflight", _PREFLIGHT)
        if self.preflight == "origin" and self.auth is None:
            check.fail("preflight", "has no effect without auth: a preflight goes to the origin anyway")

    def _check_experiments(self, check: Check) -> None:
        items = listed(self.experiments)
        if items is None or not all(isinstance(item, Experiment) for item in items):
            check.fail("experiments", "must be an Experiment or a list of them")
            return
        if not items:
            return
        for field in ("name", "cookie", "header"):
            values = [getattr(item, field) for item in items]
            if len(set(values)) != len(values):
                check.fail("experiments", f"must differ in {field}", value=", ".join(values))

    def _check_errors(self, check: Check) -> None:
        if not isinstance(self.errors, Mapping):
            check.fail("errors", "must be a mapping of status codes to paths or ErrorPage")
            return
        kept: dict[int, object] = {}
        for status, page in self.errors.items():
            if not is_status(status) or status < 400:
                check.fail("errors", "must be an error status from 400 to 599", value=status)
            elif isinstance(page, Mapping):
                kept[status] = check.made(f"errors[{status}]", ErrorPage, page)
            elif isinstance(page, ErrorPage) or (isinstance(page, str) and page.startswith("/")):
                kept[status] = page
            else:
                message = "must be a path that starts with /, or ErrorPage(file=...) or ErrorPage(body=...)"
                check.fail(f"errors[{status}]", message, value=page)
        check.keep("errors", kept)
