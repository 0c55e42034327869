"""Regular files, opened without waiting.

Opening a pipe waits for a program that writes into it (fifo(7)), and a device may have no end. A path of the
configuration that leads to one of them is refused, and holds no thread. ``rust/telemetry/src/regular.rs`` is the same
for the core.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["descriptor", "opened"]

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def opened(path: str | Path) -> BinaryIO:
    """A file for reading. Folders, pipes, sockets and devices are an ``OSError`` that names what is there."""
    return os.fdopen(descriptor(path), "rb")


def descriptor(path: str | Path) -> int:
    """The same as a descriptor."""
    try:
        found = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        # Sockets cannot be opened, and the system says that there is no device.
        if error.errno == errno.ENXIO:
            _check(Path(path).stat(), path)
        raise
    try:
        _check(os.fstat(found), path)
    except BaseException:
        os.close(found)
        raise
    return found


def _check(about: os.stat_result, path: str | Path) -> None:
    kind = stat.S_IFMT(about.st_mode)
    if kind != stat.S_IFREG:
        why = f"it is {_KINDS.get(kind, 'a device')}; name a regular file"
        raise OSError(errno.EINVAL, why, os.fspath(path))
