"""The plan's data as the one message that the core decodes. Whatever the data refers to is read now."""

from __future__ import annotations

from typing import Any

import msgspec

from edgerouter import error_pages, files, secrets, tracing
from edgerouter.errors import ConfigError

__all__ = ["encoded"]


def encoded(data: dict[str, Any]) -> bytes:
    """The message. It has the secrets in it: keep it out of logs."""
    tracing.resolve(data)
    secrets.resolve(data)
    error_pages.resolve(data)
    files.resolve(data)
    try:
        return msgspec.json.encode(data)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the plan cannot be written as JSON: {error}") from None
