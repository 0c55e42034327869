"""Waits for purges."""

from __future__ import annotations

from edgerouter import Purge
from edgerouter.testing import Running

from .origins import wait_until


def completed(served: Running, purge: Purge) -> Purge:
    """The purge when it has dropped everything it matched, with its counts."""

    def found() -> Purge:
        known = served.server.find_purge(purge.id)
        assert known is not None, f"no purge {purge.id}"
        return known

    wait_until(lambda: found().completed, what=f"the purge {purge.id}")
    return found()
