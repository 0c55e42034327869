"""The signatures of functions and hooks, as type checkers know them.

``Edge.function`` and ``Edge.on`` give decorators that take nothing else: an async callable is given an
``AsyncContext``, whose cache it awaits, a plain one a ``Context``. Callables without annotations pass.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, ClassVar, Concatenate, Protocol, TypeAlias, TypeVar, overload

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


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


class _Struct(Protocol):
    __struct_fields__: ClassVar[tuple[str, ...]]


class _Model(Protocol):
    def model_dump(self, *, mode: Any) -> dict[str, Any]: ...


Data: TypeAlias = dict[Any, Any] | list[Any] | _Dataclass | _Struct | _Model
Pieces: TypeAlias = AsyncIterator[str] | AsyncIterator[bytes] | Iterator[str] | Iterator[bytes]
#: The results of a function: a response, text, bytes, a value that JSON can hold, such a value or None with a status,
#: or an iterator that is streamed.
Result: TypeAlias = Response | str | bytes | Data | tuple[Response | str | bytes | Data | None, int] | Pieces

Function: TypeAlias = Callable[Concatenate[Request, Context, ...], Result]
AsyncFunction: TypeAlias = (
    Callable[Concatenate[Request, AsyncContext, ...], Awaitable[Result]]
    | Callable[Concatenate[Request, AsyncContext, ...], AsyncIterator[str]]
    | Callable[Concatenate[Request, AsyncContext, ...], AsyncIterator[bytes]]
)
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
    """Takes ``(request, ctx, …)`` that gives a response."""

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
