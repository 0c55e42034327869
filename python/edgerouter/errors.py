"""What can go wrong, as a small tree: ``EdgeError`` and one class for each kind of remedy.

Every message is one line that says what was found and what to do. Tracebacks are for mistakes in this library,
not for a mistake in a configuration.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = [
    "BindingError",
    "CacheError",
    "ConfigError",
    "EdgeError",
    "FunctionError",
    "ListenError",
    "OriginError",
    "Problem",
]


class Problem(NamedTuple):
    """One thing that is wrong with a configuration.

    ``path``     where, as in ``routes[2].cache.ttl``; empty for the whole
    ``value``    what was found, shortened; ``None`` where there is nothing to show or it is secret
    ``message``  what must hold, and the remedy where it is not obvious
    ``place``    the line that said so, as in ``app.py:14``, where one is known
    """

    path: str
    value: str | None
    message: str
    place: str | None = None

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.path, self.value, self.message) if part)


class EdgeError(Exception):
    """The root of everything that edgerouter raises on purpose."""


class ConfigError(EdgeError):
    """A configuration was refused; ``problems`` holds every reason, not just the first."""

    problems: tuple[Problem, ...]

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        if isinstance(problems, str):
            self.problems = (Problem("", None, problems),)
        else:
            self.problems = tuple(Problem(*problem) for problem in problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return (type(self), (self.problems,))


class ListenError(EdgeError):
    """An address could not be listened on."""


class OriginError(EdgeError):
    """An origin gave no usable answer."""


class CacheError(EdgeError):
    """The store refused or lost something."""


class FunctionError(EdgeError):
    """A hook or an edge function failed, timed out or returned the wrong type."""


class BindingError(EdgeError):
    """Something bound to the edge (a key-value store, a database) is not usable."""
