"""An nginx configuration to a site: listeners, servers, and settings of the whole. ``nginx_locations`` has the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgerouter.errors import ConfigError
from edgerouter.guarding import RateLimit
from edgerouter.importing.model import Declared, Site
from edgerouter.importing.nginx_directives import Directive, parse, size
from edgerouter.importing.nginx_locations import Locations, Scope
from edgerouter.importing.nginx_upgrades import Upgrade, upgrade
from edgerouter.importing.report import Report, SourceError
from edgerouter.limits import HttpLimits, Limits
from edgerouter.listening import Certificate, Listener, Tls

__all__ = ["read_nginx"]

_PROTOCOLS = "listeners with TLS offer HTTP/2 by themselves, and none offers HTTP/3"
#: Directives that are understood where something uses them.
_UNUSED = {
    "index": "no location of this server sends files",
    "root": "no location of this server sends files of the folder",
    "server": "no location passes requests to this upstream",
}
#: Every location looks through the blocks around it.
_MOST_LOCATIONS = 1_000

#: Settings of nginx itself, which say nothing about the site.
_OF_NGINX = [
    "aio",
    "charset",
    "default_type",
    "directio",
    "env",
    "error_log",
    "etag",
    "events",
    "gzip_buffers",
    "gzip_comp_level",
    "gzip_disable",
    "gzip_http_version",
    "gzip_min_length",
    "gzip_proxied",
    "gzip_types",
    "gzip_vary",
    "include",
    "keepalive_requests",
    "keepalive_timeout",
    "large_client_header_buffers",
    "client_body_buffer_size",
    "client_header_buffer_size",
    "load_module",
    "log_format",
    "log_not_found",
    "open_file_cache",
    "open_file_cache_errors",
    "open_file_cache_min_uses",
    "open_file_cache_valid",
    "pcre_jit",
    "pid",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_headers_hash_bucket_size",
    "proxy_headers_hash_max_size",
    "proxy_http_version",
    "proxy_max_temp_file_size",
    "proxy_redirect",
    "proxy_request_buffering",
    "proxy_temp_file_write_size",
    "proxy_temp_path",
    "reset_timedout_connection",
    "resolver",
    "resolver_timeout",
    "sendfile",
    "sendfile_max_chunk",
    "send_timeout",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "server_tokens",
    "ssl_buffer_size",
    "ssl_ciphers",
    "ssl_dhparam",
    "ssl_ecdh_curve",
    "ssl_prefer_server_ciphers",
    "ssl_session_cache",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "ssl_stapling",
    "ssl_stapling_verify",
    "tcp_nodelay",
    "tcp_nopush",
    "types",
    "types_hash_bucket_size",
    "types_hash_max_size",
    "underscores_in_headers",
    "user",
    "variables_hash_max_size",
    "worker_connections",
    "worker_cpu_affinity",
    "worker_priority",
    "worker_processes",
    "worker_rlimit_nofile",
    "daemon",
    "debug_points",
    "lock_file",
    "master_process",
    "thread_pool",
    "timer_resolution",
    "worker_aio_requests",
    "worker_rlimit_core",
    "worker_shutdown_timeout",
    "working_directory",
    "client_body_timeout",
    "client_header_timeout",
    "proxy_send_timeout",
    "proxy_set_body",
    "merge_slashes",
    "absolute_redirect",
    "port_in_redirect",
    "server_name_in_redirect",
    "gzip_static",
    "brotli_static",
    "brotli_comp_level",
    "brotli_types",
    "ssl_trusted_certificate",
    "proxy_cache_lock",
    "proxy_cache_lock_timeout",
    "proxy_cache_lock_age",
    "proxy_cache_methods",
    "proxy_cache_revalidate",
    "proxy_intercept_errors",
    "fastcgi_param",
    "fastcgi_index",
    "fastcgi_split_path_info",
]


def read_nginx(path: Path, text: str, report: Report) -> tuple[Site, Directive]:
    """Reads a configuration, or a file of servers as in ``conf.d``."""
    root = parse(path, text, report)
    reader = _Nginx(Site(path.stem, report), root)
    return reader.read(), root


class _Nginx:
    def __init__(self, site: Site, root: Directive) -> None:
        self._site = site
        self._root = root
        self._listeners: dict[str, list[Directive]] = {}
        self._certificates: dict[str, dict[tuple[str, str], None]] = {}
        self._plain: set[str] = set()
        self._policy: dict[str, str] = {}

    def read(self) -> Site:
        root = self._root
        root.used = True
        root.ignore(*_OF_NGINX)
        blocks = [root, *root.all("http")]
        upstreams: dict[str, Directive] = {}
        limits: dict[str, RateLimit] = {}
        servers: list[tuple[Directive, Directive]] = []
        for block in blocks:
            block.ignore(*_OF_NGINX)
            self._shared(block)
            for upstream in block.all("upstream"):
                if upstream.args:
                    upstreams[upstream.args[0]] = upstream
            for zone in block.all("limit_req_zone"):
                self._zone(zone, limits)
            servers += [(server, block) for server in block.all("server")]
        if len(_below(root, "location")) > _MOST_LOCATIONS or len(servers) > _MOST_LOCATIONS:
            raise SourceError(f"has more than {_MOST_LOCATIONS} servers or locations")
        if not servers:
            raise SourceError("is no nginx configuration of a site: it has no server")
        names = [server for server, _ in servers]
        locations = Locations(self._site, upstreams, limits)
        secure = {name for server in names if _is_tls(server) for name in self._names(server)}
        redirected = self._upgrades(names, secure)
        default = next((server for server in names if self._is_default(server)), names[0])
        for server, block in servers:
            server.ignore(*_OF_NGINX)
            self._shared(server)
            hosts = self._names(server)
            first = server is default or self._same_site(server, default)
            if not hosts and not first and server not in redirected and self._is_apart(server):
                server.take()
                server.left_out(
                    "its routes would answer for all hosts on all listeners, as routes have no address of their own; "
                    "import it as an edge of its own"
                )
                continue
            self._listen(server, block)
            if (found := redirected.get(server)) is not None:
                for part, of in _beside(server, found):
                    locations.server(Scope(block, part, of, upgraded=False))
                server.take()
                continue
            if hosts and not _is_tls(server) and set(hosts) <= secure:
                server.left_out(
                    "a server with TLS has the same hosts, and routes answer on all listeners: its routes answer here, "
                    "too; viewer= sends browsers to https"
                )
                continue
            if first:
                hosts = []
            scope = Scope(block, server, hosts, self._is_upgraded(server, redirected))
            locations.server(scope)
        self._body_limit()
        self._declare_listeners()
        for location in _below(root, "location"):
            location.ignore(*_OF_NGINX)
        for block in blocks:
            for directive in block.unread():
                directive.left_out(_UNUSED.get(directive.name, "has no counterpart in edgerouter"))
        return self._site

    def _shared(self, block: Directive) -> None:
        for log in block.all("access_log"):
            if log.args[:1] != ["off"]:
                log.left_out("start the edge with --access-log FILE for a log")
        for cache in block.all("proxy_cache_path"):
            cache.left_out("the cache is in memory; for one on disk start the edge with --disk-cache DIR")

    # -- limits ----------------------------------------------------------------------------------------------------

    def _zone(self, zone: Directive, limits: dict[str, RateLimit]) -> None:
        key = zone.args[0] if zone.args else ""
        options = dict(part.split("=", 1) for part in zone.args[1:] if "=" in part)
        name = options.get("zone", "").partition(":")[0]
        rate = re.fullmatch(r"(\d{1,9})r/([sm])", options.get("rate", ""))
        by = {
            "$binary_remote_addr": "address",
            "$remote_addr": "address",
            "$server_name": "route",
            "$host": "route",
        }.get(key)
        if found := re.fullmatch(r"\$(http|cookie)_([A-Za-z0-9_]+)", key):
            by = f"header:{found[2].replace('_', '-')}" if found[1] == "http" else f"cookie:{found[2]}"
        if rate is None or by is None or not name:
            zone.left_out("no rate limit has such a key or rate")
            return
        try:
            limits[name] = RateLimit(name, int(rate[1]), per=1 if rate[2] == "s" else 60, by=by)
        except ConfigError as error:
            zone.left_out(f"edgerouter refuses it: {error.problems[0].message}")

    def _body_limit(self) -> None:
        """One bound for the whole edge: the largest that a part of the site needs."""
        found = [*_below(self._root, "client_max_body_size")]
        sizes = {directive: size(directive.args[0]) if directive.args else None for directive in found}
        known = [number for number in sizes.values() if number is not None]
        for directive, number in sizes.items():
            directive.used = True
            if number is None:
                directive.left_out("is no size")
        if known:
            most = 1 << 40 if 0 in known else max(known)
            self._site.settings["limits"] = Limits(http=HttpLimits(body_bytes=most))
            if len(set(known)) > 1:
                found[0].choice("bodies have one bound for the whole edge, the largest of all")

    # -- servers ---------------------------------------------------------------------------------------------------

    def _names(self, server: Directive) -> list[str]:
        names: list[str] = []
        for directive in server.all("server_name"):
            for name in directive.args:
                if name.startswith("~"):
                    directive.left_out("hosts by regular expressions are no pattern of edgerouter")
                elif name.startswith(".") and re.fullmatch(r"[A-Za-z0-9_.-]+", name):
                    names += [name[1:].lower(), f"*{name.lower()}"]
                elif re.fullmatch(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name) and name != "_":
                    names.append(name.lower())
                elif name not in ("_", ""):
                    directive.left_out("is no host that a route can have")
        return list(dict.fromkeys(names))

    def _is_default(self, server: Directive) -> bool:
        return any("default_server" in listen.args for listen in server.all("listen"))

    def _is_apart(self, server: Directive) -> bool:
        """A server that no route can stand for: of hosts that no pattern names, or of ports beside those of sites."""
        if any(name not in ("_", "") for directive in server.all("server_name") for name in directive.args):
            return True
        ports = {(listen.args[0] if listen.args else "80").rpartition(":")[2] for listen in server.all("listen")}
        return bool(ports) and not ports & {"80", "443"}

    def _same_site(self, server: Directive, default: Directive) -> bool:
        names = self._names(server)
        return bool(names) and names == self._names(default)

    def _upgrades(self, servers: list[Directive], secure: set[str]) -> dict[Directive, Upgrade]:
        """Servers that only send browsers to https, under names that another server has with TLS."""
        found: dict[Directive, Upgrade] = {}
        for server in servers:
            if not _is_tls(server) and (one := upgrade(server, self._names(server), secure)) is not None:
                found[server] = one
        return found

    def _is_upgraded(self, server: Directive, redirected: dict[Directive, Upgrade]) -> bool:
        names = set(self._names(server))
        return _is_tls(server) and any(
            # One without names sends everybody.
            not self._names(other) or names & set(found.names)
            for other, found in redirected.items()
        )

    # -- listeners -------------------------------------------------------------------------------------------------

    def _listen(self, server: Directive, block: Directive) -> None:
        chains = [it.args[0] for it in server.all("ssl_certificate") if it.args]
        keys = [it.args[0] for it in server.all("ssl_certificate_key") if it.args]
        around = block.one("ssl_protocols")
        protocols = server.one("ssl_protocols") or around
        policy = "TLSv1.2_2021"
        if protocols is not None:
            policy = "TLSv1.3_2025" if set(protocols.args) == {"TLSv1.3"} else policy
            if set(protocols.args) & {"SSLv3", "TLSv1", "TLSv1.1"}:
                protocols.choice("viewers use TLS 1.2 or 1.3")
        server.ignore("ssl")
        server.ignore("http2")
        for http3 in server.all("http3"):
            if http3.args[:1] == ["on"]:
                http3.left_out(_PROTOCOLS)
        for listen in server.all("listen"):
            address = _address(listen.args[0] if listen.args else "")
            if address is None:
                listen.left_out("is no address that the edge can listen on")
                continue
            options = set(listen.args[1:])
            if options & {"quic", "spdy"}:
                self._site.report.note("left-out", listen.path, _PROTOCOLS, value=listen.text, line=listen.line)
            if "proxy_protocol" in options:
                listen.left_out("name the proxies: edge.listen(..., proxy_protocol=[NETWORKS])")
            self._listeners.setdefault(address, []).append(listen)
            if options & {"ssl", "quic"} or _has_ssl(server):
                pairs = self._certificates.setdefault(address, {})
                pairs |= dict.fromkeys(zip(chains, keys, strict=False))
                self._policy[address] = policy
            else:
                self._plain.add(address)

    def _declare_listeners(self) -> None:
        for address in self._listeners:
            pairs = self._certificates.get(address, {})
            fields: dict[str, Any] = {}
            place = self._listeners[address][0]
            if address not in self._plain:
                if not pairs:
                    place.left_out("the certificate is missing: tls=Tls(Certificate(...))")
                    continue
                made = [Certificate(chain, key) for chain, key in pairs if "$" not in chain + key]
                if len(made) < len(pairs) or not made:
                    place.left_out("names of certificates with variables are not read: tls=Tls(Certificate(...))")
                    continue
                policy: Any = self._policy[address]
                fields["tls"] = Tls(made[0] if len(made) == 1 else made, policy=policy)
            self._site.listeners.append(Declared(Listener(address, **fields), [], place.path, place.line))


def _is_tls(server: Directive) -> bool:
    return any("ssl" in listen.args[1:] for listen in server.all("listen")) or _has_ssl(server)


def _has_ssl(server: Directive) -> bool:
    directive = server.one("ssl")
    return directive is not None and directive.args[:1] == ["on"]


def _beside(server: Directive, upgrade: Upgrade) -> Iterator[tuple[Directive, list[str]]]:
    """The parts of a server that stay although it sends browsers to https, each as a server with its hosts."""
    inside = server.block or []
    if upgrade.challenges:
        roots = [inner for inner in inside if inner.name == "root"]
        for place in upgrade.challenges:
            own = any(inner.name in ("root", "alias", "proxy_pass", "return") for inner in place.block or ())
            place.block = [*(place.block or ()), *([] if own else roots)]
        names = [*upgrade.names, *upgrade.rest]
        yield Directive(server.name, server.args, upgrade.challenges, server.path, server.line, server.report), names
    if upgrade.rest:
        kept = [inner for inner in inside if inner not in upgrade.challenges and inner.name != "root"]
        yield Directive(server.name, server.args, kept, server.path, server.line, server.report), upgrade.rest


def _address(text: str) -> str | None:
    """An address of ``listen`` in edgerouter's form. Every address of IPv4 and of IPv6 is one."""
    if text.startswith("unix:/"):
        return text
    if text.isdigit():
        return f"[::]:{text}" if int(text) < 65_536 else None
    if found := re.fullmatch(r"(\*|0\.0\.0\.0|\[::\]):(\d{1,5})", text):
        return f"[::]:{found[2]}"
    if re.fullmatch(r"[0-9.]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}", text):
        return text
    if re.fullmatch(r"[0-9.]+|\[[0-9A-Fa-f:]+\]", text):
        return f"{text}:80"
    if found := re.fullmatch(r"localhost(?::(\d{1,5}))?", text):
        return f"127.0.0.1:{found[1] or 80}"
    return None


def _below(directive: Directive, name: str) -> list[Directive]:
    found: list[Directive] = []
    waiting = [directive]
    while waiting:
        for inner in waiting.pop().block or ():
            if inner.name == name:
                found.append(inner)
            waiting.append(inner)
    return found
