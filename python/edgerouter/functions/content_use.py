"""Finds the functions that wait for the content of their request.

``request.body``, ``text()`` and ``json()`` give the content at once, and the event loop or a serving thread cannot wait
for a client. So the call of a function that may use them begins when the content is there. The code of a function says
whether it may: one that only reads other parts of the request, or iterates over it, is called with nothing of the
content, which is taken in when it is wanted. Code that cannot be followed counts as code that uses all.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

__all__ = ["FILLED", "LOADS", "codes_within", "steps_of", "waits_for_content"]

#: The name under which a callable of ``edgerouter.functions.parameters`` keeps the function that it calls.
FILLED = "_edgerouter_filled"
#: Parts of a request that give its content, or the request itself, at once.
_WHOLE = frozenset({"body", "text", "json", "clone", "take_tunnel"})
#: The other parts that wait for content, which async functions await.
_AWAITED = frozenset({"form"})
#: Functions that reach all variables of the function that calls them.
_REACHING = frozenset({"locals", "vars", "dir", "eval", "exec", "breakpoint", "globals", "_getframe", "currentframe"})
#: The instructions that load a variable.
LOADS = ("LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_FAST_CHECK", "LOAD_DEREF")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR")
#: They pass a variable on to a function within, whose code is read, too.
_CELLS = ("MAKE_CELL", "LOAD_CLOSURE")
_CELL_LOADS = ("LOAD_FAST", "LOAD_FAST_BORROW")


def waits_for_content(function: Callable[..., Any], is_async: bool, inline: bool) -> bool:
    """True if the call of a function is to begin when the content of its request is there."""
    if getattr(type(function), "content_as_wanted", False):
        return False
    function = getattr(function, FILLED, function)
    place = 0
    if isinstance(function, MethodType):
        function, place = function.__func__, 1
    if not isinstance(function, FunctionType):
        return True
    code = function.__code__
    # One that waits holds the thread of plain functions, or the serving thread.
    may_wait = is_async and not inline
    return code.co_argcount <= place or not _is_followed(code, code.co_varnames[place], may_wait)


@functools.lru_cache(maxsize=1)
def _parts() -> frozenset[str]:
    from edgerouter._core import Request

    return frozenset(name for name in dir(Request) if not name.startswith("_")) - _WHOLE - _AWAITED


def _is_followed(code: CodeType, name: str, may_wait: bool) -> bool:
    """True if the variable is used for parts of a request that need no content, or wait for it."""
    if not _REACHING.isdisjoint(code.co_names):
        return False
    parts = _parts() | _AWAITED if may_wait else _parts()
    steps = steps_of(code)
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        given = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        if name not in given or step.opname in ("LOAD_CONST", "LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL", "STORE_ATTR"):
            continue
        if name in code.co_cellvars + code.co_freevars and step.opname in (*_CELLS, *_CELL_LOADS):
            continue
        if step.opname not in LOADS or after is None:
            return False
        if after.opname in _ATTRIBUTES:
            if after.argval not in parts:
                return False
        elif after.opname != "GET_AITER" or not may_wait:
            return False
    within = (inner for inner in codes_within(code) if name in inner.co_freevars)
    return all(_is_followed(inner, name, may_wait and bool(inner.co_flags & _ASYNC)) for inner in within)


_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def steps_of(code: CodeType) -> list[dis.Instruction]:
    """The instructions, without those that only measure."""
    measure = ("CACHE", "EXTENDED_ARG", "NOP", "RESUME")
    return [step for step in dis.get_instructions(code) if step.opname not in measure]


def codes_within(code: CodeType) -> Iterator[CodeType]:
    """The code of the functions within."""
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))
