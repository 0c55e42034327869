"""Settings of nginx that a location shares with others: guards, fields, pages for errors, and the cache."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any

from edgerouter.cache import DISABLED, CachePolicy
from edgerouter.error_pages import ErrorPage
from edgerouter.errors import ConfigError
from edgerouter.guarding import AddressPolicy, BasicAuth, RateLimit
from edgerouter.importing.nginx_directives import Directive, seconds
from edgerouter.importing.nginx_scope import Scope
from edgerouter.routes import HeaderEdits, HeaderPolicy, When

__all__ = ["SharedSettings"]

#: Fields that the edge sets itself, or passes by itself.
_OWN_FIELDS = ("host", "upgrade", "connection", "x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host",
               "x-forwarded-port", "x-forwarded-server", "x-scheme")  # fmt: skip


class SharedSettings:
    """Reads the settings of a scope as arguments of a route. ``limits``: rate limits by the name of their zone."""

    def __init__(self, limits: dict[str, RateLimit]) -> None:
        self._limits = limits

    def guards(self, scope: Scope) -> dict[str, Any]:
        guards: dict[str, Any] = {}
        if (addresses := self._addresses(scope)) is not None:
            guards["addresses"] = addresses
        realm, users = scope.last("auth_basic"), scope.last("auth_basic_user_file")
        if realm is not None and realm.args[:1] != ["off"] and users is not None and users.args:
            users.choice("passwords must be bcrypt or argon2 (edgerouter password); those of apr1 or crypt are refused")
            name = realm.args[0] if realm.args and "$" not in realm.args[0] else None
            guards["basic"] = BasicAuth(users.args[0], realm=name)
        satisfy = scope.last("satisfy")
        if satisfy is not None and satisfy.args[:1] == ["any"] and len(guards) > 1:
            satisfy.left_out("a client must meet all guards, not any of them")
        found = (self._limit(directive) for directive in scope.level("limit_req"))
        limits = [limit for limit in found if limit is not None]
        if limits:
            guards["rate_limit"] = tuple(limits)
        return guards

    def _limit(self, directive: Directive) -> RateLimit | None:
        options = dict(part.split("=", 1) for part in directive.args if "=" in part)
        zone = self._limits.get(options.get("zone", ""))
        if zone is None:
            directive.left_out("its zone is not in this file, or no rate limit")
            return None
        burst = int(options.get("burst", "0")[:6]) if options.get("burst", "0").isdigit() else 0
        fields: dict[str, Any] = {"burst": burst + 1}
        if burst and "nodelay" not in directive.args:
            wait = burst * float(zone.per if isinstance(zone.per, (int, float)) else 60) / zone.requests
            fields = {"burst": 1, "delay": min(30, round(wait, 1))}
        return RateLimit(zone.name, zone.requests, per=zone.per, by=zone.by, **fields)

    def _addresses(self, scope: Scope) -> AddressPolicy | None:
        rules = [rule for rule in scope.level("allow", "deny") if rule.args and rule.args[0] != "unix:"]
        allow: list[str] = []
        deny: list[str] = []
        closed = False
        for rule in rules:
            if rule.args[0] == "all":
                closed = rule.name == "deny"
                break
            if rule.name == "allow":
                allow.append(rule.args[0])
            else:
                deny += _without(rule.args[0], allow)
        if not deny and not closed:
            return None
        try:
            return AddressPolicy(allow=allow if closed else None, deny=deny)
        except ConfigError as error:
            rules[0].left_out(f"edgerouter refuses the list, and nobody passes: {error.problems[0].message}")
            return AddressPolicy(deny=["0.0.0.0/0", "::/0"])

    def fields(self, scope: Scope, upstream: bool) -> HeaderPolicy | None:
        added: dict[str, list[str]] = {}
        for header in scope.level("add_header"):
            if len(header.args) >= 2 and "$" not in header.args[1]:
                added.setdefault(header.args[0], []).append(header.args[1])
            elif len(header.args) < 2 or header.args[0].lower() not in ("x-cache", "x-cache-status", "x-proxy-cache"):
                header.left_out("values with variables are set by a viewer_response hook")
            else:
                header.choice("Cache-Status says how a response was made")
        request: dict[str, str] = {}
        remove: list[str] = []
        hidden = [name for directive in scope.level("proxy_hide_header") for name in directive.args[:1]]
        if upstream:
            for header in scope.level("proxy_set_header"):
                if len(header.args) != 2 or header.args[0].lower() in _OWN_FIELDS:
                    continue
                name, value = header.args
                if value == "":
                    remove.append(name)
                elif "$" in value:
                    if value != f"$http_{name.lower().replace('-', '_')}":
                        header.left_out("values with variables are set by an origin_request hook")
                else:
                    request[name] = value
        expires = scope.last("expires")
        set_: dict[str, str] = {}
        if expires is not None and expires.args and expires.args[0] != "off":
            value = expires.args[-1]
            number = 315_360_000 if value == "max" else seconds(value)
            if value == "epoch" or value.startswith("-"):
                set_["Cache-Control"] = "no-cache"
            elif number is None or value.startswith("@"):
                expires.left_out("is no time that Cache-Control can have")
            else:
                set_["Cache-Control"] = f"max-age={number}"
                if names := [name for name in added if name.lower() == "cache-control"]:
                    set_["Cache-Control"] = ", ".join([*added.pop(names[0]), set_["Cache-Control"]])
        plain = {name: values[0] if len(values) == 1 else tuple(values) for name, values in added.items()}
        try:
            edits = HeaderPolicy(
                request=HeaderEdits(set=request, remove=remove),
                response=HeaderEdits(set=set_, add=plain, remove=hidden if upstream else ()),
            )
        except ConfigError as error:
            scope.place.left_out(f"edgerouter refuses its fields: {error.problems[0].message}")
            return None
        return None if edits == HeaderPolicy() else edits

    def errors(self, scope: Scope) -> dict[str, Any]:
        pages: dict[int, str | ErrorPage] = {}
        for directive in scope.level("error_page"):
            statuses = [int(part) for part in directive.args[:-1] if re.fullmatch(r"[45]\d\d", part)]
            page = directive.args[-1] if directive.args else ""
            if any(part.startswith("=") for part in directive.args):
                directive.left_out("a page is sent with the status of the error")
            if not page.startswith("/") or "$" in page:
                directive.left_out("a page is a path; see errors=")
                continue
            pages |= dict.fromkeys(statuses, page)
        return {"errors": pages} if pages else {}

    def cache(self, scope: Scope) -> tuple[CachePolicy, list[When]]:
        zone = scope.last("proxy_cache")
        valid = scope.level("proxy_cache_valid")
        key, stale = scope.last("proxy_cache_key"), scope.last("proxy_cache_use_stale")
        bypass = scope.level("proxy_cache_bypass", "proxy_no_cache")
        ignored = scope.last("proxy_ignore_headers")
        scope.last("proxy_cache_background_update")
        if zone is None or zone.args[:1] == ["off"]:
            return DISABLED, []
        fields: dict[str, Any] = {}
        for directive in valid:
            self._valid(directive, fields, ignored is not None and "Cache-Control" in ignored.args)
        if ignored is not None and "Set-Cookie" in ignored.args:
            ignored.choice("responses with Set-Cookie are stored without it")
            fields["set_cookie"] = "strip"
        if key is not None:
            fields |= _keyed(key.text)
        if stale is not None and set(stale.args) - {"off", "updating"}:
            fields["stale_if_error"] = 86_400
            stale.choice("nginx sends stale responses of any age; here they are a day past their expiry at most")
        if stale is not None and "updating" in stale.args:
            fields["stale_while_revalidate"] = 86_400
        for directive in scope.level("proxy_cache_min_uses"):
            directive.left_out("a response is stored at its first request")
        whens: list[When] = []
        for directive in bypass:
            for name in directive.args:
                found = re.fullmatch(r"\$(cookie|http|arg)_(\w+)", name)
                if found is None:
                    directive.left_out("is no cookie, field or parameter that when= could test")
                    continue
                kind = {"cookie": "cookie", "http": "header", "arg": "query"}[found[1]]
                value = found[2].replace("_", "-") if kind == "header" else found[2]
                when = When(**{kind: value})  # type: ignore[arg-type]
                if when not in whens:
                    whens.append(when)
        try:
            return CachePolicy(**fields), whens
        except ConfigError as error:
            zone.left_out(f"edgerouter refuses the policy, nothing is stored: {error.problems[0].message}")
            return DISABLED, []

    def _valid(self, directive: Directive, fields: dict[str, Any], overriding: bool) -> None:
        time = seconds(directive.args[-1]) if directive.args else None
        statuses = directive.args[:-1] or ["200", "301", "302"]
        if time is None:
            directive.left_out("is no time")
            return
        if "200" in statuses or "any" in statuses:
            fields.setdefault("ttl" if overriding else "default_ttl", time)
        errors = [int(status) for status in statuses if re.fullmatch(r"[345]\d\d", status) and int(status) >= 400]
        if "any" in statuses:
            errors += [404, 410]
            directive.choice("any stands for 200, 404 and 410")
        if errors:
            fields.setdefault("negative_ttl", {})
            fields["negative_ttl"] |= {status: time for status in errors if status not in fields["negative_ttl"]}


def _keyed(key: str) -> dict[str, Any]:
    """The parts of a request that a key has beside the path, as fields of a policy."""
    names = [braced or plain for braced, plain in re.findall(r"\$(?:\{(\w+)\}|(\w+))", key)]

    def of(prefix: str) -> list[str]:
        return list(dict.fromkeys(name.removeprefix(prefix) for name in names if name.startswith(prefix)))

    fields: dict[str, Any] = {}
    if not {"request_uri", "args", "query_string", "is_args"} & set(names):
        fields["query"] = of("arg_") or "none"
    if cookies := of("cookie_"):
        fields["cookies"] = cookies
    if headers := of("http_"):
        fields["headers"] = [name.replace("_", "-") for name in headers if name != "host"]
    return fields


def _without(denied: str, allowed: list[str]) -> list[str]:
    """The networks of a rule without those that a rule before it allows: nginx takes the first that fits, and each
    ``deny`` has precedence here."""
    try:
        left: list[Any] = [ip_network(denied, strict=False)]
        before: list[Any] = [ip_network(text, strict=False) for text in allowed]
    except ValueError:
        return [denied]
    whole = list(left)
    for other in before:
        kept: list[Any] = []
        for one in left:
            if one.version != other.version or not one.overlaps(other):
                kept.append(one)
            elif not one.subnet_of(other):
                kept += sorted(one.address_exclude(other))
        left = kept
    return [denied] if left == whole else [str(network) for network in left]
