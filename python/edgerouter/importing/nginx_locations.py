"""Locations of nginx as routes: which paths, in which order, and what answers."""

from __future__ import annotations

import re
from typing import Any

from edgerouter.cache import DISABLED
from edgerouter.guarding import RateLimit
from edgerouter.importing.expressions import as_patterns
from edgerouter.importing.model import Site, SiteRoute, redirect_to
from edgerouter.importing.nginx_directives import Directive
from edgerouter.importing.nginx_origins import Origins
from edgerouter.importing.nginx_scope import Scope
from edgerouter.importing.nginx_settings import SharedSettings
from edgerouter.importing.ordering import covers, keep_order
from edgerouter.routes import Respond, Rewrite

__all__ = ["Locations", "Scope"]

_REDIRECTS = (301, 302, 303, 307, 308)
_OTHER_PROTOCOLS = ("fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass", "perl", "js_content",
                    "content_by_lua_block", "content_by_lua_file")  # fmt: skip


class Locations:
    """Reads the locations of one server after another."""

    def __init__(self, site: Site, upstreams: dict[str, Directive], limits: dict[str, RateLimit]) -> None:
        self._site = site
        self._origins = Origins(site, upstreams)
        self._settings = SharedSettings(limits)
        self._reordered = False

    def server(self, scope: Scope) -> None:
        """Reads a server."""
        routes: list[SiteRoute] = []
        named: dict[str, Directive] = {}
        returned = scope.server.one("return")
        if returned is not None:
            # It comes before all locations.
            for location in scope.server.all("location"):
                location.take()
                location.choice("is never reached: the server answers before it looks for a location")
        found = self._ordered(scope, named) if returned is None else []
        for inner, patterns, prefix in found:
            routes += self._location(scope_of(scope, inner), patterns, prefix, named)
        routes = [*self._rewrites(scope), *routes]
        has_root = any(prefix == "/" for _, _, prefix in found)
        if returned is not None:
            routes += self._returned(returned, scope, ["/*"], "/")
        elif not has_root:
            folder = scope.last("root")
            if folder is not None and folder.args:
                routes += self._location(scope, ["/*"], "/", named)
        for route in routes:
            self._finish(route, scope)
        if keep_order(routes):
            comment = "nginx has another order of precedence; priority= keeps it here."
            if comment not in self._site.comments:
                self._site.comments.append(comment)
        self._site.routes += routes

    # -- which paths -----------------------------------------------------------------------------------------------

    def _ordered(
        self, scope: Scope, named: dict[str, Directive]
    ) -> list[tuple[tuple[Directive, ...], list[str], str | None]]:
        """The locations in the order in which nginx prefers them: patterns, and the prefix if it is one."""
        exact: list[Any] = []
        firm: list[Any] = []
        expressions: list[Any] = []
        prefixes: list[Any] = []
        waiting: list[tuple[Directive, ...]] = [(location,) for location in scope.server.all("location")]
        while waiting:
            around = waiting.pop(0)
            location = around[-1]
            waiting += [(*around, inner) for inner in location.all("location")]
            if not location.args:
                location.left_out("has no path that a route can have")
                continue
            modifier = location.args[0] if len(location.args) > 1 else ""
            path = location.args[-1]
            if modifier == "" and not path.startswith(("/", "@")):
                location.left_out("has no path that a route can have")
            elif path.startswith("@"):
                named[path] = location
                location.take()
            elif modifier in ("~", "~*"):
                patterns = as_patterns(path)
                if patterns is None:
                    location.left_out(
                        "the expression says more than a pattern with * and ? can: write the routes by hand"
                    )
                    continue
                if modifier == "~*" and re.search("[A-Za-z]", path):
                    location.choice("paths are compared with their case, which nginx does not do here")
                expressions.append((around, _below(around[:-1], patterns), None))
            elif re.search(r"[{}*?\s#]", path):
                location.left_out("has no path that a route can have")
            elif modifier == "=":
                exact.append((around, [path], None))
            else:
                entry = (around, [f"{path}*"], path)
                (firm if modifier == "^~" else prefixes).append(entry)
        firm.sort(key=lambda entry: -len(entry[2]))
        prefixes.sort(key=lambda entry: -len(entry[2]))
        return [*exact, *firm, *expressions, *prefixes]

    def _finish(self, route: SiteRoute, scope: Scope) -> None:
        """Adds the host of the server."""
        if scope.hosts:
            if len(scope.hosts) == 1:
                route.pattern = f"{scope.hosts[0]}{route.pattern}"
            else:
                route.arguments = {"host": list(scope.hosts), **route.arguments}

    # -- what answers ----------------------------------------------------------------------------------------------

    def _location(
        self, scope: Scope, patterns: list[str], prefix: str | None, named: dict[str, Directive]
    ) -> list[SiteRoute]:
        place = scope.place
        rewrites = self._rewrites(scope) if place.name == "location" else []
        passed = place.one("proxy_pass")
        returned = place.one("return") if place.name == "location" else None
        closed = self._closed(scope)
        if closed is not None:
            return self._answers(scope, patterns, {"respond": closed}, guards=False)
        if returned is not None:
            return [*rewrites, *self._returned(returned, scope, patterns, prefix)]
        for other in _OTHER_PROTOCOLS:
            for directive in place.all(other):
                directive.left_out("the edge speaks HTTP with origins; requests get 501 until there is one")
                return self._answers(scope, patterns, {"respond": Respond(status=501, body="not served yet\n")})
        for block in place.all("if"):
            block.left_out("conditions of nginx are written as when=, methods= or hooks")
        methods = self._methods(place)
        if passed is None and (tried := scope.last("try_files")) is not None and tried.args[-1:]:
            fallback = named.get(tried.args[-1])
            if fallback is not None and fallback.one("proxy_pass") is not None:
                tried.left_out("files are not looked for first: all requests go to the origin; see edge.files")
                scope = scope.within(fallback)
                passed = fallback.one("proxy_pass")
        if passed is not None:
            routes = self._proxied(passed, scope, patterns, prefix)
        else:
            routes = self._files(scope, patterns, prefix)
        if methods is not None:
            for route in routes:
                # Files have GET and HEAD only.
                if route.folder is None:
                    route.arguments["methods"] = methods
            routes += self._answers(scope, patterns, {"respond": Respond(status=403, body="forbidden\n")}, guards=False)
        return [*rewrites, *routes]

    def _methods(self, place: Directive) -> list[str] | None:
        """The methods that anyone may use, where ``limit_except`` guards the others."""
        block = place.one("limit_except")
        if block is None:
            return None
        if [(rule.name, rule.args) for rule in block.block or ()] != [("deny", ["all"])]:
            block.left_out("methods that some clients may use get 403 until there is a route for them")
        block.all("deny")
        methods = [name.upper() for name in block.args]
        return [*methods, "HEAD"] if "GET" in methods and "HEAD" not in methods else methods

    def _closed(self, scope: Scope) -> Respond | None:
        """The answer of a place that nobody may use, or whose guard is unknown here."""
        place = scope.place
        if place.one("internal") is not None:
            return Respond(status=404, body="not found\n")
        for name in ("auth_request", "auth_jwt", "auth_digest", "secure_link", "ssl_verify_client"):
            directive = scope.last(name)
            if directive is not None and directive.args[:1] not in (["off"], ["optional_no_ca"]):
                directive.left_out("who may pass is decided elsewhere: requests get 403 until auth= or basic= is here")
                return Respond(status=403, body="not served yet\n")
        for block in (*(place.all("if") if place.name == "location" else ()), *scope.server.all("if")):
            if block.value("return") in ("401", "403"):
                block.left_out("who may pass is a condition: requests get 403 until when=, auth= or basic= is here")
                return Respond(status=403, body="not served yet\n")
        rules = scope.level("allow", "deny")
        if [(rule.name, rule.args) for rule in rules] == [("deny", ["all"])]:
            return Respond(status=403, body="forbidden\n")
        if place.one("stub_status") is not None:
            place.left_out("see /metrics of the admin listener")
            return Respond(status=404, body="not found\n")
        return None

    def _answers(
        self, scope: Scope, patterns: list[str], answer: dict[str, Any], *, guards: bool = True
    ) -> list[SiteRoute]:
        """A route for each pattern, with what the location has in common for all answers."""
        arguments = dict(answer)
        if guards:
            arguments |= self._settings.guards(scope)
        else:
            scope.level("allow", "deny")
        if scope.upgraded:
            arguments["viewer"] = "redirect-to-https"
        if (edits := self._settings.fields(scope, "redirect" not in answer and "respond" not in answer)) is not None:
            arguments["headers"] = edits
        place = scope.place
        return [SiteRoute(pattern, dict(arguments), [], place.path, place.line) for pattern in patterns]

    def _proxied(self, passed: Directive, scope: Scope, patterns: list[str], prefix: str | None) -> list[SiteRoute]:
        target = self._origins.target(passed, scope)
        if target is None:
            return self._answers(scope, patterns, {"respond": Respond(status=501, body="not served yet\n")})
        name, path = target
        answer: dict[str, Any] = {"to": name}
        if path is not None and prefix is not None:
            # With a path in proxy_pass nginx puts it in the place of the location's.
            if len(prefix) > 1 and prefix != path:
                answer["strip_prefix"] = prefix.rstrip("/")
                if not prefix.endswith("/"):
                    passed.choice(f"{prefix} and the paths below it are passed on without it")
                    patterns = [prefix, f"{prefix}/*"]
            if path.rstrip("/") and prefix != path:
                answer["add_prefix"] = path.rstrip("/")
        elif path not in (None, "/", patterns[0]) and len(patterns) == 1 and "*" not in patterns[0]:
            answer["rewrite"] = Rewrite(patterns[0], str(path))
        if (rewrite := self._inner_rewrite(scope)) is not None and "strip_prefix" not in answer:
            answer["rewrite"] = rewrite
        answer["cache"], whens = self._settings.cache(scope)
        if scope.is_on("gzip") or scope.is_on("brotli"):
            answer["compress"] = True
        answer |= self._settings.errors(scope)
        routes = self._answers(scope, patterns, answer)
        passing = [
            SiteRoute(route.pattern, {**route.arguments, "cache": DISABLED, "when": when}, [], route.path, route.line)
            for route in routes
            for when in whens
        ]
        return [*passing, *routes]

    def _files(self, scope: Scope, patterns: list[str], prefix: str | None) -> list[SiteRoute]:
        place = scope.place
        alias, root = place.one("alias"), scope.last("root")
        source = alias or root
        folder = source.args[0] if source is not None and source.args else None
        if folder is None:
            if place.name == "location":
                place.left_out("has no proxy_pass, root or return: nothing answers here")
            return []
        if prefix is None or "$" in folder:
            place.left_out("files are declared by the folder of a prefix; see edge.files, and its immutable=")
            return []
        if alias is None and prefix != "/":
            folder = f"{folder.rstrip('/')}/{prefix.strip('/')}"
        arguments: dict[str, Any] = {}
        index = scope.last("index")
        if index is not None and index.args and index.args[0] != "index.html":
            usable = [name for name in index.args if re.fullmatch(r"[\w-][\w.-]*\.html?", name)]
            if usable and usable[0] != "index.html":
                arguments["index"] = usable[0]
            if not usable or len(usable) < len(index.args):
                index.choice("a folder has one index file, which is sent as it is")
        tried = scope.last("try_files")
        if tried is not None and tried.args:
            last = tried.args[-1].partition("?")[0]
            if last.startswith("/") and "$" not in last:
                if last.endswith((".html", ".htm")):
                    arguments["fallback"] = last.lstrip("/")
                else:
                    tried.left_out("only a page can answer for a path without a file")
            elif not last.startswith("=") and last not in ("$uri", "$uri/"):
                tried.left_out("only a page of the folder can answer for a path without a file")
        if scope.is_on("autoindex"):
            arguments["listing"] = True
        guards = self._settings.guards(scope)
        if guards:
            place.left_out("a folder takes no address lists, passwords or rate limits: requests get 403")
            return self._answers(scope, patterns, {"respond": Respond(status=403, body="not served yet\n")})
        arguments |= self._settings.errors(scope)
        if (edits := self._settings.fields(scope, False)) is not None:
            arguments["headers"] = edits
        if scope.upgraded:
            arguments["viewer"] = "redirect-to-https"
        at = prefix.rstrip("/") or "/"
        route = SiteRoute(at, arguments, [], place.path, place.line, folder=folder or "/")
        return [route]

    # -- redirects and rewrites ------------------------------------------------------------------------------------

    def _returned(self, returned: Directive, scope: Scope, patterns: list[str], prefix: str | None) -> list[SiteRoute]:
        args = returned.args
        code = args[0] if args else ""
        if not code.isdigit():
            args, code = ["302", *args], "302"
        status = int(code[:4])
        if status in _REDIRECTS and len(args) > 1:
            return self._redirect(returned, scope, patterns, prefix, status, args[1])
        if status == 444:
            returned.choice("the connection is not closed without a response; requests get 403")
            status = 403
        body = args[1] if len(args) > 1 else ""
        for escaped, sign in (("\\n", "\n"), ("\\t", "\t"), ("\\r", "\r")):
            body = body.replace(escaped, sign)
        if "$" in body:
            returned.left_out("texts with variables are written as a function: @edge.function")
            body = ""
        if not 200 <= status <= 599:
            returned.left_out("is no status of a response")
            return []
        headers: dict[str, str] = {}
        kind = scope.place.value("default_type")
        if kind is not None:
            headers["Content-Type"] = kind
        return self._answers(scope, patterns, {"respond": Respond(status=status, body=body, headers=headers)})

    def _redirect(
        self, returned: Directive, scope: Scope, patterns: list[str], prefix: str | None, status: int, target: str
    ) -> list[SiteRoute]:
        target = re.sub(r"\$is_args\$args$|\?\$args$", "", target)
        if re.fullmatch(r"https://(\$host|\$server_name|\$http_host)(\$request_uri|\$uri)", target):
            made = self._answers(scope, patterns, {"respond": Respond(status=404, body="not found\n")})
            for route in made:
                route.arguments["viewer"] = "redirect-to-https"
            returned.choice("browsers are sent to https; no server of the source answers there")
            return made
        if target.startswith("$scheme://"):
            returned.choice("the redirect leads to https, whatever the scheme of the request")
            target = f"https{target[7:]}"
        kept = re.fullmatch(r"([^$]*)(?:\$request_uri|\$uri)", target)
        query = False
        if kept is not None and prefix is not None:
            base = kept[1].rstrip("/")
            below = prefix if prefix.endswith("/") else f"{prefix}/"
            patterns = [f"{below}{{rest:path}}"]
            target, query = f"{base}{below}{{rest}}", True
        elif kept is not None and len(patterns) == 1 and "*" not in patterns[0]:
            target, query = f"{kept[1].rstrip('/')}{patterns[0]}", True
        if "$" in target or re.search(r"[{}]", target.replace("{rest}", "")):
            returned.left_out("the target has variables that no parameter of a pattern has")
            return []
        redirect = redirect_to(target, status, query=query)
        return self._answers(scope, patterns, {"redirect": redirect}, guards=False)

    def _rewrites(self, scope: Scope) -> list[SiteRoute]:
        """Rewrites that end in a redirect, in the innermost block."""
        found: list[SiteRoute] = []
        for rewrite in scope.place.all("rewrite"):
            flag = rewrite.args[2] if len(rewrite.args) > 2 else ""
            target = rewrite.args[1] if len(rewrite.args) > 1 else ""
            if flag not in ("permanent", "redirect") and not target.startswith(("http://", "https://")):
                if scope.place.name != "location":
                    rewrite.left_out("rewrites of a server are written as rewrite= of a route")
                continue
            parts = _rewrite(rewrite)
            if parts is None:
                rewrite.left_out("the expression says more than a pattern can: write a route with redirect=")
                continue
            status = 301 if flag == "permanent" else 302
            redirect = redirect_to(parts[1], status)
            found += self._answers(scope, [parts[0]], {"redirect": redirect}, guards=False)
        return found

    def _inner_rewrite(self, scope: Scope) -> Rewrite | None:
        chosen: Rewrite | None = None
        for rewrite in scope.place.all("rewrite"):
            flag = rewrite.args[2] if len(rewrite.args) > 2 else ""
            if flag in ("permanent", "redirect"):
                continue
            parts = _rewrite(rewrite)
            if parts is None or chosen is not None or not parts[1].startswith("/"):
                rewrite.left_out("the expression says more than rewrite= can; write it in a hook")
            else:
                chosen = Rewrite(*parts)
        return chosen


def scope_of(scope: Scope, locations: tuple[Directive, ...]) -> Scope:
    """The scope of nested locations."""
    for location in locations:
        scope = scope.within(location)
    return scope


def _below(around: tuple[Directive, ...], patterns: list[str]) -> list[str]:
    """The patterns within the innermost location around them, which nginx looks into for paths of its prefix only."""
    outer = around[-1].args if around else []
    prefix = outer[-1] if outer and outer[0] not in ("~", "~*", "=") else ""
    if not prefix.startswith("/"):
        return patterns
    found: list[str] = []
    for pattern in patterns:
        if covers(f"{prefix}*", pattern):
            found.append(pattern)
        elif covers(pattern, prefix):
            found.append(f"{prefix}*")
        elif pattern.startswith("/*"):
            found.append(f"{prefix}{pattern[1:]}")
            if pattern.startswith("/*/"):
                found.append(f"{prefix.rstrip('/')}{pattern[2:]}")
    return list(dict.fromkeys(found))


def _rewrite(rewrite: Directive) -> tuple[str, str] | None:
    """Pattern and target of a rewrite of a whole path, or of all paths below a prefix."""
    if len(rewrite.args) < 2:
        return None
    expression, target = rewrite.args[0], rewrite.args[1]
    target = re.sub(r"\$is_args\$args$|\?\$args$|\?$", "", target)
    below = re.fullmatch(r"\^(/(?:[\w./~-]|\\\.)*)\((?:\.\*|\.\+)\)\$?", expression)
    if below is not None and target.count("$") == target.count("$1") <= 1:
        prefix = below[1].replace("\\.", ".")
        if not prefix.endswith("/") or re.search(r"[{}]", target) or ("$1" in target and not target.endswith("/$1")):
            return None
        return f"{prefix}{{rest:path}}", target.replace("$1", "{rest}")
    exact = re.fullmatch(r"\^(/(?:[\w./~-]|\\\.)*)\$", expression)
    if exact is not None and "$" not in target and not re.search(r"[{}]", target):
        return exact[1].replace("\\.", "."), target
    return None
