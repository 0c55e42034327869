"""Guarding: which clients and which pages may use a route, and what browsers may do with its responses.

These values only say so; the decisions are the core's (``docs/guarding.md``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from edgerouter.cache import Duration
from edgerouter.checks import Check, Value, is_country, is_token, listed, shown
from edgerouter.errors import ConfigError, Problem
from edgerouter.secrets import Secret, as_secret, part, reveal, secret_file, text_or_file

__all__ = ["AddressPolicy", "BasicAuth", "Cors", "Hsts", "RateLimit", "SecurityHeaders", "SignedUrls"]


_NETWORK = 'an address or a network such as "10.0.0.0/8", IPv4 written as IPv4'


def _is_network(text: str) -> bool:
    import ipaddress

    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    # The edge reads an IPv4 address in its IPv6 form as IPv4.
    return network.version == 4 or network.prefixlen < 96 or network.network_address.ipv4_mapped is None


class AddressPolicy(Value, frozen=True, kw_only=True):
    """The clients that a site or a route serves, by address, country or network operator; others get 403.

    ``allow``  only these addresses and networks are served; ``None``: all
    ``deny``  these are not served, even if they are allowed
    ``allow_countries``, ``deny_countries``  the same by country (ISO 3166-1, as in ``["DE", "AT"]``; ``Edge.geo``)
    ``allow_asns``, ``deny_asns``  the same by the number of the autonomous system that announces the address

    With more than one list of what is served, a client that is in one of them is served. A client whose place is not
    known is in no list by country or number.
    """

    allow: Collection[str] | None = None
    deny: Collection[str] = ()
    allow_countries: Collection[str] | None = None
    deny_countries: Collection[str] = ()
    allow_asns: Collection[int] | None = None
    deny_asns: Collection[int] = ()

    def _check(self, check: Check) -> None:
        must = f"must be {_NETWORK}"
        check.texts("allow", optional=True, test=_is_network, must=must)
        check.texts("deny", test=_is_network, must=must)
        must = 'must be two letters as in "DE" (ISO 3166-1)'
        check.texts("allow_countries", optional=True, test=is_country, must=must)
        check.texts("deny_countries", test=is_country, must=must)
        for field in ("allow_asns", "deny_asns"):
            numbers = listed(value) if (value := getattr(self, field)) is not None else ()
            if numbers is None or not all(type(number) is int and 0 <= number < 1 << 32 for number in numbers):
                check.fail(field, "must be a list of numbers of autonomous systems, as in [64500]")
            elif value is not None:
                check.keep(field, tuple(numbers))
        allowing = (self.allow, self.allow_countries, self.allow_asns)
        if all(given is None for given in allowing) and not (self.deny or self.deny_countries or self.deny_asns):
            check.fail_secretly("allow", "must be given, or another list: without any it has no effect")
        named = [listed(given) for given in allowing if given is not None]
        if named and all(members == [] for members in named):
            check.fail("allow", "is empty and would serve nobody: name who is served, or leave the list out")


def _is_method(text: str) -> bool:
    return is_token(text) and text == text.upper() and text not in ("CONNECT", "TRACE", "TRACK")


class Cors(Value, frozen=True, kw_only=True):
    """Pages of other origins that may use a route (Fetch §3.2). The edge answers preflights itself, before any token.

    ``origins``  ``"*"``, or a list such as ``["https://app.example.com", "https://*.example.com"]``
    ``methods``  methods that preflights allow; ``"*"``: all
    ``headers``  request fields that preflights allow; ``"*"``: all but ``Authorization``
    ``expose``  response fields that pages may read; ``"*"``: all
    ``credentials``  requests with cookies count, too; not together with ``"*"`` anywhere
    ``max_age``  seconds for which a browser keeps the answer to a preflight
    """

    _example: ClassVar[str] = 'Cors(origins=["https://app.example.com"])'

    origins: Literal["*"] | Collection[str]
    methods: Literal["*"] | Collection[str] = ("GET", "HEAD", "POST")
    headers: Literal["*"] | Collection[str] = ()
    expose: Literal["*"] | Collection[str] = ()
    credentials: bool = False
    max_age: Duration = 600

    def _check(self, check: Check) -> None:
        for field, test, must in (
            ("origins", _is_origin, 'must be an origin such as "https://app.example.com", without a path'),
            ("methods", _is_method, "must be a method that browsers send, in upper case"),
            ("headers", is_token, "must be the name of a field"),
            ("expose", is_token, "must be the name of a field"),
        ):
            value = getattr(self, field)
            if value == "*":
                continue
            if "*" in (listed(value) or ()):
                check.fail(field, 'must be "*" alone, not a member of the list')
            else:
                check.texts(field, test=test, must=must)
        if not self.origins:
            check.fail("origins", "must name at least one origin; without any leave cors out")
        check.flag("credentials")
        if self.credentials is True:
            for field in ("origins", "methods", "headers", "expose"):
                if getattr(self, field) == "*":
                    check.fail(field, 'must be a list where credentials=True: "*" is for requests without them only')
        check.seconds("max_age", whole=True)


def _is_origin(text: str) -> bool:
    """A first look; the core reads it exactly."""
    scheme, colon, rest = text.partition("://")
    return text == "null" or bool(scheme and colon and rest and not set(rest) & set("/?#@ "))


_LIMITED = re.compile(r"address\Z|network\Z|route\Z|(?:header|cookie|claim):(?P<name>.+)\Z")


class RateLimit(Value, frozen=True):
    """A bound on requests in a time, counted apart for each client, or for each value of a field, cookie or claim.

    ``name``  routes that name the same limit share its counts
    ``requests``, ``per``  so many in so many seconds, a day at most; a key earns them at an even pace
    ``by``  ``"address"``, ``"network"``, ``"route"`` (all together), ``"header:NAME"``, ``"cookie:NAME"`` or
        ``"claim:NAME"``; the address where there is no such value
    ``burst``  requests that may come at once; ``None``: as many as ``requests``
    ``delay``  seconds that a request over the burst may wait for its turn; 0: it is refused with 429
    """

    _example: ClassVar[str] = 'RateLimit("login", requests=5, per=60)'

    name: str
    requests: int
    per: Duration = 60
    by: str = "address"
    burst: int | None = None
    delay: Duration = 0

    def _check(self, check: Check) -> None:
        check.label("name")
        check.whole("requests", least=1, most=1_000_000_000)
        check.whole("burst", least=1, most=1_000_000_000, optional=True)
        check.seconds("per", positive=True, whole=True)
        check.seconds("delay")
        if isinstance(self.per, int) and self.per > 86_400:
            check.fail("per", "must be ≤ 86400 seconds, a day")
        if isinstance(self.delay, (int, float)) and self.delay > 30:
            check.fail("delay", "must be ≤ 30 seconds")
        found = _LIMITED.match(self.by) if isinstance(self.by, str) else None
        if found is None or (
            not self.by.startswith("claim:") and found["name"] is not None and not is_token(found["name"])
        ):
            check.fail("by", 'must be "address", "network", "route", "header:NAME", "cookie:NAME" or "claim:NAME"')


_KEY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")


class SignedUrls(Value, frozen=True, kw_only=True):
    """URLs that only a signature opens, in the query or in cookies, in CloudFront's form (``docs/guarding.md``).

    ``keys``  public keys by their ``Key-Pair-Id``, RSA or EC on P-256: PEM text, a path, or a secret
    ``secrets``  shared secrets by their ``Key-Pair-Id``, for HMAC with SHA-256; ``sign`` signs with them
    ``sha1``  signatures over SHA-1 count, which is CloudFront's default; ``False``: ``Hash-Algorithm=SHA256`` only
    """

    _secret: ClassVar[bool] = True
    _remedy: ClassVar[str] = 'write SignedUrls(secrets={"main": env("URL_SECRET")})'

    keys: Mapping[str, Secret | str | os.PathLike[str]] = {}
    secrets: Mapping[str, Secret | str] = {}
    sha1: bool = True

    def _check(self, check: Check) -> None:
        check.flag("sha1")
        names: set[str] = set()
        are_keys = True
        for field in ("keys", "secrets"):
            given = getattr(self, field)
            if not isinstance(given, Mapping):
                check.fail_secretly(field, "must be a mapping of key names to keys")
                return
            for name, value in given.items():
                if not isinstance(name, str) or not _KEY_NAME.match(name) or name in names:
                    must = "must be a name of letters, digits, -, _ and ., once"
                    check.fail(field, must, value=name)
                if not isinstance(value, (Secret, str, os.PathLike, Mapping)):
                    check.fail_secretly(f"{field}[{name!r}]", "must be a secret or a text")
                    are_keys = False
                names.add(name)
        if not names:
            check.fail_secretly("keys", "must name at least one key, or secrets")
        elif are_keys:
            check.keep("keys", {name: _public(check, name, key) for name, key in self.keys.items()})
            check.keep(
                "secrets", {name: _kept(check, f"secrets[{name!r}]", secret) for name, secret in self.secrets.items()}
            )

    def sign(
        self,
        url: str,
        *,
        expires: float | timedelta,
        key: str | None = None,
        resource: str | None = None,
        starts: float | None = None,
        network: str | None = None,
    ) -> str:
        """The URL with the signature of a shared secret. Public keys have their own signers, such as botocore's.

        The URL is ``https://host/path?query`` as a page has it; other characters than ASCII are escaped as browsers do,
        and escapes of the path are brought into their normal form (RFC 3986 §6.2.2).

        ``expires``  Unix time, or a ``timedelta`` from now
        ``key``  the name of the secret; the only one when ``None``
        ``resource``  a pattern of URLs, with ``*`` and ``?``, in place of this one
        ``starts``  Unix time before which the URL stays closed
        ``network``  the address or network that may use it
        """
        import base64
        import hashlib
        import hmac
        import json
        import time
        from urllib.parse import quote

        def fail(field: str, value: object, must: str) -> ConfigError:
            return ConfigError([Problem("SignedUrls.sign", shown(value), f"{field} {must}")])

        if key is None and len(self.secrets) == 1:
            (key,) = self.secrets
        secret = None if key is None else self.secrets.get(key)
        if not isinstance(secret, Secret):
            known = ", ".join(self.secrets) or "there are none"
            raise ConfigError([Problem("SignedUrls.sign", key, f"key must be the name of a shared secret: {known}")])
        # Neither would open anything.
        if resource is not None and not re.match(r"https?://|http\*://|\*", resource):
            raise fail(
                "resource", resource, 'must be a pattern of whole URLs, as in "https://www.example.com/videos/*"'
            )
        if network is not None and not _is_network(network):
            raise fail("network", network, f"must be {_NETWORK}")
        url = _signable(url)
        end = time.time() + expires.total_seconds() if isinstance(expires, timedelta) else expires
        if not _is_unix_time(end):
            raise fail("expires", expires, "must be a Unix time, or a timedelta from now")
        until = int(end)
        conditions: dict[str, Any] = {"DateLessThan": {"AWS:EpochTime": until}}
        if starts is not None:
            if not _is_unix_time(starts):
                raise fail("starts", starts, "must be a Unix time")
            if int(starts) >= until:
                raise fail("starts", starts, f"must be before expires, which is {until}: the URL would never be open")
            conditions["DateGreaterThan"] = {"AWS:EpochTime": int(starts)}
        if network is not None:
            conditions["IpAddress"] = {"AWS:SourceIp": network}
        policy = {
            "Statement": [{"Resource": quote(resource, safe=_UNESCAPED) if resource else url, "Condition": conditions}]
        }
        text = json.dumps(policy, separators=(",", ":"), ensure_ascii=False).encode()
        mac = hmac.new(reveal(secret, "SignedUrls.secrets").encode(), text, hashlib.sha256).digest()

        def encoded(data: bytes) -> str:
            return base64.b64encode(data).decode().translate(str.maketrans("+/=", "-~_"))

        custom = resource is not None or len(conditions) > 1
        said = f"Policy={encoded(text)}" if custom else f"Expires={until}"
        return f"{url}{'&' if '?' in url else '?'}{said}&Signature={encoded(mac)}&Key-Pair-Id={key}"


def _is_unix_time(given: object) -> bool:
    return not isinstance(given, bool) and isinstance(given, (int, float)) and 1 <= given < 10**15


#: Characters that browsers send as they are in a path and a query.
_UNESCAPED = "!$%&'()*+,-./:;=?@[]_{|}~"
_PARAMETERS = ("Policy", "Expires", "Signature", "Key-Pair-Id", "Hash-Algorithm")


def _signable(url: str) -> str:
    """The URL as the edge sees it when it is requested."""
    from urllib.parse import quote, unquote, urlsplit

    from edgerouter import _core

    def fail(must: str) -> ConfigError:
        return ConfigError([Problem("SignedUrls.sign", shown(url), f"url {must}")])

    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except (ValueError, AttributeError, TypeError):
        raise fail('must be a URL such as "https://www.example.com/videos/1.mp4"') from None
    if scheme not in ("http", "https") or not host or "@" in parts.netloc:
        raise fail('must begin with https:// or http:// and a host, as in "https://www.example.com/videos/1.mp4"')
    if "#" in url:
        raise fail("must have no fragment: browsers do not send it, so put it behind the signature")
    if any(unquote(segment) in (".", "..") for segment in parts.path.split("/")):
        raise fail("must have no segments . and ..: browsers resolve them before they request it")
    for name in _PARAMETERS:
        if any(pair.split("=", 1)[0] == name for pair in parts.query.split("&")):
            raise fail(f"has the parameter {name}, which belongs to signatures: sign the URL without it")
    if not host.isascii():
        raise fail("must have the host in ASCII, as in xn--bcher-kva.example")
    text = f"{scheme}://{f'[{host}]' if ':' in host else host.rstrip('.')}"
    if port is not None and port != {"http": 80, "https": 443}[scheme]:
        text += f":{port}"
    try:
        # The edge compares it in this form (RFC 3986 §6.2.2).
        text += _core.normalise_path(quote(parts.path or "/", safe=_UNESCAPED))
    except ValueError as error:
        raise fail(f"must have another path: {error}") from None
    return f"{text}?{quote(parts.query, safe=_UNESCAPED)}" if parts.query else text


def _public(check: Check, name: object, key: Any) -> Secret | None:
    """A key of a plan file is a mapping already."""
    field = f"keys[{name!r}]"
    if isinstance(key, Mapping):
        return check.made(field, Secret, key)
    return part(check, field, lambda: text_or_file(key, "-----BEGIN"))


def _kept(check: Check, field: str, secret: Any) -> Secret | None:
    if isinstance(secret, Mapping):
        return check.made(field, Secret, secret)
    return part(check, field, lambda: as_secret(secret))


class BasicAuth(Value, frozen=True):
    """Users with passwords (RFC 7617). ``Authorization`` does not go to the origin.

    ``users``  a file with lines ``USER:HASH``, as ``edgerouter password USER`` writes them: a path, or a secret
    ``realm``  shown by browsers; the edge's name when ``None``
    """

    _secret: ClassVar[bool] = True
    _remedy: ClassVar[str] = 'write BasicAuth("staff.htpasswd")'

    users: Secret | str | os.PathLike[str]
    realm: str | None = None

    def _check(self, check: Check) -> None:
        if isinstance(self.users, Mapping):
            if not self.users or not all(name in Secret.__struct_fields__ for name in self.users):
                message = (
                    "must be a file with lines USER:HASH, as edgerouter password writes them: its path, or a secret"
                )
                check.fail_secretly("users", message)
            elif (made := check.made("users", Secret, self.users)) is not None:
                check.keep("users", made)
        elif isinstance(self.users, str) and ("\n" in self.users or ":$" in self.users):
            check.fail_secretly("users", "must be the name of a file; give lines themselves as Secret.literal(text)")
        elif isinstance(users := self.users, (str, os.PathLike)):
            if (made := part(check, "users", lambda: secret_file(users))) is not None:
                check.keep("users", made)
        elif not isinstance(self.users, Secret):
            check.fail_secretly("users", "must be a path, or a secret such as env(...) or secret_file(...)")
        check.text("realm", optional=True)


class Hsts(Value, frozen=True, kw_only=True):
    """``Strict-Transport-Security`` (RFC 6797): browsers use https only. It is sent over https only.

    ``max_age``  seconds; 0 ends it
    ``include_subdomains``  for all names below the host, too
    ``preload``  the site may be put on browsers' lists; needs a year and ``include_subdomains``
    """

    max_age: Duration = 63_072_000
    include_subdomains: bool = False
    preload: bool = False

    def _check(self, check: Check) -> None:
        check.seconds("max_age", whole=True)
        check.flag("include_subdomains", "preload")
        if self.preload is True and not (
            self.include_subdomains and isinstance(self.max_age, int) and self.max_age >= 31_536_000
        ):
            check.fail("preload", "needs include_subdomains=True and max_age of a year (31536000) or more")


ReferrerPolicy: TypeAlias = Literal[
    "no-referrer",
    "no-referrer-when-downgrade",
    "same-origin",
    "origin",
    "strict-origin",
    "origin-when-cross-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
]
OpenerPolicy: TypeAlias = Literal["unsafe-none", "same-origin-allow-popups", "same-origin", "noopener-allow-popups"]
EmbedderPolicy: TypeAlias = Literal["unsafe-none", "require-corp", "credentialless"]
ResourcePolicy: TypeAlias = Literal["same-site", "same-origin", "cross-origin"]


class SecurityHeaders(Value, frozen=True, kw_only=True):
    """Fields that restrict browsers, set on every response and never stored. ``None`` leaves a field out.

    ``hsts``  ``Strict-Transport-Security``, over https only
    ``csp``, ``csp_report_only``  ``Content-Security-Policy``, which may hold hashes, and ``'nonce-{nonce}'``
    ``nonce``  the placeholder that pages have in the place of a nonce: 24 to 64 letters, digits, ``-`` and ``_``, as
        random as a key. Each response gets another nonce, stored ones included
    ``permissions_policy``  ``Permissions-Policy``, such as ``"camera=(), geolocation=(self)"``
    ``nosniff``  ``X-Content-Type-Options: nosniff``
    ``frame``  ``X-Frame-Options``
    ``referrer_policy``  ``Referrer-Policy``
    ``coop``, ``coep``, ``corp``  ``Cross-Origin-Opener-Policy``, ``-Embedder-Policy`` and ``-Resource-Policy``
    ``override``  they replace fields of the origin; ``False``: the origin's are kept
    """

    hsts: Hsts | Mapping[str, Any] | None = None
    csp: str | None = None
    csp_report_only: str | None = None
    nonce: Secret | str | None = None
    permissions_policy: str | None = None
    nosniff: bool = True
    frame: Literal["DENY", "SAMEORIGIN"] | None = "SAMEORIGIN"
    referrer_policy: ReferrerPolicy | None = "strict-origin-when-cross-origin"
    coop: OpenerPolicy | None = None
    coep: EmbedderPolicy | None = None
    corp: ResourcePolicy | None = None
    override: bool = True

    def _check(self, check: Check) -> None:
        check.instance("hsts", Hsts, optional=True)
        check.text("csp", "csp_report_only", "permissions_policy", optional=True)
        self._check_nonce(check)
        check.flag("nosniff", "override")
        for field, kind in (
            ("frame", Literal["DENY", "SAMEORIGIN"]),
            ("referrer_policy", ReferrerPolicy),
            ("coop", OpenerPolicy),
            ("coep", EmbedderPolicy),
            ("corp", ResourcePolicy),
        ):
            if getattr(self, field) is not None:
                check.choice(field, get_args(kind))

    def _check_nonce(self, check: Check) -> None:
        policies = [text for text in (self.csp, self.csp_report_only) if isinstance(text, str)]
        named = any("'nonce-{nonce}'" in text for text in policies)
        if self.nonce is None:
            if named:
                must = "is required: csp has 'nonce-{nonce}', and this is the text that pages have in its place"
                check.fail_secretly("nonce", must)
        elif not isinstance(self.nonce, (Secret, str, Mapping)):
            check.fail_secretly("nonce", "must be a secret or a text")
        elif not named:
            check.fail_secretly("nonce", "has no effect: write 'nonce-{nonce}' in csp or csp_report_only")
        else:
            check.keep("nonce", _kept(check, "nonce", self.nonce))
