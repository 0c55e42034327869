"""Handlers of Caddy that change what comes after them, as arguments of routes."""

from __future__ import annotations

import re
from typing import Any

from edgerouter.errors import ConfigError
from edgerouter.importing.caddy_matching import Match
from edgerouter.importing.nodes import Node
from edgerouter.routes import HeaderEdits, HeaderPolicy, Rewrite

__all__ = ["headers", "rewrite"]


def headers(handler: Node) -> dict[str, Any]:
    """Edits of fields, as an argument of routes."""
    made: dict[str, HeaderEdits] = {}
    for side in ("request", "response"):
        table = handler.table(side)
        if table.is_empty:
            continue
        table.ignore("deferred")
        if table.has("require"):
            # Without its condition an edit would replace fields that the origin sends.
            table.plain()
            table.left_out("edits under a condition, such as defaults (?Name), are written as a viewer_response hook")
            continue
        table.without("replace", "parts of fields are replaced by a hook")
        edits: dict[str, Any] = {}
        for name, argument in (("set", "set"), ("add", "add")):
            values: dict[str, Any] = {}
            for header, node in table.table(name):
                texts = [item.as_text(raw=True) or "" for item in node.listed()]
                if any("{" in text for text in texts):
                    node.left_out("values with placeholders are set by a hook")
                else:
                    values[header] = texts[0] if len(texts) == 1 else tuple(texts)
            if values:
                edits[argument] = values
        removed = table.texts("delete")
        if plain := [name for name in removed if "*" not in name]:
            edits["remove"] = plain
        if len(plain) < len(removed):
            table.without("delete", "names with * are removed by a hook")
        try:
            if edits:
                made[side] = HeaderEdits(**edits)
        except ConfigError as error:
            table.left_out(f"edgerouter refuses it: {error.problems[0].message}")
    return {"headers": HeaderPolicy(**made)} if made else {}


def rewrite(handler: Node, uri: str | None, found: list[Match]) -> dict[str, Any]:
    """Another path for the origin, as an argument of routes."""
    prefix = handler.text("strip_path_prefix")
    for name in ("strip_path_suffix", "uri_substring", "path_regexp", "method", "query"):
        handler.without(name, "is written in a viewer_request hook, or as rewrite= of a route")
    if prefix:
        return {"strip_prefix": prefix if prefix.startswith("/") else f"/{prefix}"}
    if uri is None:
        return {}
    uri = uri.removesuffix("?{http.request.uri.query}")
    before = re.fullmatch(r"(/[^{}?*]*?)/?\{http\.request\.uri(?:\.path)?\}", uri)
    if before is not None:
        return {"add_prefix": before[1]} if before[1] != "/" else {}
    if len(found) == 1 and found[0].path and "*" not in found[0].path and re.fullmatch(r"/[^{}?*]*", uri):
        return {"rewrite": Rewrite(found[0].path, uri)}
    if len(found) == 1 and re.fullmatch(r"/[^{}?*]*", uri) and (found[0].path or "/*").endswith("/*"):
        return {"rewrite": Rewrite(f"{(found[0].path or '/*')[:-1]}{{rest:path}}", uri)}
    handler.left_out("is written in a viewer_request hook, or as rewrite= of a route")
    return {}
