"""Rooms of the engine stand on floors: one uses what is below it."""

from __future__ import annotations

import re
from pathlib import Path

ENGINE = Path(__file__).parents[2] / "rust/engine/src"

#: From the ground up.
FLOORS = [
    *(
        "life",
        "unanswered",
        "navigation",
        "watched",
        "clock",
        "secret",
        "values",
        "telemetry",
        "account",
        "connection",
        "identity",
        "functions",
        "live",
        "store",
        "upstream",
    ),
    *("body", "purge", "function_cache", "worker", "listen", "request", "inspect", "prefetch", "admin", "background"),
    "server",
]

#: Arrows that still run up, to be cut. Nothing may be added.
UP = {
    ("telemetry", "body"),
    ("telemetry", "connection"),
    ("telemetry", "request"),
    ("telemetry", "worker"),
}


def room(file: Path) -> str:
    return file.relative_to(ENGINE).parts[0].removesuffix(".rs")


def heads(tree: str) -> set[str]:
    """First names of ``a::b``, or of the members of ``{a::b, c::{d, e}}``."""
    if not tree.startswith("{"):
        return {tree.split("::")[0]}
    flat = tree[1:-1]
    while (shorter := re.sub(r"\{[^{}]*\}", "", flat)) != flat:
        flat = shorter
    return {member.split("::")[0].strip() for member in flat.split(",") if member.strip()}


def uses(file: Path) -> set[str]:
    code = file.read_text().split("#[cfg(test)]")[0]
    code = re.sub(r"//.*", "", code)
    found = set(re.findall(r"\bcrate::(\w+)::", code))
    for tree in re.findall(r"\buse crate::(\{.*?\}|[\w:]+);", code, re.DOTALL):
        found |= heads(tree)
    return found


def test_no_new_arrow_runs_up_between_the_rooms_of_the_engine() -> None:
    files = [file for file in ENGINE.rglob("*.rs") if file.name not in ("lib.rs", "tests.rs")]
    arrows = {(room(file), used) for file in files for used in uses(file) if used != room(file)}
    unknown = {name for arrow in arrows for name in arrow} - set(FLOORS)
    assert not unknown, f"rooms without a floor: {sorted(unknown)}"
    up = {(user, used) for user, used in arrows if FLOORS.index(used) > FLOORS.index(user)}
    assert up == UP, f"new: {sorted(up - UP)}; cut, so take them off the list: {sorted(UP - up)}"
