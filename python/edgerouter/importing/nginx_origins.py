"""Upstreams and ``proxy_pass`` of nginx as origins and groups."""

from __future__ import annotations

import re
from typing import Any

from edgerouter.errors import ConfigError
from edgerouter.importing.model import Declared, Site
from edgerouter.importing.nginx_directives import Directive, seconds
from edgerouter.importing.nginx_scope import Scope
from edgerouter.origins import Group, Origin

__all__ = ["Origins"]

_PASS = re.compile(r"(https?)://(unix:[^:\s]+|\[[0-9A-Fa-f:]+\]|[^/:\s\[\]]+)(?::(\d{1,5}))?(?::?(/[^\s]*))?\Z")

_STATUS = re.compile(r"http_(\d{3})\Z")


class Origins:
    """Makes the origins of a site; equal ones are one."""

    def __init__(self, site: Site, upstreams: dict[str, Directive]) -> None:
        self._site = site
        self._upstreams = upstreams
        self._made: dict[object, str] = {}

    def target(self, directive: Directive, scope: Scope, *, suffix: str = "") -> tuple[str, str | None] | None:
        """The origin or group of a ``proxy_pass``, and the path in it; ``None`` if it cannot be known."""
        text = directive.args[0] if directive.args else ""
        found = _PASS.match(text)
        if "$" in text or found is None:
            directive.left_out("is known only while a request is served, or is no http or https URL")
            return None
        scheme, host, port, path = found[1], found[2], found[3], found[4]
        fields = self._fields(scope)
        if scheme == "https":
            self._tls(directive, scope, fields)
        else:
            for name in (
                "proxy_ssl_verify",
                "proxy_ssl_name",
                "proxy_ssl_server_name",
                "proxy_ssl_trusted_certificate",
            ):
                scope.last(name)
        upstream = self._upstreams.get(host)
        key = (
            scheme,
            host,
            port,
            repr(sorted(fields.items())),
            self._failover(scope) if upstream is not None else None,
        )
        if key not in self._made:
            made = (
                self._upstream(upstream, scheme, fields, scope, suffix)
                if upstream is not None
                else self._single(directive, scheme, host, port, fields, suffix)
            )
            if made is None:
                return None
            self._made[key] = made
        return self._made[key], path

    def _single(
        self, directive: Directive, scheme: str, host: str, port: str | None, fields: dict[str, Any], suffix: str
    ) -> str | None:
        address = host if host.startswith("unix:") else f"{scheme}://{host}{f':{port}' if port else ''}"
        wanted = host.rpartition("/")[2].removesuffix(".sock") if host.startswith("unix:") else host.strip("[]")
        if re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:]+|localhost", wanted):
            wanted = f"app{f'-{port}' if port else ''}"
        return self._origin(directive, f"{wanted}{suffix}", address, fields)

    def _origin(self, place: Directive, wanted: str, address: str, fields: dict[str, Any]) -> str | None:
        name = self._site.free_name(wanted)
        try:
            origin = Origin(name, address, **fields)
        except ConfigError as error:
            place.left_out(f"edgerouter refuses this origin: {error.problems[0].message}")
            return None
        self._site.origins[name] = Declared(origin, [], place.path, place.line)
        return name

    def _upstream(
        self, upstream: Directive, scheme: str, fields: dict[str, Any], scope: Scope, suffix: str
    ) -> str | None:
        keepalive = upstream.value("keepalive")
        if keepalive is not None and keepalive.isdigit() and int(keepalive[:6]):
            fields = {**fields, "idle_connections": int(keepalive[:6])}
        idle = upstream.value("keepalive_timeout")
        if idle is not None and (time := seconds(idle)):
            fields = {**fields, "idle_timeout": time}
        upstream.ignore("zone", "keepalive_requests", "keepalive_time")
        balancing = _balance(upstream)
        servers = [server for server in upstream.all("server") if server.args]
        active = [server for server in servers if "down" not in server.args]
        ordered = sorted(active, key=lambda server: "backup" in server.args)
        for server in servers:
            if "down" in server.args:
                server.choice("is marked as down and left out of the group")
            if any(
                part.startswith(("max_fails=", "fail_timeout=", "slow_start=", "max_conns=")) for part in server.args
            ):
                server.choice("a member is unhealthy after three failures in a row; health=Health(...) adds a probe")
        members: list[str] = []
        weights: dict[str, int] = {}
        name = upstream.args[0]
        for server in ordered:
            address = server.args[0]
            url = address if address.startswith("unix:") else f"{scheme}://{address}"
            wanted = name if len(ordered) == 1 else f"{name}-{len(members) + 1}"
            made = self._origin(server, f"{wanted}{suffix}", url, fields)
            if made is not None:
                members.append(made)
                if (weight := _weight(server)) != 1:
                    weights[made] = weight
        if not members:
            upstream.left_out("has no server that the edge can request")
            return None
        if len(members) == 1:
            return members[0]
        if not any(weights.get(member, 1) for member in members):
            weights = {}
        if sum(weights.get(member, 1) > 0 for member in members) == 1 and balancing == {"balance": "round_robin"}:
            # One server and its backups: the group's order says the same.
            balancing, weights = {}, {}
        chosen = self._site.free_name(f"{name}{suffix}")
        statuses, deadline = self._failover(scope)
        group = Group(chosen, members, statuses, deadline, weights=weights, **balancing)
        self._site.groups[chosen] = Declared(group, [], upstream.path, upstream.line)
        return chosen

    def _failover(self, scope: Scope) -> tuple[tuple[int, ...], int | None]:
        following = scope.last("proxy_next_upstream")
        statuses: tuple[int, ...] = ()
        if following is not None:
            found = (_STATUS.match(part) for part in following.args)
            statuses = tuple(sorted({int(status[1]) for status in found if status}))
            if "off" in following.args:
                following.left_out("another member is requested after a failure")
        timeout = scope.last("proxy_next_upstream_timeout")
        deadline = seconds(timeout.args[0]) if timeout is not None and timeout.args else None
        scope.last("proxy_next_upstream_tries")
        return statuses, deadline or None

    def _fields(self, scope: Scope) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, keys, default in (
            ("proxy_connect_timeout", ("connect_timeout",), 2),
            ("proxy_read_timeout", ("first_byte_timeout", "between_bytes_timeout"), 30),
        ):
            directive = scope.last(name)
            time = seconds(directive.args[0]) if directive is not None and directive.args else None
            if time and time != default:
                fields |= dict.fromkeys(keys, time)
        for header in scope.level("proxy_set_header"):
            if len(header.args) == 2 and header.args[0].lower() == "host":
                value = header.args[1]
                if value in ("$host", "$http_host", "$server_name"):
                    fields["host"] = "viewer"
                elif "$" not in value:
                    fields["host"] = value
        return fields

    def _tls(self, directive: Directive, scope: Scope, fields: dict[str, Any]) -> None:
        verify = scope.last("proxy_ssl_verify")
        name = scope.last("proxy_ssl_name")
        scope.last("proxy_ssl_server_name")
        if name is not None and name.args and "$" not in name.args[0]:
            fields["tls_server_name"] = name.args[0]
        authority = scope.last("proxy_ssl_trusted_certificate")
        if authority is not None:
            authority.left_out(f"name the authority of the origin: tls_ca=secret_file({authority.text!r})")
        if verify is None or verify.args[:1] == ["off"]:
            directive.choice("the certificate of the origin is verified, which nginx does not do by itself")


def _balance(upstream: Directive) -> dict[str, Any]:
    """The balance of an upstream; requests have turns where nothing is said."""
    found: dict[str, Any] = {"balance": "round_robin"}
    if upstream.all("least_conn"):
        upstream.ignore("least_conn")
        found = {"balance": "least_requests"}
    for directive in upstream.all("ip_hash"):
        directive.choice("nginx hashes the first three bytes of an IPv4 address; the edge hashes all four")
        found = {"balance": "hash", "by": "address"}
    for directive in upstream.all("hash"):
        by = _hashed(directive)
        if by is None:
            directive.left_out(f"is a hash of something else than a URL, an address, a field or a cookie; {_TURNS}")
        else:
            found = {"balance": "hash", "by": by}
    for directive in upstream.all("random"):
        if "two" in directive.args:
            directive.choice("nginx compares two members at random; the edge compares all")
            found = {"balance": "least_requests"}
        else:
            directive.choice(_TURNS)
    for directive in upstream.all("least_time"):
        directive.choice("the edge counts the requests under way, and not the time of responses")
        found = {"balance": "least_requests"}
    for directive in upstream.all("sticky"):
        directive.left_out(f"the edge sets no cookie for a member; {_TURNS}")
    return found


_TURNS = "each member has its turn"


def _hashed(directive: Directive) -> str | None:
    """The part of a request that ``hash`` is of, if the edge can hash it."""
    key = directive.args[0].lower() if directive.args else ""
    if key in ("$binary_remote_addr", "$remote_addr"):
        return "address"
    if re.fullmatch(r"(?:\$scheme)?(?:\$(?:proxy_|http_)?host)?\$(?:request_uri|uri(?:\$is_args\$args)?)", key):
        return "url"
    if re.fullmatch(r"\$cookie_[a-z0-9_]+", key):
        # The name as it is written: those of cookies have case.
        return f"cookie:{directive.args[0].removeprefix('$cookie_')}"
    if name := re.fullmatch(r"\$http_([a-z0-9_]+)", key):
        return f"header:{name[1].replace('_', '-')}"
    return None


def _weight(server: Directive) -> int:
    """The weight of a server; 0 for a backup, which is requested where the others fail."""
    if "backup" in server.args:
        return 0
    for part in server.args:
        if (found := re.fullmatch(r"weight=(\d{1,9})", part)) is not None:
            return min(max(int(found[1]), 1), 65_535)
    return 1
