"""The arguments of public methods: an unknown one is reported with the one that was probably meant.

A method that takes the fields of a value is given that value's parameters, so that these are declared once. The
signatures that ``help`` and editors show are those of the arguments.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Concatenate, ParamSpec, TypeVar, get_args, get_type_hints

from edgerouter.checks import V
from edgerouter.errors import ConfigError, Problem

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def helpful(method: Callable[P, R]) -> Callable[P, R]:
    """Reports an argument that a method does not have, with the one that was probably meant."""

    signature = _unpacked(method)
    parameters = [name for name in signature.parameters if name != "self"]
    unnamed = sum(parameter.kind is not parameter.KEYWORD_ONLY for parameter in signature.parameters.values())

    @functools.wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        unknown = [name for name in kwargs if name not in parameters]
        if not unknown and len(args) <= unnamed:
            return method(*args, **kwargs)
        from edgerouter.misspelt import did_you_mean

        problems = []
        place = f"{type(args[0]).__name__}.{method.__name__}"
        if len(args) > unnamed:
            named = [it.name for it in signature.parameters.values() if it.kind is it.KEYWORD_ONLY]
            alone = ", ".join(parameters[: unnamed - 1])
            message = f"only {alone} may stand without a name; give the others theirs, as in {named[0]}=…"
            problems.append(Problem(place, None, message))
        for name in unknown:
            other = _others(args[0], name)
            if other is not None:
                remedy = f"{other} has it; here there are {', '.join(parameters)}"
            elif "cache" in parameters and name in _of_cache():
                remedy = f"it is a field of the policy, as in cache=CachePolicy({name}=…)"
            else:
                remedy = did_you_mean(name, parameters) or f"there are {', '.join(parameters)}"
            problems.append(Problem(f"{place}.{name}", None, f"no such argument; {remedy}"))
        raise ConfigError(problems)

    called.__signature__ = signature  # type: ignore[attr-defined]
    return called


def _unpacked(method: Callable[..., object]) -> inspect.Signature:
    """The signature of a method with the options of ``**options: Unpack[Options]`` as arguments, for ``help``.

    Their defaults are not known here: ``...`` stands for each.
    """
    signature = inspect.signature(method)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        return signature
    rest = parameters.pop()
    # Only this annotation: others may name what is imported for type checkers alone.
    annotated = SimpleNamespace(__annotations__={rest.name: rest.annotation})
    (options,) = get_args(get_type_hints(annotated, method.__globals__)[rest.name])
    for name, annotation in options.__annotations__.items():
        text = getattr(annotation, "__forward_arg__", annotation)
        option = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=..., annotation=text)
        parameters.append(option)
    return signature.replace(parameters=parameters)


def _others(holder: object, name: str) -> str | None:
    """Another method of the same object that has this argument: then it is no slip of the pen."""
    for method in ("route", "files", "function"):
        parameters = inspect.signature(getattr(holder, method)).parameters if hasattr(holder, method) else {}
        if name in parameters:
            return f"{type(holder).__name__}.{method}"
    return None


def _of_cache() -> Collection[str]:
    """The fields of a cache policy, which stand beside ``cache=`` by mistake."""
    from edgerouter.cache import CachePolicy

    return CachePolicy.__struct_fields__


def accepts(make: Callable[P, V]) -> Callable[[Callable[[S, V], R]], Callable[Concatenate[S, P], R]]:
    """Gives a method the parameters of a value in place of the value, so that these are declared once."""

    def decorate(method: Callable[[S, V], R]) -> Callable[Concatenate[S, P], R]:
        @functools.wraps(method)
        def accepting(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return method(self, make(*args, **kwargs))

        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        parameters = [first, *inspect.signature(make).parameters.values()]
        accepting.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return accepting

    return decorate
