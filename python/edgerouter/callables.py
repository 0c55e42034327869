"""Functions and hooks as an edge declares them, and the checks of what is given to a decorator."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from edgerouter.cache import Duration
from edgerouter.checks import Check, Value
from edgerouter.errors import ConfigError, Problem

__all__ = ["CallableSpec", "Called"]


class Called(Value, frozen=True, kw_only=True):
    """A function or hook in the plan; the callable itself stays in Python."""

    name: str
    inline: bool = False
    blocking: bool = False
    serial: bool = False
    timeout: Duration | None = None
    fail: Literal["open", "closed"] = "closed"

    def _check(self, check: Check) -> None:
        check.text("name")
        check.flag("inline", "blocking", "serial")
        check.seconds("timeout", optional=True, positive=True)
        check.choice("fail", ("open", "closed"))
        if self.inline is True and self.blocking is True:
            check.fail("inline", "cannot be combined with blocking: an inline callable promises never to wait")
        if self.inline is True and self.serial is True:
            check.fail("inline", "cannot be combined with serial: an inline callable runs on the thread that serves")


class CallableSpec(NamedTuple):
    """A callable as the function runtime takes it, in the plan's order."""

    callable: Callable[..., Any]
    is_async: bool
    inline: bool
    serial: bool
    timeout: float | None
    name: str


def declared(
    function: Callable[..., Any],
    inline: bool,
    serial: bool,
    blocking: bool,
    timeout: Duration | None,
    fail: Literal["open", "closed"] = "closed",
) -> Called:
    """The plan's entry for a function or hook; refuses one that cannot be called so."""
    if not callable(function):
        raise ConfigError([Problem("callables", repr(function)[:80], "must be callable")])
    module = getattr(function, "__module__", None) or "?"
    name = f"{module}.{getattr(function, '__qualname__', None) or type(function).__qualname__}"
    _contradicts(function, name, serial=serial, blocking=blocking)
    return Called(name=name, inline=inline, serial=serial, blocking=blocking, timeout=timeout, fail=fail)


def _contradicts(function: Callable[..., Any], name: str, *, serial: bool, blocking: bool) -> None:
    """Refuses generators, and options that contradict an async callable."""
    kinds = (function, type(function).__call__)
    if any(inspect.isgeneratorfunction(kind) or inspect.isasyncgenfunction(kind) for kind in kinds):
        message = "is a generator, and responses are not streamed from functions yet; return the whole body instead"
        raise ConfigError([Problem("callables", name, message)])
    if not is_async(function):
        return
    for said, keyword in ((blocking, "blocking"), (serial, "serial")):
        if said is True:
            message = (
                f"is async, which {keyword}=True contradicts: it runs on the event loop; remove {keyword}=True, or "
            )
            message += "write a plain def"
            raise ConfigError([Problem("callables", name, message)])


def check_decorator(name: str, pattern: object, example: str) -> None:
    """Refuses ``@edge.function`` where ``@edge.function("/path")`` is meant."""
    if callable(pattern):
        what = getattr(pattern, "__qualname__", repr(pattern)[:80])
        raise ConfigError([Problem(f"Edge.{name}", what, f"the decorator needs parentheses: write {example}")])


def check_arguments(function: Callable[..., Any], *arguments: str) -> None:
    """Refuses a callable that cannot take these arguments, as far as its signature can be read."""
    try:
        inspect.signature(function).bind(*arguments)
    except ValueError:
        return
    except TypeError as error:
        if callable(function):
            name = getattr(function, "__qualname__", repr(function)[:80])
            raise ConfigError([Problem("callables", name, f"must take ({', '.join(arguments)}): {error}")]) from None


def is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
