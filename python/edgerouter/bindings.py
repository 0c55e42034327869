"""Bindings: data that functions find by a name on ``ctx.env``. The engines that keep it are Rust's."""

from __future__ import annotations

import re
from typing import Literal

from edgerouter.cache import Duration
from edgerouter.checks import Check, Value
from edgerouter.secrets import Secret, as_secret

__all__ = ["Binding"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")
#: The longest time that a read may be answered without the file or server.
_DAY = 86_400


class _Named(Value, frozen=True):
    name: str
    kind: Literal["kv"]
    url: Secret | str


class Binding(_Named, frozen=True, kw_only=True):
    """Data that functions are bound to; see ``Edge.kv`` for what the other fields mean.

    ``kind``  the operations that it has: ``"kv"``
    """

    staleness: Duration = 0

    def _check(self, check: Check) -> None:
        if not isinstance(self.name, str) or not _NAME.match(self.name):
            check.fail("name", 'must be a name for ctx.env: a letter, then letters, digits and "_", 64 at most')
        check.choice("kind", ("kv",))
        if isinstance(self.url, str) and self.url:
            # It may hold a password.
            check.keep("url", as_secret(self.url))
        if not isinstance(self.url, Secret):
            check.fail_secretly("url", 'must be a URL such as "sqlite:kv.db", or a secret such as env("KV_URL")')
        check.seconds("staleness")
        if isinstance(self.staleness, (int, float)) and self.staleness > _DAY:
            check.fail("staleness", f"must be ≤ {_DAY} seconds")
