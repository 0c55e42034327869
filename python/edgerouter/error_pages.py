"""Error pages that the edge holds itself, so that no origin is needed for them.

A page in a file is read when the plan is compiled, and at every reload, so a worker never waits for a disk. A file
that cannot be used becomes a problem of the plan, reported at its path like any other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from edgerouter import regular
from edgerouter.checks import Check, Value

__all__ = ["ErrorPage"]

_LARGEST = 1 << 20


class ErrorPage(Value, frozen=True, kw_only=True):
    """A page of ``errors=`` that the edge holds itself: a file, or text. It is sent whatever the origin does.

    ``file``  a file of at most 1 MiB, read at the start and at every reload. A relative path is relative to the folder
        of the file that declares the route, Python or plan
    ``body``  the page itself, of at most 1 MiB, sent as UTF-8
    ``content_type``  ``None``: by the file's name; of a text ``text/html`` if it begins with ``<``, or ``text/plain``
    """

    file: str | os.PathLike[str] | None = None
    body: str | None = None
    content_type: str | None = None

    def _check(self, check: Check) -> None:
        if isinstance(self.file, os.PathLike):
            check.keep("file", os.fspath(self.file))
        check.text("file", "content_type", optional=True)
        check.text("body", optional=True, empty=True)
        if (self.file is None) == (self.body is None):
            check.fail_secretly("file", "must be given, or body: exactly one")


def located(errors: Mapping[Any, Any], folder: Path) -> Mapping[Any, Any]:
    """The same pages, relative files starting at ``folder``; what has another shape stays for the check."""
    if not isinstance(errors, Mapping):
        return errors
    return {status: _located(page, folder) for status, page in errors.items()}


def _located(page: Any, folder: Path) -> Any:
    fields = {name: getattr(page, name) for name in page.__struct_fields__} if isinstance(page, ErrorPage) else page
    if not isinstance(fields, Mapping) or not isinstance(fields.get("file"), (str, os.PathLike)):
        return page
    file = os.fspath(fields["file"])
    if not isinstance(file, str) or not file:
        return page
    moved = {**fields, "file": str(folder / file)}
    return ErrorPage(**moved) if isinstance(page, ErrorPage) else moved


def rebase(plan: MutableMapping[str, Any], folder: Path) -> None:
    """Makes the relative files of a plan file relative to ``folder``."""
    for errors, status in _places(plan):
        errors[status] = _located(errors[status], folder)


def files(plan: Mapping[str, Any]) -> set[Path]:
    """The files of a plan's pages."""
    return {Path(errors[status]["file"]) for errors, status in _places(plan)}


def resolve(plan: MutableMapping[str, Any]) -> None:
    """Reads every page of a plan's data in place; one that cannot be used gains a ``problem``, which is reported."""
    known: dict[tuple[str, object], dict[str, Any]] = {}
    for errors, status in _places(plan):
        page = errors[status]
        key = (page["file"], page.get("content_type"))
        if key not in known:
            known[key] = _read(page["file"], page.get("content_type"))
        if "problem" in known[key]:
            errors[status] = {**page, **known[key]}
        else:
            errors[status] = {**{name: page[name] for name in page if name != "file"}, **known[key]}


def _places(plan: Mapping[str, Any]) -> Iterator[tuple[dict[Any, Any], Any]]:
    """The places of a plan with pages in files. Anything of another shape is left for the compiler to refuse."""
    routes = plan.get("routes")
    for route in routes if isinstance(routes, (list, tuple)) else ():
        errors: Any = route.get("errors") if isinstance(route, dict) else None
        for status, page in list(errors.items()) if isinstance(errors, dict) else ():
            if isinstance(page, dict) and isinstance(page.get("file"), str) and "body" not in page:
                yield errors, status


def _read(name: str, content_type: object) -> dict[str, Any]:
    import base64
    import mimetypes

    try:
        with regular.opened(name) as file:
            data = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        return {"problem": f"cannot be read: {why}; a relative path starts at the folder of the file that declares it"}
    if len(data) > _LARGEST:
        return {"problem": f"is larger than {_LARGEST} bytes; make the page smaller"}
    try:
        carried = {"body": data.decode()}
    except UnicodeDecodeError:
        carried = {"base64": base64.b64encode(data).decode()}
    if content_type is not None:
        return carried
    guessed, encoding = mimetypes.guess_type(Path(name).name)
    if guessed is None or encoding is not None:
        return {"problem": "has a name that does not tell its media type; give content_type"}
    if "body" in carried and guessed.startswith("text/"):
        guessed += "; charset=utf-8"
    return {**carried, "content_type": guessed}
