"""A file in MaxMind's format that says where the addresses of a test are, as ``Edge.geo`` reads one.

The format is that of MaxMind DB 2.0: a binary tree over addresses of 128 bits, in which those of IPv4 are below
``::/96``, and behind it the records that its leaves point to.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any

__all__ = ["file_of"]

_MARK = b"\xab\xcd\xefMaxMind.com"
_BETWEEN = bytes(16)
_NAMES = ("country", "region", "city", "latitude", "longitude", "time_zone", "asn", "eu")


def file_of(places: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The file of addresses, or networks, and the facts about each; ``ValueError`` for what is no place."""
    # A leaf is negative: the number of its record and one more; ``None`` is no place.
    tree: list[list[int | None]] = [[None, None]]
    records = bytearray()
    at = []
    for network, facts in sorted(places.items(), key=lambda place: _network(place[0])[1]):
        bits, length = _network(network)
        at.append(len(records))
        records += _encoded(_record(network, facts))
        node = 0
        if length == 0:
            tree[0] = [-len(at), -len(at)]
        for place in range(length):
            side = bits >> (127 - place) & 1
            below = tree[node][side]
            if place == length - 1:
                tree[node][side] = -len(at)
            elif below is None or below < 0:
                # The network around it has the rest.
                tree.append([below, below])
                tree[node][side] = node = len(tree) - 1
            else:
                node = below
    count = len(tree)

    def record(value: int | None) -> int:
        if value is None:
            return count
        return value if value >= 0 else count + len(_BETWEEN) + at[-value - 1]

    nodes = b"".join(struct.pack(">II", *map(record, node)) for node in tree)
    about: dict[str, Any] = {
        "node_count": count,
        "record_size": _short(32),
        "ip_version": _short(6),
        "database_type": "Test-City",
        "languages": ["en"],
        "binary_format_major_version": _short(2),
        "binary_format_minor_version": _short(0),
        "build_epoch": bytes([8, 2]) + (1).to_bytes(8, "big"),
        "description": {"en": "places of a test"},
    }
    return nodes + _BETWEEN + bytes(records) + _MARK + _encoded(about)


def _network(text: str) -> tuple[int, int]:
    """The first bits of the addresses of a network, and their number."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        message = f"Client.places: {text!r} must be an address or a network, such as 203.0.113.7 or 203.0.113.0/24"
        raise ValueError(message) from None
    if network.version == 4:
        return int(network.network_address), network.prefixlen + 96
    return int(network.network_address), network.prefixlen


def _record(network: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts in the layout of MaxMind's databases."""
    if unknown := [name for name in facts if name not in _NAMES]:
        raise ValueError(f"Client.places[{network!r}]: {unknown[0]!r} must be one of {', '.join(_NAMES)}")
    record: dict[str, Any] = {
        "country": {"iso_code": facts.get("country"), "is_in_european_union": facts.get("eu")},
        "city": {"names": {"en": facts.get("city")}},
        "location": {
            "latitude": _degrees(facts.get("latitude")),
            "longitude": _degrees(facts.get("longitude")),
            "time_zone": facts.get("time_zone"),
        },
        "autonomous_system_number": facts.get("asn"),
    }
    if facts.get("region") is not None:
        record["subdivisions"] = [{"iso_code": facts["region"]}]
    return record


def _degrees(value: float | None) -> float | None:
    return None if value is None else float(value)


def _short(value: int) -> bytes:
    """A number of 16 bits."""
    return _head(5, 2) + value.to_bytes(2, "big")


def _encoded(value: Any) -> bytes:
    """A value of the data section; bytes are one already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return bytes([int(value), 7])
    if isinstance(value, str):
        return _head(2, len(value.encode())) + value.encode()
    if isinstance(value, float):
        return _head(3, 8) + struct.pack(">d", value)
    if isinstance(value, int):
        return _head(6, 4) + value.to_bytes(4, "big")
    if isinstance(value, list):
        return bytes([len(value), 4]) + b"".join(map(_encoded, value))
    if isinstance(value, dict):
        known = {name: one for name, one in value.items() if one is not None}
        return _head(7, len(known)) + b"".join(_encoded(name) + _encoded(one) for name, one in known.items())
    raise ValueError(f"Client.places: {value!r} is no fact about a place")


def _head(kind: int, size: int) -> bytes:
    if size < 29:
        return bytes([kind << 5 | size])
    if size < 285:
        return bytes([kind << 5 | 29, size - 29])
    return bytes([kind << 5 | 30]) + (size - 285).to_bytes(2, "big")
