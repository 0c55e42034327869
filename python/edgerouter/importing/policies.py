"""CloudFront's policies: those of the source by their identifiers, and the older settings of a behaviour itself."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

from edgerouter import cache
from edgerouter.cache import CachePolicy, Names, Selection
from edgerouter.checks import listed
from edgerouter.errors import ConfigError
from edgerouter.guarding import Cors, Hsts, SecurityHeaders
from edgerouter.importing.managed_policies import (
    CACHE_POLICIES,
    METHODS,
    ORIGIN_REQUEST_POLICIES,
    RESPONSE_HEADERS_POLICIES,
    KeyPolicy,
    RequestPolicy,
    ResponsePolicy,
)
from edgerouter.importing.nodes import Node

__all__ = ["Policies", "extra_names", "forwarded_values", "united"]

_Policy: TypeAlias = "KeyPolicy | RequestPolicy | ResponsePolicy"
P = TypeVar("P", KeyPolicy, RequestPolicy, ResponsePolicy)


class Policies:
    """Policies by identifier: the managed ones, and those that the source defines."""

    def __init__(self) -> None:
        self._cache = _named(CACHE_POLICIES)
        self._request = _named(ORIGIN_REQUEST_POLICIES)
        self._response = _named(RESPONSE_HEADERS_POLICIES)
        self.managed_names = {policy.name for policy in CACHE_POLICIES.values()}

    @staticmethod
    def has_constant(policy: CachePolicy) -> bool:
        """The policy is a constant of ``edgerouter.cache``."""
        return policy in (cache.STANDARD, cache.OPTIMIZED, cache.DISABLED)

    # -- definitions -----------------------------------------------------------------------------------------------

    def define_cache(self, identifier: str, name: str, config: Node) -> None:
        """Reads a cache policy of the source."""
        config.ignore("Name", "Comment")
        key = config.table("ParametersInCacheKeyAndForwardedToOrigin")
        headers, host = _key_headers(key.table("HeadersConfig"))
        gzip, brotli = key.flag("EnableAcceptEncodingGzip"), key.flag("EnableAcceptEncodingBrotli")
        least, default, most = config.number("MinTTL"), config.number("DefaultTTL"), config.number("MaxTTL")
        made = _key_policy(
            config,
            name,
            host,
            default_ttl=86_400 if default is None else default,
            min_ttl=least or 0,
            max_ttl=31_536_000 if most is None else most,
            query=_selection(key.table("QueryStringsConfig"), "QueryStringBehavior", "QueryStrings"),
            cookies=_selection(key.table("CookiesConfig"), "CookieBehavior", "Cookies"),
            headers=headers,
            accept_encoding=bool(gzip or brotli),
        )
        self._cache[identifier] = made

    def define_request(self, identifier: str, name: str, config: Node) -> None:
        """Reads an origin request policy of the source."""
        config.ignore("Name", "Comment")
        fields = config.table("HeadersConfig")
        behaviour = fields.text("HeaderBehavior") or "none"
        names = [item.lower() for item in fields.texts("Headers")]
        host = behaviour in ("allViewer", "allViewerAndWhitelistCloudFront") or (
            behaviour == "whitelist" and "host" in names
        )
        without: list[str] = []
        if behaviour == "allExcept":
            host = "host" not in names
            without = [item for item in fields.texts("Headers") if item.lower() != "host"]
        _note_generated(fields, names if behaviour != "allExcept" else [])
        self._request[identifier] = RequestPolicy(
            name,
            _selection(config.table("QueryStringsConfig"), "QueryStringBehavior", "QueryStrings"),
            _selection(config.table("CookiesConfig"), "CookieBehavior", "Cookies"),
            tuple(without),
            host,
        )

    def define_response(self, identifier: str, name: str, config: Node) -> None:
        """Reads a response headers policy of the source."""
        config.ignore("Name", "Comment")
        fields: dict[str, str] = {}
        for item in config.items("CustomHeadersConfig"):
            field, value = item.text("Header"), item.text("Value")
            if field is None or value is None:
                item.left_out("needs Header and Value")
                continue
            fields[field] = value
            if item.flag("Override") is False:
                item.choice("replaces the origin's field, too; a viewer_response hook can keep that")
        remove = [gone for item in config.items("RemoveHeadersConfig") if (gone := item.text("Header"))]
        timing = config.table("ServerTimingHeadersConfig")
        if timing.flag("Enabled"):
            timing.left_out("Cache-Status says how a response was made; there is no Server-Timing")
        timing.ignore("SamplingRate")
        self._response[identifier] = ResponsePolicy(
            name, _cors(config.table("CorsConfig")), _security(config.table("SecurityHeadersConfig"), fields), fields,
            tuple(remove),
        )  # fmt: skip

    # -- references ------------------------------------------------------------------------------------------------

    def cache(self, reference: Node | None) -> KeyPolicy | None:
        """The cache policy of a behaviour; ``None`` if it names none."""
        if reference is None:
            return None
        found = _found(self._cache, reference, "cache.STANDARD, with the whole URL as key, is used")
        return found or KeyPolicy("unknown", cache.STANDARD)

    def request(self, reference: Node | None) -> RequestPolicy | None:
        """The origin request policy of a behaviour."""
        return None if reference is None else _found(self._request, reference, "only the key goes to the origin")

    def response(self, reference: Node | None) -> ResponsePolicy | None:
        """The response headers policy of a behaviour."""
        return None if reference is None else _found(self._response, reference, "no field is edited")


def _named(managed: Mapping[str, P]) -> dict[str, P]:
    named = dict(managed)
    for policy in managed.values():
        named[policy.name] = named[f"Managed-{policy.name}"] = policy
    return named


def _found(known: Mapping[str, P], reference: Node, otherwise: str) -> P | None:
    name = reference.as_text(raw=True) or ""
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 1, 0.75)
    remedy = f"; did you mean {near[0]} ({known[near[0]].name})?" if near else ""
    reference.left_out(f"is neither a managed policy nor in this file: {otherwise}{remedy}")
    return None


# -- keys --------------------------------------------------------------------------------------------------------------


def _key_policy(node: Node, name: str, host: bool, **fields: Any) -> KeyPolicy:
    if fields["max_ttl"] == 0:
        return KeyPolicy(name, cache.DISABLED, host, RequestPolicy(name, fields["query"], fields["cookies"]))
    if fields["min_ttl"] > fields["max_ttl"]:
        node.choice("MinTTL is above MaxTTL; MaxTTL is used for both")
        fields["min_ttl"] = fields["max_ttl"]
    try:
        return KeyPolicy(name, CachePolicy(request_directives=False, **fields), host)
    except ConfigError as error:
        node.left_out(f"edgerouter refuses this policy, cache.STANDARD is used: {error.problems[0].message}")
        return KeyPolicy(name, cache.STANDARD, host)


def _selection(config: Node, behaviour: str, names: str) -> Selection:
    kind = config.text(behaviour) or "none"
    listed_names = config.texts(names)
    if kind == "all":
        return "all"
    if kind == "whitelist" and listed_names:
        return listed_names
    if kind == "allExcept" and listed_names:
        return Names(exclude=listed_names)
    if kind == "allExcept":
        return "all"
    if kind not in ("none", "whitelist") and (found := config.child(behaviour)) is not None:
        found.left_out("must be none, whitelist, allExcept or all; none is used")
    return "none"


def _key_headers(config: Node) -> tuple[list[str], bool]:
    names = config.texts("Headers")
    kind = config.text("HeaderBehavior") or ("whitelist" if names else "none")
    if kind == "none":
        return [], False
    _note_generated(config, [name.lower() for name in names])
    kept = [name for name in names if name.lower() != "host" and not name.lower().startswith("cloudfront-")]
    return kept, any(name.lower() == "host" for name in names)


def _note_generated(config: Node, names: list[str]) -> None:
    """Notes fields that CloudFront itself adds to a request."""
    generated = [name for name in names if name.startswith("cloudfront-")]
    if generated and (found := config.child("Headers")) is not None:
        found.left_out(f"CloudFront made these fields itself, a hook can set their like: {', '.join(generated)}")


def forwarded_values(node: Node, name: str) -> KeyPolicy:
    """The key and lifetimes that a behaviour without a cache policy has in itself."""
    if not node.has("ForwardedValues"):
        if any(node.has(field) for field in ("MinTTL", "DefaultTTL", "MaxTTL")):
            return _lifetimes(node, name, "none", "none", [], False)
        node.choice("has no cache policy; cache.STANDARD follows the origin's Cache-Control, and the URL is the key")
        return KeyPolicy("standard", cache.STANDARD)
    values = node.table("ForwardedValues")
    keys = values.texts("QueryStringCacheKeys")
    query: Selection = "none"
    if values.flag("QueryString"):
        query = keys or "all"
    cookies: Selection = "none"
    table = values.table("Cookies")
    forward = table.text("Forward") or "none"
    if forward == "all":
        cookies = "all"
    elif forward == "whitelist":
        cookies = table.texts("WhitelistedNames") or "none"
    names = values.texts("Headers")
    if "*" in names:
        return KeyPolicy(name, cache.DISABLED, True, RequestPolicy(name, query, cookies))
    _note_generated(values, [item.lower() for item in names])
    kept = [item for item in names if item.lower() != "host" and not item.lower().startswith("cloudfront-")]
    return _lifetimes(node, name, query, cookies, kept, any(item.lower() == "host" for item in names))


def _lifetimes(
    node: Node, name: str, query: Selection, cookies: Selection, headers: list[str], host: bool
) -> KeyPolicy:
    least, default, most = node.number("MinTTL"), node.number("DefaultTTL"), node.number("MaxTTL")
    return _key_policy(
        node,
        f"{name}_policy",
        host,
        default_ttl=86_400 if default is None else default,
        min_ttl=least or 0,
        max_ttl=31_536_000 if most is None else most,
        query=query,
        cookies=cookies,
        headers=headers,
        accept_encoding=True,
    )


# -- selections --------------------------------------------------------------------------------------------------------


def _parts(selection: Selection) -> tuple[str, list[str]]:
    """``all`` or ``none``, or ``only`` and ``except`` with names."""
    if isinstance(selection, str):
        return selection, []
    if isinstance(selection, Names):
        if selection.only is not None:
            return "only", list(selection.only)
        return "except", list(selection.exclude or ())
    if isinstance(selection, Mapping):
        return "except", list(selection.get("except", ()))
    return "only", list(listed(selection) or ())


def united(one: Selection, other: Selection) -> Selection:
    """Everything that either selects."""
    kind, names = _parts(one)
    with_kind, with_names = _parts(other)
    if "all" in (kind, with_kind):
        return one if kind == "all" else other
    if with_kind == "none":
        return one
    if kind == "none":
        return other
    if (kind, with_kind) == ("only", "only"):
        extra = [name for name in with_names if name not in names]
        return Names(only=[*names, *extra]) if extra else one
    if (kind, with_kind) == ("except", "except"):
        both = [name for name in names if name in with_names]
        return Names(exclude=both) if both else "all"
    excluded, included = (names, with_names) if kind == "except" else (with_names, names)
    left = [name for name in excluded if name not in included]
    return Names(exclude=left) if left else "all"


def extra_names(keyed: Selection, sent: Selection) -> list[str] | None:
    """The names that are sent and not in the key; ``None`` if they cannot be listed."""
    kind, names = _parts(sent)
    if kind == "none":
        return []
    if kind != "only":
        return None
    key_kind, key_names = _parts(keyed)
    if key_kind == "except":
        return [name for name in names if name in key_names]
    return [name for name in names if key_kind != "all" and name not in key_names]


# -- response headers --------------------------------------------------------------------------------------------------


def _cors(config: Node) -> Cors | None:
    if config.is_empty:
        return None
    origins = config.texts("AccessControlAllowOrigins")
    methods = [method.upper() for method in config.texts("AccessControlAllowMethods")]
    headers, expose = config.texts("AccessControlAllowHeaders"), config.texts("AccessControlExposeHeaders")
    credentials = config.flag("AccessControlAllowCredentials") or False
    if config.flag("OriginOverride") is False:
        config.choice("fields of the origin are replaced by those of cors=")
    everything = methods == ["ALL"] or set(METHODS) <= set(methods)
    allowed: Any = METHODS if everything else tuple(method for method in methods if method != "OPTIONS")
    origins = [origin if "://" in origin or origin == "*" else f"https://{origin}" for origin in origins]
    fields: dict[str, Any] = {
        "origins": "*" if "*" in origins else origins,
        "methods": allowed or ("GET", "HEAD"),
        "headers": "*" if "*" in headers else headers,
        "expose": "*" if "*" in expose else expose,
        "credentials": credentials,
    }
    seconds = config.number("AccessControlMaxAgeSec")
    if seconds is not None:
        fields["max_age"] = seconds
    try:
        return Cors(**fields)
    except ConfigError as error:
        config.left_out(f"edgerouter refuses it: {error.problems[0].path}: {error.problems[0].message}")
        return None


def _security(config: Node, fields: dict[str, str]) -> SecurityHeaders | None:
    if config.is_empty:
        return None
    hsts_config = config.table("StrictTransportSecurity")
    chosen: dict[str, Any] = {"frame": None, "referrer_policy": None, "nosniff": False}
    for name in ("ContentTypeOptions", "FrameOptions", "ReferrerPolicy", "ContentSecurityPolicy"):
        config.table(name).ignore("Override")
    hsts_config.ignore("Override")
    chosen["nosniff"] = config.has("ContentTypeOptions")
    chosen["frame"] = config.table("FrameOptions").text("FrameOption")
    chosen["referrer_policy"] = config.table("ReferrerPolicy").text("ReferrerPolicy")
    chosen["csp"] = config.table("ContentSecurityPolicy").text("ContentSecurityPolicy")
    protection = config.table("XSSProtection")
    if protection.flag("Protection"):
        fields["X-XSS-Protection"] = "1; mode=block" if protection.flag("ModeBlock") else "1"
    elif config.has("XSSProtection"):
        fields["X-XSS-Protection"] = "0"
    protection.ignore("Override")
    protection.without("ReportUri", "browsers do not use it any more")
    try:
        if not hsts_config.is_empty:
            chosen["hsts"] = Hsts(
                max_age=hsts_config.number("AccessControlMaxAgeSec") or 0,
                include_subdomains=hsts_config.flag("IncludeSubdomains") or False,
                preload=hsts_config.flag("Preload") or False,
            )
        return SecurityHeaders(**chosen)
    except ConfigError as error:
        config.left_out(f"edgerouter refuses it: {error.problems[0].path}: {error.problems[0].message}")
        return None
