"""A bound on the memory of one server, its share of the page cache included: a memory control group of its own.

Without the right to make one the server runs unbounded, and ``problem`` says so.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

ROOT = Path("/sys/fs/cgroup")


class MemoryBound:
    """``with MemoryBound(bytes) as bound``: commands that ``bound.wrap`` gave run inside."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.group: Path | None = None
        self.problem = ""

    def __enter__(self) -> MemoryBound:
        found = _own_group()
        if found is None:
            self.problem = "there is no memory controller here"
            return self
        parent, file = found
        group = parent / f"edgerouter-bench-{os.getpid()}-{time.monotonic_ns()}"
        try:
            group.mkdir()
            self.group = group
            (group / file).write_text(str(self.limit))
        except OSError as error:
            self._remove()
            self.problem = f"no memory control group could be made: {error}"
        return self

    def wrap(self, command: list[str]) -> list[str]:
        if self.group is None:
            return command
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.group / "cgroup.procs"), *command]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        deadline = time.monotonic() + 5
        while self.group is not None and time.monotonic() < deadline:
            with suppress(OSError):
                self.group.rmdir()
                self.group = None
            time.sleep(0.05)


def _own_group() -> tuple[Path, str] | None:
    """The control group of this process, and the file of its bound: version 1 of the interface, or 2."""
    try:
        text = Path("/proc/self/cgroup").read_text()
    except OSError:
        return None
    first = re.search(r"^\d+:(?:[\w=,]*,)?memory(?:,[\w=,]*)?:/(.*)$", text, re.MULTILINE)
    if first and (ROOT / "memory").is_dir():
        group = ROOT / "memory" / first[1]
        # Inside of a container the path may be the host's.
        return (group if group.is_dir() else ROOT / "memory"), "memory.limit_in_bytes"
    second = re.search(r"^0::/(.*)$", text, re.MULTILINE)
    if second and "memory" in _words(ROOT / second[1] / "cgroup.subtree_control"):
        return ROOT / second[1], "memory.max"
    return None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
