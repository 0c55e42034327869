"""Validation at construction: every field is looked at, all problems are raised at once.

The policy structs call this in ``__post_init__``, so a wrong type or range fails on the user's own line. Facts that
need the whole plan (references, patterns, key material) are checked later by ``Edge.compile``. Checked values have the
plan's own shape: durations are numbers, collections are tuples.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import msgspec

from edgerouter.errors import ConfigError, Problem

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
"""A field name or cookie name (RFC 9110 §5.6.2)."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_LABEL = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
MOST_SECONDS = 1 << 53
"""The whole numbers that a ``float`` has without gaps."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_UNITS |= {f"{unit}IB": factor for unit, factor in _UNITS.items() if unit} | {"B": 1}
_UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = r"(?ai)([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([KMGT]?I?B?)"

Size: TypeAlias = int | str
"""Bytes, or a number with a unit: ``"1GB"``, ``"512MiB"``."""


def size(text: str) -> int:
    """Bytes, from a number and a unit: ``10GiB``, ``512M`` (1,024 times 1,024 each), ``20GB`` (a thousand)."""
    found = re.fullmatch(_SIZE, text.strip())
    if found is None or found[2].upper() not in _UNITS:
        raise ValueError("must be bytes, or a number with a unit such as 10GiB or 512MiB")
    return int(Decimal(found[1]) * _UNITS[found[2].upper()])


class _Kind(msgspec.StructMeta):
    """Reports a field that does not exist, is missing or needs its name like any other mistake: with the remedy."""

    if not TYPE_CHECKING:
        # Type checkers and editors would take these arguments, and this result, for those of every value.
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().__call__(*args, **kwargs)
            except TypeError:
                if problems := list(_misnamed(self, len(args), kwargs)):
                    raise ConfigError(problems) from None
                raise


def _misnamed(kind: type, given: int, named: Collection[str]) -> Iterator[Problem]:
    fields = inspect.signature(kind).parameters
    known = [*fields, *_grouped(fields)]
    unnamed = [name for name, field in fields.items() if field.kind is not field.KEYWORD_ONLY]
    if given > len(unnamed):
        without = f"only {', '.join(unnamed)} may stand without a name" if unnamed else "each value needs its name"
        yield Problem(kind.__name__, None, f"{without}; there are {', '.join(fields)}")
    for name in named:
        if name not in fields:
            from edgerouter.misspelt import did_you_mean

            remedy = did_you_mean(name, known) or f"there are {', '.join(fields)}"
            yield Problem(f"{kind.__name__}.{name}", None, f"no such field; {remedy}")
    for place, (name, field) in enumerate(fields.items()):
        passed = name in named or (place < given and field.kind is not field.KEYWORD_ONLY)
        if field.default is field.empty and not passed:
            example = getattr(kind, "_example", "")
            message = f"is missing, as in {example}" if example else "is missing"
            yield Problem(f"{kind.__name__}.{name}", None, message)


def _grouped(fields: Mapping[str, inspect.Parameter]) -> Iterator[str]:
    """``group.field`` of each field that is itself a value."""
    for group, field in fields.items():
        if isinstance(field.default, Value):
            yield from (f"{group}.{name}" for name in field.default.__struct_fields__)


class Value(msgspec.Struct, metaclass=_Kind, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The base of every policy value: immutable, compared by content, shown without its secrets."""

    #: The spelling to use instead of a value of another kind.
    _remedy: ClassVar[str] = ""
    #: A call with all that it needs, for messages about what is missing.
    _example: ClassVar[str] = ""
    #: A value that stands in its place by mistake is not shown: it may be the secret itself.
    _secret: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check = Check(self)
        self._check(check)
        check.done()

    def _check(self, check: Check) -> None:
        """Looks at each field; overridden by each kind of value."""


V = TypeVar("V", bound=Value)


def shown(value: object) -> str:
    """A value as it stands in a message: short, on one line."""
    import json

    try:
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001  # the class is the user's, or the number has thousands of digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def _remedy_of(kind: type) -> str:
    """The end of a message about a value that is not of that kind."""
    if not issubclass(kind, Value):
        return ""
    return f"; {kind._remedy}" if kind._remedy else f", such as {kind._example}" if kind._example else ""


class Check:
    """Collects the problems of one value."""

    __slots__ = ("_problems", "_value")

    def __init__(self, value: Value) -> None:
        self._value = value
        self._problems: list[Problem] = []

    def get(self, field: str) -> Any:
        return getattr(self._value, field)

    def keep(self, field: str, value: object) -> None:
        """Stores the checked, normalised form. A default stays the very object that the encoder leaves out."""
        if getattr(self._value, field) != value:
            msgspec.structs.force_setattr(self._value, field, value)

    def fail(self, field: str, message: str, *, value: object = ...) -> None:
        found = self.get(field.partition("[")[0]) if value is ... else value
        self._problems.append(Problem(f"{type(self._value).__name__}.{field}", shown(found), message))

    def fail_url(self, field: str, message: str) -> None:
        """A problem with a URL, which is shown unless it has a user in it, and with that perhaps a password."""
        url = self.get(field)
        if isinstance(url, str) and "@" in url:
            self.fail_secretly(field, message)
        else:
            self.fail(field, message)

    def fail_secretly(self, field: str, message: str) -> None:
        self._problems.append(Problem(f"{type(self._value).__name__}.{field}", None, message))

    def done(self) -> None:
        if self._problems:
            raise ConfigError(self._problems)

    def seconds(self, *fields: str, optional: bool = False, positive: bool = False, whole: bool = False) -> None:
        """Durations: ``int``, ``float`` or ``timedelta``, stored as a number of seconds."""
        for field in fields:
            value = self.get(field)
            if value is None and optional:
                continue
            number = value.total_seconds() if isinstance(value, timedelta) else value
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                self.fail(field, "must be seconds (int or float) or a timedelta")
            elif isinstance(number, float) and not math.isfinite(number):
                self.fail(field, "must be finite")
            elif number > MOST_SECONDS:
                self.fail(field, "is too large")
            elif positive and number <= 0:
                self.fail(field, "must be > 0 seconds")
            elif number < 0:
                self.fail(field, "must be ≥ 0 seconds")
            elif whole and number != int(number):
                self.fail(field, "must be whole seconds")
            else:
                self.keep(field, int(number) if number == int(number) else float(number))

    def whole(self, *fields: str, least: int = 0, most: int | None = None, optional: bool = False) -> None:
        for field in fields:
            value = self.get(field)
            if value is None and optional:
                continue
            if isinstance(value, str) and (field.endswith("_bytes") or field in ("size", "bytes_per_minute")):
                try:
                    value = size(value)
                except ValueError as error:
                    self.fail(field, str(error))
                    continue
                self.keep(field, value)
            if isinstance(value, bool) or not isinstance(value, int):
                self.fail(field, "must be a whole number")
            elif value < least:
                self.fail(field, f"must be ≥ {least}")
            elif most is not None and value > most:
                self.fail(field, f"must be ≤ {most}")

    def number(self, *fields: str, above: float, most: float) -> None:
        for field in fields:
            value = self.get(field)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
                self.fail(field, "must be a number")
            elif value <= above:
                self.fail(field, f"must be > {above}")
            elif value > most:
                self.fail(field, f"must be ≤ {most}")

    def flag(self, *fields: str) -> None:
        for field in fields:
            if not isinstance(self.get(field), bool):
                self.fail(field, "must be True or False")

    def text(self, *fields: str, optional: bool = False, empty: bool = False) -> None:
        for field in fields:
            value = self.get(field)
            if value is None and optional:
                continue
            if not isinstance(value, str):
                self.fail(field, "must be a string")
            elif not value and not empty:
                self.fail(field, "must not be empty")
            elif is_no_text(value):
                self.fail(field, "must be text that UTF-8 has")

    def path(self, *fields: str, optional: bool = False) -> None:
        for field in fields:
            value = self.get(field)
            if value is None and optional:
                continue
            if not isinstance(value, str) or not value.startswith("/"):
                self.fail(field, "must be a path that starts with /")

    def name(self, *fields: str) -> None:
        for field in fields:
            value = self.get(field)
            if not isinstance(value, str) or not _NAME.match(value):
                self.fail(field, "must be 1 to 64 letters, digits, - or _")

    def label(self, *fields: str) -> None:
        """Names of origins and groups: a dot is allowed, too."""
        for field in fields:
            value = self.get(field)
            if not isinstance(value, str) or not _LABEL.match(value):
                self.fail(field, "must be 1 to 64 letters, digits, -, . or _")

    def token(self, *fields: str, optional: bool = False) -> None:
        """Names of header fields and cookies."""
        for field in fields:
            value = self.get(field)
            if value is None and optional:
                continue
            if not isinstance(value, str) or not _TOKEN.match(value):
                self.fail(field, "must be a name without spaces or separators (RFC 9110 §5.6.2)")

    def choice(self, field: str, allowed: Collection[object]) -> None:
        value = self.get(field)
        if not any(value is one or (type(value) is type(one) and value == one) for one in allowed):
            self.fail(field, "must be one of " + ", ".join(str(one) for one in allowed))

    def instance(self, field: str, kind: type, *, optional: bool = False) -> None:
        """A value of that kind; a mapping of the plan's shape is made into one."""
        value = getattr(self._value, field)
        if isinstance(value, kind) or (optional and value is None):
            return
        if isinstance(value, Mapping) and issubclass(kind, Value):
            value = self.made(field, kind, value)
            if value is None:
                return
            self.keep(field, value)
        if not isinstance(value, kind):
            article = "an" if kind.__name__[0] in "AEIOU" else "a"
            remedy = _remedy_of(kind)
            fail = self.fail_secretly if issubclass(kind, Value) and kind._secret else self.fail
            fail(field, f"must be {article} {kind.__name__}" + (" or None" if optional else "") + remedy)

    def instances(self, field: str, kind: type[V], must: str) -> list[V]:
        """A collection of values of that kind, or of mappings of the plan's shape, stored as a tuple."""
        items = listed(self.get(field))
        if items is None or not all(isinstance(item, (kind, Mapping)) for item in items):
            self.fail(field, must)
            return []
        made = [
            item if isinstance(item, kind) else self.made(f"{field}[{index}]", kind, item)
            for index, item in enumerate(items)
        ]
        self.keep(field, tuple(made))
        return [item for item in made if item is not None]

    def made(self, field: str, kind: type[V], mapping: Mapping[str, Any]) -> V | None:
        """A value from a mapping of the plan's shape, unknown names refused; ``None`` after reporting why not."""
        names = _fields(kind)
        prefix = f"{type(self._value).__name__}.{field}"
        before = len(self._problems)
        for key in mapping:
            if key not in names:
                self._problems.append(Problem(f"{prefix}.{key}", None, f"is unknown; known: {', '.join(names)}"))
        for name, known in names.items():
            if known.required and name not in mapping:
                self._problems.append(Problem(f"{prefix}.{name}", None, "must be given"))
        if len(self._problems) > before:
            return None
        try:
            return kind(**{names[key].name: value for key, value in mapping.items()})
        except ConfigError as error:
            for problem in error.problems:
                self._problems.append(problem._replace(path=f"{prefix}.{problem.path.partition('.')[2]}"))
            return None

    def texts(
        self, field: str, *, optional: bool = False, test: Callable[[str], bool] | None = None, must: str = ""
    ) -> None:
        """A collection of strings, stored as a tuple; one string stands for itself."""
        value = self.get(field)
        if value is None and optional:
            return
        items = listed(value)
        if items is None:
            self.fail(field, "must be a list of strings")
            return
        for index, item in enumerate(items):
            if not isinstance(item, str) or not item:
                self.fail(f"{field}[{index}]", "must be a non-empty string", value=item)
            elif test is not None and not test(item):
                self.fail(f"{field}[{index}]", must, value=item)
        self.keep(field, tuple(items))

    def choices(self, field: str, allowed: Collection[str]) -> None:
        """A collection of some of these strings, at least one of them, or ``None``."""
        names = ", ".join(allowed)
        self.texts(field, optional=True, test=allowed.__contains__, must=f"must be one of {names}")
        value = self.get(field)
        if value is not None and not listed(value):
            self.fail(field, f"must have at least one of {names}")

    def tokens(self, field: str, *, optional: bool = False) -> None:
        self.texts(field, optional=optional, test=is_token, must="must be a name without spaces or separators")

    def statuses(self, field: str) -> None:
        """A collection of status codes, stored as a sorted tuple."""
        items = listed(self.get(field))
        if items is None:
            self.fail(field, "must be a list of status codes")
            return
        for item in items:
            if not is_status(item):
                self.fail(field, "must be status codes from 200 to 599", value=item)
                return
        self.keep(field, tuple(sorted(set(items))))

    def headers(self, field: str, *, also: type[Value] | None = None) -> None:
        """A mapping of header names to values; ``also`` is what may stand for a text."""
        value = self.get(field)
        if not isinstance(value, Mapping):
            # One of them may be a credential.
            self.fail_secretly(field, "must be a mapping of header names to values")
            return
        kept: dict[str, Any] = {}
        for name, given in value.items():
            kinds = (str,) if also is None else (str, also)
            texts = [given] if isinstance(given, kinds) else listed(given)
            if not is_token(name):
                self.fail(field, "must be a header name (RFC 9110 §5.1)", value=name)
            elif texts is None or not all(isinstance(text, kinds) for text in texts):
                self.fail_secretly(f"{field}[{name!r}]", "must be a string or a list of strings")
            elif any(c in text for text in texts if isinstance(text, str) for c in "\r\n\0"):
                self.fail_secretly(f"{field}[{name!r}]", "must not contain line breaks")
            else:
                kept[name] = given if isinstance(given, kinds) else tuple(texts)
        self.keep(field, kept)

    def pairs(self, field: str) -> None:
        """A mapping of strings to strings."""
        value = self.get(field)
        if not isinstance(value, Mapping) or not all(isinstance(i, str) for pair in value.items() for i in pair):
            self.fail(field, "must be a mapping of strings to strings")
        else:
            self.keep(field, dict(value))


@functools.cache
def _fields(kind: type[Value]) -> dict[str, msgspec.structs.FieldInfo]:
    """The fields by their names in a plan. Their types are evaluated anew at each call, which takes 0.1 ms."""
    return {known.encode_name: known for known in msgspec.structs.fields(kind)}


def listed(value: object) -> list[Any] | None:
    """The items of a collection; a lone string is one item; ``None`` for anything else."""
    if isinstance(value, (str, bytes)):
        return [value]
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return list(value)
    return None


def is_no_text(value: str) -> bool:
    """True for half of a surrogate pair, as names of files outside UTF-8 have them."""
    return not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value)


def is_token(value: object) -> bool:
    return isinstance(value, str) and _TOKEN.match(value) is not None


def is_country(text: str) -> bool:
    """True for the code of a country (ISO 3166-1); ``XX`` is none."""
    return len(text) == 2 and text.isascii() and text.isalpha() and text.upper() != "XX"


def is_status(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 200 <= value <= 599


def address_problem(address: object) -> str | None:
    """The fault of an address to listen on; ``None`` if it has none."""
    wanted = "must be HOST:PORT such as 127.0.0.1:8080 or [::]:8080"
    if not isinstance(address, str):
        return wanted
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        return wanted
    return wanted if ":" in host and not (host.startswith("[") and host.endswith("]")) else None
