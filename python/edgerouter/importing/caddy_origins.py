"""``reverse_proxy`` of Caddy as origins and groups."""

from __future__ import annotations

import re
from typing import Any

from edgerouter.errors import ConfigError
from edgerouter.importing.model import Declared, Site
from edgerouter.importing.nodes import Node
from edgerouter.origins import Group, Health, Origin
from edgerouter.routes import HeaderEdits, HeaderPolicy

__all__ = ["Origins"]

_NANOSECONDS = 1_000_000_000


class Origins:
    """Makes the origins of a site; equal ones are one."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._made: dict[object, str] = {}

    def target(self, handler: Node) -> tuple[str, HeaderPolicy | None] | None:
        """The origin or group of a handler, and the edits of fields; ``None`` if the edge cannot request it."""
        transport = handler.table("transport")
        if (transport.text("protocol") or "http") != "http":
            transport.left_out("the edge speaks HTTP with origins; requests get 501 until there is one")
            handler.plain()
            return None
        if handler.has("dynamic_upstreams"):
            handler.without("dynamic_upstreams", "origins are declared by their names; requests get 501")
            handler.plain()
            return None
        fields: dict[str, Any] = {"host": "viewer"}
        tls = transport.has("tls")
        self._transport(transport, fields)
        edits = self._fields(handler, fields)
        self._health(handler.table("health_checks"), fields)
        balancing = self._balancing(handler)
        for name in (
            "flush_interval",
            "buffer_requests",
            "buffer_responses",
            "max_buffer_size",
            "request_buffers",
            "response_buffers",
            "trusted_proxies",
            "stream_timeout",
            "stream_close_delay",
            "verbose_logs",
        ):
            handler.ignore(name)
        handler.without("handle_response", "responses are edited by an origin_response hook")
        handler.without("rewrite", "paths are rewritten with rewrite= of the route")
        members: list[str] = []
        shares: dict[str, int] = {}
        weights = dict(enumerate(balancing.pop("weights", [])))
        dials = [(item, item.text("dial") or "") for item in handler.items("upstreams")]
        for at, (item, dial) in enumerate(dials):
            item.without("max_requests", "see max_connections of the origin")
            member = self._origin(item, dial, tls, fields)
            if member is not None and member not in members:
                members.append(member)
                if (weight := weights.get(at, 1)) != 1:
                    shares[member] = weight
        if not members:
            handler.left_out("names no server that the edge can request: requests get 501")
            return None
        if len(members) == 1:
            return members[0], edits
        if len(shares) == len(members) and not any(shares.values()):
            shares = {}
        key = ("group", tuple(members), repr(balancing), repr(shares))
        if key not in self._made:
            name = self._site.free_name("-".join(members[:1]) + "-group")
            group = Group(name, members, (), weights=shares, **balancing)
            self._site.groups[name] = Declared(group, [], handler.path, handler.line)
            self._made[key] = name
        return self._made[key], edits

    def _origin(self, item: Node, dial: str, tls: bool, fields: dict[str, Any]) -> str | None:
        scheme = "https" if tls else "http"
        if dial.startswith("unix/"):
            address, wanted = f"unix:{dial[5:]}", dial.rpartition("/")[2].removesuffix(".sock")
        else:
            host, _, port = dial.rpartition(":")
            host = host or "127.0.0.1"
            if not port.isdigit() or "{" in dial:
                item.left_out("is known only while a request is served")
                return None
            shown = "" if (tls and port == "443") or (not tls and port == "80") else f":{port}"
            address = f"{scheme}://{host}{shown}"
            wanted = f"app-{port}" if re.fullmatch(r"[0-9.]+|\[.*\]|localhost", host) else host
        key = (address, repr(sorted(fields.items(), key=lambda entry: entry[0])))
        if key not in self._made:
            name = self._site.free_name(wanted)
            try:
                origin = Origin(name, address, **fields)
            except ConfigError as error:
                item.left_out(f"edgerouter refuses this origin: {error.problems[0].message}")
                return None
            self._site.origins[name] = Declared(origin, [], item.path, item.line)
            self._made[key] = name
        return self._made[key]

    def _transport(self, transport: Node, fields: dict[str, Any]) -> None:
        tls = transport.table("tls")
        if name := tls.text("server_name"):
            fields["tls_server_name"] = name
        if tls.flag("insecure_skip_verify"):
            fields["tls_verify"] = False
        for part in ("root_ca_pool", "root_ca_pem_files", "ca"):
            tls.without(part, "name the authority of the origin: tls_ca=secret_file(...)")
        for name, field in (
            ("dial_timeout", "connect_timeout"),
            ("response_header_timeout", "first_byte_timeout"),
            ("read_timeout", "between_bytes_timeout"),
        ):
            if (time := _seconds(transport, name)) is not None:
                fields[field] = time
        for name in (
            "keep_alive",
            "versions",
            "compression",
            "write_timeout",
            "read_buffer_size",
            "write_buffer_size",
            "max_conns_per_host",
            "expect_continue_timeout",
            "resolver",
            "max_response_header_size",
            "dial_fallback_delay",
        ):
            transport.ignore(name)
        transport.without("proxy_protocol", "the edge sends no header of the PROXY protocol")

    def _fields(self, handler: Node, fields: dict[str, Any]) -> HeaderPolicy | None:
        made: dict[str, HeaderEdits] = {}
        headers = handler.table("headers")
        for side in ("request", "response"):
            table = headers.table(side)
            edits: dict[str, Any] = {}
            for kind in ("set", "add"):
                values: dict[str, str] = {}
                for name, node in table.table(kind):
                    node.used = True
                    items = node.value if isinstance(node.value, list) else [node]
                    text = (items[0].as_text(raw=True) or "") if items else ""
                    if side == "request" and name.lower() == "host":
                        fields["host"] = "origin" if "upstream.hostport" in text else "viewer" if "{" in text else text
                    elif "{" in text:
                        if not name.lower().startswith("x-forwarded-") and name.lower() != "x-real-ip":
                            node.left_out("values with placeholders are set by a hook")
                    else:
                        values[name] = text
                if values:
                    edits[kind] = values
            if removed := [name for name in table.texts("delete") if "*" not in name]:
                edits["remove"] = removed
            table.without("replace", "parts of fields are replaced by a hook")
            table.ignore("deferred")
            try:
                if edits:
                    made[side] = HeaderEdits(**edits)
            except ConfigError as error:
                table.left_out(f"edgerouter refuses it: {error.problems[0].message}")
        return HeaderPolicy(**made) if made else None

    def _health(self, checks: Node, fields: dict[str, Any]) -> None:
        active = checks.table("active")
        path = active.text("uri") or active.text("path")
        if path and path.startswith("/"):
            chosen: dict[str, Any] = {}
            for name in ("interval", "timeout"):
                if (time := _seconds(active, name)) is not None:
                    chosen[name] = time
            status = active.number("expect_status")
            if status is not None and 200 <= status <= 599:
                chosen["status"] = [status]
            try:
                fields["health"] = Health(path.partition("?")[0], **chosen)
            except ConfigError as error:
                active.left_out(f"edgerouter refuses the probe: {error.problems[0].message}")
        for name in ("port", "headers", "expect_body", "max_size"):
            active.without(name, "a probe is a GET of the origin's own address, judged by its status")
        checks.without("passive", "three failures in a row, or half of twenty in a minute, make a member unhealthy")

    def _balancing(self, handler: Node) -> dict[str, Any]:
        """The balance of the group, and the ``weights`` of its members in their order."""
        balancing = handler.table("load_balancing")
        for name in ("try_duration", "try_interval", "retries"):
            balancing.ignore(name)
        balancing.without("retry_match", "requests without a body, or with a small one, are repeated")
        selection = balancing.table("selection_policy")
        policy = selection.text("policy") or "random"
        found: dict[str, Any] = {"balance": "round_robin"}
        match policy:
            case "first":
                return {}
            case "round_robin":
                pass
            case "weighted_round_robin":
                weights = [item.value for item in selection.items("weights")]
                found["weights"] = [min(w, 65_535) if isinstance(w, int) and w >= 0 else 1 for w in weights]
            case "least_conn":
                found = {"balance": "least_requests"}
            case "random_choose":
                selection.ignore("choose")
                selection.choice("Caddy compares some members at random; the edge compares all")
                found = {"balance": "least_requests"}
            case "ip_hash" | "client_ip_hash":
                found = {"balance": "hash", "by": "address"}
            case "uri_hash":
                found = {"balance": "hash", "by": "url"}
            case "header" if selection.text("field"):
                found = {"balance": "hash", "by": f"header:{selection.text('field')}"}
                selection.ignore("fallback")
            case "random" if not selection.has("policy"):
                pass
            case "random":
                selection.choice("each member has its turn")
            case _:
                selection.left_out("the edge has no such policy; each member has its turn")
        selection.plain()
        return found


def _seconds(table: Node, name: str) -> float | int | None:
    """A duration: nanoseconds, or a text such as ``5s``."""
    found = table.child(name)
    if found is None:
        return None
    if isinstance(found.value, int) and not isinstance(found.value, bool) and 0 < found.value < 2**60:
        time = found.value / _NANOSECONDS
        return int(time) if time == int(time) else round(time, 3)
    text = re.fullmatch(r"(\d{1,6})(ms|s|m|h)", str(found.value))
    if text is not None and int(text[1]):
        return int(text[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[text[2]]
    found.left_out("is no duration")
    return None
