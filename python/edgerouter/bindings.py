"""Bindings: data that functions find by a name on ``ctx.env``. The engines that keep it are Rust's."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgerouter.arguments import helpful
from edgerouter.cache import Duration
from edgerouter.checks import Check, Value, listed
from edgerouter.encoding import encoded
from edgerouter.errors import BindingError, ConfigError
from edgerouter.secrets import Secret, as_secret, part
from edgerouter.secrets import keep as keep_secret

if TYPE_CHECKING:
    from edgerouter import _core
    from edgerouter.declarations import Declarations

__all__ = ["Binding", "Data", "guard_files"]

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
            keep_secret(check, "url", self.url)
        elif not isinstance(self.url, Secret):
            check.fail_secretly("url", 'must be a URL such as "sqlite:kv.db", or a secret such as env("KV_URL")')
        replicas = listed(self.replicas)
        if replicas is None or not all(isinstance(url, Secret) or (isinstance(url, str) and url) for url in replicas):
            check.fail_secretly("replicas", 'must be a list of URLs, or secrets such as [env("REPLICA_URL")]')
        else:
            secrets = [part(check, f"replicas[{at}]", partial(as_secret, url)) for at, url in enumerate(replicas)]
            check.keep("replicas", tuple(secrets))
        for field in ("bookmark_key", "auth_token"):
            secret = getattr(self, field)
            if isinstance(secret, str) and secret:
                keep_secret(check, field, secret)
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


class Data:
    """The data that an ``Edge`` declares for its functions."""

    _declared: Declarations

    @helpful
    def kv(self, name: str, url: Secret | str = "sqlite:kv.db", *, staleness: Duration = 0) -> Binding:
        """Binds a key-value store to ``ctx.env``: ``edge.kv("CARTS", "redis://cache.internal/0")``.

        ``name``  the attribute of ``ctx.env``
        ``url``  ``memory:`` for this process only; ``sqlite:FILE``, which is made when it is not there (a relative path
            starts at the current directory); a Redis server, ``redis://`` or ``rediss://`` with TLS, with a password:
            ``env("KV_URL")``; or a table of DynamoDB, ``dynamodb://TABLE``
        ``staleness``  seconds for which a read may be answered from this process, where others may have changed the
            entry; changes made through this edge are seen at once. 0: never
        """
        return self._bind(Binding(name, "kv", url, staleness=staleness))

    @helpful
    def database(
        self,
        name: str,
        url: Secret | str = "sqlite:app.db",
        *,
        replicas: Collection[Secret | str] = (),
        staleness: Duration | None = None,
        bookmark_key: Secret | str | None = None,
        auth_token: Secret | str | None = None,
    ) -> Binding:
        """Binds a SQL database to ``ctx.env``: ``edge.database("DB", "sqlite:app.db")``.

        ``name``  the attribute of ``ctx.env``
        ``url``  ``sqlite:FILE``, which is made when it is not there; a relative path starts at the current directory;
        ``postgresql://USER:PASSWORD@HOST/DATABASE``; ``mysql://USER:PASSWORD@HOST/DATABASE``, also for MariaDB;
        ``libsql://HOST`` of Turso. A URL with a password is best given as ``env("DATABASE_URL")``
        ``replicas``  URLs of up to 8 servers that follow this one, of PostgreSQL or MariaDB: the nearest answers reads
        ``staleness``  seconds by which a replica may be behind and still answer; 10 unless you say otherwise
        ``bookmark_key``  a secret of at least 32 bytes that authenticates the bookmarks of sessions. Give the same to
            all edges of a site; by default each process draws its own
        ``auth_token``  of a libSQL server, as in ``env("TURSO_AUTH_TOKEN")``
        """
        if staleness is None:
            staleness = 10 if replicas else 0
        binding = Binding(
            name,
            "database",
            url,
            staleness=staleness,
            replicas=replicas,
            bookmark_key=bookmark_key,
            auth_token=auth_token,
        )
        return self._bind(binding)

    @helpful
    def documents(self, name: str, url: Secret | str = "sqlite:documents.db") -> Binding:
        """Binds a collection of documents to ``ctx.env``: ``edge.documents("CARTS", env("DATABASE_URL"))``.

        ``name``  the attribute of ``ctx.env``, and a part of the name of the table or the keys
        ``url``  ``sqlite:FILE``, which is made when it is not there, ``postgresql://USER:PASSWORD@HOST/DATABASE``, or
            ``redis://HOST:PORT/DATABASE`` for a server that keeps JSON
        """
        return self._bind(Binding(name, "documents", url))

    def _bind(self, binding: Binding) -> Binding:
        self._declared.note("bindings")
        self._declared.bindings.append(binding)
        return binding

    @contextmanager
    def bindings(self, timeout: float | None = None) -> Iterator[_core.Env]:
        """The bindings without serving, for programs and tests: ``with edge.bindings() as env: env.DB.exec(...)``.

        ``timeout``  seconds for one operation; ``None``: ``limits.data.timeout``
        """
        from edgerouter import _core

        data = self._declared.data()
        if timeout is not None:
            limits = data.get("limits") or {}
            data["limits"] = {**limits, "data": {**limits.get("data", {}), "timeout": timeout}}
        try:
            opened = _core.Bindings(encoded(data))
        except ConfigError as error:
            raise self._declared.places.placed(error) from None
        guard_files(self._declared.data())
        try:
            yield opened.env
        finally:
            opened.close()
