"""A plan's data for people who look at it: as it was declared, without secrets."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from edgerouter.secrets import places

__all__ = ["shown"]

HIDDEN = "…"
#: The largest data that are shown; larger ones are replaced by a note.
MOST_BYTES = 4 << 20


def shown(plan: Mapping[str, Any]) -> bytes:
    """The data as JSON. Secrets are named by their variable or file, and values that may hold one are left out."""
    data = copy.deepcopy(dict(plan))
    for holder, field in places(data):
        holder[field] = _named(holder[field])
    for origin in _dicts(data.get("origins")):
        _hide_values(origin, "headers")
        _without_password(origin, "url")
    for route in _dicts(data.get("routes")):
        policy = route.get("headers")
        request = policy.get("request") if isinstance(policy, dict) else None
        if isinstance(request, dict):
            for field in ("set", "add"):
                _hide_values(request, field)
    for binding in _dicts(data.get("bindings")):
        _without_password(binding, "url")
        for field in ("bookmark_key", "auth_token"):
            if isinstance(binding.get(field), str):
                binding[field] = HIDDEN
        replicas = binding.get("replicas")
        if isinstance(replicas, list):
            for at in range(len(replicas)):
                _without_password(replicas, at)
    encoded = msgspec.json.encode(data)
    if len(encoded) > MOST_BYTES:
        return msgspec.json.encode({"note": f"the data have {len(encoded):,} bytes, and are not shown"})
    return encoded


def _named(secret: Mapping[str, Any]) -> dict[str, str]:
    named = {kind: secret[kind] for kind in ("env", "file") if isinstance(secret.get(kind), str)}
    return named or {"value": HIDDEN}


def _hide_values(holder: dict[str, Any], field: str) -> None:
    """Hides the values of fields that an origin gets; their names stay."""
    if holder.get(field):
        holder[field] = _hidden(holder[field])


def _hidden(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _hidden(inner) if not _is_reference(inner) else inner for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(inner) for inner in value]
    return HIDDEN if isinstance(value, str) else value


def _is_reference(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and set(value) <= {"env", "file"}


def _without_password(holder: Any, field: str | int) -> None:
    try:
        url = holder[field]
    except LookupError:
        return
    if not isinstance(url, str):
        return
    try:
        parts = urlsplit(url)
        is_plain = "@" not in parts.netloc and not parts.query
    except ValueError:
        is_plain = False
    if not is_plain:
        holder[field] = HIDDEN


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, (list, tuple)) else []
