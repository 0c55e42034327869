"""The other spelling of a path, with or without the slash at its end, and its treatment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from edgerouter.checks import shown
from edgerouter.errors import ConfigError, Problem
from edgerouter.routes import Redirect, Route

__all__ = ["TrailingSlash", "other_routes"]

TrailingSlash: TypeAlias = Literal["strict", "redirect", "ignore"]
"""The other spelling: ``"strict"``: another path; ``"redirect"``: a 308 to the one declared; ``"ignore"``: the same."""


def other_routes(
    pattern: str, policy: TrailingSlash, route: Callable[[str, Redirect | None], Route]
) -> list[Callable[[], Route]]:
    """The routes that a policy adds for the other spelling of ``pattern``, made by ``route(pattern, redirect)``."""
    if policy == "strict":
        return []
    if policy not in ("redirect", "ignore"):
        raise _refused(policy, "must be strict, redirect or ignore")
    path = pattern[pattern.find("/") :]
    if path == "/" or path.rstrip("/").endswith(("*", ":path}")):
        raise _refused(policy, f"has no effect for {pattern}, which has no other spelling; leave it out")
    other = pattern.removesuffix("/") if pattern.endswith("/") else f"{pattern}/"
    to = Redirect(path, status=308) if policy == "redirect" else None
    return [lambda: route(other, to)]


def _refused(policy: object, message: str) -> ConfigError:
    return ConfigError(
        [Problem("function.trailing_slash", policy if isinstance(policy, str) else shown(policy), message)]
    )
