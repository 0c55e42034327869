"""The disk tier of the cache, as an ``Edge`` declares it, and whether this machine can have it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from edgerouter.checks import Check, Size, Value, size
from edgerouter.errors import ConfigError, Problem

__all__ = ["DiskCache", "Sizes", "problem", "shortage", "size"]


class DiskCache(Value, frozen=True):
    """The disk tier: responses outlive a restart there, and those that memory has no room for are kept.

    ``path``  a directory of this edge's own; made when it is not there
    ``size``  bytes of all files together, or text such as ``"10GiB"``
    ``segment_bytes``  size of one file; ``None``: a 128th of ``size``, from 64 KiB to 1 GiB
    ``queue_bytes``  responses that wait to be written; past it they are kept in memory only
    """

    _example: ClassVar[str] = 'DiskCache("/var/cache/edge", size="20GiB")'

    path: str | os.PathLike[str]
    size: Size
    segment_bytes: Size | None = None
    queue_bytes: Size = 33_554_432

    def _check(self, check: Check) -> None:
        if isinstance(self.path, os.PathLike):
            check.keep("path", os.fspath(self.path))
        check.text("path")
        if isinstance(self.path, str) and "\0" in self.path:
            check.fail("path", "must be a directory, such as /var/cache/edgerouter")
        check.whole("size", least=1 << 20, most=1 << 44)
        check.whole("segment_bytes", least=65_536, most=1 << 30, optional=True)
        check.whole("queue_bytes", least=65_536, most=1 << 36)


class Sizes(NamedTuple):
    """The directory and sizes of the store, as the command line gives them for any application."""

    disk_cache: str | None = None
    disk_cache_size: int | None = None
    memory_cache_size: int | None = None

    def over(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of the plan that this replaces. Raises ``ConfigError`` with the option and the remedy."""
        fields: dict[str, Any] = {}
        if self.memory_cache_size is not None:
            limits = plan.get("limits") or {}
            cache = {**limits.get("cache", {}), "memory_bytes": self.memory_cache_size}
            fields["limits"] = {**limits, "cache": cache}
        if self.disk_cache is not None or self.disk_cache_size is not None:
            disk = dict(plan.get("disk_cache") or {})
            if self.disk_cache is not None:
                disk["path"] = self.disk_cache
            if self.disk_cache_size is not None:
                disk["size"] = self.disk_cache_size
            if "path" not in disk:
                raise ConfigError([Problem("--disk-cache", None, "must be given with --disk-cache-size: a directory")])
            if "size" not in disk:
                message = "must be given with --disk-cache, such as --disk-cache-size 10GiB"
                raise ConfigError([Problem("--disk-cache-size", None, message)])
            fields["disk_cache"] = disk
        return fields


def problem(plan: Mapping[str, Any]) -> Problem | None:
    """Why this user cannot have the plan's disk tier on this machine. Makes nothing."""
    disk = plan.get("disk_cache")
    if not disk:
        return None
    path = Path(disk["path"])
    there = _nearest(path)
    if not there.is_dir():
        message = f"{there} is not a directory; choose another path"
    elif not os.access(there, os.W_OK | os.X_OK):
        message = f"this user cannot write in {there}; change its owner, or choose another path"
    else:
        return None
    return Problem("disk_cache.path", repr(str(path)), message)


def shortage(plan: Mapping[str, Any]) -> str | None:
    """The advice where the file system has less room than the disk tier may take."""
    disk = plan.get("disk_cache")
    if not disk:
        return None
    import shutil

    path = Path(disk["path"])
    own = sum(file.stat().st_size for file in path.glob("*.seg")) if path.is_dir() else 0
    room = shutil.disk_usage(_nearest(path)).free + own
    wanted = size(disk["size"]) if isinstance(disk["size"], str) else disk["size"]
    if room >= wanted:
        return None
    return (
        f"the file system has room for {room:,} bytes, and size is {wanted:,}: once it is full new "
        "responses are kept in memory only"
    )


def _nearest(path: Path) -> Path:
    """The path itself, or what is there of the way to it."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
