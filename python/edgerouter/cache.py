"""Cache policies: what is stored, under which key, and for how long.

``STANDARD``   RFC 9111 to the letter, the whole URL is the key: what a route has when nothing is said
``OPTIMIZED``  CloudFront's CachingOptimized: no query and no cookies in the key, a day when the origin says nothing
``DISABLED``   CloudFront's CachingDisabled: every request goes to the origin

Values only: decisions are made by the core, with the same rules that ``edgerouter explain`` prints.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import ClassVar, Literal, TypeAlias, get_args

import msgspec

from edgerouter.checks import MOST_SECONDS, Check, Value, is_status, listed

__all__ = ["DISABLED", "OPTIMIZED", "STANDARD", "CachePolicy", "Duration", "Names", "Selection", "all_except", "only"]

Duration: TypeAlias = int | float | timedelta
"""Seconds, or a ``timedelta``."""


class Names(Value, frozen=True, kw_only=True):
    """A choice among names: ``only`` those, or all but ``exclude``. Made with ``only`` and ``all_except``."""

    only: Collection[str] | None = None
    exclude: Collection[str] | None = msgspec.field(default=None, name="except")

    def _check(self, check: Check) -> None:
        check.texts("only", optional=True)
        check.texts("exclude", optional=True)
        if (self.only is None) == (self.exclude is None):
            check.fail_secretly("only", "must be given, or except, and not both")


Selection: TypeAlias = Literal["all", "none"] | Names | Collection[str] | Mapping[str, Collection[str]]
"""``"all"``, ``"none"``, a list of names (only those), ``all_except(...)``, or that as ``{"except": [...]}``.

Where the names are of query parameters or cookies, one that ends in ``*`` stands for all that begin so.
"""


def only(*names: str) -> Names:
    """Selects these names and no others, as in ``CachePolicy(query=only("page", "sort"))``."""
    return Names(only=names)


def all_except(*names: str) -> Names:
    """Selects every name but these, as in ``CachePolicy(query=all_except("utm_source", "gclid"))``."""
    return Names(exclude=names)


def check_selection(check: Check, *fields: str, optional: bool = False, starred: bool = True) -> None:
    """Stores a list of names as ``Names``; refuses a lone string, which is too easily a misspelt ``"all"``.

    ``starred``: a name may end in ``*``.
    """
    for field in fields:
        value = check.get(field)
        for name in _named(value):
            if message := check_star(name, starred=starred):
                check.fail(field, message, value=name)
        if (value is None and optional) or isinstance(value, Names):
            continue
        if isinstance(value, Mapping):
            check.instance(field, Names)
        elif isinstance(value, str):
            if value not in ("all", "none"):
                check.fail(field, 'must be "all", "none", a list of names or all_except(...)')
        elif (items := listed(value)) is None or not all(isinstance(item, str) and item for item in items):
            check.fail(field, 'must be "all", "none", a list of names or all_except(...)')
        else:
            check.keep(field, Names(only=tuple(items)))


def _named(value: object) -> list[str]:
    """The names of a selection, as far as it is one."""
    if isinstance(value, Names):
        given: object = value.only if value.only is not None else value.exclude
    elif isinstance(value, Mapping):
        given = next(iter(value.values()), ())
    else:
        given = value
    return [name for name in listed(given) or () if isinstance(name, str)]


def check_star(name: str, *, starred: bool = True) -> str | None:
    """Why a name may not have its ``*``."""
    if "*" not in name:
        return None
    if not starred:
        return "a * stands for more names only at the end of those of query parameters and cookies"
    if name == "*":
        return 'stands for every name: write "all" or "none"'
    return None if name.index("*") == len(name) - 1 else "a * stands for more names only at the end"


GeoFact: TypeAlias = Literal["country", "region", "city", "latitude", "longitude", "time_zone", "asn", "eu"]


def check_facts(check: Check, field: str, *, optional: bool = False) -> None:
    """A list of facts about the client's place."""
    must = "must be one of " + ", ".join(get_args(GeoFact))
    check.texts(field, optional=optional, test=get_args(GeoFact).__contains__, must=must)


class CachePolicy(Value, frozen=True, kw_only=True):
    """The rules by which a route's responses are stored and reused.

    Durations are whole seconds (``int``/``float``) or ``timedelta``.

    ``enabled``  ``False``: nothing is stored or served from the store
    ``ttl``  a lifetime that overrides what the origin says; never makes ``private`` or ``no-store`` storable, and never
        counts for statuses of ``negative_ttl`` and for 5xx
    ``default_ttl``  lifetime when the origin says nothing (RFC 9111 §4.2.2 heuristics when ``None``)
    ``min_ttl``, ``max_ttl``  bounds on what the origin says; never make ``private`` or ``no-store`` storable
    ``heuristics``  guess a lifetime from ``Last-Modified`` where neither the origin nor ``default_ttl`` gives one
    ``stale_while_revalidate``, ``stale_if_error``  used when the origin names none (RFC 5861)
    ``grace``  how long a stale response is served at once and refreshed behind, whatever window the origin names
    ``sick_grace``  the same while no origin of the group is healthy, and when the origin fails; ``≥ grace``. Neither
        ever holds against ``must-revalidate``, ``proxy-revalidate``, ``s-maxage`` or ``no-cache``
    ``stale_when_disconnected``  how long past its expiry a response is served while no origin can be reached (RFC 9111
        §4.2.4); 0 switches it off. The origin's ``stale-if-error``, ``stale_if_error`` and ``sick_grace`` win over it
    ``refresh_ahead``  hits refresh a response shortly before it expires, by chance, so that hot ones never expire
    ``refresh_beta``  how early: 1 suits most, more is earlier
    ``query``, ``headers``, ``cookies``, ``claims``, ``geo``  what of the request is in the key besides host and path.
        ``cookies=None`` follows HTTP: cookies go upstream and only ``Vary: Cookie`` tells responses apart. ``geo``
        names facts about the client's place, such as ``["country"]``, which go to the origin, too (``Edge.geo``)
    ``sort_query``  the query is sorted by name, those of one name in their order, in the key and upstream; ``None``:
        where ``query`` is a list or ``all_except``
    ``compress``  routes compress their responses unless they say ``compress=False``, or demand a token, a password or
        a signature
    ``accept_encoding``  the normalised ``Accept-Encoding`` (br, zstd, gzip, identity) is in the key and goes upstream
    ``normalise``  ``["accept-language"]``: the field goes upstream, and counts, in one spelling: lower case, by weight
        and then by name
    ``set_cookie``  a response with ``Set-Cookie`` is not stored (``"refuse"``), stored without it (``"strip"``) or
        stored with it (``"store"``), which RFC 9111 §7.3 allows: everybody gets one visitor's cookie
    ``negative_ttl``  lifetime of error statuses where the origin gives none or ``ttl`` overrides it: ``{404: 10}``
    ``extension_guard``  HTML and JSON under the name of a static file (``/account/x.css``) are not stored
    ``request_directives``  honour ``Cache-Control`` and ``Pragma`` of the request
    ``collapse``  concurrent misses of one key make one request to the origin
    ``slices``  responses larger than ``limits.cache.slice_bytes`` are stored in slices, which range requests fill
    ``fill``  when range requests fill slices of an object that is not stored: from the ``"second"`` request within 10
        minutes on, from the ``"first"``, or ``"never"``; other ranges pass by the store
    ``targets``  targeted fields (RFC 9213) and ``Surrogate-Control``, most specific first
    ``tags``  fields of the response with the tags that it can be purged by
    ``send_tags``  viewers see those fields; otherwise they are removed
    ``status_key``  ``Cache-Status`` shows the key, for debugging: it says which URL and how many bytes of variant

    Raises ``ConfigError`` at construction when a bound is negative or ``min_ttl > max_ttl``.
    """

    _remedy: ClassVar[str] = "use cache.OPTIMIZED or CachePolicy(ttl=60); cache.DISABLED switches the cache off"

    enabled: bool = True
    ttl: Duration | None = None
    default_ttl: Duration | None = None
    min_ttl: Duration = 0
    max_ttl: Duration | None = None
    heuristics: bool = True
    stale_while_revalidate: Duration | None = None
    stale_if_error: Duration | None = None
    grace: Duration | None = None
    sick_grace: Duration | None = None
    stale_when_disconnected: Duration = 86_400
    refresh_ahead: bool = False
    refresh_beta: float = 1.0
    query: Selection = "all"
    sort_query: bool | None = None
    headers: Collection[str] = ()
    cookies: Selection | None = None
    claims: Collection[str] = ()
    geo: Collection[GeoFact] = ()
    compress: bool = False
    accept_encoding: bool = False
    normalise: Collection[Literal["accept-language"]] = ()
    set_cookie: Literal["refuse", "strip", "store"] = "refuse"
    negative_ttl: Mapping[int, Duration] = {}
    extension_guard: bool = False
    request_directives: bool = True
    collapse: bool = True
    slices: bool = True
    fill: Literal["second", "first", "never"] = "second"
    targets: Collection[str] = ("CDN-Cache-Control", "Surrogate-Control")
    tags: Collection[str] = ("Cache-Tag", "Surrogate-Key")
    send_tags: bool = False
    status_key: bool = False

    def _check(self, check: Check) -> None:
        check.flag("enabled", "heuristics", "accept_encoding", "extension_guard", "request_directives", "collapse")
        check.flag("slices", "refresh_ahead", "status_key", "compress")
        check.seconds("ttl", "default_ttl", "max_ttl", optional=True, whole=True)
        check.seconds("stale_while_revalidate", "stale_if_error", "grace", "sick_grace", optional=True, whole=True)
        check.number("refresh_beta", above=0, most=1_000)
        beta = self.refresh_beta
        if self.refresh_ahead is False and isinstance(beta, (int, float)) and 0 < beta <= 1_000 and beta != 1:
            check.fail("refresh_beta", "has no effect without refresh_ahead=True")
        check.seconds("min_ttl", "stale_when_disconnected", whole=True)
        least, most = self.min_ttl, self.max_ttl
        if isinstance(least, (int, float)) and isinstance(most, (int, float)) and least > most:
            check.fail("min_ttl", f"must be ≤ max_ttl ({most})")
        healthy, sick = self.grace, self.sick_grace
        if isinstance(healthy, (int, float)) and isinstance(sick, (int, float)) and sick < healthy:
            check.fail("sick_grace", f"must be ≥ grace ({healthy}): an unhealthy origin gets more time")
        winner = "stale_if_error" if self.stale_if_error is not None else "sick_grace" if sick is not None else None
        if winner and self.stale_when_disconnected not in (0, timedelta(0), 86_400, timedelta(days=1)):
            check.fail("stale_when_disconnected", f"has no effect beside {winner}, which wins: leave one of them out")
        check_selection(check, "query")
        check_selection(check, "cookies", optional=True)
        check.tokens("headers")
        check.tokens("targets")
        check.tokens("tags")
        check.flag("send_tags")
        if self.send_tags is True and not self.tags:
            check.fail("send_tags", "has no effect without tags, the fields that viewers would see")
        check.texts("claims")
        check_facts(check, "geo")
        check.choice("fill", ("second", "first", "never"))
        if self.slices is False and self.fill != "second":
            check.fail("fill", "has no effect with slices=False: leave one of them out")
        for field in ("headers", "claims", "targets", "tags"):
            for name in _named(check.get(field)):
                if message := check_star(name, starred=False):
                    check.fail(field, message, value=name)
        check.choice("set_cookie", ("refuse", "strip", "store"))
        if self.sort_query is not None:
            check.flag("sort_query")
        check.texts("normalise")
        for name in listed(check.get("normalise")) or ():
            if name != "accept-language":
                remedy = 'must be "accept-language"; Accept-Encoding is normalised by accept_encoding'
                check.fail("normalise", remedy, value=name)
        self._check_negative(check)

    def _check_negative(self, check: Check) -> None:
        if not isinstance(self.negative_ttl, Mapping):
            check.fail("negative_ttl", "must be a mapping of status codes to seconds")
            return
        kept: dict[int, int] = {}
        for status, value in self.negative_ttl.items():
            seconds = value.total_seconds() if isinstance(value, timedelta) else value
            if not is_status(status):
                check.fail("negative_ttl", "must be a status code from 200 to 599", value=status)
            elif isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
                check.fail(f"negative_ttl[{status}]", "must be ≥ 0 seconds", value=value)
            elif seconds > MOST_SECONDS:
                check.fail(f"negative_ttl[{status}]", "is too large", value=value)
            elif seconds != int(seconds):
                check.fail(f"negative_ttl[{status}]", "must be whole seconds", value=value)
            else:
                kept[status] = int(seconds)
        check.keep("negative_ttl", kept)


STANDARD = CachePolicy()
"""RFC 9111 to the letter; the whole URL is the key."""

OPTIMIZED = CachePolicy(
    default_ttl=86_400,
    min_ttl=1,
    max_ttl=31_536_000,
    query="none",
    cookies="none",
    compress=True,
    accept_encoding=True,
    extension_guard=True,
    request_directives=False,
    fill="first",
)
"""The meaning of CloudFront's managed policy CachingOptimized."""

DISABLED = CachePolicy(enabled=False)
"""The meaning of CloudFront's managed policy CachingDisabled."""
