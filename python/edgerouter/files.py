"""Folders whose files a route serves.

A folder is looked at when the plan is compiled, and at every reload: one that is not there becomes a problem of the
plan, reported at its path. The files themselves are the engine's, which opens them for each request.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from edgerouter.checks import Check, Value, shown
from edgerouter.errors import ConfigError, Problem

__all__ = ["Files"]

_LONGEST = 255


class _Folder(Value, frozen=True):
    folder: str | os.PathLike[str]


class Files(_Folder, frozen=True, kw_only=True):
    """The files of a folder, for GET and HEAD; see ``Edge.files``. Hidden files (``.name``) are never served.

    ``folder``  a relative path is relative to the folder of the file that declares the route, Python or plan
    ``index``  the file that answers for a folder; ``None``: no file does
    ``fallback``  for single-page sites: the file of the folder that answers a navigation to a path without a file
    ``precompressed``  a file beside a file, with the same name and ``.br``, ``.zst`` or ``.gz``, is sent in its place
        to clients that accept that coding, unless it is older
    ``listing``  a folder without an index file is answered with the list of its files
    ``immutable``  the names of files whose content never changes, with ``*`` and ``?``: browsers keep them for a year
        without a question. ``*.????????.*`` is for bundlers that put a hash of eight characters into the name; it also
        matches ``app.settings.js``
    """

    index: str | None = "index.html"
    fallback: str | None = None
    precompressed: bool = True
    listing: bool = False
    immutable: str | None = None

    def _check(self, check: Check) -> None:
        if isinstance(self.folder, os.PathLike):
            check.keep("folder", os.fspath(self.folder))
        check.text("folder")
        if isinstance(self.folder, str) and "\0" in self.folder:
            check.fail("folder", "must not contain a null character")
        check.text("index", "fallback", "immutable", optional=True)
        if isinstance(self.index, str) and not _servable(self.index, nested=False):
            check.fail("index", 'must be the name of a file as in "index.html", not hidden and without "/"')
        if isinstance(self.fallback, str) and not _servable(self.fallback, nested=True):
            check.fail(
                "fallback", 'must be a file in the folder as in "index.html", not hidden, without "/" at its start'
            )
        if isinstance(self.immutable, str) and "/" in self.immutable:
            check.fail("immutable", 'is compared with the name of a file, so it can have no "/"')
        check.flag("precompressed", "listing")


def _servable(names: str, *, nested: bool) -> bool:
    if "/" in names and not nested:
        return False
    return all(
        name and name.isprintable() and len(name.encode()) <= _LONGEST and (name[0] != "." or name == ".well-known")
        for name in names.split("/")
    )


def pattern(prefix: str) -> tuple[str, str | None]:
    """The patterns of a folder's routes: of the paths below the prefix, and of the prefix itself if it has a name."""
    if any(mark in prefix for mark in "*?{") or "/" not in prefix:
        message = 'must be the path of the folder such as "/assets" or "/", without * and parameters'
        raise ConfigError([Problem("files.prefix", shown(prefix), message)])
    name = prefix.rstrip("/")
    return f"{name}/*", name if "/" in name else None


def located(files: Files, folder: Path, declaring: Path | None) -> Files:
    """The same with an absolute folder, which must not hold the file that declares it."""
    given = os.fspath(files.folder)
    # Links in it stay: one that is switched to another folder is followed from then on.
    whole = folder / given
    # Not ``Path.resolve``, which raises for links that lead to one another; such a folder is refused with the others.
    if declaring is not None and declaring.is_relative_to(os.path.realpath(whole)):
        message = f"holds {declaring.name}, whose text would be served: give it a folder of its own"
        raise ConfigError([Problem("Files.folder", shown(given), message)])
    fields = {name: getattr(files, name) for name in files.__struct_fields__}
    return Files(**{**fields, "folder": str(whole)})


def rebase(plan: MutableMapping[str, Any], folder: Path) -> None:
    """Makes the relative folders of a plan file relative to ``folder``."""
    for files in _places(plan):
        files["folder"] = str(folder / files["folder"])


def resolve(plan: MutableMapping[str, Any]) -> None:
    """Looks at every folder of a plan's data; one that cannot be served gains a ``problem``, which is reported."""
    seen: set[str] = set()
    for files in _places(plan):
        folder = files["folder"]
        if folder in seen:
            continue
        seen.add(folder)
        try:
            os.scandir(folder).close()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            files["problem"] = f"cannot be opened: {why}; a relative path starts at the folder of the declaring file"


def _places(plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The folders of a plan. Anything of another shape is left for the compiler to refuse."""
    routes = plan.get("routes")
    for route in routes if isinstance(routes, (list, tuple)) else ():
        files = route.get("files") if isinstance(route, dict) else None
        if isinstance(files, dict) and isinstance(files.get("folder"), str) and files["folder"]:
            yield files
