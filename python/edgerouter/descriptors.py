"""The limit on open files (``RLIMIT_NOFILE``): raised for the edge, as it was for the programs that it starts.

Programs that use ``select()`` or close every descriptor up to the limit rely on the low soft limit that systems give,
so only the process that needs more should have it.
"""

from __future__ import annotations

import _posixsubprocess
import contextlib
import functools
import os
import resource
import sys
from collections.abc import Callable
from typing import Any, Final

__all__ = ["MOST", "raise_limit"]

MOST: Final = 1_048_576
"""The wanted limit, where the hard limit allows it."""

_before: int | None = None
"""The soft limit that the process was started with, once it has been raised."""


def raise_limit() -> int:
    """Raises the soft limit to the hard one, at most to ``MOST``; returns what it is now.

    Programs that are started from then on get the limit as it was before.
    """
    global _before
    _spare_programs()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return MOST if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        # Refused from outside, by a sandbox for example.
        return soft
    if _before is None:
        _before = soft
    return most


@functools.cache
def _spare_programs() -> None:
    """Copies of this process restore the limit themselves; what is executed gets it from here."""
    os.register_at_fork(after_in_child=_restore)
    if hasattr(resource, "prlimit"):
        # ``subprocess``, ``asyncio`` and ``multiprocessing`` start programs by ``fork_exec``, and ``subprocess`` by
        # ``posix_spawn`` where it can, from CPython 3.13 on nearly always. A ``preexec_fn`` would be the other way, and
        # make a busy process copy its page tables for each program.
        # ``subprocess`` has the function under a name of its own, unless it is imported later.
        for module, name in (
            (_posixsubprocess, "fork_exec"),
            (sys.modules.get("subprocess"), "_fork_exec"),
            (os, "posix_spawn"),
            (os, "posix_spawnp"),
        ):
            if callable(start := getattr(module, name, None)):
                setattr(module, name, _restoring(start))


def _restore(pid: int = 0) -> None:
    if _before is None:
        return
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        if soft > _before:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (_before, hard))


def _restoring(start: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(start)
    def starting(*arguments: Any, **options: Any) -> int:
        pid = start(*arguments, **options)
        _restore(pid)
        return pid

    return starting
