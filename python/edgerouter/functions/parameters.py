"""Further parameters of a function, filled from the path and the query by their annotations.

``def book(request, ctx, id: int, page: int = 1)`` on ``/books/{id}``: ``id`` comes from the path, ``page`` from the
query. A path that does not convert is 404, as no such resource can exist; a query that does not is 400, with the name.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from edgerouter.errors import Abort, ConfigError, Problem
from edgerouter.functions.content_use import FILLED

if TYPE_CHECKING:
    from edgerouter._core import Request

__all__ = ["filled"]

_WHOLE = re.compile(r"-?[0-9]+\Z")
_FIRST = ("request", "ctx")
#: Annotations, as they stand or as text, of values that are in the path or the query.
_OF_VALUES = frozenset({str, int, float, bool, "str", "int", "float", "bool"})
#: Libraries whose constraints an annotation may have.
_OF_OTHERS = frozenset({"annotated_types", "fastapi", "pydantic", "pydantic_core"})
_IN_PATTERN = re.compile(r"\{([^{}:]*)(?::path)?\}")


class _Parameter(typing.NamedTuple):
    name: str
    kind: Any
    default: Any
    in_path: bool
    many: bool

    def read(self, request: Request) -> Any:
        """Its value in a request."""
        if self.in_path:
            try:
                return self.convert(request.params[self.name])
            except msgspec.ValidationError:
                raise Abort(404) from None
        if self.many:
            given: Any = request.query.get_all(self.name)
            absent = not given
        else:
            given = request.query.get(self.name)
            absent = given is None
        if absent and self.default is not inspect.Parameter.empty:
            return self.default
        if absent and not self.many:
            # Raises the error that names it.
            return request.query[self.name]
        try:
            return self.convert(given)
        except msgspec.ValidationError as error:
            raise Abort(400, f"The query parameter {self.name} is not valid: {error}") from None

    def convert(self, given: Any) -> Any:
        value = msgspec.convert(given, self.kind, strict=False)
        # 7.0 is no spelling of a whole number in a URL.
        if type(value) is int and not _WHOLE.match(given):
            raise msgspec.ValidationError("Expected `int`, got `float`")
        return value


def filled(function: Callable[..., Any], pattern: str, name: str) -> Callable[..., Any]:
    """A callable that takes ``(request, ctx)`` and gives the function all of its parameters."""
    parameters = _parameters(function, pattern, name)
    kinds = (function, type(function).__call__)
    generates = any(inspect.isasyncgenfunction(kind) for kind in kinds)
    if not parameters and not generates:
        return function

    def values(request: Request) -> dict[str, Any]:
        return {parameter.name: parameter.read(request) for parameter in parameters}

    if generates:

        @functools.wraps(function)
        async def begun(request: Request, ctx: Any) -> Any:
            # It runs on an event loop from the start, as any async function.
            return function(request, ctx, **values(request))

        return _known(begun, function)

    if any(inspect.iscoroutinefunction(kind) for kind in kinds):

        @functools.wraps(function)
        async def awaited(request: Request, ctx: Any) -> Any:
            return await function(request, ctx, **values(request))

        return _known(awaited, function)

    @functools.wraps(function)
    def called(request: Request, ctx: Any) -> Any:
        return function(request, ctx, **values(request))

    return _known(called, function)


def _known(given: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """A callable of ``filled``, which is known to use the request as its function does."""
    setattr(given, FILLED, function)
    return given


def _parameters(function: Callable[..., Any], pattern: str, name: str) -> list[_Parameter]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return []
    in_pattern = set(_IN_PATTERN.findall(pattern)) if isinstance(pattern, str) else set()
    first: list[inspect.Parameter] = []
    further = []
    # Clients do not give the values that are bound to a partial function.
    bound = function.keywords if isinstance(function, functools.partial) else {}
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in bound:
            continue
        if parameter.kind is not parameter.KEYWORD_ONLY and len(first) < 2:
            first.append(parameter)
            continue
        further.append(parameter)
    for parameter, place in zip(first, _FIRST, strict=False):
        # Two in the wrong order are refused with those of hooks.
        others = (in_pattern | set(_FIRST) if further else in_pattern) - {place}
        annotation = parameter.annotation
        is_value = isinstance(annotation, (str, type)) and annotation in _OF_VALUES
        if parameter.name == "self":
            message = "is of a class: declare the method of an object, as in edge.function(...)(thing.method)"
            raise _refused(name, parameter.name, message)
        if parameter.name in others or is_value:
            raise _refused(name, parameter.name, f"stands where {place} is given: a function takes (request, ctx, ...)")
    if not further:
        return []
    names = getattr(inspect.unwrap(_annotated(function)), "__globals__", {})
    return [_parameter(parameter, names, in_pattern, name) for parameter in further]


def _annotated(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the annotations of a callable: that of a partial one, the method of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    is_plain = inspect.isroutine(function) or inspect.isclass(function)
    return function if is_plain else type(function).__call__


def _kind(parameter: inspect.Parameter, names: dict[str, Any], name: str) -> Any:
    """The type that a parameter is annotated with. Those of the others may be known to type checkers only."""
    if parameter.annotation is inspect.Parameter.empty:
        return str
    annotated = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return typing.get_type_hints(annotated, names, include_extras=True)[parameter.name]
    except Exception as error:  # noqa: BLE001  # whatever an annotation raises
        message = f"has an annotation that cannot be read: {error}; import or define its names at the top of the module"
        raise _refused(name, parameter.name, message) from None


def _parameter(parameter: inspect.Parameter, names: dict[str, Any], in_pattern: set[str], name: str) -> _Parameter:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise _refused(name, parameter.name, "must not be positional-only: it is given by name")
    kind = _kind(parameter, names, name)
    in_path = parameter.name in in_pattern
    if (unread := next(_unread(kind), None)) is not None:
        message = f"is annotated with {unread!r:.80}, which would not be checked; write msgspec.Meta(ge=1) or its like"
        raise _refused(name, parameter.name, message)
    if not _converts(kind):
        raise _refused(
            name,
            parameter.name,
            f"is annotated {kind!r}, which text cannot be converted to; use int, float, bool, str, …",
        )
    many = _is_many(kind)
    if many and in_path:
        raise _refused(name, parameter.name, "has one value in the path: annotate it with one type")
    return _Parameter(parameter.name, kind, parameter.default, in_path, many)


def _refused(name: str, parameter: str, message: str) -> ConfigError:
    return ConfigError([Problem("callables", name, f"{parameter} {message}")])


def _is_many(kind: Any) -> bool:
    """True for a list or its like, and for one that may be absent."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _is_many(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return any(map(_is_many, typing.get_args(kind)))
    return (origin or kind) in (list, set, tuple, frozenset)


def _unread(kind: Any) -> Iterator[Any]:
    """Constraints of an annotation that are for another library, and that nothing here would check."""
    for meta in getattr(kind, "__metadata__", ()):
        if type(meta).__module__.partition(".")[0] in _OF_OTHERS:
            yield meta
    for inner in typing.get_args(kind):
        yield from _unread(inner)


def _converts(kind: Any) -> bool:
    """True if text, or a list of texts, may convert to it."""
    import msgspec.inspect as kinds

    refused = (
        kinds.CustomType,
        kinds.DictType,
        kinds.DataclassType,
        kinds.StructType,
        kinds.TypedDictType,
        kinds.NamedTupleType,
        kinds.BytesType,
        kinds.RawType,
    )

    def fits(found: Any) -> bool:
        inner = (*getattr(found, "types", ()), *getattr(found, "item_types", ()), getattr(found, "item_type", None))
        return not isinstance(found, refused) and all(fits(it) for it in inner if it is not None)

    try:
        return fits(kinds.type_info(kind))
    except Exception:  # noqa: BLE001  # whatever an annotation raises
        return False
