"""Zones of Cloudflare: the server behind one, and routes for its patterns.

The address behind a zone is in Cloudflare's DNS and not in the files that are imported, so the program has a name to be
replaced.
"""

from __future__ import annotations

from typing import Any

from edgerouter.importing.model import Declared, Site, SiteRoute
from edgerouter.importing.nodes import Node
from edgerouter.importing.patterns import UrlPattern
from edgerouter.importing.report import Report
from edgerouter.origins import Origin

__all__ = ["route_for", "zone_origin"]


def zone_origin(site: Site, zone: str, report: Report, path: str, line: int | None, **fields: Any) -> str:
    """The origin behind a zone, whose address only Cloudflare's DNS has."""
    name = site.free_name(str(fields.pop("named", zone)))
    host = f"{zone.replace('.', '-')}.invalid"
    scheme = fields.pop("scheme", "https")
    origin = Origin(name, f"{scheme}://{host}", **{"host": "viewer", **fields})
    comments = [f"Replace the host by the address that the DNS of {zone} has at Cloudflare."]
    site.origins[name] = Declared(origin, comments)
    report.note("left-out", path, f"the address behind {zone} is in the DNS: replace {host} by it", line=line)
    return name


def route_for(pattern: UrlPattern, arguments: dict[str, Any], comments: list[str], node: Node) -> SiteRoute:
    host = {} if pattern.host is None else {"host": pattern.host}
    if pattern.https is True and "viewer" not in arguments and "redirect" not in arguments:
        arguments = {**arguments, "viewer": "https-only"}
    return SiteRoute(pattern.pattern, {**host, **arguments}, comments, node.path, node.line)
