"""Matchers of Caddy as hosts, paths, methods and conditions of a route."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from edgerouter.errors import ConfigError
from edgerouter.importing.expressions import as_patterns
from edgerouter.importing.nodes import Node
from edgerouter.importing.ordering import covers
from edgerouter.routes import When

__all__ = ["EVERYTHING", "Match", "matches"]

_MOST = 200


@dataclass(frozen=True)
class Match:
    """The requests that a handler is for.

    ``path``  a pattern of paths; ``None``: all
    ``files``  the names that ``try_files`` looks for
    """

    hosts: tuple[str, ...] = ()
    path: str | None = None
    methods: tuple[str, ...] = ()
    when: tuple[When, ...] = ()
    protocol: str | None = None
    files: tuple[str, ...] = ()

    def covers(self, other: Match) -> bool:
        """Every request of the other one is one of these."""
        if self.path is not None and not covers(self.path, other.path or "/*") and self.path != other.path:
            return False
        if self.hosts and set(self.hosts) != set(other.hosts):
            return False
        return (not self.methods or self.methods == other.methods) and (not self.when or self.when == other.when)


EVERYTHING = Match()


def matches(node: Node, outer: Match) -> tuple[list[Match], bool]:
    """The alternatives of a route in a list, and if a matcher is not understood, which is noted."""
    sets = node.items("match")
    if not sets:
        return [outer], False
    found: list[Match] = []
    unknown = False
    for table in sets:
        made = _one(table, outer)
        if made is None:
            unknown = True
        else:
            found += made
    return found[:_MOST], unknown


def _one(table: Node, outer: Match) -> list[Match] | None:
    match = outer
    for name in (name for name, _ in table):
        if name not in ("host", "path", "method", "header", "query", "path_regexp", "protocol", "file"):
            table.left_out(f"no route has the condition {name}: what it is for is left out")
            return None
    hosts = [host.lower() for host in table.texts("host")]
    if any(not re.fullmatch(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", host) for host in hosts):
        table.left_out("has a host that no route can have")
        return None
    if hosts:
        match = replace(match, hosts=tuple(dict.fromkeys(hosts)))
    if methods := table.texts("method"):
        match = replace(match, methods=tuple(method.upper() for method in methods))
    whens: list[When] = list(match.when)
    try:
        for kind in ("header", "query"):
            for name, values in table.table(kind):
                values.used = True
                given = values.value if isinstance(values.value, list) else [values]
                if len(given) > 1:
                    table.left_out("has several values for one field or parameter")
                    return None
                # No value at all is a field that the request must not have, and an empty list one that it must.
                text = (given[0].as_text() if given else "*") or ""
                test: dict[str, Any] = {"matches" if "*" in text else "equals": text}
                if values.value is None or text in ("*", ""):
                    test = {"present": values.value is not None}
                whens.append(When(**{kind: name}, **test))  # type: ignore[arg-type]
    except ConfigError as error:
        table.left_out(f"edgerouter refuses the condition: {error.problems[0].message}")
        return None
    match = replace(match, when=tuple(whens))
    if protocol := table.text("protocol"):
        match = replace(match, protocol=protocol)
    if table.has("file"):
        files = table.table("file")
        files.ignore("root", "try_policy", "split_path")
        match = replace(match, files=tuple(item.as_text(raw=True) or "" for item in files.items("try_files")))
    patterns = _paths(table)
    if patterns is None:
        return None
    if not patterns:
        return [match]
    # A list inside of another one is for paths of both.
    return [
        replace(match, path=path if outer.path is None or covers(outer.path, path) else outer.path)
        for path in patterns
        if outer.path is None or covers(outer.path, path) or covers(path, outer.path) or path == outer.path
    ]


def _paths(table: Node) -> list[str] | None:
    patterns: list[str] = []
    for text in table.texts("path"):
        path = text if text.startswith("/") else f"/{text}" if text.startswith("*") else None
        if path is None or re.search(r"[{}\s#?]", path):
            table.left_out(f"has the path {text}, which no route can have")
            return None
        if "*" in path and (path.count("*") > 1 or not path.endswith("*")) and not path.startswith("/*"):
            # A * in the middle of a path ends at a slash in Caddy; edgerouter's goes on.
            table.choice(f"the * in {path} goes over slashes here")
        patterns.append(re.sub(r"\*+", "*", path))
    regexp = table.table("path_regexp")
    if not regexp.is_empty:
        regexp.ignore("name")
        expression = regexp.text("pattern")
        found = as_patterns(expression) if expression else None
        if found is None:
            regexp.left_out("the expression says more than a pattern with * and ? can")
            return None
        patterns += found
    return patterns
