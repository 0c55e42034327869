"""Operations on documents, written once for callables that wait and for those that await.

An operation is a generator: it yields steps, each a call of the binding, and is sent their rows. Here is what engines
share: the checks of arguments, merge patches, and a patch as a read and a write that depends on it.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from edgerouter.errors import BindingError

Scalar: TypeAlias = str | int | float | bool | None
T = TypeVar("T")
Rows: TypeAlias = list[Any]

LONGEST_KEY = 512
_MOST_LISTED = 1_000
_MOST_FIELDS = 16
_DEEPEST_FIELD = 8
#: Attempts of a patch while others change the same document.
_ATTEMPTS = 16


class Step(Protocol):
    """One call of a binding."""

    def begin(self, binding: Any) -> Any:
        """Its result, or an awaitable of it."""

    def rows(self, result: Any) -> Rows:
        """The rows of the result."""


Operation: TypeAlias = Generator[Step, Rows, T]


class Document(NamedTuple):
    """A document as it was read.

    ``id``  its key
    ``version``  changes with each change, and never comes back
    ``value``  the object
    """

    id: str
    version: int
    value: dict[str, Any]


class DocumentPage(NamedTuple):
    """A part of the documents that were found.

    ``documents``  in the order of their identifiers
    ``cursor``  leads to the next page; ``None`` at the end
    """

    documents: list[Document]
    cursor: str | None


def merged(target: object, patch: object) -> object:
    """A JSON value with a merge patch applied (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    made = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = merged(made.get(name), value)
    return made


def in_utf8(text: str, what: str) -> str:
    """The text; ``ValueError`` for one that UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what}: has half a character (a surrogate), which UTF-8 cannot hold") from None
    return text


def as_json(value: object, what: str) -> str:
    """The JSON of a value; an error names what it is of."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    except TypeError as error:
        raise TypeError(f"{what}: {error}; store text, such as value.isoformat() of a date") from None
    except RecursionError:
        raise ValueError(f"{what}: is nested too deeply for JSON") from None
    return in_utf8(text, what)


def encoded(value: object, what: str) -> str:
    """The JSON of a document."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a mapping, which is an object of JSON, not {type(value).__name__}")
    return as_json(dict(value), what)


def checked(key: str) -> str:
    """The key of a document."""
    if not isinstance(key, str):
        raise TypeError(f"key must be a str, not {type(key).__name__}")
    if not 1 <= len(in_utf8(key, "key").encode()) <= LONGEST_KEY or "\0" in key:
        raise ValueError(f"key must have 1 to {LONGEST_KEY} bytes and no zero character")
    return key


def _whole(value: object, what: str, least: int, most: int, remedy: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what}: must be an int, not {type(value).__name__}; {remedy}")
    if not least <= value <= most:
        raise ValueError(f"{what}: {value}: must be from {least} to {most}; {remedy}")


def checked_version(version: int | None) -> int | None:
    """The version that a change depends on."""
    if version is not None:
        _whole(version, "if_version", 0, 2**63 - 1, "give the version of a document that was read")
    return version


def checked_field(field: str, what: str) -> str:
    """The name of a field."""
    if not isinstance(field, str):
        raise TypeError(f"{what}: the name of a field must be a str, not {type(field).__name__}")
    names = field.split(".")
    if len(names) > _DEEPEST_FIELD or not all(name.isascii() and name.isidentifier() for name in names):
        raise ValueError(f"{what}: {field!r} is no field such as user, or user.name within an object")
    return field


def checked_search(where: Mapping[str, Scalar], cursor: str | None, limit: int) -> str:
    """The key after which a page begins."""
    if not isinstance(where, Mapping):
        raise TypeError(f"find: must be given a mapping of fields and values, not {type(where).__name__}")
    _whole(limit, "find: limit", 1, _MOST_LISTED, "the cursor leads to further documents")
    if len(where) > _MOST_FIELDS:
        raise ValueError(f"find: {len(where)} fields, and {_MOST_FIELDS} are the most")
    for field, value in where.items():
        checked_field(field, "find")
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise TypeError(f"find: the value of {field} must be str, int, float, bool or None")
    if cursor is not None and not isinstance(cursor, str):
        raise TypeError(f"find: cursor must be that of a page before, a str, not {type(cursor).__name__}")
    # An empty parameter of a query means no cursor.
    return checked(cursor) if cursor else ""


def first_version() -> int:
    """Larger than that of a document with the same key that was removed before."""
    return time.time_ns() // 1_000


class Collection(ABC):
    """The steps of each operation on one engine."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def get(self, key: str) -> Operation[Document | None]:
        """The document of a key."""

    @abstractmethod
    def write(self, key: str, body: str, if_absent: bool, if_version: int | None) -> Operation[int | None]:
        """Stores the JSON of a document if the condition holds; its new version."""

    @abstractmethod
    def delete(self, key: str, if_version: int | None) -> Operation[bool]:
        """Removes a document if the condition holds."""

    @abstractmethod
    def find(self, where: Mapping[str, Scalar], cursor: str | None, limit: int) -> Operation[DocumentPage]:
        """A page of the documents whose fields have these values."""

    @abstractmethod
    def index(self, field: str) -> Operation[None]:
        """Makes ``find`` by a field fast."""

    @abstractmethod
    def guarded(self, operation: Operation[T]) -> Operation[T]:
        """The operation, with failures of its steps remedied or explained."""

    def put(self, key: str, value: Mapping[str, Any], if_absent: bool, if_version: int | None) -> Operation[int | None]:
        if if_absent and if_version is not None:
            raise ValueError("put: give if_absent or if_version, not both")
        body = encoded(value, "put: value")
        return (yield from self.write(checked(key), body, bool(if_absent), checked_version(if_version)))

    def patch(self, key: str, patch: Mapping[str, Any], if_version: int | None) -> Operation[Document | None]:
        encoded(patch, "patch")
        checked_version(if_version)
        for _ in range(_ATTEMPTS):
            found = yield from self.get(key)
            if found is None or if_version not in (None, found.version):
                return None
            value: Any = merged(found.value, patch)
            version = yield from self.write(key, encoded(value, "patch"), False, found.version)
            if version is not None:
                return Document(key, version, value)
            if if_version is not None:
                return None
        raise BindingError(f"{self.name}: {key} was changed by others {_ATTEMPTS} times meanwhile; retry later")
