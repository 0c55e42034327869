"""The order of routes: sources that take the first match, and edgerouter, which takes the most specific one.

Where an earlier route of the source would lose to a later one that matches some of the same paths, routes get a
``priority`` that keeps the source's order.
"""

from __future__ import annotations

import re

from edgerouter.checks import listed
from edgerouter.importing.model import SiteRoute

__all__ = ["covers", "keep_order", "overlap"]

#: Beyond this many routes the pairs are not compared: all get a priority.
_COMPARED = 400


def keep_order(routes: list[SiteRoute]) -> bool:
    """Gives routes a priority if edgerouter would take them in another order. The last is for all other requests."""
    if len(routes) <= _COMPARED and not any(
        _precedence(later) < _precedence(earlier) and overlap(_paths(later), _paths(earlier))
        for at, earlier in enumerate(routes)
        for later in routes[at + 1 :]
    ):
        return False
    for number, route in enumerate(routes):
        if number < len(routes) - 1 or route.arguments.get("priority"):
            route.arguments["priority"] = len(routes) - 1 - number
    return True


def _precedence(route: SiteRoute) -> tuple[int, bool, int, int]:
    """Sorts as edgerouter does: exact hosts, exact paths, then the longer literal prefix, then fewer wildcards."""
    host, slash, path = route.pattern.partition("/")
    pattern = slash + path
    named = [host] if host else listed(route.arguments.get("host")) or []
    wild = [at for at, sign in enumerate(pattern) if sign in "*?{"]
    rank = 2 if not named else 1 if any("*" in name for name in named) else 0
    return rank, bool(wild), -(wild[0] if wild else len(pattern)), len(wild)


def _paths(route: SiteRoute) -> str:
    """The pattern of the path, with parameters as wildcards."""
    return re.sub(r"\{[^{}]*\}", "*", "/" + route.pattern.partition("/")[2])


def overlap(one: str, other: str) -> bool:
    """Some path matches both patterns, of literal signs, ``*`` and ``?``."""
    reached = {0}
    _skip(reached, other)
    for sign in one:
        following: set[int] = set()
        if sign == "*":
            least = min(reached, default=None)
            following = set() if least is None else set(range(least, len(other) + 1))
        else:
            for at in reached:
                if at < len(other):
                    if other[at] == "*":
                        following.add(at)
                    elif sign == "?" or other[at] in ("?", sign):
                        following.add(at + 1)
        _skip(following, other)
        reached = following
        if not reached:
            return False
    return len(other) in reached


def _skip(reached: set[int], pattern: str) -> None:
    """A ``*`` may stand for nothing."""
    for at in sorted(reached):
        following = at
        while following < len(pattern) and pattern[following] == "*":
            following += 1
            reached.add(following)


def covers(wide: str, narrow: str) -> bool:
    """Every path of ``narrow`` is one of ``wide``, as far as a prefix shows it."""
    return wide == "/*" or (wide.endswith("*") and "*" not in wide[:-1] and narrow.startswith(wide[:-1]))
