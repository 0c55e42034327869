"""Regular expressions of locations as patterns of edgerouter, where they say no more than such patterns can."""

from __future__ import annotations

import re

__all__ = ["as_patterns"]

_MOST = 40


def as_patterns(expression: str) -> list[str] | None:
    """Patterns with ``*`` and ``?`` that match the same paths; ``None`` if there are none.

    Understood are literal signs, ``.*``, ``.+``, ``[^/]+``, ``(a|b)`` and ``s?``, with anchors.
    """
    text = expression
    anchored, ended = text.startswith("^"), text.endswith("$") and not text.endswith("\\$")
    text = text[1:] if anchored else text
    text = text[:-1] if ended else text
    try:
        found, rest = _alternatives(text)
    except ValueError:
        return None
    if rest:
        return None
    patterns: list[str] = []
    for one in found:
        whole = one if ended or one.endswith("*") else f"{one}*"
        if anchored:
            starts = [whole] if whole.startswith("/") else []
        elif whole.startswith("/"):
            starts = [whole, f"/*{whole}"]
        else:
            starts = [whole if whole.startswith("*") else f"/*{whole}"]
        for start in starts:
            start = re.sub(r"\*+", "*", start if start.startswith("/") else f"/{start}")
            # edgerouter refuses .* because it looks like an expression; a name has a sign after its dot.
            start = start.replace("/.*", "/.?*")
            if start not in patterns:
                patterns.append(start)
    return patterns if 0 < len(patterns) <= _MOST else None


def _alternatives(text: str) -> tuple[list[str], str]:
    """The texts of ``a|b|c`` up to a closing bracket, and the rest."""
    found: list[str] = []
    while True:
        one, text = _sequence(text)
        found += one
        if len(found) > _MOST:
            raise ValueError
        if not text.startswith("|"):
            return found, text
        text = text[1:]


def _sequence(text: str) -> tuple[list[str], str]:
    made = [""]
    while text and text[0] not in "|)":
        parts: list[str]
        if text[0] == "(":
            inner = text[1:]
            if inner.startswith("?:"):
                inner = inner[2:]
            elif inner.startswith("?"):
                raise ValueError
            parts, rest = _alternatives(inner)
            if not rest.startswith(")"):
                raise ValueError
            text = rest[1:]
        elif found := re.match(r"\.[*+]|\[\^/\][*+]", text):
            parts, text = ["*"], text[found.end() :]
        elif text[0] == ".":
            parts, text = ["?"], text[1:]
        elif text[0] == "\\" and len(text) > 1 and not text[1].isalnum():
            parts, text = [text[1]], text[2:]
        elif re.match(r"[A-Za-z0-9/_~@:%&=,!-]", text):
            parts, text = [text[0]], text[1:]
        else:
            raise ValueError
        if text[:1] == "?":
            parts, text = ["", *parts], text[1:]
        if text[:1] in ("*", "+", "{") or any(sign in part for part in parts for sign in "{}"):
            raise ValueError
        made = [before + part for before in made for part in parts]
        if len(made) > _MOST:
            raise ValueError
    return made, text
