"""Failures after the response, as work of ``wait_until`` that names the part of the call that has failed."""

from __future__ import annotations

__all__ = ["LateError", "raising"]


class LateError(Exception):
    """``error`` was raised in the part ``what`` of a call, after its response."""

    def __init__(self, what: str, error: BaseException) -> None:
        super().__init__(what)
        self.what, self.error = what, error


async def raising(what: str, error: BaseException) -> None:
    """Fails as the part of the call has."""
    raise LateError(what, error)
