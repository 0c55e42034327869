"""Handlers of Caddy that answer, as the target of a route."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from edgerouter.cache import DISABLED
from edgerouter.errors import ConfigError
from edgerouter.importing.caddy_matching import Match
from edgerouter.importing.caddy_origins import Origins
from edgerouter.importing.model import Site, redirect_to
from edgerouter.importing.nodes import Node
from edgerouter.routes import Respond

__all__ = ["Answers"]


class Answers:
    """Makes the targets of routes."""

    def __init__(self, site: Site) -> None:
        self._origins = Origins(site)

    def of(
        self, kind: str, handler: Node, match: Match, root: str | None, fallback: str | None
    ) -> dict[str, Any] | None:
        """The answer of a handler; ``None`` if it has no counterpart.

        ``folder`` is the folder of files, ``pattern`` a pattern with a parameter that a redirect needs.
        """
        if kind == "reverse_proxy":
            target = self._origins.target(handler)
            if target is None:
                return {"respond": Respond(status=501, body="not served yet\n")}
            name, headers = target
            return {"to": name, "cache": DISABLED, **({"headers": headers} if headers is not None else {})}
        if kind == "file_server":
            return self._folder(handler, root, fallback)
        return self._fixed(kind, handler, match)

    def _folder(self, handler: Node, root: str | None, fallback: str | None) -> dict[str, Any] | None:
        root = handler.text("root") or root or "."
        if "{" in root:
            handler.left_out("the folder is known only while a request is served")
            return None
        if root == ".":
            handler.choice("files come from the folder in which Caddy was started: name a folder that holds them alone")
        hidden = handler.child("hide")
        if hidden is not None and any(_is_served(name, root) for name in handler.texts("hide")):
            # Without its list the folder would show what the list hides.
            hidden.left_out(
                "the edge hides names that begin with a dot: the folder is not served until the others are gone"
            )
            return None
        answer: dict[str, Any] = {"folder": root}
        names = handler.texts("index_names")
        if names and names[0] != "index.html":
            answer["index"] = names[0]
        if handler.has("browse"):
            handler.ignore("browse")
            answer["listing"] = True
        if fallback:
            answer["fallback"] = fallback
        handler.without("pass_thru", "a path without a file gets 404")
        handler.without("status_code", "files are sent with 200")
        handler.ignore("canonical_uris", "precompressed", "precompressed_order", "suffix")
        return answer

    def _fixed(self, kind: str, handler: Node, match: Match) -> dict[str, Any] | None:
        status = handler.number("status_code") or (500 if kind == "error" else 200)
        body = handler.text("body") or handler.text("error") or ""
        handler.ignore("close")
        if handler.flag("abort"):
            handler.choice("the connection is not closed without a response; requests get 403")
            status, body = 403, ""
        headers: dict[str, str] = {}
        for name, node in handler.table("headers"):
            headers[name] = next((item.as_text(raw=True) or "" for item in node.listed()), "")
        location = headers.pop("Location", None)
        if location is not None and status in (301, 302, 303, 307, 308):
            return self._redirect(handler, match, status, location)
        if any("{" in text for text in (body, *headers.values())):
            handler.left_out("texts with placeholders are written as a function: @edge.function")
            return None
        try:
            return {"respond": Respond(status=status, body=body, headers=headers)}
        except ConfigError as error:
            handler.left_out(f"edgerouter refuses it: {error.problems[0].message}")
            return None

    def _redirect(self, handler: Node, match: Match, status: int, location: str) -> dict[str, Any] | None:
        kept = re.fullmatch(r"([^{}]*)\{http\.request\.uri(?:\.path)?\}", location)
        if kept is not None:
            path = match.path or "/*"
            if not path.endswith("/*") or "*" in path[:-1]:
                handler.left_out("the target has placeholders that no parameter of a pattern has")
                return None
            location = f"{kept[1].rstrip('/')}{path[:-1]}{{rest}}"
            redirect = redirect_to(location, status)
            return {"redirect": redirect, "pattern": f"{path[:-1]}{{rest:path}}"}
        if "{" in location:
            handler.left_out("the target has placeholders that no parameter of a pattern has")
            return None
        return {"redirect": redirect_to(location, status, query=False)}


def _is_served(hidden: str, root: str) -> bool:
    """True if the edge would serve what Caddy hides: a name in any folder, or a path."""
    if "/" not in hidden:
        return not hidden.startswith(".")
    path, folder = posixpath.normpath(hidden), posixpath.normpath(root)
    # Caddy names its own Caddyfile here. The edge refuses a folder that holds its program, which lies beside that file.
    if path == "Caddyfile" or path.startswith("/") != folder.startswith("/"):
        return False
    return folder == "." or path == folder or path.startswith(folder.rstrip("/") + "/")
