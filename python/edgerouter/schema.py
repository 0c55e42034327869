"""The JSON Schema of a plan file, read off the policy structs.

Python accepts more than a file can say: a ``timedelta``, a set, a ``Path``, a mapping in place of a struct. In the
schema a duration is a number, a collection an array, and a struct an object with its fields.
"""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any, Literal

import msgspec

from edgerouter.plan import Plan

__all__ = ["document"]

Schema = dict[str, Any]
_PLAIN: dict[object, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    types.NoneType: {"type": "null"},
    Any: {},
}


def document() -> Schema:
    """The whole schema."""
    definitions: dict[str, Schema] = {}
    _of(Plan, definitions)
    root = definitions.pop("Plan")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **root,
        "title": "edgerouter plan",
        "$defs": definitions,
    }


def _of(kind: Any, definitions: dict[str, Schema]) -> Schema:
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, definitions)
    if origin is Literal:
        return {"enum": list(arguments)}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(kind, definitions)
    if origin is tuple:
        return {
            "type": "array",
            "prefixItems": [_of(item, definitions) for item in arguments],
            "minItems": len(arguments),
            "maxItems": len(arguments),
        }
    if origin is Collection:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    raise TypeError(f"no schema for {kind!r}")


def _union(arguments: tuple[Any, ...], definitions: dict[str, Schema]) -> Schema:
    struct = any(isinstance(item, type) and issubclass(item, msgspec.Struct) for item in arguments)
    kept = [
        item
        for item in arguments
        if item is not timedelta
        and not (struct and typing.get_origin(item) is Mapping)
        and not (item is int and float in arguments)
        and typing.get_origin(item) not in (os.PathLike, Callable)
    ]
    found = [_of(item, definitions) for item in kept]
    return found[0] if len(found) == 1 else {"anyOf": found}


def _struct(kind: type[msgspec.Struct], definitions: dict[str, Schema]) -> Schema:
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}
        hints = typing.get_type_hints(kind)
        fields = msgspec.structs.fields(kind)
        properties = {}
        for field in fields:
            properties[field.encode_name] = _of(hints[field.name], definitions)
            if field.default is None or isinstance(field.default, (bool, int, float, str)):
                properties[field.encode_name]["default"] = field.default
        definitions[name] = {
            "title": name,
            "type": "object",
            "description": (kind.__doc__ or "").partition("\n")[0],
            "properties": properties,
            "required": [field.encode_name for field in fields if field.required],
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}
