"""Variables of the environment that look like those of ``run`` and are none: they would be ignored without a word."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgerouter.edge import Edge

__all__ = ["LOG", "warn_of_misspelt"]

_PREFIX = "EDGEROUTER_"
#: The variables that the core reads.
LOG = ("EDGEROUTER_LOG", "EDGEROUTER_LOG_FORMAT")
#: The ends of names that other programs have for it.
_WORDS = {
    **dict.fromkeys(("LOG_LEVEL", "LOGLEVEL", "LEVEL"), "LOG"),
    **dict.fromkeys(("PORT", "HOST", "BIND", "ADDRESS"), "LISTEN"),
}
#: The least likeness of a name that is proposed.
_NEAR = 0.75


def warn_of_misspelt(known: Collection[str], named: Collection[str], edge: Edge, warn: Callable[[str], None]) -> None:
    """Warns of each variable whose name is nearly a known one.

    Those that the options or the application name are meant, and so may be any others that are not near: a program may
    read variables of its own, and Kubernetes sets some for a service of the name ``edgerouter``.
    """
    given = [name for name in os.environ if name.upper().startswith(_PREFIX) and name not in known]
    if not given:
        return
    meant = {*named, *_named(edge.to_dict())}
    for name in sorted(given):
        if name not in meant and "://" not in os.environ.get(name, "") and (near := _nearest(name, known)):
            warn(f"warning: {name}: is no variable of edgerouter and has no effect; did you mean {near}?")


def _nearest(name: str, known: Collection[str]) -> str | None:
    import difflib

    end = name.upper().removeprefix(_PREFIX)
    ends = [it.removeprefix(_PREFIX) for it in known]
    near = [_WORDS[end]] if end in _WORDS else difflib.get_close_matches(end, ends, 1, _NEAR)
    return f"{_PREFIX}{near[0]}" if near else None


def _named(part: object) -> Iterator[str]:
    """The variables that secrets of a plan name."""
    if isinstance(part, dict):
        if isinstance(name := part.get("env"), str):
            yield name
        for value in part.values():
            yield from _named(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _named(value)
