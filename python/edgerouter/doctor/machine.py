"""Facts of this machine, as far as they can be read: a fact that is unknown is ``None``."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

__all__ = ["Machine", "PortState", "port_state"]

PortState: TypeAlias = Literal["free", "in use", "not permitted", "no such address", "no such name"]

#: ``adjtimex(2)``: the clock is not disciplined. More bytes than ``struct timex`` has.
_UNSYNCHRONISED = 5
_TIMEX_BYTES = 512


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The facts. Sizes are in bytes."""

    open_files: int | None = None
    """The hard limit on open files; the edge raises its own limit to it."""
    cores: int = 1
    cpu_quota: float | None = None
    """Cores that the control group may use."""
    memory: int | None = None
    """Memory of the machine, or of the control group if that is less."""
    disk: int | None = None
    disk_free: int | None = None
    """Of the file system of the current folder, and what this user may still write."""
    clock_synchronised: bool | None = None
    backlog: int | None = None
    half_open: int | None = None
    first_port: int | None = None
    last_port: int | None = None
    tracked: int | None = None
    tracked_most: int | None = None
    slow_start_after_idle: bool | None = None
    overcommit: int | None = None

    @classmethod
    def read(cls, root: Path = Path("/")) -> Machine:
        """The facts of this machine. ``root`` is where ``proc`` and ``sys`` are."""
        kernel = root / "proc/sys"
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        ports = _numbers(kernel / "net/ipv4/ip_local_port_range")
        disk, disk_free = _disk()
        idle = _number(kernel / "net/ipv4/tcp_slow_start_after_idle")
        return cls(
            open_files=None if hard == resource.RLIM_INFINITY else hard,
            cores=len(os.sched_getaffinity(0)),
            cpu_quota=_cpu_quota(root),
            memory=_memory(root),
            disk=disk,
            disk_free=disk_free,
            clock_synchronised=_clock_synchronised(),
            backlog=_number(kernel / "net/core/somaxconn"),
            half_open=_number(kernel / "net/ipv4/tcp_max_syn_backlog"),
            first_port=ports[0] if len(ports) == 2 else None,
            last_port=ports[1] if len(ports) == 2 else None,
            tracked=_number(kernel / "net/netfilter/nf_conntrack_count"),
            tracked_most=_number(kernel / "net/netfilter/nf_conntrack_max"),
            slow_start_after_idle=None if idle is None else idle == 1,
            overcommit=_number(kernel / "vm/overcommit_memory"),
        )


def _numbers(file: Path) -> list[int]:
    try:
        return [int(part) for part in file.read_text().split()]
    except (OSError, ValueError):
        return []


def _number(file: Path) -> int | None:
    found = _numbers(file)
    return found[0] if len(found) == 1 else None


def _cpu_quota(root: Path) -> float | None:
    """Cores by ``cpu.max`` of the second version of control groups."""
    found = _numbers(root / "sys/fs/cgroup/cpu.max")
    return found[0] / found[1] if len(found) == 2 and found[1] else None


def _memory(root: Path) -> int | None:
    whole = None
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                whole = int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        whole = None
    group = _number(root / "sys/fs/cgroup/memory.max")
    return min((size for size in (whole, group) if size is not None), default=None)


def _disk() -> tuple[int | None, int | None]:
    try:
        found = os.statvfs(".")
    except OSError:
        return None, None
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _clock_synchronised() -> bool | None:
    try:
        adjust = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    state = adjust(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if state < 0 else state != _UNSYNCHRONISED


def port_state(address: str) -> PortState | None:
    """The state of ``HOST:PORT``, by binding it for a moment; ``None`` for port 0."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or port == "0":
        return None
    host = host.strip("[]")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError, OverflowError):
        return "no such name"
    with socket.socket(family, kind, protocol) as bound:
        # Ports that only wait for late packets count as free, as they do for the edge.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            bound.bind(where)
            bound.listen(1)
        except OSError as error:
            states: dict[int | None, PortState] = {
                errno.EADDRINUSE: "in use",
                errno.EACCES: "not permitted",
                errno.EADDRNOTAVAIL: "no such address",
            }
            return states.get(error.errno)
    return "free"
