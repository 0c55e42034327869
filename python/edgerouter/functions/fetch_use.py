"""Finds callables that fetch where they must not: plain inline ones, which would hold a serving thread, and hooks.

Code is followed as far as the context has the name of its parameter. A call that is not found so is refused when it is
made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType
from typing import Any

from edgerouter.functions.content_use import FILLED, LOADS, codes_within, steps_of

__all__ = ["fetches"]


def fetches(function: Callable[..., Any], place: int) -> bool:
    """True if the code of a callable has ``fetch`` of its context, which is the argument at ``place``."""
    function = getattr(function, FILLED, function)
    if not isinstance(function, (FunctionType, MethodType)):
        function, place = type(function).__call__, place + 1
    elif isinstance(function, MethodType):
        function, place = function.__func__, place + 1
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    return code.co_argcount > place and _has_fetch(code, code.co_varnames[place])


def _has_fetch(code: CodeType, name: str) -> bool:
    for step, after in itertools.pairwise(steps_of(code)):
        given = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        is_loaded = step.opname.startswith(LOADS) and given[-1] == name
        if is_loaded and after.opname in ("LOAD_ATTR", "LOAD_METHOD") and after.argval == "fetch":
            return True
    return any(_has_fetch(inner, name) for inner in codes_within(code) if name in inner.co_freevars)
