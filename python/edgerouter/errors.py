"""Errors as a small tree: ``EdgeError`` and one class for each kind of remedy.

Every message is one line that says what was found and what to do. Tracebacks are for mistakes in this library,
not for a mistake in a configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

__all__ = [
    "Abort",
    "BindingError",
    "BodyError",
    "CacheError",
    "ConfigError",
    "EdgeError",
    "FetchError",
    "FunctionError",
    "ListenError",
    "MissingError",
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


class CacheError(EdgeError, ValueError):
    """The store refused or lost something."""


class FetchError(EdgeError):
    """A request of ``ctx.fetch`` got no whole response."""


class FunctionError(EdgeError):
    """A hook or an edge function failed, timed out or returned the wrong type."""


class BindingError(EdgeError):
    """Something bound to the edge (a key-value store, a database) is not usable, or refused an operation."""

    constraint: Literal["unique", "foreign-key", "not-null", "check"] | None
    """The rule of a database's schema that the operation would break; ``None`` for every other failure."""
    in_doubt: bool
    """True if the operation may have taken effect all the same: its time was over, or the connection was lost."""

    def __init__(
        self,
        message: str,
        constraint: Literal["unique", "foreign-key", "not-null", "check"] | None = None,
        in_doubt: bool = False,
    ) -> None:
        super().__init__(message)
        self.constraint = constraint
        self.in_doubt = in_doubt


class Abort(Exception):  # noqa: N818  # the name that people know
    """Raised in a hook or function to answer with an error status: ``raise Abort(404, "there is no such book")``.

    The client gets the detail as text, HTML or JSON (RFC 9457), by its ``Accept``; it is escaped as that needs. In a
    request phase it answers at once, in a response phase it takes the response's place. It is no failure: nothing is
    logged, and ``fail="open"`` does not pass over it.
    """

    status: int
    """From 400 to 599."""
    detail: str
    """The text for the client; the status in words when empty."""
    headers: Mapping[str, str] | None
    """Fields besides the media type, such as ``{"Retry-After": "60"}``."""

    def __init__(self, status: int, detail: str = "", *, headers: Mapping[str, str] | None = None) -> None:
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise ValueError(f"Abort: {status!r} is not an error status (400 to 599); return a Response for others")
        if not isinstance(detail, str):
            raise TypeError(f"Abort: detail must be a str, not {type(detail).__name__}")
        if headers is not None:
            _check_fields(headers)
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = headers

    def __str__(self) -> str:
        return f"{self.status} {self.detail}".rstrip()


def _check_fields(headers: object) -> None:
    """Refuses what no response could have, by the rule of a ``Response``: here is the line to mend."""
    if not isinstance(headers, Mapping):
        raise TypeError('Abort: headers must be a mapping of names to texts, as in {"Retry-After": "60"}')
    from edgerouter._core import field_lines

    try:
        field_lines(headers)
    except (TypeError, ValueError) as error:
        raise type(error)(f"Abort: {error}") from None


class BodyError(Abort, ValueError):
    """The body of a request is not what was read from it. Answered with 400 unless it is caught."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, detail)


class MissingError(Abort, KeyError):
    """A field, cookie or query parameter that a request does not have, as ``request.query["q"]`` raises it.

    A ``KeyError``; a function that does not catch it answers with 400. In a hook it is a failure like any other.
    """

    def __init__(self, name: str, kind: str = "key") -> None:
        super().__init__(400, f'missing {kind} "{name}"')
        # As any KeyError has them.
        self.args = (name,)
