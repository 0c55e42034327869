"""Origins and origin groups of a distribution of CloudFront."""

from __future__ import annotations

import re
from typing import Any

from edgerouter.errors import ConfigError
from edgerouter.importing.model import Declared, Site, label, variable
from edgerouter.importing.nodes import Node
from edgerouter.origins import Group, Origin
from edgerouter.secrets import env

__all__ = ["CloudFrontOrigins"]

_SECRET = re.compile(r"secret|token|auth|verify|key|password|credential|signature", re.IGNORECASE)


class CloudFrontOrigins:
    """Makes the origins and groups of a site.

    ``targets``  the name in the program for each identifier of the source; a group's wins over an origin's
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._wanted: set[str] = set()
        self.targets: dict[str, str] = {}

    def read(self, config: Node) -> None:
        """Reads the origins and groups of a configuration."""
        for behaviour in (*config.items("CacheBehaviors"), config.table("DefaultCacheBehavior")):
            self._wanted.add(behaviour.raw("TargetOriginId") or "")
        for origin in config.items("Origins"):
            self._origin(origin)
        for group in config.items("OriginGroups"):
            self._group(group)

    def _origin(self, node: Node) -> None:
        if not node.is_table:
            node.left_out("must be a mapping with Id and DomainName")
            return
        site = self._site
        name = node.raw("Id") or ""
        fields: dict[str, Any] = {}
        comments: list[str] = []
        address = node.raw("DomainName") or ""
        if "${" in address or not re.fullmatch(r"[A-Za-z0-9_.-]+", address):
            shown = re.sub(r"[$\"{}]", "", address) or "nothing"
            address = f"{label(name, dots=False).lower() or 'origin'}.invalid"
            if (domain := node.child("DomainName")) is not None:
                domain.left_out(f"is known only when the source is deployed; replace {address} by the address")
            else:
                node.left_out(f"has no DomainName; replace {address} by the address")
            comments.append(f"Replace the host: the source takes it from {shown}.")
        custom = node.table("CustomOriginConfig")
        url = self._url(node, custom, address, comments)
        self._times(node, custom, fields)
        if node.has("S3OriginConfig"):
            self._bucket(node)
        self._access_control(node)
        if headers := self._headers(node, name, comments):
            fields["headers"] = headers
        shield = node.table("OriginShield")
        if shield.flag("Enabled"):
            shield.left_out("there is no second layer of caches; concurrent misses share one fetch already")
        shield.ignore("Enabled", "OriginShieldRegion")
        node.without("VpcOriginConfig", "the edge connects to the address itself; it must be able to reach it")
        chosen = site.free_name(name)
        try:
            origin = Origin(chosen, url, **fields)
        except ConfigError as error:
            node.left_out(f"edgerouter refuses this origin: {error.problems[0].message}")
            return
        self.targets[name] = chosen
        site.origins[chosen] = Declared(origin, comments, node.path, node.line)

    def _url(self, node: Node, custom: Node, address: str, comments: list[str]) -> str:
        http, https = custom.number("HTTPPort") or 80, custom.number("HTTPSPort") or 443
        protocol = custom.text("OriginProtocolPolicy") or "https-only"
        if protocol == "match-viewer":
            if (found := custom.child("OriginProtocolPolicy")) is not None:
                found.choice("the origin is always requested by https; write http:// into its URL if it has none")
        elif protocol not in ("http-only", "https-only") and (found := custom.child("OriginProtocolPolicy")):
            found.left_out("must be http-only, https-only or match-viewer; https is used")
        spelt = "OriginSSLProtocols" if custom.has("OriginSSLProtocols") else "OriginSslProtocols"
        versions = set(custom.texts(spelt))
        if outdated := sorted(versions & {"SSLv3", "TLSv1", "TLSv1.1"}):
            found = custom.child(spelt)
            if found is not None and not versions & {"TLSv1.2", "TLSv1.3"}:
                found.left_out(f"the edge uses TLS 1.2 or 1.3 with origins, not {', '.join(outdated)}")
            elif found is not None:
                found.choice(f"the edge uses TLS 1.2 or 1.3 with origins, not {', '.join(outdated)}")
        path = node.text("OriginPath") or ""
        path = f"/{path.strip('/')}" if path.strip("/") else ""
        if protocol == "http-only":
            return f"http://{address}{'' if http == 80 else f':{http}'}{path}"
        return f"https://{address}{'' if https == 443 else f':{https}'}{path}"

    def _times(self, node: Node, custom: Node, fields: dict[str, Any]) -> None:
        for table, name, field, default in (
            (node, "ConnectionTimeout", "connect_timeout", 2),
            (custom, "OriginReadTimeout", "first_byte_timeout", 30),
            (custom, "OriginKeepaliveTimeout", "idle_timeout", 60),
            (node, "ResponseCompletionTimeout", "total_timeout", None),
        ):
            seconds = table.number(name)
            if seconds and seconds != default:
                fields[field] = seconds
        attempts = node.number("ConnectionAttempts")
        if attempts and attempts != 2:
            fields["retries"] = min(attempts - 1, 10)
        custom.without("IpAddressType", "the edge uses the addresses that the name has", only_if="dualstack")

    def _bucket(self, node: Node) -> None:
        bucket = node.table("S3OriginConfig")
        bucket.without(
            "OriginAccessIdentity",
            "requests to the bucket are not signed; let the edge read it by a policy of the bucket for its address",
        )
        bucket.ignore("OriginReadTimeout")

    def _access_control(self, node: Node) -> None:
        node.without(
            "OriginAccessControlId",
            "requests to the origin are not signed; let the edge read it by a policy for its address",
        )

    def _headers(self, node: Node, name: str, comments: list[str]) -> dict[str, Any]:
        headers: dict[str, Any] = {}
        for item in (*node.items("OriginCustomHeaders"), *node.items("CustomHeaders")):
            field, value = item.text("HeaderName"), item.raw("HeaderValue")
            if not field or value is None:
                item.left_out("needs HeaderName and HeaderValue", secret=True)
            elif _SECRET.search(field) or "${" in value:
                named = variable(f"{name}_{field}", "secret").strip("_").upper()
                headers[field] = env(named)
                item.choice(f"the value may be secret and is not copied; set the variable {named} to it", secret=True)
            else:
                headers[field] = value
        return headers

    def _group(self, node: Node) -> None:
        site = self._site
        name = node.raw("Id") or ""
        criteria = node.table("FailoverCriteria")
        statuses = self._statuses(criteria)
        members = [self.targets.get(item.raw("OriginId") or "", "") for item in node.items("Members")]
        known = [member for member in dict.fromkeys(members) if member in site.origins]
        comments: list[str] = []
        if len(known) == 1:
            used = {self.targets.get(target) for target in self._wanted}
            free = [other for other in site.origins if other not in known and other not in used]
            if len(free) == 1:
                known += free
                node.choice(
                    f"has one member, and no other can answer when it fails; {free[0]}, otherwise unused, is added"
                )
        if not known:
            node.left_out("names no origin of this distribution")
            return
        node.without("SelectionCriteria", "members are requested in order", only_if="media-quality-based")
        chosen = name if name not in self.targets else f"{name}-group"
        chosen = site.free_name(chosen)
        if name in self.targets:
            node.choice(f"has the name of an origin; the group is called {chosen}, and behaviours use the group")
        try:
            group = Group(chosen, known, statuses)
        except ConfigError as error:
            node.left_out(f"edgerouter refuses this group: {error.problems[0].message}")
            return
        self.targets[name] = chosen
        site.groups[chosen] = Declared(group, comments, node.path, node.line)

    def _statuses(self, criteria: Node) -> list[int]:
        found: list[int] = []
        for item in criteria.items("StatusCodes"):
            text = item.as_text() or ""
            if text.isascii() and text.isdigit() and 200 <= int(text[:4]) <= 599:
                found.append(int(text))
            else:
                item.left_out("must be a status from 200 to 599")
        return found or [500, 502, 503, 504]
