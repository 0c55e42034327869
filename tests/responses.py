"""How the edge says that it answered: ``Cache-Status`` (RFC 9211)."""

from __future__ import annotations

import httpx


def status_of(response: httpx.Response) -> str:
    return str(response.headers.get("cache-status", ""))


def is_hit(response: httpx.Response) -> bool:
    return "; hit" in response.headers["cache-status"]
