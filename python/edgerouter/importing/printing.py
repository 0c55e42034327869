"""Expressions of Python for values of edgerouter, in the form that a formatter leaves alone.

Only the kinds of value that a program needs are printed, each by its constructor and the fields that differ from their
default. A text from a source becomes a literal by ``repr``, so nothing in it can be code.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from edgerouter import cache
from edgerouter.cache import CachePolicy, Names
from edgerouter.checks import Value
from edgerouter.guarding import BasicAuth
from edgerouter.listening import Certificate, Tls
from edgerouter.routes import Redirect, Respond, Rewrite
from edgerouter.secrets import Secret

__all__ = ["Call", "Name", "Program", "Sequence", "comment", "literal", "rendered"]

WIDTH = 120


@dataclass(frozen=True)
class Name:
    """A name of Python."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call: its arguments with their names, ``""`` for positional ones."""

    function: str
    arguments: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True)
class Sequence:
    """A list, tuple, set or dictionary; ``items`` have keys in a dictionary."""

    brackets: str
    items: tuple[tuple[Expression | None, Expression], ...]


Expression: TypeAlias = Name | Call | Sequence


def literal(text: str) -> str:
    """A text as a literal in double quotes, if that needs no more escapes."""
    shown = repr(text)
    if shown[0] == "'" and '"' not in text:
        return f'"{shown[1:-1]}"'.replace("\\'", "'")
    return shown


def _number(value: int | float) -> str:
    return f"{value:_}" if isinstance(value, int) and value >= 10_000 else repr(value)


@dataclass
class Program:
    """Makes expressions, and remembers the names that the program imports for them.

    ``policies``  cache policies that have a variable, and its name
    """

    imports: set[str] = field(default_factory=set)
    policies: list[tuple[CachePolicy, str]] = field(default_factory=list)

    def expression(self, value: object) -> Expression:
        """The expression that makes a value."""
        match value:
            case None | bool():
                return Name(repr(value))
            case int() | float():
                return Name(_number(value))
            case str():
                return Name(literal(value))
            case CachePolicy():
                return self._policy(value)
            case Names():
                return self._names(value)
            case Secret():
                return self._secret(value)
            case Redirect(status=302, query=True):
                return Name(literal(value.location))
            case Respond(status=200, headers={}):
                return Name(literal(value.body))
            case Rewrite():
                return Sequence("()", tuple((None, Name(literal(text))) for text in (value.pattern, value.to)))
            case Value():
                return self.call_of(value)
            case Mapping():
                return Sequence("{}", tuple((self.expression(name), self.expression(of)) for name, of in value.items()))
            case set() | frozenset():
                return Sequence("{}", tuple((None, self.expression(item)) for item in sorted(value)))
            case list() | tuple():
                return Sequence("[]", tuple((None, self.expression(item)) for item in value))
        raise TypeError(f"no expression for {type(value).__name__}")

    def call(self, function: str, *positional: object, **named: object) -> Call:
        """A call with these values as arguments."""
        arguments = [("", self.argument(value)) for value in positional]
        arguments += [(name, self.argument(value)) for name, value in named.items()]
        return Call(function, tuple(arguments))

    def argument(self, value: object) -> Expression:
        """An expression as it is, anything else by ``expression``."""
        return value if isinstance(value, (Name, Call, Sequence)) else self.expression(value)

    def _policy(self, policy: CachePolicy) -> Expression:
        for known, name in self.policies:
            if known == policy:
                return Name(name)
        for name in ("STANDARD", "OPTIMIZED", "DISABLED"):
            if policy == getattr(cache, name):
                self.imports.add("cache")
                return Name(f"cache.{name}")
        return self.call_of(policy)

    def _names(self, names: Names) -> Expression:
        if names.only is not None:
            return self.expression(list(names.only))
        self.imports.add("all_except")
        return self.call("all_except", *(names.exclude or ()))

    def _secret(self, secret: Secret) -> Expression:
        function = "env" if secret.env is not None else "secret_file"
        self.imports.add(function)
        return self.call(function, secret.env or secret.file or "")

    def call_of(self, value: Value) -> Call:
        """The call that makes a value, even if the program has a name for it."""
        kind = type(value).__name__
        self.imports.add(kind)
        fields = _fields(type(value))
        named_first = type(value).__match_args__[:1]
        positional = [
            name
            for name in type(value).__match_args__
            if fields[name].required or (name in named_first and not _is_default(value, name))
        ]
        first = [self._field(value, name) for name in positional]
        named = {
            name: self._field(value, name)
            for name in value.__struct_fields__
            if name not in positional and not _is_default(value, name)
        }
        return self.call(kind, *first, **named)

    def _field(self, value: Value, name: str) -> object:
        found: Any = getattr(value, name)
        if isinstance(found, Secret) and found.file is not None and isinstance(value, (Certificate, BasicAuth, Tls)):
            return found.file
        if isinstance(value, Tls) and name == "certificates" and len(found) == 1:
            return found[0]
        return found


def _is_default(value: Value, name: str) -> bool:
    field = _fields(type(value))[name]
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(getattr(value, name) == field.default_factory())
    return field.default is not msgspec.NODEFAULT and bool(getattr(value, name) == field.default)


@functools.cache
def _fields(kind: type[Value]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(kind)}


def rendered(expression: Expression, indent: int = 0, taken: int = 0, after: int = 0) -> str:
    """The text of an expression: on one line if it fits, else one item a line.

    ``taken``  columns before it on its first line; ``after``  columns behind it on its last
    """
    flat = _flat(expression)
    if indent + taken + len(flat) + after <= WIDTH or isinstance(expression, Name):
        return flat
    if isinstance(expression, Call):
        opening, closing = f"{expression.function}(", ")"
        items = [(f"{name}=" if name else "", item) for name, item in expression.arguments]
    else:
        opening, closing = expression.brackets[0], expression.brackets[1]
        items = [("" if key is None else f"{_flat(key)}: ", item) for key, item in expression.items]
    if not items:
        return flat
    inner = " " * (indent + 4)
    lines = [f"{inner}{before}{rendered(item, indent + 4, len(before), 1)}," for before, item in items]
    return "\n".join([opening, *lines, " " * indent + closing])


def _flat(expression: Expression) -> str:
    match expression:
        case Name():
            return expression.text
        case Call():
            parts = (f"{name}={_flat(item)}" if name else _flat(item) for name, item in expression.arguments)
            return f"{expression.function}({', '.join(parts)})"
        case Sequence():
            items = [_flat(item) if key is None else f"{_flat(key)}: {_flat(item)}" for key, item in expression.items]
            comma = "," if expression.brackets == "()" and len(items) == 1 else ""
            return f"{expression.brackets[0]}{', '.join(items)}{comma}{expression.brackets[1]}"


def comment(text: str, indent: int = 0) -> list[str]:
    """Lines of a comment, wrapped. Line breaks and control characters of the text are gone."""
    import textwrap

    plain = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    start = " " * indent + "# "
    return textwrap.wrap(
        plain, WIDTH, initial_indent=start, subsequent_indent=start, break_long_words=False, break_on_hyphens=False
    )
