"""Servers of nginx in plain text that send browsers to a server with TLS.

Routes answer on all listeners, so such a server becomes ``viewer="redirect-to-https"`` of the routes of the other: as
routes of its own its redirects would answer over TLS, too, and lead to themselves.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from edgerouter.importing.nginx_directives import Directive

__all__ = ["Upgrade", "upgrade"]

_CHALLENGES = "/.well-known/acme-challenge"
_REQUESTED = r"(?:\$request_uri|\$uri(?:\$is_args\$args)?)"


class Upgrade(NamedTuple):
    """The hosts of a server in plain text that sends browsers to https, and the rest of its answers.

    ``names``  those of its hosts that have a server with TLS; empty: all
    ``rest``  the others, which it redirects to another host
    ``challenges``  its locations for challenges of ACME, which stay in plain text
    """

    names: list[str]
    rest: list[str]
    challenges: list[Directive]


def upgrade(server: Directive, names: list[str], secure: Collection[str]) -> Upgrade | None:
    """The upgrade that a server in plain text with these names is; ``None`` if it does anything else.

    ``secure``  the hosts that have a server with TLS
    """
    challenges, whole, conditions = [], [], []
    for inner in server.block or ():
        if inner.name == "location":
            path = inner.args[-1] if inner.args else ""
            if path.startswith(_CHALLENGES):
                challenges.append(inner)
            elif inner.args == ["/"] and (returned := _only_return(inner)) is not None:
                whole.append(returned)
            else:
                return None
        elif inner.name == "return":
            # It comes before all locations.
            whole, challenges = [inner], []
            break
        elif inner.name == "if":
            conditions.append(inner)
    if len(whole) != 1 or not secure:
        return None
    if conditions:
        # As Certbot writes it: each host by a condition, and 404 for others.
        hosts = {_host_of(condition) for condition in conditions}
        known = bool(names) and set(names) <= hosts and set(names) <= set(secure)
        return Upgrade(names, [], challenges) if known and whole[0].args[:1] in (["404"], ["444"]) else None
    target = whole[0].args[-1] if whole[0].args else ""
    if re.fullmatch(rf"https://(\$host|\$server_name|\$http_host){_REQUESTED}", target):
        return Upgrade(names, [], challenges) if not names or set(names) & set(secure) else None
    fixed = re.fullmatch(rf"https://([A-Za-z0-9.-]+){_REQUESTED}", target)
    if fixed is None or fixed[1].lower() not in secure:
        return None
    rest = [name for name in names if name not in secure]
    return (
        Upgrade([name for name in names if name in secure], rest, challenges)
        if len(rest) < len(names) or not names
        else None
    )


def _host_of(condition: Directive) -> str | None:
    """The host that a condition sends to itself with https."""
    found = re.fullmatch(r"\$host = ([A-Za-z0-9.-]+)", condition.text)
    returned = _only_return(condition)
    if found is None or returned is None or not returned.args:
        return None
    target = re.fullmatch(rf"https://(\$host|{re.escape(found[1])}){_REQUESTED}", returned.args[-1])
    return found[1].lower() if target else None


def _only_return(block: Directive) -> Directive | None:
    """The ``return`` of a block, if that is all."""
    inside = block.block or []
    return inside[0] if len(inside) == 1 and inside[0].name == "return" else None
