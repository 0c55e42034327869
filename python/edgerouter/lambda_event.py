"""The dictionaries of a Lambda@Edge event, whose values are made when they are read.

In the origin phases the fields that a hook reads select among stored responses, so an event reads nothing by itself.
``lambda_edge`` makes events of these, and applies what a handler returns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgerouter.errors import FunctionError

if TYPE_CHECKING:
    from edgerouter._core import Headers

__all__ = ["Fields", "Lazy", "broken", "is_hidden", "values_of"]

#: Fields that no function sees or adds, by name and by the beginning of the name. CloudFront also forbids X-Edge-*,
#: which nothing here uses.
_HIDDEN = frozenset(
    [
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "trailer",
        "upgrade",
        "x-accel-buffering",
        "x-accel-charset",
        "x-accel-limit-rate",
        "x-accel-redirect",
        "x-cache",
        "x-forwarded-proto",
        "x-real-ip",
    ]
)
_HIDDEN_STARTS = ("x-amz-cf-", "x-amzn-")
#: The key of a field that no message has.
_UNREAD = ""


class Lazy(dict[str, Any]):
    """A dictionary some of whose values are made when they are read."""

    def __init__(self, known: Mapping[str, Any], later: Mapping[str, Callable[[], Any]]) -> None:
        super().__init__(known)
        self._later = dict(later)

    def _make(self, name: object) -> None:
        if isinstance(name, str) and (make := self._later.pop(name, None)) is not None:
            super().__setitem__(name, make())

    def _make_all(self) -> None:
        for name in list(self._later):
            self._make(name)

    def unread(self, name: str) -> bool:
        """True if a value has not been made."""
        return name in self._later

    def __getitem__(self, name: str) -> Any:
        self._make(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._make(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._later or super().__contains__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._later.pop(name, None)
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        if self._later.pop(name, None) is None:
            super().__delitem__(name)

    def pop(self, name: str, *default: Any) -> Any:
        self._make(name)
        return super().pop(name, *default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        self._make(name)
        return super().setdefault(name, default)

    def update(self, *given: Any, **more: Any) -> None:
        for name, value in dict(*given, **more).items():
            self[name] = value

    def popitem(self) -> tuple[str, Any]:
        name = next(reversed(list(self)), None)
        return super().popitem() if name is None else (name, self.pop(name))

    def clear(self) -> None:
        for name in list(self):
            del self[name]

    def __or__(self, other: Any) -> Any:
        return dict(self.items()) | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return other | dict(self.items()) if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def __iter__(self) -> Iterator[str]:
        self._make_all()
        return super().__iter__()

    def __len__(self) -> int:
        return super().__len__() + len(self._later)

    def keys(self) -> Any:
        self._make_all()
        return super().keys()

    def values(self) -> Any:
        self._make_all()
        return super().values()

    def items(self) -> Any:
        self._make_all()
        return super().items()

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy is a dictionary like any other.
        return dict, (dict(self.items()),)

    def __repr__(self) -> str:
        self._make_all()
        return super().__repr__()

    def __eq__(self, other: object) -> bool:
        self._make_all()
        return super().__eq__(other)

    __hash__ = None


class Fields(Lazy):
    """The fields of a message as an event has them; each is copied when it is read."""

    def __init__(self, source: Headers) -> None:
        super().__init__({}, {})
        self._source = source
        #: The values of the fields that were read.
        self.before: dict[str, list[str]] = {}
        #: Fields that were set or removed without being read.
        self._written = set[str]()
        # The encoder of json believes the size that a dictionary has before it is read.
        dict.__setitem__(self, _UNREAD, [])

    def _make(self, name: object) -> None:
        # The names of an event are in lower case.
        if not isinstance(name, str) or name in self.before or name in self._written:
            return
        if is_hidden(name) or name != name.lower():
            return
        values = self._source.get_all(name)
        self.before[name] = values
        if values:
            dict.__setitem__(self, name, [{"key": name.title(), "value": value} for value in values])

    def _make_all(self) -> None:
        dict.pop(self, _UNREAD, None)
        for name in self._source.keys():  # noqa: SIM118  # a method of its own
            self._make(name)

    def __contains__(self, name: object) -> bool:
        self._make(name)
        return dict.__contains__(self, name)

    def __len__(self) -> int:
        self._make_all()
        return dict.__len__(self)

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self.before:
            self._written.add(name)
        dict.__setitem__(self, name, value)

    def __delitem__(self, name: str) -> None:
        self._make(name)
        dict.__delitem__(self, name)

    def changed(self) -> Iterator[tuple[str, list[str]]]:
        """Each field that differs from the message, with its values now."""
        for name in [*self.before, *self._written]:
            now = values_of(name, dict.get(self, name, []), self.before)
            if name in self._written or now != self.before[name]:
                yield name, now


def is_hidden(name: str) -> bool:
    """True for a field that no function sees."""
    return name in _HIDDEN or name.startswith(_HIDDEN_STARTS)


def values_of(name: str, lines: Any, others: Collection[str] = ()) -> list[str]:
    """The values of a field. Lines may be those of ``others``, whose key they have then."""
    if not isinstance(lines, (list, tuple)):
        raise broken(f"set the header {name} to {type(lines).__name__}, not to a list of key and value")
    values = []
    for line in lines:
        if not isinstance(line, Mapping) or not isinstance(line.get("value"), str):
            raise broken(f"set the header {name} to a list without a text as value")
        key = line.get("key", name).lower()
        if key != name.lower() and key not in others:
            raise broken(f"set the header {name} with the key {line['key']!r}")
        values.append(line["value"])
    return values


def broken(what: str) -> FunctionError:
    return FunctionError(f"the Lambda@Edge handler {what}")
