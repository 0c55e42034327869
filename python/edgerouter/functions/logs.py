"""Which call the code runs for, wherever it runs."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgerouter._core import AsyncContext, Context

__all__ = ["CURRENT"]

#: The call that the code runs for. Tasks and threads that a call starts inherit it with the context.
CURRENT: ContextVar[AsyncContext | Context] = ContextVar("edgerouter_call")
