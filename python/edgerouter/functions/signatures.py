"""The signatures of functions and hooks, as type checkers know them.

``Edge.function`` and ``Edge.on`` give decorators that take nothing else: an async callable is given an
``AsyncContext``, whose cache it awaits, a plain one a ``Context``. Callables without annotations pass.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, TypeVar, overload

from edgerouter._core import AsyncContext, Context, Request, Response

__all__ = [
    "AsyncFunction",
    "AsyncRequestHook",
    "AsyncResponseHook",
    "Function",
    "FunctionDecorator",
    "RequestHook",
    "RequestHookDecorator",
    "ResponseHook",
    "ResponseHookDecorator",
    "Result",
]

#: The results of a function: a response, text, bytes, or a value that JSON can hold.
Result: TypeAlias = Response | str | bytes | dict[Any, Any] | list[Any]

Function: TypeAlias = Callable[[Request, Context], Result]
AsyncFunction: TypeAlias = Callable[[Request, AsyncContext], Awaitable[Result]]
RequestHook: TypeAlias = Callable[[Request, Context], Request | Response | None]
AsyncRequestHook: TypeAlias = Callable[[Request, AsyncContext], Awaitable[Request | Response | None]]
ResponseHook: TypeAlias = Callable[[Request, Response, Context], Response | None]
AsyncResponseHook: TypeAlias = Callable[[Request, Response, AsyncContext], Awaitable[Response | None]]

_Function = TypeVar("_Function", bound=Function)
_AsyncFunction = TypeVar("_AsyncFunction", bound=AsyncFunction)
_RequestHook = TypeVar("_RequestHook", bound=RequestHook)
_AsyncRequestHook = TypeVar("_AsyncRequestHook", bound=AsyncRequestHook)
_ResponseHook = TypeVar("_ResponseHook", bound=ResponseHook)
_AsyncResponseHook = TypeVar("_AsyncResponseHook", bound=AsyncResponseHook)


class FunctionDecorator(Protocol):
    """Takes ``(request, ctx)`` that gives a response."""

    @overload
    def __call__(self, function: _AsyncFunction, /) -> _AsyncFunction: ...
    @overload
    def __call__(self, function: _Function, /) -> _Function: ...


class RequestHookDecorator(Protocol):
    """Takes ``(request, ctx)`` that gives nothing, the request, or a response to answer with."""

    @overload
    def __call__(self, function: _AsyncRequestHook, /) -> _AsyncRequestHook: ...
    @overload
    def __call__(self, function: _RequestHook, /) -> _RequestHook: ...


class ResponseHookDecorator(Protocol):
    """Takes ``(request, response, ctx)`` that gives nothing or a response."""

    @overload
    def __call__(self, function: _AsyncResponseHook, /) -> _AsyncResponseHook: ...
    @overload
    def __call__(self, function: _ResponseHook, /) -> _ResponseHook: ...
