"""Nodes: the values of a source document, each with its place, and marked when a reader has used it.

A reader takes the values that it knows. ``unread`` then lists the others, so that nothing of a source is dropped
silently: a setting that no reader knows is in the report like one that has no counterpart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from edgerouter.importing.report import Report

__all__ = ["Node", "Plain", "Scalar"]

Scalar: TypeAlias = str | int | float | bool | None
Plain: TypeAlias = "Scalar | list[Plain] | dict[str, Plain]"

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


class Node:
    """One value of a document.

    ``value``  a scalar, a list of nodes, or a mapping of names to nodes
    ``path``  its place in the document; ``line``  where it begins, if that is known
    """

    __slots__ = ("line", "path", "report", "used", "value")

    def __init__(
        self, value: Scalar | list[Node] | dict[str, Node], path: str, report: Report, line: int | None = None
    ) -> None:
        self.value = value
        self.path = path
        self.report = report
        self.line = line
        self.used = False

    @classmethod
    def of(cls, value: Plain, path: str, report: Report, line: int | None = None) -> Node:
        """The nodes of plain data."""
        if isinstance(value, dict):
            made = {
                name: cls.of(item, f"{path}.{name}" if path else name, report, line) for name, item in value.items()
            }
            return cls(made, path, report, line)
        if isinstance(value, list):
            return cls(
                [cls.of(item, f"{path}[{at}]", report, line) for at, item in enumerate(value)], path, report, line
            )
        return cls(value, path, report, line)

    def plain(self) -> Plain:
        """The value without places. The whole counts as used."""
        self.used = True
        if isinstance(self.value, dict):
            return {name: item.plain() for name, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    # -- tables ----------------------------------------------------------------------------------------------------

    @property
    def is_table(self) -> bool:
        """The value is a mapping."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """The value is a list."""
        return isinstance(self.value, list)

    @property
    def is_empty(self) -> bool:
        """The value is null, or an empty text, list or mapping."""
        return self.value is None or self.value in ("", [], {})

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """The names and values of a mapping."""
        self.used = True
        return iter(self.value.items() if isinstance(self.value, dict) else ())

    def has(self, name: str) -> bool:
        """The mapping has this name, with a value."""
        return isinstance(self.value, dict) and name in self.value and self.value[name].value is not None

    def child(self, name: str) -> Node | None:
        """The value of a name; ``None`` if it is absent or null, or this is no mapping."""
        self.used = True
        if not isinstance(self.value, dict):
            return None
        found = self.value.get(name)
        if found is None:
            return None
        found.used = True
        return None if found.value is None else found

    def table(self, name: str) -> Node:
        """The mapping of a name; an empty one if it is absent, or something else, which is noted."""
        found = self.child(name)
        # Terraform writes a block as a list of one.
        if found is not None and isinstance(found.value, list) and len(found.value) == 1:
            found = found.value[0]
            found.used = True
        if found is None:
            return Node({}, f"{self.path}.{name}", self.report, self.line)
        if not found.is_table:
            if not found.is_empty:
                found.left_out("must be a mapping of names to values")
            return Node({}, found.path, self.report, found.line)
        return found

    def items(self, name: str) -> list[Node]:
        """The items of a list. AWS also writes one as ``{Quantity, Items}``; a single value stands for itself."""
        found = self.child(name)
        if found is None:
            return []
        if isinstance(found.value, dict) and ("Items" in found.value or "Quantity" in found.value):
            found.child("Quantity")
            return found.items("Items")
        if isinstance(found.value, list):
            for item in found.value:
                item.used = True
            return [item for item in found.value if item.value is not None]
        return [] if found.is_empty else [found]

    def listed(self) -> list[Node]:
        """The items of a list, or the value itself."""
        self.used = True
        return self.value if isinstance(self.value, list) else [self]

    # -- scalars ---------------------------------------------------------------------------------------------------

    def text(self, name: str) -> str | None:
        """The text of a name; anything but a scalar is noted."""
        found = self.child(name)
        return None if found is None else found.as_text()

    def raw(self, name: str) -> str | None:
        """The text of a name, which may have parts such as ``${Bucket}`` that only a deployment knows."""
        found = self.child(name)
        return None if found is None else found.as_text(raw=True)

    def texts(self, name: str) -> list[str]:
        """The texts of a list."""
        return [text for item in self.items(name) if (text := item.as_text()) is not None]

    def flag(self, name: str) -> bool | None:
        """A truth value, also as a text such as ``"true"``."""
        found = self.child(name)
        if found is None or isinstance(found.value, bool):
            return None if found is None else found.value is True
        text = str(found.value).lower() if isinstance(found.value, (str, int)) else ""
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        found.left_out("must be true or false")
        return None

    def number(self, name: str) -> int | None:
        """A whole number from 0 to 2³¹, also as a text."""
        found = self.child(name)
        if found is None:
            return None
        value = found.value
        if isinstance(value, str) and len(value) <= 12 and value.strip().isascii() and value.strip().isdigit():
            value = int(value)
        if isinstance(value, float) and value == int(value if -(2**53) < value < 2**53 else 0):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**31:
            found.left_out("must be a whole number from 0 to 2147483648")
            return None
        return value

    def as_text(self, *, raw: bool = False) -> str | None:
        """This scalar as a text; anything else is noted. ``raw``: it may have parts such as ``${Bucket}``."""
        self.used = True
        if isinstance(self.value, str) and "${" in self.value and not raw:
            self.left_out("is known only when the source is deployed; write its value into the program")
            return None
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        if isinstance(self.value, (str, int, float)):
            text = str(self.value)
            if text.isprintable() or all(sign.isprintable() or sign in "\n\t" for sign in text):
                return text
            self.left_out("has control characters")
            return None
        if self.value is not None:
            self.left_out("must be a text")
        return None

    # -- the report ------------------------------------------------------------------------------------------------

    def ignore(self, *names: str) -> None:
        """Marks values that mean nothing to an edge, such as comments of the tool."""
        for name in names:
            if (found := self.child(name)) is not None:
                found.plain()

    def left_out(self, message: str, *, secret: bool = False) -> None:
        """Notes that this value has no counterpart."""
        self._note("left-out", message, secret)

    def choice(self, message: str, *, secret: bool = False) -> None:
        """Notes a choice that this value leaves open."""
        self._note("choice", message, secret)

    def _note(self, kind: str, message: str, secret: bool) -> None:
        value = None if secret else _short(self.plain())
        self.report.note(
            "left-out" if kind == "left-out" else "choice", self.path, message, value=value, line=self.line
        )

    def without(self, name: str, message: str, *, only_if: object = ...) -> None:
        """Notes a setting without a counterpart, if it is there and not empty, and equals ``only_if`` if given."""
        found = self.child(name)
        if found is None or found.is_empty or found.value is False:
            return
        if only_if is ... or found.value == only_if:
            found.left_out(message)
        else:
            found.plain()

    def unread(self) -> Iterator[Node]:
        """The values that no reader has used, the outermost of each, if there is anything in them."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if not node.used:
                if not node.is_empty:
                    yield node
            elif isinstance(node.value, Mapping):
                # AWS repeats the length of each list.
                waiting.extend(item for name, item in reversed(node.value.items()) if name != "Quantity")
            elif isinstance(node.value, list):
                waiting.extend(reversed(node.value))


def _short(value: Plain) -> Scalar:
    """A value for a message: scalars only."""
    if isinstance(value, dict):
        return None
    if isinstance(value, list):
        scalars = [str(item) for item in value if not isinstance(item, (dict, list))]
        return ", ".join(scalars) or None
    return value
