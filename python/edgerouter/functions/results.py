"""The values that a function may return beside responses: what JSON can hold by way of its class."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["is_data", "plain"]


def is_data(value: Any) -> bool:
    """True for a dataclass, a msgspec struct and a pydantic model."""
    kind = type(value)
    return (
        dataclasses.is_dataclass(kind)
        or hasattr(kind, "__struct_fields__")
        or callable(getattr(kind, "model_dump", None))
    )


def plain(value: Any) -> Any:
    """A pydantic model as plain values, for encoders that do not know it."""
    if callable(getattr(type(value), "model_dump", None)):
        return value.model_dump(mode="json")
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
