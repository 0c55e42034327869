"""Edits of HTML that hooks of the response phases make while a page streams: ``response.edit_html(HtmlEdit(…))``."""

from __future__ import annotations

import html as entities
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from edgerouter.errors import ConfigError, Problem

if TYPE_CHECKING:
    from edgerouter._core import Response

__all__ = ["HtmlEdit", "editing"]

log = logging.getLogger("edgerouter.functions")

_CONTENTS = ("before", "after", "prepend", "append", "inner", "replace")
#: Of these an element has one at most, and those in the first group are lost beside those in the second.
_INSIDE = ("prepend", "append", "inner")
_GONE = ("replace", "remove")
#: Bytes of a page that are edited at a time.
_STEP = 16 << 10
#: Characters of one content, and of an attribute's value: each element may get it.
_MOST = 64 << 10

AttributeValue = str | Callable[[str | None], str | None] | None
Pieces = AsyncIterator[bytes]
#: A selector; operations with their content and whether that is HTML; attributes with their values.
Edits = tuple[str, list[tuple[str, str, bool]], list[tuple[str, AttributeValue]]]


class HtmlEdit(msgspec.Struct, frozen=True):
    """Edits of each element that a CSS selector matches.

    ``selector``  of CSS: type, class, id, attributes, ``>``, ``:nth-child``, ``:not`` and the like
    ``before``, ``after``  content beside the element
    ``prepend``, ``append``  content at its beginning and at its end
    ``inner``, ``replace``  content in the place of its own, and in the place of the element
    ``remove``, ``unwrap``  the element goes with its content, or without it
    ``attributes``  values by name; ``None`` removes one; a function gets the value, or ``None``, and gives the new one
    ``html``  the contents are HTML, and not text, which is escaped; values of attributes are always text

    Raises ``ConfigError`` for a selector or name that cannot be read, and for edits that would do nothing.
    """

    selector: str
    before: str | None = None
    after: str | None = None
    prepend: str | None = None
    append: str | None = None
    inner: str | None = None
    replace: str | None = None
    remove: bool = False
    unwrap: bool = False
    attributes: Mapping[str, AttributeValue] = {}
    html: bool = False

    def __post_init__(self) -> None:
        from edgerouter._core import check_edit

        problems = []
        for name in _CONTENTS:
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, str):
                problems.append(Problem(f"HtmlEdit.{name}", repr(value), "must be text or None"))
            elif len(value) > _MOST:
                problems.append(Problem(f"HtmlEdit.{name}", f"{len(value)} characters", f"must have at most {_MOST}"))
        problems += [
            Problem(f"HtmlEdit.{name}", repr(getattr(self, name)), "must be True or False")
            for name in ("remove", "unwrap", "html")
            if not isinstance(getattr(self, name), bool)
        ]
        if not isinstance(self.attributes, Mapping):
            problems.append(Problem("HtmlEdit.attributes", repr(self.attributes), "must be values by name"))
        given = [name for name in (*_CONTENTS, "remove", "unwrap") if getattr(self, name) not in (None, False)]
        if not given and not self.attributes:
            problems.append(Problem("HtmlEdit", None, "does nothing: name an edit, such as append= or remove=True"))
        if len(ends := [name for name in given if name in (*_GONE, "unwrap")]) > 1:
            problems.append(Problem(f"HtmlEdit.{ends[1]}", None, f"cannot be together with {ends[0]}: leave one out"))
        if gone := [name for name in given if name in _GONE]:
            lost = [name for name in given if name in _INSIDE] + ["attributes"] * bool(self.attributes)
            message = f"is lost with the element, by {gone[0]}: leave one of them out"
            problems += [Problem(f"HtmlEdit.{name}", None, message) for name in lost]
        if problems:
            raise ConfigError(problems)
        try:
            check_edit(self.parts())
        except (ValueError, TypeError) as error:
            raise ConfigError([Problem("HtmlEdit", None, str(error))]) from None

    def parts(self) -> Edits:
        """As the rewriter takes it."""
        given = [(name, content, self.html) for name in _CONTENTS if (content := getattr(self, name)) is not None]
        given += [(name, "", True) for name in ("remove", "unwrap") if getattr(self, name)]
        return self.selector, given, [(name, _value(name, value)) for name, value in self.attributes.items()]


def _value(name: str, value: AttributeValue) -> str | Callable[[str | None], str | None] | None:
    """A value as it stands in a page, or a function that gives one."""
    if callable(value):

        def changed(raw: str | None) -> str | None:
            new = value(None if raw is None else entities.unescape(raw))
            return _value(name, new) if new is None or isinstance(new, str) else new  # type: ignore[return-value]

        return changed
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"attributes[{name!r}]: {value!r}: must be text, None or a function")
    if len(value) > _MOST:
        raise ValueError(f"attributes[{name!r}]: {len(value)} characters: must have at most {_MOST}")
    return value.replace("&", "&amp;")


def editing(response: Response, edits: tuple[HtmlEdit, ...]) -> Callable[[Pieces], Pieces] | None:
    """The transform that makes the edits; ``None`` for a response that is no HTML."""
    from edgerouter._core import HtmlRewriter
    from edgerouter.functions.transforms import charset_of

    for edit in edits:
        if not isinstance(edit, HtmlEdit):
            raise TypeError(f"edit_html takes HtmlEdit values, not {type(edit).__name__}")
    if not edits:
        raise TypeError("edit_html takes at least one HtmlEdit")
    kind = (response.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if kind not in ("text/html", "application/xhtml+xml"):
        return None
    try:
        rewriter = HtmlRewriter([edit.parts() for edit in edits], charset_of(response))
    except LookupError as error:
        log.warning("a page passes its edits as it is: %s", error)
        return None

    async def edited(pieces: Pieces) -> Pieces:
        async for piece in pieces:
            for at in range(0, len(piece), _STEP):
                if found := rewriter.feed(piece[at : at + _STEP]):
                    yield found
        if found := rewriter.end():
            yield found

    return edited
