"""Expressions of Terraform, worked out as far as the file says enough, and within bounds.

Understood are literals, references, operators, conditions, ``for`` and the functions of ``hcl_functions``. An
expression that needs something else, such as an attribute that only a deployment knows, is an ``UnknownError``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from edgerouter.importing.hcl_functions import (
    FUNCTIONS,
    LONGEST,
    MOST,
    MissingError,
    UnknownError,
    as_text,
    known,
    pairs,
)
from edgerouter.importing.nodes import Plain

__all__ = ["Evaluator", "Scope", "UnknownError", "constant"]

#: A name at the start of a reference, and the value that it has; called, since locals may refer to one another.
Scope: TypeAlias = Mapping[str, Callable[[], Plain]]
_Expression: TypeAlias = Callable[[Scope], Plain]

_DEEPEST = 30
#: Parts of expressions that are worked out for a file.
_MOST_STEPS = 100_000

_SPACE = re.compile(r"(?:\s|#[^\n]*|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?(?![0-9A-Za-z])")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_LEVELS = (("||",), ("&&",), ("==", "!="), ("<=", ">=", "<", ">"), ("+", "-"), ("*", "/", "%"))


def constant(value: Plain) -> Callable[[], Plain]:
    """The value of a name that needs no work."""
    return lambda: value


class Evaluator:
    """Works out the expressions of one file, which share a bound on the work."""

    def __init__(self) -> None:
        self._steps = 0

    def value(self, text: str, scope: Scope) -> Plain:
        """The value of a text of Terraform: of ``${…}`` alone any value, otherwise a text.

        In a text with several parts, those that are unknown stay as they are.
        """
        try:
            return self._value(text, scope)
        except RecursionError:
            raise UnknownError from None

    def _value(self, text: str, scope: Scope) -> Plain:
        if text.startswith("${"):
            reader = _Reader(text, self)
            reader.at = 2
            expression = reader.expression()
            reader.space()
            if reader.at == len(text) - 1 and text.endswith("}"):
                return expression(scope)
        reader = _Reader(text, self)
        made = "".join(
            part if isinstance(part, str) else self._part(part[0], part[1], scope) for part in reader.template(None)
        )
        if len(made) > LONGEST:
            raise UnknownError
        return made

    def _part(self, expression: _Expression, source: str, scope: Scope) -> str:
        try:
            return as_text(expression(scope))
        except UnknownError:
            return source

    def step(self) -> None:
        """Counts a part of an expression."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise UnknownError


class _Reader:
    """Reads an expression, and gives a function that works it out."""

    def __init__(self, text: str, evaluator: Evaluator) -> None:
        self.text = text
        self.at = 0
        self._depth = 0
        self._step = evaluator.step

    # -- signs -----------------------------------------------------------------------------------------------------

    def space(self) -> None:
        if found := _SPACE.match(self.text, self.at):
            self.at = found.end()

    def takes(self, sign: str) -> bool:
        self.space()
        if not self.text.startswith(sign, self.at):
            return False
        self.at += len(sign)
        return True

    def needs(self, sign: str) -> None:
        if not self.takes(sign):
            raise UnknownError

    def name(self) -> str | None:
        self.space()
        found = _NAME.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    # -- operators -------------------------------------------------------------------------------------------------

    def expression(self) -> _Expression:
        """A condition, or what stands in place of one."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnknownError
        value = self._binary(0)
        if self.takes("?"):
            then = self.expression()
            self.needs(":")
            value = self._condition(value, then, self.expression())
        self._depth -= 1
        return value

    @staticmethod
    def _condition(test: _Expression, then: _Expression, otherwise: _Expression) -> _Expression:
        return lambda scope: then(scope) if _truth(test(scope)) else otherwise(scope)

    def _binary(self, level: int) -> _Expression:
        if level == len(_LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        while sign := next((sign for sign in _LEVELS[level] if self._takes_operator(sign)), None):
            left = self._applied(sign, left, self._binary(level + 1))
        return left

    def _takes_operator(self, sign: str) -> bool:
        self.space()
        # The arrow of a ``for`` is no comparison.
        if sign in ("<", ">") and self.text.startswith(f"{sign}=", self.at):
            return False
        return self.takes(sign)

    def _applied(self, sign: str, left: _Expression, right: _Expression) -> _Expression:
        def apply(scope: Scope) -> Plain:
            self._step()
            first = left(scope)
            if sign in ("&&", "||"):
                return _truth(right(scope)) if _truth(first) == (sign == "&&") else _truth(first)
            return _operated(sign, first, right(scope))

        return apply

    def _unary(self) -> _Expression:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnknownError
        self.space()
        if self.text.startswith("!", self.at) and self.takes("!"):
            inner = self._unary()
            made: _Expression = lambda scope: not _truth(inner(scope))  # noqa: E731
        elif self.takes("-"):
            inner = self._unary()
            made = lambda scope: _operated("-", 0, inner(scope))  # noqa: E731
        else:
            made = self._reached(self._term())
        self._depth -= 1
        return made

    # -- terms -----------------------------------------------------------------------------------------------------

    def _term(self) -> _Expression:
        self.space()
        sign = self.text[self.at : self.at + 1]
        if sign == '"':
            self.at += 1
            return self._joined(self.template('"'))
        if found := _NUMBER.match(self.text, self.at):
            self.at = found.end()
            number: Plain = float(found[0]) if "." in found[0] else int(found[0])
            return lambda _: number
        if self.takes("("):
            inner = self.expression()
            self.needs(")")
            return inner
        if self.takes("["):
            return self._for("]") if self._is_for() else self._list()
        if self.takes("{"):
            return self._for("}") if self._is_for() else self._object()
        name = self.name()
        if name is None:
            raise UnknownError
        if name in ("true", "false", "null"):
            literal = {"true": True, "false": False, "null": None}[name]
            return lambda _: literal
        if self.takes("("):
            return self._call(name)

        def refer(scope: Scope) -> Plain:
            self._step()
            if name not in scope:
                raise UnknownError
            return scope[name]()

        return refer

    def _reached(self, value: _Expression) -> _Expression:
        """The value with the attributes and indexes that follow it."""
        while True:
            self.space()
            key: _Expression
            if self.text.startswith("[", self.at):
                self.at += 1
                key = self.expression()
                self.needs("]")
            elif self.text.startswith(".", self.at) and not self.text.startswith("...", self.at):
                self.at += 1
                found = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*").match(self.text, self.at)
                if found is None:
                    raise UnknownError
                self.at = found.end()
                key = self._named(found[0])
            else:
                return value
            value = self._member(value, key)

    @staticmethod
    def _named(name: str) -> _Expression:
        return lambda _: name

    def _member(self, value: _Expression, key: _Expression) -> _Expression:
        def member(scope: Scope) -> Plain:
            self._step()
            holder, wanted = value(scope), key(scope)
            if isinstance(holder, dict) and (text := as_text(wanted)) in holder:
                return known(holder[text])
            if isinstance(holder, list) and str(wanted).isdecimal() and int(str(wanted)) < len(holder):
                return known(holder[int(str(wanted))])
            # The names of a file itself are a type of their own: one that is absent is known later.
            raise MissingError if type(holder) in (dict, list) else UnknownError

        return member

    def _list(self) -> _Expression:
        items: list[_Expression] = []
        while not self.takes("]"):
            items.append(self.expression())
            if not self.takes(","):
                self.needs("]")
                break
        return lambda scope: [item(scope) for item in items]

    def _object(self) -> _Expression:
        items: list[tuple[_Expression, _Expression]] = []
        while not self.takes("}"):
            start = self.at
            plain = self.name()
            if plain is not None and (self.takes("=") or self.takes(":")):
                key: _Expression = self._named(plain)
            else:
                self.at = start
                key = self._unary()
                if not (self.takes("=") or self.takes(":")):
                    raise UnknownError
            items.append((key, self.expression()))
            self.takes(",")
        return lambda scope: {as_text(key(scope)): value(scope) for key, value in items}

    def _is_for(self) -> bool:
        self.space()
        return re.compile(r"for\s").match(self.text, self.at) is not None

    def _for(self, end: str) -> _Expression:
        self.name()
        names = [self.name()]
        if self.takes(","):
            names.append(self.name())
        if self.name() != "in" or None in names:
            raise UnknownError
        over = self.expression()
        self.needs(":")
        first = self.expression()
        second = None
        if end == "}":
            self.needs("=>")
            second = self.expression()
            if self.takes("..."):
                raise UnknownError
        start = self.at
        test: _Expression = lambda _: True  # noqa: E731
        if self.name() == "if":
            test = self.expression()
        else:
            self.at = start
        self.needs(end)

        def repeat(scope: Scope) -> Plain:
            made: list[tuple[Plain, Plain]] = []
            for key, value in pairs(over(scope)):
                self._step()
                bound = (key, value) if len(names) == 2 else (value,)
                inner = {
                    **scope,
                    **{str(name): constant(one) for name, one in zip(names, bound, strict=True)},
                }
                if _truth(test(inner)):
                    made.append((first(inner), second(inner) if second is not None else None))
            return [one for one, _ in made] if second is None else {as_text(key): value for key, value in made}

        return repeat

    def _call(self, name: str) -> _Expression:
        given: list[_Expression] = []
        spread = False
        while not self.takes(")"):
            given.append(self.expression())
            spread = self.takes("...")
            if spread or not self.takes(","):
                self.needs(")")
                break

        def call(scope: Scope) -> Plain:
            self._step()
            if name in ("try", "can"):
                for one in given:
                    try:
                        found = one(scope)
                    except MissingError:
                        continue
                    return True if name == "can" else found
                if name == "can":
                    return False
                raise MissingError
            function = FUNCTIONS.get(name)
            if function is None:
                raise UnknownError
            values = [one(scope) for one in given]
            if spread:
                last = values.pop()
                values += last if isinstance(last, list) else []
            try:
                made = function(*values)
            except (KeyError, IndexError):
                raise MissingError from None
            except (TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError):
                raise UnknownError from None
            if (isinstance(made, str) and len(made) > LONGEST) or (isinstance(made, (list, dict)) and len(made) > MOST):
                raise UnknownError
            return made

        return call

    # -- texts -----------------------------------------------------------------------------------------------------

    def template(self, end: str | None) -> list[str | tuple[_Expression, str]]:
        """The parts of a text: as they are, or an expression with its source. Without an end, quotes are plain."""
        parts: list[str | tuple[_Expression, str]] = []
        while True:
            if self.at >= len(self.text):
                if end is None:
                    return parts
                raise UnknownError
            sign = self.text[self.at]
            if sign == end:
                self.at += 1
                return parts
            if self.text.startswith(("$${", "%%{"), self.at):
                parts.append(self.text[self.at + 1 : self.at + 3])
                self.at += 3
            elif self.text.startswith("%{", self.at):
                raise UnknownError
            elif self.text.startswith("${", self.at):
                start = self.at
                self.at += 2
                inner = self.expression()
                self.needs("}")
                parts.append((inner, self.text[start : self.at]))
            elif sign == "\\" and end is not None:
                parts.append(_ESCAPES.get(self.text[self.at + 1 : self.at + 2], ""))
                self.at += 2
            else:
                parts.append(sign)
                self.at += 1

    @staticmethod
    def _joined(parts: list[str | tuple[_Expression, str]]) -> _Expression:
        def join(scope: Scope) -> Plain:
            made = "".join(part if isinstance(part, str) else as_text(part[0](scope)) for part in parts)
            if len(made) > LONGEST:
                raise UnknownError
            return made

        return join


def _truth(value: Plain) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise UnknownError


def _operated(sign: str, left: Plain, right: Plain) -> Plain:
    if sign in ("==", "!="):
        known(left)
        known(right)
        # A number never equals a text in Terraform, and neither equals a truth value.
        same = left == right and (isinstance(left, bool) == isinstance(right, bool))
        return same == (sign == "==")
    first, second = FUNCTIONS["tonumber"](left), FUNCTIONS["tonumber"](right)
    if not isinstance(first, (int, float)) or not isinstance(second, (int, float)):
        raise UnknownError
    if sign in "/%" and second == 0:
        raise UnknownError
    made: Plain
    if sign == "/":
        made = first / second
    elif sign == "%":
        made = first % second
    elif sign in "+-*":
        made = first + second if sign == "+" else first - second if sign == "-" else first * second
    elif sign in ("<", ">="):
        made = (first < second) == (sign == "<")
    else:
        made = (first > second) == (sign == ">")
    if isinstance(made, (int, float)) and not isinstance(made, bool) and abs(made) > 1e18:
        raise UnknownError
    return int(made) if isinstance(made, float) and made.is_integer() else made
