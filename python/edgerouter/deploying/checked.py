"""Files of a folder whose owner and mode are checked: what was checked is what is read, by descriptor.

Every step from the folder to a file is opened relative to the step before and follows no symbolic link. So a folder or
a file that is replaced meanwhile is never read in the place of the one that was checked.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from edgerouter.errors import ConfigError, Problem

__all__ = ["CheckedFolder", "parts_of"]

#: Bytes of a file.
MOST_BYTES = 16 << 20

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO must not keep the thread that opens it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def refused(name: str, message: str) -> ConfigError:
    return ConfigError([Problem("", repr(name), message)])


def parts_of(name: str) -> list[str]:
    """The steps of a path below a folder; ``ConfigError`` for one that could lead out of it."""
    parts = name.split("/")
    if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise refused(name, "must be a path below the folder for deploys, such as releases/42/app.py, without . and ..")
    return parts


class CheckedFolder:
    """An open folder. Only the user of the process and root may write into it, or into anything that is read of it."""

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        self.path = path
        try:
            # The path of the first one is the operator's own, and may have links.
            self._descriptor = os.open(path, _FOLDER & ~os.O_NOFOLLOW) if descriptor is None else descriptor
        except OSError as error:
            raise refused(str(path), f"cannot be opened: {error.strerror}") from None
        try:
            _check(str(path), os.fstat(self._descriptor))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes it; a second time does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def folder(self, parts: Sequence[str]) -> CheckedFolder:
        """A folder below this one, checked step by step."""
        made = CheckedFolder(self.path, os.dup(self._descriptor))
        for part in parts:
            below = made.path / part
            try:
                descriptor = made._open(part, _FOLDER)
            finally:
                made.close()
            made = CheckedFolder(below, descriptor)
        return made

    def read(self, parts: Sequence[str]) -> bytes:
        """The content of a file below this folder."""
        folder = self.folder(parts[:-1])
        try:
            descriptor = folder._open(parts[-1], _FILE)
        finally:
            folder.close()
        name = str(self.path.joinpath(*parts))
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise refused(name, "must be a regular file")
            _check(name, found)
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise refused(name, f"must have at most {MOST_BYTES:,} bytes")
        return content

    def has(self, parts: Sequence[str], *, folder: bool = False) -> bool:
        """True if there is such a file, or folder; whether it may be read is another question."""
        below = self._descriptor
        opened: list[int] = []
        try:
            for part in parts[:-1]:
                below = os.open(part, _FOLDER, dir_fd=below)
                opened.append(below)
            found = os.stat(parts[-1], dir_fd=below, follow_symlinks=False)
        except OSError:
            return False
        finally:
            for descriptor in opened:
                os.close(descriptor)
        return stat.S_ISDIR(found.st_mode) if folder else not stat.S_ISDIR(found.st_mode)

    def _open(self, part: str, flags: int) -> int:
        try:
            return os.open(part, flags, dir_fd=self._descriptor)
        except OSError as error:
            name = str(self.path / part)
            if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR and self._is_link(part)):
                raise refused(name, "must be no symbolic link: what is checked must be what is read") from None
            raise refused(name, f"cannot be read: {error.strerror}") from None

    def _is_link(self, part: str) -> bool:
        return stat.S_ISLNK(os.stat(part, dir_fd=self._descriptor, follow_symlinks=False).st_mode)


def _check(name: str, found: os.stat_result) -> None:
    user = os.geteuid()
    if found.st_uid not in (0, user):
        raise refused(name, f"must belong to the user of the edge ({user}) or to root, not to user {found.st_uid}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise refused(name, f"must be writable by its owner only (its mode is {stat.S_IMODE(found.st_mode):04o})")
