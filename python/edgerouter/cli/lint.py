"""Advice about a plan that is valid and still dangerous.

Each rule looks at the plan's data alone. It fires only where the plan says something unusual, so that a site with the
defaults gets no advice; what it prints names the route, the danger and the way out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

__all__ = ["Advice", "advise"]

Data: TypeAlias = Mapping[str, Any]


class Advice(NamedTuple):
    """Where, which rule, and what to do."""

    path: str
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message} [{self.rule}]"


def advise(plan: Data, unreachable: Sequence[tuple[str, str]] = ()) -> list[Advice]:
    """All the advice about a plan, in the order of its routes."""
    found = [
        Advice("routes", "unreachable", f"{label} can never match: {by} takes all its requests; remove it or reorder")
        for label, by in unreachable
    ]
    for index, route in enumerate(plan.get("routes", ())):
        place = f"routes[{index}] {route.get('pattern')}"
        found += [Advice(place, name, message) for name, rule in _RULES for message in rule(route, plan)]
    return found


# -- cache poisoning ---------------------------------------------------------------------------------------------------


def _unkeyed_query(route: Data, _plan: Data) -> Iterator[str]:
    key, sent = _cache(route).get("query", "all"), _forward(route).get("query")
    if _stores(route) and sent is not None and not _covers(key, sent):
        yield (
            "query parameters go to the origin that are not in the cache key, so one visitor can choose what all get; "
            "forward no more than cache.query"
        )


def _unkeyed_cookies(route: Data, _plan: Data) -> Iterator[str]:
    key, sent = _cache(route).get("cookies"), _forward(route).get("cookies")
    if _stores(route) and key is not None and sent is not None and not _covers(key, sent):
        yield (
            "cookies go to the origin that are not in the cache key, so a page made for one visitor may be given to "
            "others; forward no more than cache.cookies"
        )


_REWRITING = ("x-original-url", "x-rewrite-url", "x-http-method-override", "x-forwarded-prefix", "x-host")


def _unkeyed_headers(route: Data, _plan: Data) -> Iterator[str]:
    sent = _forward(route).get("headers")
    if not _stores(route) or not isinstance(sent, Mapping):
        return
    keyed = {str(name).lower() for name in _cache(route).get("headers", ())}
    names = [str(name).lower() for name in sent.get("only") or ()]
    for name in names:
        if name in _REWRITING and name not in keyed:
            yield f"{name} is forwarded, origins answer by it, and it is not in the cache key; add it to cache.headers"


def _shared_identity(route: Data, _plan: Data) -> Iterator[str]:
    auth = route.get("auth")
    if _stores(route) and auth and auth.get("shared"):
        forwarded = auth.get("forward", {"userId": "X-User-ID"})
        if forwarded and not _cache(route).get("claims"):
            names = ", ".join(forwarded.values())
            yield (
                f"responses are shared by all visitors, and the origin is told who asks ({names}); forward nothing "
                "(forward={}) or put the claims in the key (cache.claims)"
            )


# -- cookies, redirects, transport -------------------------------------------------------------------------------------


def _stripped_cookies(route: Data, _plan: Data) -> Iterator[str]:
    policy = _cache(route)
    if _stores(route) and policy.get("set_cookie") == "strip":
        cookies = _forward(route).get("cookies", policy.get("cookies") or "all")
        if cookies != "none":
            yield (
                'set_cookie="strip" stores responses that were made with a visitor\'s cookies; send none '
                '(cookies="none") or refuse such responses'
            )


def _fixed_ttl_for_cookies(route: Data, _plan: Data) -> Iterator[str]:
    policy = _cache(route)
    forced = policy.get("ttl") or policy.get("min_ttl", 0) > 60
    if _stores(route) and forced and policy.get("cookies") is None and _forward(route).get("cookies") != "none":
        yield (
            "a lifetime is forced on responses although all cookies go to the origin, and they are in the key only "
            'where the origin says Vary: Cookie; set cache.cookies="none" or a list'
        )


_FREE_HOST = re.compile(r"https?://[^/?#]*\{", re.IGNORECASE)
_FIRST_PARAMETER = re.compile(r"/\{(\w+)\}")


def _open_redirect(route: Data, _plan: Data) -> Iterator[str]:
    location = (route.get("redirect") or {}).get("location", "")
    if _FREE_HOST.match(location):
        yield "the request chooses the host that it is sent to; write the host out and use parameters after it"
    elif (first := _FIRST_PARAMETER.match(location)) and f"{{{first[1]}:path}}" in str(route.get("pattern")):
        yield f"{location} could become //host and leave the site; put a fixed segment before the parameter"


def _no_https(route: Data, plan: Data) -> Iterator[str]:
    if route.get("viewer", "allow-all") != "allow-all" and not plan.get("trusted_proxies"):
        yield (
            f"viewer={route['viewer']!r} can only be met behind a proxy that ends TLS; name it in trusted_proxies, or "
            "no request gets through"
        )


def _unverified_origin(route: Data, plan: Data) -> Iterator[str]:
    groups = {group.get("name"): group.get("members", ()) for group in plan.get("groups", ())}
    members = groups.get(route.get("to"), [route.get("to")])
    for origin in plan.get("origins", ()):
        if origin.get("name") in members and origin.get("tls_verify") is False:
            yield f"origin {origin['name']} is not verified (tls_verify=False); give its CA as tls_ca instead"


_RULES: tuple[tuple[str, Callable[[Data, Data], Iterator[str]]], ...] = (
    ("cache-poisoning", _unkeyed_query),
    ("cache-poisoning", _unkeyed_cookies),
    ("cache-poisoning", _unkeyed_headers),
    ("shared-identity", _shared_identity),
    ("set-cookie", _stripped_cookies),
    ("set-cookie", _fixed_ttl_for_cookies),
    ("open-redirect", _open_redirect),
    ("https", _no_https),
    ("tls", _unverified_origin),
)


# -- reading the plan --------------------------------------------------------------------------------------------------


def _cache(route: Data) -> Data:
    policy: Data = route.get("cache") or {}
    return policy


def _forward(route: Data) -> Data:
    policy: Data = route.get("forward") or {}
    return policy


def _stores(route: Data) -> bool:
    return route.get("to") is not None and _cache(route).get("enabled", True) is not False


def _covers(key: Any, sent: Any) -> bool:
    """Whether every name that is sent is in the key."""
    if key == "all" or sent == "none":
        return True
    if key == "none":
        return isinstance(sent, Mapping) and sent.get("only") in ([], ())
    kept, left_out = set(key.get("only") or ()), set(key.get("except") or ())
    if sent == "all":
        return False
    if "only" in sent:
        return set(sent["only"]) <= kept if kept else not (set(sent["only"]) & left_out)
    return not kept and left_out <= set(sent.get("except") or ())
