"""Scripts of Workers. They are never run: one question is answered by looking at their names.

A script that only looks into the cache, fetches, and stores what it fetched does what the edge's own cache does.
"""

from __future__ import annotations

import re

__all__ = ["only_caches"]

_WORDS = frozenset(
    [
        "addEventListener",
        "event",
        "respondWith",
        "request",
        "async",
        "function",
        "const",
        "let",
        "var",
        "caches",
        "default",
        "await",
        "return",
        "if",
        "else",
        "new",
        "export",
        "fetch",
        "env",
        "ctx",
        "context",
        "waitUntil",
        "match",
        "put",
        "clone",
        "passThroughOnException",
        "Request",
        "url",
        "URL",
        "toString",
        "true",
        "false",
        "null",
        "undefined",
    ]
)
_LARGEST = 20_000


def only_caches(script: str) -> bool:
    """The script serves from the Cache API, or fetches and stores, and does nothing else."""
    if len(script) > _LARGEST:
        return False
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", script, flags=re.DOTALL)
    texts = set(re.findall(r"'[^'\n]*'|\"[^\"\n]*\"", text))
    if "`" in text or not texts <= {"'fetch'", '"fetch"'}:
        return False
    code = re.sub(r"'[^'\n]*'|\"[^\"\n]*\"", " ", text)
    if re.search(r"[0-9\[\]+*/%^&|~?<>]|!=", re.sub(r"=>|\?\.", " ", code)):
        return False
    declared = set(re.findall(r"\b(?:const|let|var|function)\s+([A-Za-z_$][\w$]*)", code))
    # Parameters of functions and of arrows.
    for names in re.findall(r"\(([\w$,\s]*)\)\s*(?:=>|\{)", code) + re.findall(r"\b([A-Za-z_$][\w$]*)\s*=>", code):
        declared |= {name.strip() for name in names.split(",") if name.strip()}
    words = set(re.findall(r"[A-Za-z_$][\w$]*", code))
    members = set(re.findall(r"\.\s*([A-Za-z_$][\w$]*)", code))
    methods = {"default", "match", "put", "clone", "respondWith", "waitUntil", "request", "url", "toString"}
    known = words - declared <= _WORDS and members <= methods | {"passThroughOnException"}
    return known and {"caches", "match", "put", "fetch"} <= words
