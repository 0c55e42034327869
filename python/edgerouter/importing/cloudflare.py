"""Cloudflare: a wrangler file, or Page Rules in the API's JSON, to a site.

The address behind a zone is in Cloudflare's DNS and not in these files, so the program has a name to be replaced. A
script of a Worker is never run; see ``worker_scripts`` for the one kind that needs none here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgerouter.cache import DISABLED, CachePolicy
from edgerouter.errors import ConfigError
from edgerouter.importing import patterns
from edgerouter.importing.documents import LARGEST
from edgerouter.importing.model import Declared, Site, SiteRoute
from edgerouter.importing.nodes import Node
from edgerouter.importing.ordering import keep_order
from edgerouter.importing.patterns import UrlPattern
from edgerouter.importing.report import Report, SourceError
from edgerouter.importing.worker_scripts import only_caches
from edgerouter.origins import Origin
from edgerouter.routes import HeaderEdits, HeaderPolicy, Redirect, Respond, When

__all__ = ["is_page_rules", "is_wrangler", "read_page_rules", "read_wrangler"]

_WRANGLER = ("main", "routes", "route", "compatibility_date", "assets", "workers", "site", "workers_dev")

_BINDINGS = [
    "ai",
    "agent_memory",
    "analytics_engine_datasets",
    "browser",
    "containers",
    "d1_databases",
    "dispatch_namespaces",
    "durable_objects",
    "hyperdrive",
    "images",
    "kv_namespaces",
    "logfwdr",
    "mtls_certificates",
    "pipelines",
    "queues",
    "r2_buckets",
    "secrets_store_secrets",
    "send_email",
    "services",
    "tail_consumers",
    "unsafe",
    "vectorize",
    "version_metadata",
    "workflows",
]
_OF_THE_TOOL = [
    "$schema",
    "account_id",
    "alias",
    "base_dir",
    "build",
    "compatibility_date",
    "compatibility_flags",
    "define",
    "dev",
    "find_additional_modules",
    "first_party_worker",
    "jsx_factory",
    "jsx_fragment",
    "keep_names",
    "keep_vars",
    "legacy_env",
    "migrations",
    "minify",
    "no_bundle",
    "node_compat",
    "preserve_file_names",
    "preview_urls",
    "rules",
    "send_metrics",
    "text_blobs",
    "data_blobs",
    "tsconfig",
    "upload_source_maps",
    "usage_model",
    "wasm_modules",
    "workers_dev",
    "zone_id",
    "type",
    "webpack_config",
    "entry-point",
]


def is_wrangler(root: Node) -> bool:
    """The document has the shape of a wrangler file."""
    return isinstance(root.value, dict) and any(name in root.value for name in _WRANGLER)


def is_page_rules(root: Node) -> bool:
    """The document has the shape of a list of Page Rules."""
    rules = _rules(root)
    return bool(rules) and all(isinstance(rule.value, dict) and "actions" in rule.value for rule in rules)


def _zone_origin(site: Site, zone: str, report: Report, path: str, line: int | None, **fields: Any) -> str:
    """The origin behind a zone, whose address only Cloudflare's DNS has."""
    name = site.free_name(str(fields.pop("named", zone)))
    host = f"{zone.replace('.', '-')}.invalid"
    scheme = fields.pop("scheme", "https")
    origin = Origin(name, f"{scheme}://{host}", **{"host": "viewer", **fields})
    comments = [f"Replace the host by the address that the DNS of {zone} has at Cloudflare."]
    site.origins[name] = Declared(origin, comments)
    report.note("left-out", path, f"the address behind {zone} is in the DNS: replace {host} by it", line=line)
    return name


# -- wrangler ----------------------------------------------------------------------------------------------------------


def read_wrangler(root: Node, report: Report, file: Path) -> Site:
    """Reads a wrangler file: TOML, JSON with comments, or the same in YAML."""
    return _Wrangler(root, report, file).read()


class _Wrangler:
    def __init__(self, root: Node, report: Report, file: Path) -> None:
        self._root = root
        self._report = report
        self._file = file
        self._site = Site(root.text("name") or file.stem, report)

    def read(self) -> Site:
        root = self._root
        root.ignore(*_OF_THE_TOOL)
        routes = self._patterns()
        assets = self._assets(routes)
        self._workers(routes, assets)
        for name in _BINDINGS:
            root.without(name, "a binding of the Worker; a hook or function in Python uses its own client")
        root.without("vars", "variables of the Worker; functions read them with os.environ")
        root.without("triggers", "run it by cron or a timer of systemd")
        root.without("placement", "functions run where the edge runs")
        root.without("limits", "Limits(functions=...) bounds functions")
        root.without("observability", "see docs/logging.md and docs/metrics.md")
        root.without("logpush", "start the edge with --access-log FILE for a log")
        root.without("env", "one program is one environment: the one at the top")
        return self._site

    def _patterns(self) -> list[tuple[UrlPattern, str | None, Node]]:
        """The routes: pattern, zone, and place. A custom domain is a host with every path."""
        root = self._root
        found = []
        for node in (*root.items("routes"), *root.items("route")):
            zone = None
            if node.is_table:
                text = node.text("pattern")
                custom = node.flag("custom_domain") or False
                zone = node.text("zone_name")
                node.ignore("zone_id", "enabled")
                if text and custom:
                    text = f"{text}/*"
            else:
                text = node.as_text()
                custom = False
            pattern = patterns.split(text) if text else None
            if pattern is None:
                node.left_out("is no pattern such as example.com/* or *.example.com/images/*")
            else:
                if zone is None and not custom and pattern.hosts:
                    zone = ".".join(pattern.hosts[0].removeprefix("*.").split(".")[-2:])
                found.append((pattern, None if custom else zone, node))
        return found

    def _assets(self, routes: list[tuple[UrlPattern, str | None, Node]]) -> bool:
        root = self._root
        table = root.table("assets") if root.has("assets") else root.table("site")
        folder = table.text("directory") or table.text("bucket")
        if not folder:
            return False
        first = table.child("run_worker_first")
        if first is not None and first.value is not False and not first.is_list:
            first.left_out("the Worker decides about every file, so none is served without it")
            table.plain()
            return False
        names = [name for name, _, _ in self._scripts()]
        for node in table.items("run_worker_first"):
            path = node.as_text() or ""
            if path.startswith("/"):
                self._closed(UrlPattern((), path, None, 0), node, ", ".join(names))
            else:
                node.left_out("the Worker comes first for all paths that are named")
        arguments: dict[str, Any] = {}
        handling = table.text("not_found_handling") or "none"
        if handling == "single-page-application":
            arguments["fallback"] = "index.html"
        elif handling == "404-page":
            arguments["errors"] = {404: "/404.html"}
        html = table.child("html_handling")
        if html is not None and html.value not in ("none", "auto-trailing-slash"):
            html.left_out("files are served under their own names, and index.html for a folder")
        elif html is None or html.value == "auto-trailing-slash":
            table.choice("a page such as /about.html is served under that name, not as /about")
        table.ignore("binding")
        for name in ("include", "exclude"):
            table.without(name, "every file of the folder is served; leave others out of it")
        comments = ["A relative folder starts where this file is."]
        hosts = [host for pattern, _, _ in routes for host in pattern.hosts]
        if hosts:
            arguments["host"] = list(dict.fromkeys(hosts))
        self._site.routes.append(SiteRoute("/", arguments, comments, table.path, table.line, folder=folder))
        return True

    def _workers(self, routes: list[tuple[UrlPattern, str | None, Node]], assets: bool) -> None:
        root = self._root
        scripts = self._scripts()
        if not scripts:
            if not assets:
                for pattern, zone, node in routes:
                    self._to_zone(pattern, zone, node, [])
            return
        plain = all(only_caches(text) for _, text, _ in scripts if text is not None) and all(
            text is not None for _, text, _ in scripts
        )
        for name, _, node in scripts:
            if plain:
                node.choice(f"the script {name} only stores what it fetches; the edge's cache does that", secret=True)
            else:
                node.left_out(
                    f"the script {name} runs at Cloudflare only; write it in Python, as hooks or with @edge.function",
                    secret=True,
                )
        if assets and not plain:
            return
        names = ", ".join(name for name, _, _ in scripts)
        zones: dict[str, str] = {}
        for pattern, zone, node in routes:
            if plain and zone is not None:
                comments = [f"The Worker {names} only stored what it fetched; the cache of the edge does that."]
                zones[zone] = self._to_zone(pattern, zone, node, comments)
            else:
                self._closed(pattern, node, names)
        if not routes:
            self._closed(UrlPattern((), "/*", None, 0), root, names)
        for zone, origin in zones.items():
            hosts = [zone, f"*.{zone}"]
            if any(route.pattern == "/*" and route.arguments.get("host") == hosts for route in self._site.routes):
                continue
            comment = (
                "Cloudflare passes other requests of the zone to the same server, and stores files by their names."
            )
            self._site.routes.append(SiteRoute("/*", {"host": hosts, "to": origin}, [comment]))
            self._report.note(
                "choice", f"zone {zone}", "other requests of the zone go to its server, by cache.STANDARD"
            )

    def _scripts(self) -> list[tuple[str, str | None, Node]]:
        """Name, text and place of each script. The text of a file is read if it is beside this one."""
        found: list[tuple[str, str | None, Node]] = []
        main = self._root.child("main")
        if main is not None and (name := main.as_text()):
            found.append((name, self._beside(name), main))
        for node in self._root.items("workers"):
            script = node.child("script")
            text = script.as_text(raw=True) if script is not None else None
            found.append((node.text("name") or "script", text, script or node))
        return found

    def _beside(self, name: str) -> str | None:
        folder = self._file.resolve().parent
        try:
            script = (folder / name).resolve()
            if not script.is_relative_to(folder) or not script.is_file() or script.stat().st_size > LARGEST:
                return None
            return script.read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None

    def _to_zone(self, pattern: UrlPattern, zone: str | None, node: Node, comments: list[str]) -> str:
        known = zone or "origin"
        origin = next((name for name in self._site.origins if name == known), None)
        if origin is None:
            origin = _zone_origin(self._site, known, self._report, node.path, node.line)
        self._site.routes.append(_route(pattern, {"to": origin}, comments, node))
        return origin

    def _closed(self, pattern: UrlPattern, node: Node, names: str) -> None:
        comment = f"The Worker {names} answered here: write it in Python, with @edge.function or hooks and to=."
        answer = Respond(status=501, body="not written yet\n")
        self._site.routes.append(_route(pattern, {"respond": answer}, [comment], node))


def _route(pattern: UrlPattern, arguments: dict[str, Any], comments: list[str], node: Node) -> SiteRoute:
    host = {} if pattern.host is None else {"host": pattern.host}
    if pattern.https is True and "viewer" not in arguments and "redirect" not in arguments:
        arguments = {**arguments, "viewer": "https-only"}
    return SiteRoute(pattern.pattern, {**host, **arguments}, comments, node.path, node.line)


# -- Page Rules --------------------------------------------------------------------------------------------------------

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
    "email_obfuscation": "pages are not rewritten",
    "explicit_cache_control": None,
    "ip_geolocation": "edgerouter does not know the countries of clients",
    "minify": "files are not minified",
    "mirage": "images are not changed",
    "opportunistic_encryption": None,
    "origin_error_page_pass_thru": None,
    "polish": "images are not changed",
    "respect_strong_etag": None,
    "response_buffering": "responses are streamed",
    "rocket_loader": "pages are not rewritten",
    "security_level": "edgerouter does not judge clients; see addresses= and rate_limit=",
    "server_side_exclude": "pages are not rewritten",
    "true_client_ip_header": "the origin gets X-Forwarded-For",
    "waf": "edgerouter has no web application firewall",
}


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
                name = _zone_origin(self._site, zone, self._report, f"zone {zone}", None, named=named, **fields)
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
            _route(pattern, {**arguments, "cache": DISABLED, "when": When(cookie=cookie)}, [], rule)
            for cookie in cookies
        ]
        return [*made, _route(pattern, arguments, [], rule)]

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
        table.without("user", "the edge does not know devices, countries and languages")

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
        redirect = Redirect(url, status=status, query=bool(named))  # type: ignore[arg-type]
        return [_route(made, {"redirect": redirect}, [], rule)]
