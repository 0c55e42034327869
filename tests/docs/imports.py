"""Reads which file of a crate uses which: the ``use`` lines and paths of its Rust files, tests apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: ``("cache", "key")`` is the module ``crate::cache::key``; the crate's root is ``()``.
Module = tuple[str, ...]
Arrows = dict[Module, set[Module]]


def crates() -> dict[str, Path]:
    """The folder with the sources of each crate, by name."""
    return {folder.parent.name: folder for folder in sorted(ROOT.glob("rust/*/src"))}


def modules(sources: Path) -> dict[Module, Path]:
    found: dict[Module, Path] = {}
    for file in sources.rglob("*.rs"):
        parts = file.relative_to(sources).with_suffix("").parts
        if "tests" not in parts:
            found[() if parts == ("lib",) else parts[:-1] if parts[-1] == "mod" else parts] = file
    return found


def code(file: Path) -> str:
    """The file's text without comments and without its unit tests."""
    text = re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", file.read_text(), flags=re.MULTILINE)[0]
    return re.sub(r"//.*", "", text)


def leaves(tree: str, before: str = "") -> Iterator[str]:
    """``a::{b, c::{d, e}}`` → ``a::b``, ``a::c::d``, ``a::c::e``."""
    head, brace, rest = tree.partition("{")
    if not brace:
        yield before + re.sub(r"\s+as\s.*", "", head).strip()
        return
    depth, member = 0, ""
    for sign in rest.rpartition("}")[0] + ",":
        depth += (sign == "{") - (sign == "}")
        if sign != "," or depth:
            member += sign
        elif member.strip():
            yield from leaves(member.strip(), before + head.strip())
            member = ""


def paths(text: str) -> Iterator[list[str]]:
    for tree in re.findall(r"\buse\s+((?:crate|super|self)\b[^;]*);", text):
        yield from (leaf.split("::") for leaf in leaves(tree))
    for path in re.findall(r"\b(?:crate|super|self)(?:::\w+)+", text):
        yield path.split("::")


def target(user: Module, path: list[str], known: dict[Module, Path]) -> Module:
    """The innermost module that a path leads into."""
    base: Module = () if path[0] == "crate" else user
    for at, name in enumerate(path):
        if name == "super":
            base = base[:-1]
        elif name not in ("crate", "self"):
            for inner in path[at:]:
                if (*base, inner) not in known:
                    break
                base = (*base, inner)
            break
    return base


def arrows(sources: Path) -> Arrows:
    """For each module those that it uses, itself and the root of the crate apart."""
    known = modules(sources)
    found: Arrows = {user: set() for user in known}
    for user, file in known.items():
        for path in paths(code(file)):
            used = target(user, path, known)
            if used and used != user:
                found[user].add(used)
    return found


def circles(graph: Arrows) -> list[set[Module]]:
    """The sets of modules that all reach one another."""
    reached: Arrows = {}
    for start in graph:
        seen: set[Module] = set()
        waiting = [start]
        while waiting:
            fresh = graph[waiting.pop()] - seen
            seen |= fresh
            waiting.extend(fresh)
        reached[start] = seen
    found = {frozenset(other for other in graph if other in reached[one] and one in reached[other]) for one in graph}
    return [set(circle) for circle in found if len(circle) > 1]
