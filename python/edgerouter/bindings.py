"""Bindings: data that functions find by a name on ``ctx.env``. The engines that keep it are Rust's."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from edgerouter.cache import Duration
from edgerouter.checks import Check, Value, listed
from edgerouter.errors import BindingError
from edgerouter.secrets import Secret, as_secret

__all__ = ["Binding", "guard_files"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
#: The longest time that a read may be answered without the file or server.
_DAY = 86_400


class _Named(Value, frozen=True):
    name: str
    kind: Literal["kv", "database", "documents"]
    url: Secret | str


class Binding(_Named, frozen=True, kw_only=True):
    """Data that functions are bound to; ``Edge.kv``, ``Edge.database`` and ``Edge.documents`` have the other fields.

    ``kind``  the operations that it has: ``"kv"``, ``"database"`` or ``"documents"``
    """

    staleness: Duration = 0
    replicas: Collection[Secret | str] = ()
    bookmark_key: Secret | str | None = None
    auth_token: Secret | str | None = None

    def _check(self, check: Check) -> None:
        if not isinstance(self.name, str) or not _NAME.match(self.name):
            check.fail("name", 'must be a name for ctx.env: a letter, then letters, digits and "_", 64 at most')
        check.choice("kind", ("kv", "database", "documents"))
        if isinstance(self.url, str) and self.url:
            # It may hold a password.
            check.keep("url", as_secret(self.url))
        if not isinstance(self.url, Secret):
            check.fail_secretly("url", 'must be a URL such as "sqlite:kv.db", or a secret such as env("KV_URL")')
        replicas = listed(self.replicas)
        if replicas is None or not all(isinstance(url, Secret) or (isinstance(url, str) and url) for url in replicas):
            check.fail_secretly("replicas", 'must be a list of URLs, or secrets such as [env("REPLICA_URL")]')
        else:
            check.keep("replicas", tuple(as_secret(url) for url in replicas))
        for field in ("bookmark_key", "auth_token"):
            secret = getattr(self, field)
            if isinstance(secret, str) and secret:
                check.keep(field, as_secret(secret))
            elif not isinstance(secret, (Secret, type(None))):
                check.fail_secretly(field, f'must be a secret such as env("{field.upper()}")')
        check.seconds("staleness")
        if isinstance(self.staleness, (int, float)) and self.staleness > _DAY:
            check.fail("staleness", f"must be ≤ {_DAY} seconds")


def guard_files(plan: Mapping[str, Any]) -> None:
    """Has Python's ``sqlite3`` refuse files that a binding of this process has open, once there is a binding.

    The module brings its own copy of SQLite. When a copy closes a file, the system drops all locks of the process on
    it, also those of the other copy, and two writers may then destroy the file.
    """
    global _guarded
    if not _guarded and plan.get("bindings"):
        _guarded = True
        sys.addaudithook(_refuse_bound_file)


_guarded = False


def _refuse_bound_file(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "sqlite3.connect":
        return
    from edgerouter import _core

    name = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, os.PathLike)) else ""
    if name.startswith("file:"):
        from urllib.parse import unquote, urlsplit

        name = unquote(urlsplit(name).path)
    try:
        about = Path(name).stat()
    except (OSError, ValueError):
        return
    if _core.is_bound_file(about.st_dev, about.st_ino):
        raise BindingError(
            f"{name} is open as a binding: use ctx.env, or another process. Two copies of SQLite in one process drop "
            "each other's locks"
        )
