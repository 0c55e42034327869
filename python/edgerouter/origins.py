"""Sources of responses: origins, groups of them with failover and load balancing, and how their health is probed.

Values only; connections, retries and probes are the engine's.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from typing import ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from edgerouter.cache import Duration
from edgerouter.certificates import Certificate
from edgerouter.checks import Check, Value, is_token, listed
from edgerouter.secrets import Secret

__all__ = ["Balance", "Group", "Health", "Origin", "TlsVersion"]

TlsVersion: TypeAlias = Literal["TLSv1.2", "TLSv1.3"]
"""A version of TLS that an origin is offered."""

Balance: TypeAlias = Literal["order", "round_robin", "least_requests", "hash"]
"""The way in which the members of a group get requests."""

_BALANCES: tuple[Balance, ...] = ("order", "round_robin", "least_requests", "hash")
_HASHED = re.compile(r"(?:url|address|(?:header|cookie):(?P<name>.+))\Z", re.DOTALL)
_MOST_WEIGHT = 65_535

_TLS_VERSIONS: tuple[TlsVersion, ...] = ("TLSv1.2", "TLSv1.3")
_PIN = "must be sha256// and the SHA-256 of the public key in Base64, as curl --pinnedpubkey has it"


def _is_pin(text: str) -> bool:
    kind, _, digest = text.partition("//")
    try:
        return kind == "sha256" and len(base64.b64decode(digest, validate=True)) == 32
    except (binascii.Error, ValueError):
        return False


class _Path(Value, frozen=True):
    path: str


class Health(_Path, frozen=True, kw_only=True):
    """An active probe: ``GET path`` every ``interval`` seconds.

    ``path``  the path that is requested
    ``timeout``  how long one probe may take
    ``healthy_after``, ``unhealthy_after``  consecutive answers that change the state
    Requests change it only where half of at least twenty in a minute failed
    ``status``  the status codes that count as healthy
    """

    _example: ClassVar[str] = 'Health("/healthz")'

    interval: Duration = 10.0
    timeout: Duration = 2.0
    healthy_after: int = 2
    unhealthy_after: int = 3
    status: Collection[int] = (200,)

    def _check(self, check: Check) -> None:
        check.path("path")
        check.seconds("interval", "timeout", positive=True)
        check.whole("healthy_after", "unhealthy_after", least=1)
        check.statuses("status")
        if not self.status:
            check.fail("status", "must name at least one status, or the origin is never healthy")


class _Named(Value, frozen=True):
    name: str


class _NamedUrl(_Named, frozen=True):
    url: str


class Origin(_NamedUrl, frozen=True, kw_only=True):
    """A server that answers for the edge.

    ``name``  how routes and metrics call it
    ``url``  ``http`` or ``https``, host, optional port and path prefix; or a unix socket, with an optional prefix:
        ``unix:/run/app.sock``, ``unix:/run/app.sock:/prefix``
    ``host``  what ``Host`` says upstream: ``"origin"`` (the URL's), ``"viewer"`` (as the client sent it), or a name
    ``connect_timeout``, ``first_byte_timeout``, ``between_bytes_timeout``, ``total_timeout``  seconds or ``timedelta``
    ``expect_timeout``  how long the content of a request with ``Expect: 100-continue`` waits for the origin's 100
        (RFC 9110 §10.1.1)
    ``max_connections``, ``idle_connections``, ``idle_timeout``  of the pool of each worker
    ``retries``  further tries of a request that had not left when its connection was closed
    ``headers``  set on every request to it; a value may be a secret: ``env("NAME")``, ``secret_file(path)``
    ``health``  an active probe, or ``None``
    ``rewrite_urls``  in its answers, ``Location``, ``Content-Location``, ``Refresh`` and the ``Domain`` and ``Path`` of
        cookies that name its own host or prefix name the viewer's instead
    ``tls_server_name``, ``tls_ca``, ``tls_verify``  how an ``https`` origin is verified; ``tls_ca`` is PEM
    ``tls_certificate``  the ``Certificate`` that the edge shows if the origin requests one (mutual TLS)
    ``tls_versions``  the versions that are offered: ``"TLSv1.2"``, ``"TLSv1.3"``; both if none is given
    ``tls_pins``  public keys of which the origin's certificate must have one, each ``"sha256//"`` and the SHA-256 of it
        in Base64, as ``curl --pinnedpubkey`` has it; beside the verification, or alone with ``tls_verify=False``
    """

    _example: ClassVar[str] = 'Origin("site", "http://127.0.0.1:9000")'

    host: str = "origin"
    connect_timeout: Duration = 2.0
    first_byte_timeout: Duration = 30.0
    expect_timeout: Duration = 1.0
    between_bytes_timeout: Duration = 30.0
    total_timeout: Duration | None = None
    max_connections: int = 256
    idle_connections: int = 64
    idle_timeout: Duration = 60.0
    retries: int = 1
    headers: Mapping[str, str | Secret | Collection[str | Secret]] = {}
    health: Health | None = None
    tls_server_name: str | None = None
    tls_ca: Secret | None = None
    tls_verify: bool = True
    tls_certificate: Certificate | None = None
    tls_versions: Collection[TlsVersion] | None = None
    tls_pins: Collection[str] = ()
    rewrite_urls: bool = True

    def _check(self, check: Check) -> None:
        check.label("name")
        if message := _url_problem(self.url):
            check.fail_url("url", message)
        check.text("host")
        check.text("tls_server_name", optional=True)
        check.seconds("connect_timeout", "first_byte_timeout", "between_bytes_timeout", "idle_timeout", positive=True)
        check.seconds("expect_timeout")
        check.seconds("total_timeout", optional=True, positive=True)
        check.whole("max_connections", least=1)
        check.whole("idle_connections")
        check.whole("retries", most=10)
        check.headers("headers", also=Secret)
        check.instance("health", Health, optional=True)
        check.instance("tls_ca", Secret, optional=True)
        check.flag("tls_verify", "rewrite_urls")
        check.instance("tls_certificate", Certificate, optional=True)
        check.choices("tls_versions", _TLS_VERSIONS)
        check.texts("tls_pins", test=_is_pin, must=_PIN)


class Group(_Named, frozen=True):
    """Origins that stand in for one another, or share the requests: the next one gets the request when one fails.

    ``name``  by which routes and plan files refer to it
    ``members``  origins or their names, the preferred one first
    ``balance``  the member that gets a request first: ``"order"`` (the first one that is healthy), ``"round_robin"``
        (each in its turn), ``"least_requests"`` (the one with the fewest requests of the worker under way) or
        ``"hash"`` (each value of ``by`` has its member)
    ``by``  the part of a request that ``"hash"`` is of: ``"url"`` (if none is given), ``"address"``, ``"header:NAME"``
        or ``"cookie:NAME"``; a request without it has its turn
    ``weights``  shares by the names of members, 1 each if not given; 0: requested only where the others fail
    ``failover_on``  statuses that count as a failure besides connection errors and time-outs
    ``deadline``  seconds (or ``timedelta``) for all attempts of a request together, until an answer begins, then 504; a
    request's own upload does not count. ``None``: the first member's ``connect_timeout`` and ``first_byte_timeout`` and
    five seconds, or the slowest member's if requests are spread
    """

    members: Collection[Origin | str]
    failover_on: Collection[int] = (500, 502, 503, 504)
    deadline: Duration | None = None
    balance: Balance = "order"
    by: str | None = None
    weights: Mapping[str, int] = {}

    def _check(self, check: Check) -> None:
        check.label("name")
        items = listed(self.members)
        if not items or not all(isinstance(item, (str, Origin)) for item in items):
            check.fail("members", "must be one or more origins or their names")
        else:
            check.keep("members", tuple(item.name if isinstance(item, Origin) else item for item in items))
        check.statuses("failover_on")
        check.seconds("deadline", optional=True, positive=True)
        check.choice("balance", _BALANCES)
        self._check_by(check)
        self._check_weights(check)

    def _check_by(self, check: Check) -> None:
        if self.by is None:
            return
        found = _HASHED.match(self.by) if isinstance(self.by, str) else None
        if found is None or (found["name"] is not None and not is_token(found["name"])):
            check.fail("by", 'must be "url", "address", "header:NAME" or "cookie:NAME"')
        elif self.balance != "hash":
            check.fail("by", 'is the part of a request that is hashed, and needs balance="hash"')

    def _check_weights(self, check: Check) -> None:
        if not isinstance(self.weights, Mapping):
            check.fail("weights", 'must be a mapping of names of members to whole numbers, as in {"first": 3}')
            return
        members = [str(member) for member in listed(self.members) or ()]
        for name, weight in self.weights.items():
            if name not in members:
                must = f"is not a member; there are {', '.join(members)}"
                check.fail(f"weights[{name!r}]", must, value=name)
            elif isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= _MOST_WEIGHT:
                check.fail(f"weights[{name!r}]", f"must be a whole number from 0 to {_MOST_WEIGHT}", value=weight)
        if self.weights and self.balance == "order":
            must = (
                'needs balance="round_robin", "least_requests" or "hash": in order the first member gets each request'
            )
            check.fail("weights", must)
        elif members and all(self.weights.get(name) == 0 for name in members):
            check.fail("weights", "must leave a member with a weight above 0")
        check.keep("weights", dict(self.weights))


def _url_problem(url: object) -> str | None:
    if not isinstance(url, str):
        return "must be a URL such as http://127.0.0.1:9000"
    if url.lower().startswith(("unix:/", "unix//", "http://unix:/")):
        return _socket_problem(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "must be a URL such as http://127.0.0.1:9000"
    if parts.scheme not in ("http", "https"):
        return "must start with http:// or https://, or be a unix socket, as in unix:/run/app.sock"
    if not parts.hostname:
        return "must name a host, as in http://127.0.0.1:9000"
    if port == 0:
        return "must not have port 0"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password; set a header on the origin instead"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "must not have a query or fragment"
    if not all(c.isprintable() and c not in ' "<>\\^`{|}' for c in url):
        return "must not hold spaces or control characters"
    return None


def _socket_problem(url: str) -> str | None:
    start = next(start for start in ("unix:", "unix/", "http://unix:") if url.lower().startswith(start + "/"))
    path, _, prefix = url[len(start) :].partition(":")
    if path.endswith("/") or not url.isprintable():
        return "must name a socket after unix:, as in unix:/run/app.sock"
    if len(path.encode()) > 107:
        return "has a path of more than 107 bytes, which is the most that a socket can have"
    if prefix and (not prefix.startswith("/") or any(c in ' "<>?#\\^`{|}' for c in prefix)):
        return 'may have a path prefix after the socket and a ":", as in unix:/run/app.sock:/prefix'
    return None
