"""A wrangler file of Cloudflare to a site. A script of a Worker is never run: ``worker_scripts`` looks at it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

from edgerouter.bindings import Binding
from edgerouter.errors import ConfigError
from edgerouter.importing import patterns
from edgerouter.importing.documents import LARGEST
from edgerouter.importing.model import Site, SiteRoute
from edgerouter.importing.nodes import Node
from edgerouter.importing.patterns import UrlPattern
from edgerouter.importing.report import Report
from edgerouter.importing.worker_scripts import only_caches
from edgerouter.importing.zones import route_for, zone_origin
from edgerouter.routes import Respond

__all__ = ["is_wrangler", "read_wrangler"]

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
#: The remarks on bindings that functions can have here as well.
_BOUND = {
    "d1_databases": "the rows stay at Cloudflare; the program binds empty databases in files to ctx.env",
    "durable_objects": "its state stays at Cloudflare; edge.kv(...) binds a store with atomic changes to ctx.env",
    "images": "edge.images(...) makes variants of images",
    "kv_namespaces": "the entries stay at Cloudflare; the program binds empty stores in files to ctx.env",
    "services": "ctx.fetch requests from origins and other hosts",
}
#: Bindings of data that the program declares, and how many of each.
_DATA: dict[str, Literal["kv", "database"]] = {"kv_namespaces": "kv", "d1_databases": "database"}
MOST_BINDINGS = 16
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
        for setting, kind in _DATA.items():
            for bound in root.items(setting)[:MOST_BINDINGS]:
                self._bind(bound.text("binding"), kind)
        for name in _BINDINGS:
            root.without(name, _BOUND.get(name, "a binding of the Worker; a function in Python uses its own client"))
        root.without("vars", "variables of the Worker; functions read them with os.environ")
        root.without("triggers", "@edge.schedule(...) calls a function at such times")
        root.without("placement", "functions run where the edge runs")
        root.without("limits", "Limits(functions=...) bounds functions")
        root.without("observability", "see docs/logging.md and docs/metrics.md")
        root.without("logpush", "start the edge with --access-log FILE for a log")
        root.without("env", "one program is one environment: the one at the top")
        return self._site

    def _bind(self, name: str | None, kind: Literal["kv", "database"]) -> None:
        """Declares data under the Worker's own name for it, if that is one here."""
        with contextlib.suppress(ConfigError):
            Binding(name or "", kind, "memory:")
            self._site.bindings.setdefault(name or "", kind)

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
        for path, (hosts, node) in self._places(routes).items():
            named = {"host": list(dict.fromkeys(hosts))} if hosts else {}
            if path == "/*":
                route = SiteRoute("/", {**arguments, **named}, comments, table.path, table.line, folder=folder)
            elif path.endswith("/*") and "*" not in path[:-1]:
                if arguments:
                    node.left_out("the page for names without a file is outside of this path")
                within = f"{folder.rstrip('/')}{path[:-2]}"
                route = SiteRoute(path[:-2], named, comments, table.path, table.line, folder=within)
            else:
                node.left_out(f"files are declared by the folder of a prefix, not for {path}; see edge.files")
                continue
            self._site.routes.append(route)
            comments = []
        return True

    def _places(self, routes: list[tuple[UrlPattern, str | None, Node]]) -> dict[str, tuple[list[str], Node]]:
        """The paths that the Worker has, each with its hosts. Without routes it has all."""
        found: dict[str, tuple[list[str], Node]] = {}
        for pattern, _, node in routes:
            found.setdefault(pattern.path, ([], node))[0].extend(pattern.hosts)
        return found or {"/*": ([], self._root)}

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
            origin = zone_origin(self._site, known, self._report, node.path, node.line)
        self._site.routes.append(route_for(pattern, {"to": origin}, comments, node))
        return origin

    def _closed(self, pattern: UrlPattern, node: Node, names: str) -> None:
        comment = f"The Worker {names} answered here: write it in Python, with @edge.function or hooks and to=."
        answer = Respond(status=501, body="not written yet\n")
        self._site.routes.append(route_for(pattern, {"respond": answer}, [comment], node))
