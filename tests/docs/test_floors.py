"""Crates and rooms stand on floors: one uses what is below it, and files that use one another are few and together.

A room is the first folder or file of a crate's sources. What still breaks a rule stands in a list that may only shrink.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter

import pytest

from .imports import ROOT, arrows, circles, crates

#: From the ground up.
FLOORS = [
    "navigation",
    "watched",
    "clock",
    "counting",
    "beats",
    "fetches",
    "values",
    "identity",
    "trial",
    "observed",
    "readings",
    "live",
    "deploys",
    "body",
    "worker",
    "request",
    "inspect",
    "prefetch",
    "admin",
    "background",
    "server",
]

#: Arrows that still run up, to be cut. Nothing may be added.
UP: set[tuple[str, str]] = set()


#: Circles of files that are still too long or lead through several rooms: the most files that each may have.
CIRCLES: dict[str, dict[str, int]] = {}

#: Crates that decide nothing and wait for nothing are usable by `explain` and by tests without a socket.
RUNTIMES = {"hyper", "hyper-util", "mio", "pyo3", "socket2", "tokio", "tokio-rustls"}


def manifest(crate: str) -> dict[str, object]:
    return tomllib.loads((ROOT / "rust" / crate / "Cargo.toml").read_text())


def test_core_uses_no_other_crate_of_the_house_and_no_runtime() -> None:
    dependencies = manifest("core")["dependencies"]
    assert isinstance(dependencies, dict)
    assert not [name for name in dependencies if name.startswith("edgerouter-") or name in RUNTIMES]


def test_no_new_arrow_runs_up_between_the_rooms_of_the_engine() -> None:
    graph = arrows(crates()["engine"])
    between = {(user[0], used[0]) for user in graph for used in graph[user] if user and user[0] != used[0]}
    unknown = {name for arrow in between for name in arrow} - set(FLOORS)
    assert not unknown, f"rooms without a floor: {sorted(unknown)}"
    up = {(user, used) for user, used in between if FLOORS.index(used) > FLOORS.index(user)}
    assert up == UP, f"new: {sorted(up - UP)}; cut, so take them off the list: {sorted(UP - up)}"


def known(crate: str, rooms: set[str]) -> int:
    """The most files of a circle through these rooms, or through some of them, that the list allows."""
    listed = CIRCLES.get(crate, {}).items()
    return max((most for names, most in listed if rooms <= set(names.split(", "))), default=0)


@pytest.mark.parametrize("crate", crates())
def test_files_that_use_one_another_are_three_at_most_and_in_one_room(crate: str) -> None:
    bad = []
    for circle in circles(arrows(crates()[crate])):
        rooms = {module[0] for module in circle}
        if (len(rooms) > 1 or len(circle) > 3) and len(circle) > known(crate, rooms):
            bad.append(sorted("::".join(module) for module in circle))
    assert not bad


def test_the_page_on_style_names_the_modules_that_allow_unsafe_code() -> None:
    page = (ROOT / "docs/style.md").read_text()
    allowed = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "rust").rglob("*.rs")
        if "allow(unsafe_code)" in file.read_text()
    }
    assert allowed == {name for name in re.findall(r"`(rust/[^`]+\.rs)`", page) if "/src/" in name}


@pytest.mark.parametrize("crate", crates())
def test_no_two_public_types_of_a_crate_share_a_name(crate: str) -> None:
    declared = r"^pub (?:struct|enum|trait|type) (\w+)"
    sources = (ROOT / "rust" / crate / "src").rglob("*.rs")
    names = Counter(name for file in sources for name in re.findall(declared, file.read_text(), re.MULTILINE))
    assert [name for name, count in names.items() if count > 1] == []
