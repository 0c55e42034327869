"""Page Rules of Cloudflare, in the JSON of its API, to a site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgerouter.cache import DISABLED, CachePolicy
from edgerouter.errors import ConfigError
from edgerouter.importing import patterns
from edgerouter.importing.model import Declared, Site, SiteRoute, redirect_to
from edgerouter.importing.nodes import Node
from edgerouter.importing.ordering import keep_order
from edgerouter.importing.patterns import UrlPattern
from edgerouter.importing.report import Report, SourceError
from edgerouter.importing.zones import route_for, zone_origin
from edgerouter.origins import Origin
from edgerouter.routes import HeaderEdits, HeaderPolicy, When

__all__ = ["is_page_rules", "read_page_rules"]

#: Actions that change nothing here, with the reason if it is worth one.
_WITHOUT = {
    "always_online": "stale copies are served while an origin is down, see stale_when_disconnected",
    "automatic_https_rewrites": "pages are not rewritten",
    "browser_check": "edgerouter does not judge browsers",
    "disable_zaraz": None,
    "disable_apps": None,
    "disable_performance": None,
    "disable_railgun": None,
    "disable_security": None,
    "email_obfuscation": "addresses in pages are not hidden; a transform of origin_response could do so",
    "explicit_cache_control": None,
    "ip_geolocation": "the country of a client comes from edge.geo(...), which needs a file of places",
    "minify": "files are not minified",
    "mirage": "images=Images(...) on the route makes images of several sizes and formats",
    "opportunistic_encryption": None,
    "origin_error_page_pass_thru": None,
    "polish": "images=Images(...) on the route makes images of several sizes and formats",
    "respect_strong_etag": None,
    "response_buffering": "responses are streamed",
    "rocket_loader": "pages are not rewritten",
    "security_level": "edgerouter does not judge clients; see addresses= and rate_limit=",
    "server_side_exclude": "pages are not rewritten",
    "true_client_ip_header": "the origin gets X-Forwarded-For",
    "waf": "edgerouter has no web application firewall",
}


def is_page_rules(root: Node) -> bool:
    """The document has the shape of a list of Page Rules."""
    rules = _rules(root)
    return bool(rules) and all(isinstance(rule.value, dict) and "actions" in rule.value for rule in rules)


def _rules(root: Node) -> list[Node]:
    if isinstance(root.value, list):
        root.used = True
        for rule in root.value:
            rule.used = True
        return root.value
    if isinstance(root.value, dict):
        for name in ("result", "page_rules", "pagerules"):
            if name in root.value:
                return root.items(name)
        if "actions" in root.value and "targets" in root.value:
            return [root]
    return []


def read_page_rules(root: Node, report: Report, file: Path) -> Site:
    """Reads a list of Page Rules. The rule with the highest priority that matches is the only one that counts."""
    root.ignore("success", "errors", "messages", "result_info")
    rules = _rules(root)
    if not rules:
        raise SourceError("has no Page Rules")
    return _PageRules(report, file).read(rules)


class _PageRules:
    def __init__(self, report: Report, file: Path) -> None:
        self._report = report
        self._site = Site(file.stem, report)
        self._origins: dict[tuple[object, ...], str] = {}
        self._zone = ""

    def read(self, rules: list[Node]) -> Site:
        found: list[tuple[int, Node, UrlPattern]] = []
        for rule in rules:
            rule.ignore("id", "created_on", "modified_on")
            if rule.text("status") == "disabled":
                rule.plain()
                rule.choice("the rule is switched off")
                continue
            priority = rule.number("priority") or 0
            pattern = self._target(rule)
            if pattern is not None:
                found.append((-priority, rule, pattern))
        hosts = [host.removeprefix("*.") for _, _, pattern in found for host in pattern.hosts]
        self._zone = min(hosts, key=len, default="")
        self._zone = self._zone.removeprefix("www.")
        site = self._site
        self._origin()
        for _, rule, pattern in sorted(found, key=lambda entry: entry[0]):
            site.routes += self._rule(rule, pattern)
        others = [self._zone, f"*.{self._zone}"] if self._zone else None
        last = {**({"host": others} if others else {}), "to": self._origin()}
        comment = "Cloudflare passes all other requests to the same server, and stores files by their names."
        self._report.note("choice", "other requests", "go to the same server, by cache.STANDARD")
        site.routes.append(SiteRoute("/*", last, [comment]))
        if keep_order(site.routes):
            site.comments.append("The rule with the highest priority counts; priority= keeps that order here.")
        return site

    def _origin(self, **fields: Any) -> str:
        key = tuple(sorted(fields.items()))
        if key not in self._origins:
            zone = self._zone or "origin"
            address = fields.pop("address", None)
            if address is not None:
                name = self._site.free_name(address)
                scheme = fields.pop("scheme", "https")
                origin = Origin(name, f"{scheme}://{address}", **{"host": "viewer", **fields})
                self._site.origins[name] = Declared(origin)
            else:
                named = str(fields.get("host") or (f"{zone}-http" if "scheme" in fields else zone))
                name = zone_origin(self._site, zone, self._report, f"zone {zone}", None, named=named, **fields)
            self._origins[key] = name
        return self._origins[key]

    def _target(self, rule: Node) -> UrlPattern | None:
        for target in rule.items("targets"):
            target.ignore("target")
            constraint = target.table("constraint")
            constraint.ignore("operator")
            text = constraint.text("value")
            pattern = patterns.split(text) if text else None
            if pattern is not None:
                return pattern
            target.left_out("is no pattern that edgerouter has: the rule is left out")
        rule.plain()
        return None

    def _rule(self, rule: Node, pattern: UrlPattern) -> list[SiteRoute]:
        actions = {}
        for action in rule.items("actions"):
            name = action.text("id")
            if name is None:
                action.left_out("has no id")
                continue
            action.child("value")
            actions[name] = action
        if "forwarding_url" in actions:
            return self._redirect(rule, actions["forwarding_url"], pattern)
        arguments: dict[str, Any] = {}
        if actions.pop("always_use_https", None) is not None:
            arguments["viewer"] = "redirect-to-https"
        arguments["to"] = self._origin(**self._origin_fields(actions))
        cookies = self._bypass(actions.pop("bypass_cache_on_cookie", None))
        policy = self._policy(rule, actions)
        if policy is not None:
            arguments["cache"] = policy
        browser = actions.pop("browser_cache_ttl", None)
        if browser is not None and (seconds := browser.number("value")):
            arguments["headers"] = HeaderPolicy(response=HeaderEdits(set={"Cache-Control": f"max-age={seconds}"}))
            browser.choice("replaces the Cache-Control that browsers get")
        for name, action in actions.items():
            self._without(name, action)
        made = [
            route_for(pattern, {**arguments, "cache": DISABLED, "when": When(cookie=cookie)}, [], rule)
            for cookie in cookies
        ]
        return [*made, route_for(pattern, arguments, [], rule)]

    def _without(self, name: str, action: Node) -> None:
        reason = _WITHOUT.get(name, "has no counterpart in edgerouter")
        value = action.plain()
        setting = value.get("value") if isinstance(value, dict) else None
        if reason is None or setting == "off" or (isinstance(setting, dict) and set(setting.values()) <= {"off"}):
            return
        action.left_out(f"{name}: {reason}")

    def _origin_fields(self, actions: dict[str, Node]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if (action := actions.pop("host_header_override", None)) is not None and (host := action.text("value")):
            fields["host"] = host
        if (action := actions.pop("resolve_override", None)) is not None and (address := action.text("value")):
            if re.fullmatch(r"[A-Za-z0-9_.-]+", address):
                fields["address"] = address
            else:
                action.left_out("is no name of a host")
        if (action := actions.pop("ssl", None)) is not None:
            mode = action.text("value")
            if mode in ("off", "flexible"):
                fields["scheme"] = "http"
            elif mode == "full":
                action.choice("the certificate of the server is verified, as with strict; tls_verify=False would not")
        return fields

    def _bypass(self, action: Node | None) -> list[str]:
        text = action.text("value") if action is not None else None
        if action is None or text is None:
            return []
        names = [re.sub(r"(=\.\*|\.\*|=)$", "", part) for part in text.split("|")]
        if all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names) and len(names) <= 20:
            return names
        action.left_out("is an expression that no condition on a cookie's name can have")
        return []

    def _policy(self, rule: Node, actions: dict[str, Node]) -> CachePolicy | None:
        fields: dict[str, Any] = {}
        level = actions.pop("cache_level", None)
        wanted = level.text("value") if level is not None else None
        if wanted == "bypass":
            for name in ("edge_cache_ttl", "cache_ttl_by_status", "cache_key_fields", "sort_query_string_for_cache"):
                if (action := actions.pop(name, None)) is not None:
                    action.plain()
            return DISABLED
        if wanted == "cache_everything":
            fields["default_ttl"] = 7200
        elif wanted in ("simplified", "ignore_query_string"):
            fields["query"] = "none"
        elif wanted not in (None, "aggressive", "standard") and level is not None:
            level.left_out("the whole query is in the key")
        if (action := actions.pop("edge_cache_ttl", None)) is not None and (seconds := action.number("value")):
            fields["ttl"] = seconds
        if (action := actions.pop("sort_query_string_for_cache", None)) is not None and action.flag("value"):
            fields["sort_query"] = True
        if (action := actions.pop("cache_deception_armor", None)) is not None and action.flag("value"):
            fields["extension_guard"] = True
        if (action := actions.pop("cache_by_device_type", None)) is not None and action.flag("value"):
            action.left_out("the edge does not know the kinds of devices")
        if (action := actions.pop("cache_on_cookie", None)) is not None:
            action.left_out("Vary: Cookie of the origin tells responses apart")
        if (action := actions.pop("cache_ttl_by_status", None)) is not None:
            self._by_status(action, fields)
        if (action := actions.pop("cache_key_fields", None)) is not None:
            self._key(action.table("value"), fields)
        if not fields:
            return None
        try:
            return CachePolicy(**fields)
        except ConfigError as error:
            rule.left_out(f"edgerouter refuses its policy: {error.problems[0].message}")
            return None

    def _by_status(self, action: Node, fields: dict[str, Any]) -> None:
        negative: dict[int, int] = {}
        for statuses, node in action.table("value"):
            text = node.as_text() or ""
            seconds = (
                0
                if text in ("no-cache", "no-store", "0", "-1")
                else int(text)
                if re.fullmatch(r"\d{1,9}", text)
                else None
            )
            span = re.fullmatch(r"(\d{3})(?:-(\d{3}))?", statuses)
            if seconds is None or span is None:
                node.left_out("must be statuses and seconds")
                continue
            first, last = int(span[1]), int(span[2] or span[1])
            if first <= 200 <= last and seconds:
                fields["ttl"] = seconds
            elif last - first < 10 and first >= 300:
                negative |= dict.fromkeys(range(first, last + 1), seconds)
            elif seconds:
                node.left_out("lifetimes by status are for one status or a short range")
        if negative:
            fields["negative_ttl"] = negative

    def _key(self, table: Node, fields: dict[str, Any]) -> None:
        query = table.table("query_string")
        include, exclude = query.texts("include"), query.texts("exclude")
        if include == ["*"]:
            fields["query"] = "all"
        elif include:
            fields["query"] = include
        elif exclude == ["*"]:
            fields["query"] = "none"
        elif exclude:
            fields["query"] = {"except": exclude}
        header, cookie = table.table("header"), table.table("cookie")
        if names := [*header.texts("include"), *header.texts("check_presence")]:
            fields["headers"] = names
        if names := [*cookie.texts("include"), *cookie.texts("check_presence")]:
            fields["cookies"] = names
        table.table("host").ignore("resolved")
        header.ignore("exclude")
        table.without(
            "user", "the key has no devices or languages, and countries by edge.geo(...) and the key policy only"
        )

    def _redirect(self, rule: Node, action: Node, pattern: UrlPattern) -> list[SiteRoute]:
        value = action.table("value")
        url = value.text("url")
        status = value.number("status_code") or 302
        if url is None or status not in (301, 302, 303, 307, 308):
            action.left_out("needs a url and a status_code")
            return []
        path, wildcards = pattern.path, pattern.path.count("*")
        named = re.findall(r"\$(\d)", url)
        if named:
            only = str(pattern.stars + 1)
            if set(named) != {only} or wildcards != 1 or not path.endswith("/*"):
                action.left_out(f"its $1 stands for a part that no parameter has: write {url} by hand")
                return []
            path = path[:-1] + "{rest:path}"
            url = url.replace(f"${only}", "{rest}")
        made = pattern._replace(path=path)
        if pattern.https is False:
            rule.choice("the rule is for http only; the redirect is for https, too")
        if re.search(r"[{}]", url.replace("{rest}", "")):
            action.left_out("has braces in its url")
            return []
        # Cloudflare keeps no query unless a * stands for it.
        redirect = redirect_to(url, status, query=bool(named))
        return [route_for(made, {"redirect": redirect}, [], rule)]
