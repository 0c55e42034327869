"""The functions of Terraform that expressions of distributions use, on plain values, without files and clocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from edgerouter.importing.nodes import Plain

__all__ = ["FUNCTIONS", "LONGEST", "MOST", "MissingError", "Sorted", "UnknownError", "as_text", "known", "pairs"]

#: Signs of a text, and members of a list or map, that an expression may make.
LONGEST = 4_096
MOST = 1_000


class UnknownError(Exception):
    """The file does not say enough, or the value is not one that a distribution has."""


class MissingError(UnknownError):
    """A value that is known has no such member: the error that ``try`` and ``can`` catch."""


class Sorted(list["Plain"]):
    """A set: its members are their own keys, in their order."""


def as_text(value: Plain) -> str:
    """A scalar in a text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise UnknownError


def known(value: Plain) -> Plain:
    """The value, unless it is a text with a part that only a deployment knows."""
    if isinstance(value, str) and "${" in value:
        raise UnknownError
    return value


def pairs(value: Plain) -> list[tuple[Plain, Plain]]:
    """Keys and values, in the order of Terraform: a map's are sorted, a set's members are their own keys."""
    if isinstance(value, dict):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, Sorted):
        return [(one, one) for one in value]
    if isinstance(value, list):
        return list(enumerate(value))
    raise UnknownError


def _number(value: Plain) -> Plain:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", value):
        return float(value) if "." in value else int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise UnknownError


def _bool(value: Plain) -> Plain:
    if value in ("true", "false"):
        return value == "true"
    if isinstance(value, bool):
        return value
    raise UnknownError


def _items(value: Plain) -> list[Plain]:
    if isinstance(value, list):
        return value
    raise UnknownError


def _table(value: Plain) -> dict[str, Plain]:
    if isinstance(value, dict):
        return value
    raise UnknownError


def _set(values: Iterable[Plain]) -> Sorted:
    found = _distinct(values)
    if all(isinstance(one, str) for one in found):
        found.sort(key=str)
    elif all(isinstance(one, (int, float)) for one in found):
        found.sort(key=lambda one: one if isinstance(one, (int, float)) else 0)
    return Sorted(found)


def _distinct(values: Iterable[Plain]) -> list[Plain]:
    found: list[Plain] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _flat(value: Plain) -> list[Plain]:
    found: list[Plain] = []
    waiting = list(reversed(_items(value)))
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += reversed(one)
        else:
            found.append(one)
        if len(found) > MOST:
            raise UnknownError
    return found


def _format(text: Plain, *values: Plain) -> Plain:
    rest = list(values)

    def one(found: re.Match[str]) -> str:
        return "%" if found[0] == "%%" else as_text(rest.pop(0))

    return re.sub(r"%%|%[sdv]", one, as_text(text))


def _merged(*tables: Plain) -> Plain:
    made: dict[str, Plain] = {}
    for table in tables:
        made |= _table(table) if table is not None else {}
    return made


def _first(*values: Plain) -> Plain:
    for value in values:
        if value not in (None, ""):
            return value
    raise UnknownError


def _lookup(table: Plain, name: Plain, *otherwise: Plain) -> Plain:
    found = _table(table)
    return found[as_text(name)] if as_text(name) in found or not otherwise else otherwise[0]


def _replaced(text: Plain, old: Plain, new: Plain) -> Plain:
    if re.fullmatch(r"/.*/", as_text(old)):
        # An expression: Terraform's are not Python's.
        raise UnknownError
    return as_text(text).replace(as_text(old), as_text(new)) if old != "" else text


def _range(*numbers: Plain) -> Plain:
    whole = [number for number in numbers if isinstance(number, int)]
    made = range(*whole)
    if len(made) > MOST:
        raise UnknownError
    return list(made)


def _one(values: Plain) -> Plain:
    items = _items(values)
    if len(items) > 1:
        raise UnknownError
    return items[0] if items else None


def _joined(between: Plain, *lists: Plain) -> Plain:
    return as_text(between).join(as_text(one) for values in lists for one in _items(values))


def _length(value: Plain) -> Plain:
    if isinstance(value, (str, list, dict)):
        return len(value)
    raise UnknownError


FUNCTIONS: dict[str, Callable[..., Plain]] = {
    "coalesce": _first,
    "compact": lambda values: [one for one in _items(values) if one not in (None, "")],
    "concat": lambda *lists: [one for values in lists for one in _items(values)],
    "contains": lambda values, value: value in _items(values),
    "distinct": lambda values: _distinct(_items(values)),
    "element": lambda values, at: _items(values)[at % len(_items(values))],
    "endswith": lambda text, end: as_text(text).endswith(as_text(end)),
    "flatten": _flat,
    "format": _format,
    "join": _joined,
    "keys": lambda table: [*sorted(_table(table))],
    "length": _length,
    "lookup": _lookup,
    "lower": lambda text: as_text(text).lower(),
    "max": lambda *numbers: max(numbers),
    "merge": _merged,
    "min": lambda *numbers: min(numbers),
    "nonsensitive": lambda value: value,
    "one": _one,
    "range": _range,
    "replace": _replaced,
    "reverse": lambda values: list(reversed(_items(values))),
    "setunion": lambda *lists: _set(one for values in lists for one in _items(values)),
    "sort": lambda values: [*sorted(as_text(one) for one in _items(values))],
    "split": lambda between, text: [*as_text(text).split(as_text(between))],
    "startswith": lambda text, start: as_text(text).startswith(as_text(start)),
    "title": lambda text: as_text(text).title(),
    "tobool": _bool,
    "tolist": lambda values: list(_items(values)),
    "tomap": _table,
    "tonumber": _number,
    "toset": lambda values: _set(_items(values)),
    "tostring": lambda value: None if value is None else as_text(value),
    "trim": lambda text, signs: as_text(text).strip(as_text(signs)),
    "trimprefix": lambda text, start: as_text(text).removeprefix(as_text(start)),
    "trimspace": lambda text: as_text(text).strip(),
    "trimsuffix": lambda text, end: as_text(text).removesuffix(as_text(end)),
    "upper": lambda text: as_text(text).upper(),
    "values": lambda table: [_table(table)[name] for name in sorted(_table(table))],
    "zipmap": lambda names, values: dict(zip(map(as_text, _items(names)), _items(values), strict=True)),
}
