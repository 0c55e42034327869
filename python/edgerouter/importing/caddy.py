"""Caddy's configuration, in the JSON that ``caddy adapt`` makes of a Caddyfile, to a site.

Caddy runs the routes of a list in order: middleware changes what comes after it, and the first handler that answers
ends the list. Here each answer becomes a route, with the middleware before it that covers its paths. Middleware for a
part of these paths makes a route of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from edgerouter.checks import listed
from edgerouter.errors import ConfigError
from edgerouter.guarding import AddressPolicy, BasicAuth
from edgerouter.importing import caddy_middleware
from edgerouter.importing.caddy_answers import Answers
from edgerouter.importing.caddy_matching import EVERYTHING, Match, matches
from edgerouter.importing.model import Declared, Site, SiteRoute
from edgerouter.importing.nodes import Node
from edgerouter.importing.ordering import covers, keep_order
from edgerouter.importing.report import Report, SourceError
from edgerouter.limits import HttpLimits, Limits
from edgerouter.listening import Certificate, Listener, Tls
from edgerouter.obtaining import Acme
from edgerouter.routes import HeaderEdits, HeaderPolicy, Respond

__all__ = ["is_caddy", "read_caddy"]

_PROTOCOLS = "listeners with TLS offer HTTP/2 by themselves, and none offers HTTP/3"
_MOST_ROUTES = 2_000


def is_caddy(root: Node) -> bool:
    """The document has the shape of Caddy's JSON."""
    apps = root.value.get("apps") if isinstance(root.value, dict) else None
    return apps is not None and apps.is_table


@dataclass(frozen=True)
class _Middleware:
    """A change for the answers after it: arguments of routes, by their names."""

    match: Match
    arguments: dict[str, Any]


@dataclass(frozen=True)
class _State:
    """The middleware so far, and the root of files."""

    middleware: tuple[_Middleware, ...] = ()
    root: str | None = None
    fallback: str | None = None


@dataclass
class _Server:
    name: str
    secure: bool
    redirects: bool
    routes: list[SiteRoute] = field(default_factory=list)


def read_caddy(root: Node, report: Report, file: Path) -> Site:
    """Reads the app ``http`` and the certificates of the app ``tls``."""
    site = Site(file.stem if file.stem.lower() != "caddyfile" else "caddy", report)
    apps = root.table("apps")
    root.ignore("logging")
    root.without("admin", "see --admin")
    servers = apps.table("http").table("servers")
    if servers.is_empty:
        raise SourceError("has no server of the app http")
    apps.table("http").ignore("grace_period", "shutdown_delay", "http_port", "https_port")
    reader = _Caddy(site, apps)
    for name, server in servers:
        if server.is_table:
            reader.server(name, server)
        else:
            server.left_out("must be a mapping")
    return site


class _Caddy:
    def __init__(self, site: Site, apps: Node) -> None:
        self._site = site
        self._answers = Answers(site)
        self._pairs: dict[str, Certificate] = {}
        self._body: list[int] = []
        self._email: str | None = None
        self._tls(apps.table("tls"))
        pki = apps.child("pki")
        if pki is not None:
            pki.left_out("there is no authority of its own; see edgerouter cert")

    def _tls(self, tls: Node) -> None:
        certificates = tls.table("certificates")
        for node in certificates.items("load_files"):
            chain, key = node.text("certificate"), node.text("key")
            tags = node.texts("tags") or [str(len(self._pairs))]
            if chain and key:
                self._pairs |= dict.fromkeys(tags, Certificate(chain, key))
        certificates.ignore("automate")
        for policy in tls.table("automation").items("policies"):
            for at, issuer in enumerate(policy.items("issuers")):
                self._email = issuer.text("email") or self._email
                module, directory = issuer.text("module") or "acme", issuer.text("ca")
                if module == "internal":
                    issuer.left_out("Caddy signs these certificates itself; write Certificate(...) of edgerouter cert")
                elif at == 0 and (module != "acme" or directory):
                    issuer.left_out(f"{directory or module}: certificates are Let's Encrypt's; see Acme(issuers=)")
        tls.ignore("automation", "session_tickets", "cache")

    # -- servers ---------------------------------------------------------------------------------------------------

    def server(self, name: str, node: Node) -> None:
        """Reads a server: its listeners, and its routes."""
        https = node.table("automatic_https")
        listens = node.texts("listen")
        policies = node.items("tls_connection_policies")
        plain = bool(listens) and all(address.rpartition(":")[2] == "80" for address in listens)
        only_http = https.flag("disable") or plain
        https.ignore("skip", "skip_certificates", "ignore_loaded_certificates")
        hosts = _hosts(node)
        secure = bool(policies) or (not only_http and (bool(hosts) or any(it.endswith(":443") for it in listens)))
        redirects = secure and not https.flag("disable_redirects") and bool(hosts)
        self._listeners(node, listens, policies, hosts if secure else None)
        server = _Server(name, secure, redirects)
        self._run(node.items("routes"), EVERYTHING, _State(), server)
        if node.has("errors"):
            node.without("errors", "pages for errors are declared with errors=")
        if node.has("logs"):
            node.without("logs", "start the edge with --access-log FILE for a log")
        node.ignore("strict_sni_host", "idle_timeout", "read_header_timeout", "max_header_bytes", "metrics")
        node.without("protocols", _PROTOCOLS)
        node.without("trusted_proxies", "name the networks of proxies: Edge(trusted_proxies=[...])")
        node.without("listener_wrappers", "name the proxies: edge.listen(..., proxy_protocol=[NETWORKS])")
        if keep_order(server.routes):
            text = "Caddy takes the first answer in its order; priority= keeps that order here."
            if text not in self._site.comments:
                self._site.comments.append(text)
        self._site.routes += server.routes
        if self._body:
            self._site.settings["limits"] = Limits(http=HttpLimits(body_bytes=max(self._body)))

    def _listeners(self, node: Node, listens: list[str], policies: list[Node], names: list[str] | None) -> None:
        """Declares listeners. ``names``: the hosts that need certificates; ``None``: plain text."""
        pairs: list[Certificate] = []
        for policy in policies:
            selection = policy.table("certificate_selection")
            pairs += [self._pairs[tag] for tag in selection.texts("any_tag") if tag in self._pairs]
            policy.without("client_authentication", "see Tls(client_ca=...)")
            policy.ignore("match", "alpn", "protocol_min", "protocol_max", "cipher_suites", "curves", "default_sni")
        place = node.child("listen") or node
        obtained = [name for name in names or () if "*" not in name and "." in name]
        for address in listens:
            listened = _address(address)
            if listened is None:
                place.left_out(f"the edge cannot listen on {address}")
            elif names is None:
                self._listen(Listener(listened), node)
            elif pairs:
                self._listen(Listener(listened, tls=Tls(pairs[0] if len(pairs) == 1 else pairs)), node)
            elif obtained and len(obtained) == len(names):
                place.choice(
                    "certificates are obtained by ACME and kept in the folder acme; port 80 must reach the edge"
                )
                self._listen(Listener("[::]:80"), node)
                self._listen(Listener(listened, tls=Tls(acme=Acme(obtained, storage="acme", email=self._email))), node)
            else:
                place.left_out(
                    f"the certificate of {address} is not in the source; declare one: "
                    f'edge.listen("{listened}", tls=Tls(Certificate("fullchain.pem", "privkey.pem")))'
                )

    def _listen(self, listener: Listener, node: Node) -> None:
        taken = [it.value.address for it in self._site.listeners if isinstance(it.value, Listener)]
        if listener.address not in taken:
            self._site.listeners.append(Declared(listener, [], f"{node.path}.listen"))

    # -- lists of routes -------------------------------------------------------------------------------------------

    def _run(self, nodes: list[Node], outer: Match, state: _State, server: _Server) -> _State:
        """Runs through a list; returns the middleware after it."""
        for node in nodes:
            if len(server.routes) > _MOST_ROUTES:
                raise SourceError(f"has more than {_MOST_ROUTES} answers")
            node.ignore("group", "terminal", "@id")
            if (addresses := _addresses(node, outer)) is not None:
                state = replace(state, middleware=(*state.middleware, addresses))
                continue
            found, unknown = matches(node, outer)
            handlers = node.items("handle")
            for handler in handlers:
                state = self._handle(handler, found, unknown, state, server)
        return state

    def _handle(self, handler: Node, found: list[Match], unknown: bool, state: _State, server: _Server) -> _State:
        kind = handler.text("handler")
        if kind == "authentication":
            # A guard whose condition is not understood holds for everything: nothing opens by that.
            return self._guarded(handler, [EVERYTHING] if unknown else found, state)
        if kind == "reverse_proxy" and handler.has("handle_response") and handler.has("rewrite"):
            # The form of forward_auth: another server says who may pass.
            return self._closed(handler, [EVERYTHING] if unknown else found, state)
        if unknown and _refuses(kind, handler):
            return self._closed(handler, [EVERYTHING], state)
        if kind == "vars":
            root = handler.text("root")
            handler.plain()
            return replace(state, root=root or state.root)
        if unknown and not (kind == "rewrite" and handler.text("uri") == "{http.matchers.file.relative}"):
            handler.plain()
            return state
        if kind == "subroute":
            for match in found:
                inner = self._run(handler.items("routes"), match, state, server)
                if match == EVERYTHING and len(found) == 1:
                    state = inner
            handler.without("errors", "pages for errors are declared with errors=")
            return state
        if kind in ("encode", "headers", "rewrite", "request_body"):
            return self._middleware(kind, handler, found, state)
        if kind in ("static_response", "error", "reverse_proxy", "file_server"):
            for match in found:
                self._answer(kind, handler, match, state, server)
            return state
        handler.left_out(f"the handler {kind} has no counterpart in edgerouter")
        return state

    def _closed(self, handler: Node, found: list[Match], state: _State) -> _State:
        """Answers 403 where a guard has no counterpart."""
        handler.left_out("who may pass is decided elsewhere: requests get 403 until auth= or basic= is here")
        arguments = {"respond": Respond(status=403, body="not served yet\n")}
        return replace(state, middleware=(*state.middleware, *(_Middleware(match, arguments) for match in found)))

    def _guarded(self, handler: Node, found: list[Match], state: _State) -> _State:
        basic = handler.table("providers").table("http_basic")
        if basic.is_empty:
            return self._closed(handler, found, state)
        names = [name for account in basic.items("accounts") if (name := account.text("username"))]
        realm = basic.text("realm")
        handler.plain()
        handler.choice("write the names and hashes of the Caddyfile into users.htpasswd, as NAME:HASH, one a line")
        arguments: dict[str, Any] = {"basic": BasicAuth("users.htpasswd", realm=realm)}
        if not names:
            handler.left_out("has no accounts")
        added = tuple(_Middleware(match, arguments) for match in found)
        return replace(state, middleware=(*state.middleware, *added))

    def _middleware(self, kind: str, handler: Node, found: list[Match], state: _State) -> _State:
        arguments: dict[str, Any] = {}
        if kind == "encode":
            handler.plain()
            arguments = {"compress": True}
        elif kind == "headers":
            arguments = caddy_middleware.headers(handler)
        elif kind == "request_body":
            if size := handler.number("max_size"):
                self._body.append(size)
            return state
        else:
            uri = handler.text("uri")
            if uri == "{http.matchers.file.relative}":
                return replace(state, fallback=_fallback(found) or state.fallback)
            arguments = caddy_middleware.rewrite(handler, uri, found)
        if not arguments:
            return state
        if (prefix := arguments.get("strip_prefix")) is not None:
            # Only paths that have the prefix lose it.
            below = f"{prefix.rstrip('/')}/*"
            found = [it if covers(below, it.path or "/*") else replace(it, path=below) for it in found]
        added = tuple(_Middleware(match, arguments) for match in found)
        return replace(state, middleware=(*state.middleware, *added))

    # -- answers ---------------------------------------------------------------------------------------------------

    def _answer(self, kind: str, handler: Node, match: Match, state: _State, server: _Server) -> None:
        answer = self._answers.of(kind, handler, match, state.root, state.fallback)
        if answer is None:
            return
        folder, pattern = answer.pop("folder", None), answer.pop("pattern", None)
        narrower = [
            replace(middleware.match, hosts=middleware.match.hosts or match.hosts)
            for middleware in state.middleware
            if middleware.match.path not in (None, match.path)
            and covers(match.path or "/*", middleware.match.path or "")
        ]
        for part in (*(dict.fromkeys(narrower) if pattern is None else ()), match):
            arguments = self._with(dict(answer), part, state, folder is not None)
            place = pattern or part.path or "/*"
            if folder is not None and "respond" not in arguments:
                self._files(handler, part, place, folder, arguments, server)
                continue
            self._add(SiteRoute(place, arguments, [], handler.path, handler.line), part, server)

    def _files(
        self,
        handler: Node,
        part: Match,
        place: str,
        folder: str,
        arguments: dict[str, Any],
        server: _Server,
    ) -> None:
        stripped = arguments.pop("strip_prefix", None)
        for name in ("compress", "rewrite", "add_prefix", "methods"):
            arguments.pop(name, None)
        if "basic" in arguments or "addresses" in arguments:
            handler.left_out("a folder takes no passwords and address lists: requests get 403")
            arguments = {"respond": Respond(status=403, body="not served yet\n")}
            self._add(SiteRoute(place, arguments, [], handler.path, handler.line), part, server)
            return
        if not place.endswith("/*") or "*" in place[:-1]:
            handler.left_out(f"files are declared by the folder of a prefix, not for {place}; see edge.files")
            return
        prefix = place[:-2] or "/"
        inside = prefix.removeprefix(stripped) if stripped else prefix
        whole = folder.rstrip("/") + ("" if inside in ("", "/") else inside)
        headers = arguments.get("headers")
        if isinstance(headers, HeaderPolicy):
            arguments["headers"] = HeaderPolicy(response=headers.response)
        self._add(SiteRoute(prefix, arguments, [], handler.path, handler.line, folder=whole or "/"), part, server)

    def _add(self, route: SiteRoute, match: Match, server: _Server) -> None:
        arguments: dict[str, Any] = {}
        if len(match.hosts) == 1:
            route.pattern = f"{match.hosts[0]}{route.pattern}"
        elif match.hosts:
            arguments["host"] = list(match.hosts)
        if match.methods and route.folder is None:
            arguments["methods"] = list(match.methods)
        if match.when:
            arguments["when"] = match.when
        arguments |= route.arguments
        if match.protocol == "https":
            arguments["viewer"] = "https-only"
        elif server.redirects:
            arguments["viewer"] = "redirect-to-https"
        route.arguments = arguments
        same = [it for it in server.routes if it.pattern == route.pattern and it.arguments == route.arguments]
        if not same:
            server.routes.append(route)

    def _with(self, arguments: dict[str, Any], part: Match, state: _State, files: bool) -> dict[str, Any]:
        """The answer with the middleware that covers it."""
        closed = None
        paths = ("strip_prefix", "add_prefix", "rewrite", "compress")
        for middleware in state.middleware:
            if not middleware.match.covers(part):
                continue
            for name, value in middleware.arguments.items():
                if name == "respond":
                    closed = value
                elif name == "headers" and isinstance(arguments.get("headers"), HeaderPolicy):
                    arguments[name] = _merged(arguments[name], value)
                elif name == "addresses" and name in arguments:
                    arguments[name] = _both(arguments[name], value)
                elif name not in paths or "to" in arguments or files:
                    arguments[name] = value
        if closed is not None:
            return {"respond": closed}
        if "rewrite" in arguments:
            arguments.pop("strip_prefix", None)
            arguments.pop("add_prefix", None)
        if "redirect" in arguments or "respond" in arguments:
            headers = arguments.get("headers")
            if isinstance(headers, HeaderPolicy):
                arguments["headers"] = HeaderPolicy(response=headers.response)
        return arguments


def _addresses(node: Node, outer: Match) -> _Middleware | None:
    """A route that refuses clients by their address, and nothing else."""
    sets, handlers = node.items("match"), node.items("handle")
    if len(sets) != 1 or len(handlers) != 1 or handlers[0].text("handler") != "static_response":
        return None
    refused = handlers[0].flag("abort") or handlers[0].number("status_code") in (401, 403, 404)
    table, inverted = sets[0], False
    if list(_names(table)) == ["not"]:
        inner = table.items("not")
        if len(inner) != 1:
            return None
        table, inverted = inner[0], True
    if not refused or list(_names(table)) not in (["remote_ip"], ["client_ip"]):
        return None
    networks = table.table(next(_names(table))).texts("ranges")
    try:
        policy = AddressPolicy(allow=networks) if inverted else AddressPolicy(deny=networks)
    except ConfigError as error:
        node.left_out(f"edgerouter refuses the list, and nobody passes: {error.problems[0].message}")
        policy = AddressPolicy(deny=["0.0.0.0/0", "::/0"])
    node.plain()
    return _Middleware(outer, {"addresses": policy})


def _both(one: AddressPolicy, other: AddressPolicy) -> AddressPolicy:
    """The clients that pass both: one policy in the place of another would open what that closes."""
    deny = [*dict.fromkeys([*one.deny, *other.deny])]
    if one.allow is None or other.allow is None:
        return AddressPolicy(allow=one.allow if other.allow is None else other.allow, deny=deny)
    mine, others = (_networks(it.allow) for it in (one, other))
    # Of two networks that meet, one is a part of the other.
    common = {min(a, b, key=_width) for a in mine for b in others if a.version == b.version and a.overlaps(b)}
    if not common:
        return AddressPolicy(deny=["0.0.0.0/0", "::/0"])
    return AddressPolicy(allow=sorted(str(network) for network in common), deny=deny)


def _networks(texts: object) -> list[Any]:
    return [ip_network(text, strict=False) for text in listed(texts) or ()]


def _width(network: Any) -> int:
    return -int(network.prefixlen)


def _names(table: Node) -> Iterator[str]:
    return (name for name, _ in table)


def _hosts(server: Node) -> list[str]:
    """The hosts that the routes of a server name."""
    found: list[str] = []
    for route in server.items("routes"):
        for match in route.items("match"):
            found += match.texts("host") if match.is_table else []
    return list(dict.fromkeys(found))


def _fallback(found: list[Match]) -> str | None:
    """The page that answers for paths without a file, of ``try_files``."""
    for match in found:
        for name in reversed(match.files):
            if "{" not in name and name.endswith((".html", ".htm")):
                return name.lstrip("/")
    return None


def _merged(one: HeaderPolicy, other: HeaderPolicy) -> HeaderPolicy:
    def both(first: Any, second: Any) -> HeaderEdits:
        return HeaderEdits(
            set={**second.set, **first.set},
            add={**second.add, **first.add},
            remove=tuple(dict.fromkeys((*first.remove, *second.remove))),
        )

    return HeaderPolicy(request=both(one.request, other.request), response=both(one.response, other.response))


def _address(text: str) -> str | None:
    text = text.removeprefix("tcp/")
    if text.startswith("unix/"):
        return f"unix:{text[5:].partition('|')[0]}"
    if found := re.fullmatch(r"(?:0\.0\.0\.0|\[::\])?:(\d{1,5})", text):
        return f"[::]:{found[1]}"
    if found := re.fullmatch(r"localhost:(\d{1,5})", text):
        return f"127.0.0.1:{found[1]}"
    return text if re.fullmatch(r"[0-9.]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}", text) else None


def _refuses(kind: str | None, handler: Node) -> bool:
    """True if an answer says that its client may not pass."""
    return kind in ("static_response", "error") and (
        handler.flag("abort") or handler.number("status_code") in (401, 403)
    )
